"""Records of a benchmark from a file, a directory, or the Hugging Face hub, each checked against its format."""

import decimal
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from codelm.errors import UserError

KEY = "evaluation.source"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
LONG_INTEGER = 4000
"""Digits; Python refuses to read integers of over 4300, to keep servers safe, and APPS has such."""

NAMED = 3
"""Of the records that are wrong, so many are named."""

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Hub:
    """A data set on the Hugging Face hub.

    Attributes:
        name: `owner/name`.
        config: its configuration, if it has several.
        split: the part of it.
        revision: its branch; null for the main one.
        data_files: the split's files, where the data set needs a script to name them, which `datasets` no longer runs.
    """

    name: str
    config: str | None = None
    split: str = "test"
    revision: str | None = None
    data_files: str | None = None


def read(source: str | None, model: type[Record], hubs: Sequence[Hub]) -> list[Record]:
    """All records of a source.

    Args:
        source: a file, a directory of a data set, or the name of one on the hub; null for all of `hubs`.
        model: what a record has to be; other fields are ignored.
        hubs: the benchmark's own data sets; the first says the split of others.

    Raises:
        UserError: it cannot be read, has no records, or some are not what the format asks for.
    """
    if source is None:
        rows: Iterator[tuple[str, Any]] = (row for hub in hubs for row in _of_hub(hub))
    elif (path := Path(source).expanduser()).is_file():
        rows = _of_file(path)
    elif path.is_dir():
        rows = _of_hub(Hub(str(path), None, hubs[0].split if hubs else "test"))
    elif source.endswith(SUFFIXES) or source.startswith((".", "/", "~")):
        raise UserError(f"{KEY}: {source!r} does not exist")
    else:
        rows = _of_hub(
            next((hub for hub in hubs if hub.name == source), Hub(source, None, hubs[0].split if hubs else "test"))
        )
    records: list[Record] = []
    wrong: list[str] = []
    for where, row in rows:  # those of APPS take gigabytes
        try:
            records.append(model.model_validate(row))
        except ValidationError as error:
            wrong.append(f"{where}: {_first_problem(error)}")
    if wrong:
        count = f"{len(wrong)} of {len(wrong) + len(records)} records are wrong: " if len(wrong) > 1 else ""
        raise UserError(f"{KEY}: {count}{'; '.join(wrong[:NAMED])}{'; ...' if len(wrong) > NAMED else ''}")
    if not records:
        raise UserError(f"{KEY}: {source!r} has no records")
    return records


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{field + ': ' if field else ''}{first['msg']}{more}"


def _of_file(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a file, each with its place in words."""
    try:
        if path.name.endswith(".parquet"):
            yield from _of_parquet(path)
        elif path.name.endswith(".json"):
            yield from _of_list(path)
        elif path.name.endswith(SUFFIXES):
            yield from _of_lines(path)
        else:
            raise UserError(f"{KEY}: {str(path)!r} ends in none of {', '.join(SUFFIXES)}")
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(f"{KEY}: cannot read {str(path)!r}: {error}") from error


def _of_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"line {number} of {str(path)!r}"
                yield where, _parsed(line, where)


def _of_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    with pq.ParquetFile(path) as file:
        rows = (row for batch in file.iter_batches(batch_size=64) for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield f"row {number} of {str(path)!r}", row


def _of_list(path: Path) -> Iterator[tuple[str, Any]]:
    rows = _parsed(path.read_bytes(), repr(str(path)))
    if not isinstance(rows, list):
        raise UserError(f"{KEY}: {str(path)!r} is no list of records")
    for number, row in enumerate(rows, 1):
        yield f"record {number} of {str(path)!r}", row


def _parsed(text: bytes, where: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"{KEY}: {where} is not JSON: {error}") from error


def parse(text: str | bytes) -> Any:
    """A JSON text; integers of any length.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int:
    return int(digits) if len(digits) < LONG_INTEGER else int(decimal.Decimal(digits))


def _of_hub(hub: Hub) -> Iterator[tuple[str, Any]]:
    """Rows of a data set on the hub, or in a directory; `datasets` keeps them in its cache."""
    import datasets

    try:
        rows = datasets.load_dataset(
            hub.name,
            hub.config,
            split=hub.split,
            revision=hub.revision,
            data_files={hub.split: hub.data_files} if hub.data_files else None,
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{KEY}: cannot load the data set {hub.name!r}: {_first_line(error)}. "
            f"Give a file ({', '.join(SUFFIXES)}) or a directory instead"
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"row {number} of {hub.name!r}", row


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
