"""Readers of prompts and solutions: APPS' format, and lines with `prompt` and `completion`.

Each gives the examples in the order of the source. Records that lack a field are refused, all of a file at once.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from codelm.errors import UserError
from codelm.evaluation.benchmarks import apps, reading
from codelm.finetuning.example import Example

KEY = "finetuning.source"
APPS_TRAINING = replace(apps.HUB, split="train", data_files="all/train/*.parquet")
PARTS_OF_A_PROBLEM = {
    "question": "question.txt",
    "solutions": "solutions.json",
    "input_output": "input_output.json",
    "starter_code": "starter_code.py",
}
"""The files of a problem as hendrycks/apps publishes them, by the field that the data set on the hub has for each."""


class Pair(BaseModel):
    """A line with a prompt and its completion; other fields are ignored."""

    prompt: str
    completion: str
    id: str | int | None = None
    group: str | int | None = None
    """Lines of one group stay on one side of the validation split; else those with the same prompt do."""


def read_pairs(source: str) -> list[Example]:
    """The lines of a file (.jsonl, .jsonl.gz, .json, .parquet) with `prompt` and `completion`.

    Raises:
        UserError: it cannot be read, or a line lacks a field.
    """
    rows = _records(source, Pair)
    return [
        Example(
            id=str(row.id) if row.id is not None else f"{Path(source).name}:{number}",
            prompt=row.prompt,
            completion=row.completion,
            group=str(row.group) if row.group is not None else row.prompt,
        )
        for number, row in enumerate(rows, 1)
    ]


def read_apps(source: str | None, difficulties: tuple[str, ...] | None) -> list[Example]:
    """APPS' problems with each of their solutions, under the prompts of hendrycks/apps.

    Args:
        source: a file, a data set, or a directory with one directory a problem; None for APPS on the hub.
        difficulties: of the problems wanted; None for all.

    Raises:
        UserError: it cannot be read, a record lacks a field, or no problem has a wanted difficulty.
    """
    if source is not None and Path(source).is_dir() and any(Path(source).glob("*/question.txt")):
        rows = list(_directory(Path(source)))
    else:
        rows = _records(source, apps.Apps)
    wanted = [row for row in rows if difficulties is None or row.difficulty in difficulties]
    if not wanted:
        there = ", ".join(sorted({row.difficulty for row in rows}))
        raise UserError(f"finetuning.difficulties: {list(difficulties or ())} names none; the problems are {there}")
    return [
        Example(f"APPS/{row.problem_id}/{number}", apps.prompt(row), solution, f"APPS/{row.problem_id}")
        for row in wanted
        for number, solution in enumerate(row.solutions or ())
    ]


def _records(source: str | None, model: Any) -> list[Any]:
    try:
        return reading.read(source, model, (APPS_TRAINING,) if model is apps.Apps else ())
    except UserError as error:
        raise UserError(str(error).replace(reading.KEY, KEY, 1)) from error


def _directory(root: Path) -> Iterator[apps.Apps]:
    """Problems as hendrycks/apps publishes them: `0000/question.txt`, `solutions.json`, `metadata.json`, ..."""
    for directory in sorted(path.parent for path in root.glob("*/question.txt")):
        record: dict[str, Any] = {"problem_id": _number(directory)}
        try:
            for field, name in PARTS_OF_A_PROBLEM.items():
                path = directory / name
                record[field] = path.read_text(encoding="utf-8") if path.is_file() else ""
            record["difficulty"] = json.loads((directory / "metadata.json").read_text())["difficulty"]
            yield apps.Apps.model_validate(record)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{KEY}: cannot read the problem in {str(directory)!r}: {error}") from error


def _number(directory: Path) -> int:
    if not directory.name.isdigit():
        raise UserError(f"{KEY}: {str(directory)!r} is not named by a number, as APPS' problems are")
    return int(directory.name)
