"""The corpus as Parquet files: written with the texts read again, and read as a stream of documents."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from codelm.corpus.hashing import content_id
from codelm.corpus.reading import NoText, read_text
from codelm.corpus.redaction import Redacted
from codelm.errors import UserError

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("language", pa.string()),
        ("content", pa.large_string()),
        ("cluster", pa.string()),
    ]
)
"""The columns of the corpus; `size` is that of the content in UTF-8."""

ROW_GROUP_BYTES = 8 << 20
"""Text in a row group: what a reader holds at once."""


@dataclass(frozen=True)
class Document:
    """One document of the corpus."""

    id: str
    cluster: str
    content: str


def shard_path(workspace: str, number: int) -> str:
    """Where a shard of the corpus lies."""
    return f"{workspace}/data/part-{number:05d}.parquet"


def shard_paths(fs: pafs.FileSystem, corpus: str) -> list[str]:
    """The shards of a published corpus; one after the other they hold the documents in the order of their ids."""
    return sorted(info.path for info in fs.get_file_info(pafs.FileSelector(f"{corpus}/data")))


def cut(kept: pa.Table, shards: int) -> list[pa.Table]:
    """Cut the kept files, in order, into so many runs whose lengths differ by at most one."""
    bounds = [len(kept) * number // shards for number in range(shards + 1)]
    return [kept.slice(start, end - start) for start, end in pairwise(bounds)]


def read_again(file: dict[str, str | int]) -> str:
    """The text of a file that was annotated before; `file` has root, path, size and id.

    Raises:
        UserError: it is not the text that was annotated.
    """
    path, size = str(file["path"]), int(file["size"])
    try:
        text = read_text(str(file["root"]), path, size, max_bytes=size)
    except NoText as error:
        raise _changed(path) from error
    if content_id(text.encode()) != file["id"]:
        raise _changed(path)
    return text


def _changed(path: str) -> UserError:
    return UserError(f"source file {path!r} changed while the corpus was made; run the command again")


def write_shard(
    fs: pafs.FileSystem, path: str, files: pa.Table, redact: Callable[[str, str], Redacted] | None = None
) -> dict[str, dict[str, int]]:
    """Write kept files as one Parquet file, reading their texts; row groups depend on the texts alone.

    Args:
        fs: where `path` is.
        path: the Parquet file.
        files: listing and annotations of kept files, with `cluster`.
        redact: gives the text to write in place of a text with an id; None writes texts as they are.

    Returns:
        For each kind of what was redacted, in how many `files` and how many `places`.

    Raises:
        UserError: a file changed since it was annotated.
    """
    counts: dict[str, dict[str, int]] = {}
    with fs.open_output_stream(path) as out, pq.ParquetWriter(out, DOCUMENTS, compression="zstd") as writer:
        group: list[dict[str, str | int]] = []
        held = 0
        for file in files.to_pylist():
            content = read_again(file)
            if redact is not None:
                redacted = redact(content, file["id"])
                content = redacted.text
                counts = add_counts([counts, {kind: {"files": 1, "places": n} for kind, n in redacted.counts.items()}])
            row: dict[str, str | int] = {"content": content, "size": len(content.encode())}
            group.append({**row, **{name: file[name] for name in ("id", "source", "path", "language", "cluster")}})
            held += file["text_bytes"]
            if held >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, DOCUMENTS))
                group, held = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, DOCUMENTS))
    return counts


def add_counts(parts: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Sum what `write_shard` returned. `[{"key": {"files": 1}}, {"key": {"files": 2}}] -> {"key": {"files": 3}}`"""
    total: dict[str, dict[str, int]] = {}
    for part in parts:
        for kind, units in part.items():
            sums = total.setdefault(kind, {})
            for unit, count in units.items():
                sums[unit] = sums.get(unit, 0) + count
    return total


def read_documents(fs: pafs.FileSystem, path: str) -> Iterator[Document]:
    """The documents of one shard, a row group at a time in memory."""
    with fs.open_input_file(path) as source:
        shard = pq.ParquetFile(source)
        for number in range(shard.num_row_groups):
            table = shard.read_row_group(number, columns=["id", "cluster", "content"])
            for row in table.to_pylist():
                yield Document(**row)


def write_table(fs: pafs.FileSystem, path: str, table: pa.Table) -> None:
    """Write a table as one Parquet file."""
    with fs.open_output_stream(path) as out:
        pq.write_table(table, out, compression="zstd")


def write_json(fs: pafs.FileSystem, path: str, value: object) -> None:
    """Write a JSON value, keys in order, so that equal values give equal bytes."""
    with fs.open_output_stream(path) as out:
        out.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
