"""APPS (Hendrycks et al. 2021, arXiv:2105.09938), in the format of its data set on the hub."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, model_validator

from codelm.evaluation import stops
from codelm.evaluation.benchmarks.reading import Hub, parse
from codelm.records import CallTest, InputTest, Problem, Test

HUB = Hub(
    # The data set is a loading script; the hub's own conversion has the same rows.
    "codeparrot/apps",
    split="test",
    revision="refs/convert/parquet",
    data_files="all/test/*.parquet",
)

IMPORTS = """\
import sys
import time
import itertools
from itertools import accumulate, product, permutations, combinations
import collections
from collections import Counter, OrderedDict, deque, defaultdict, ChainMap
from functools import lru_cache
import math
from math import sqrt, sin, cos, tan, ceil, fabs, floor, gcd, exp, log, log2
import fractions
from typing import List, Tuple
import random
import heapq
from heapq import *
"""
"""What APPS' evaluator puts before each program (`testing_util.py`), without numpy, which the jail does not have."""


class Cases(BaseModel):
    """The tests of one problem."""

    inputs: list[Any]
    outputs: list[Any]
    fn_name: str | None = None

    @model_validator(mode="after")
    def _match(self) -> Self:
        if len(self.inputs) != len(self.outputs):
            raise ValueError(f"{len(self.inputs)} inputs and {len(self.outputs)} outputs")
        return self


def _held(text: Any) -> Any:
    """What a field's JSON text holds; None if it is empty."""
    return (parse(text) if text.strip() else None) if isinstance(text, str) else text


class Apps(BaseModel):
    """A record; `solutions` and `input_output` come as JSON texts, or empty where there are none."""

    problem_id: int
    question: str
    solutions: Annotated[list[str] | None, BeforeValidator(_held)] = None
    input_output: Annotated[Cases | None, BeforeValidator(_held)] = None
    difficulty: str
    starter_code: str = ""


def problems(records: Sequence[Apps]) -> list[Problem]:
    """The problems that have tests; APPS' evaluator leaves the others out as well."""
    return [
        Problem(
            task_id=f"APPS/{record.problem_id}",
            prompt=prompt(record),
            preamble=IMPORTS,
            test=_test(record.input_output),
            entry_point=record.input_output.fn_name or "",
            canonical_solutions=tuple(record.solutions or ()),
            stop=stops.BIGCODE_APPS,
            difficulty=record.difficulty,
        )
        for record in records
        if record.input_output is not None and record.input_output.inputs
    ]


def prompt(record: Apps) -> str:
    """hendrycks/apps' prompt (`generate_prompt` in `eval/generate_gpt_codes.py`).

    Of a problem without tests, which is trained on alone, the starter code tells its form (`APPSBaseDataset.py`).
    """
    starter = f"\n{record.starter_code}" if record.starter_code else ""
    called = record.starter_code if record.input_output is None else record.input_output.fn_name
    form = "Use Call-Based format" if called else "Use Standard Input format"
    return f"\nQUESTION:\n{record.question}{starter}\n{form}\nANSWER:\n"


def _test(cases: Cases) -> Test:
    if cases.fn_name:
        pairs = [
            (tuple(_integer_keys(given)), _expected(expected))
            for given, expected in zip(cases.inputs, cases.outputs, strict=True)
        ]
        return CallTest(tuple(pairs), wrapped=True)
    return InputTest(tuple((_text(given), _text(out)) for given, out in zip(cases.inputs, cases.outputs, strict=True)))


def _text(lines: Any) -> str:
    """Standard input and output are texts, or lists of lines."""
    return "\n".join(map(str, lines)) if isinstance(lines, list) else str(lines)


def _integer_keys(arguments: Any) -> list[Any]:
    """Arguments; JSON made the keys of a dictionary strings, which APPS undoes for the first argument if it can."""
    given = list(arguments) if isinstance(arguments, list) else [arguments]
    return [_with_integer_keys(given[0]), *given[1:]] if given else []


def _expected(value: Any) -> Any:
    if isinstance(value, list) and value:
        return [_with_integer_keys(value[0]), *value[1:]]
    return _with_integer_keys(value)


def _with_integer_keys(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    try:
        return {int(key): inner for key, inner in value.items()}
    except ValueError:
        return value
