"""The corpus as Parquet files: written from annotations and texts, and read as a stream of documents."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from codelm.corpus.redaction import Redacted

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("repo", pa.string()),
        ("path", pa.string()),
        ("licence", pa.string()),
        ("attribution", pa.string()),
        ("stars", pa.int64()),
        ("size", pa.int64()),
        ("language", pa.string()),
        ("content", pa.large_string()),
        ("cluster", pa.string()),
    ]
)
"""The columns of the corpus; `size` is that of the content in UTF-8."""

ENCODED = ["source", "repo", "licence", "attribution", "language"]
"""Columns that repeat; a dictionary of the others would be made in vain."""

REDACTED = pa.schema([("id", pa.string()), ("kind", pa.string()), ("places", pa.int64())])
"""A row for each kind of what was redacted in a document."""

ROW_GROUP_BYTES = 8 << 20
"""Text in a row group: what a reader holds at once."""


@dataclass(frozen=True)
class Document:
    """One document of the corpus."""

    id: str
    cluster: str
    content: str
    repo: str | None = None
    path: str | None = None


def shard_name(number: int) -> str:
    """Where a shard lies in the corpus."""
    return f"data/part-{number:05d}.parquet"


def shard_paths(fs: pafs.FileSystem, corpus: str) -> list[str]:
    """The shards of a published corpus; one after the other they hold the documents in the order of their ids."""
    return sorted(info.path for info in fs.get_file_info(pafs.FileSelector(f"{corpus}/data")))


def cut(kept: pa.Table, shards: int) -> list[pa.Table]:
    """Cut the kept files, in order, into so many runs whose lengths differ by at most one."""
    bounds = [len(kept) * number // shards for number in range(shards + 1)]
    return [kept.slice(start, end - start) for start, end in pairwise(bounds)]


def write_shard(out: pa.NativeFile, files: pa.Table, contents: Iterable[Redacted]) -> pa.Table:
    """Write kept files as one Parquet file; row groups depend on the texts alone.

    Args:
        out: where to.
        files: annotations of kept files, with `cluster`.
        contents: what to write of their texts, in the same order.

    Returns:
        A `REDACTED` table.
    """
    redacted: list[dict[str, str | int]] = []
    group: list[str] = []
    start, held = 0, 0
    with pq.ParquetWriter(out, DOCUMENTS, compression="zstd", use_dictionary=ENCODED) as writer:

        def write_group() -> None:
            rows = files.slice(start, len(group))
            texts = pa.array(group, pa.large_string())
            made = {"content": texts, "size": pc.binary_length(texts)}
            columns = {name: made[name] if name in made else rows[name] for name in DOCUMENTS.names}
            writer.write_table(pa.table(columns).cast(DOCUMENTS))

        rows = zip(files["id"].to_pylist(), files["text_bytes"].to_pylist(), contents, strict=True)
        for content_id, text_bytes, content in rows:
            redacted += [{"id": content_id, "kind": kind, "places": n} for kind, n in sorted(content.counts.items())]
            group.append(content.text)
            held += text_bytes
            if held >= ROW_GROUP_BYTES:
                write_group()
                start, held, group = start + len(group), 0, []
        if group:
            write_group()
    return pa.Table.from_pylist(redacted, REDACTED)


def redaction_counts(redacted: pa.Table) -> dict[str, dict[str, int]]:
    """For each kind of what was redacted, in how many `files` and how many `places`."""
    sums = redacted.group_by("kind").aggregate([([], "count_all"), ("places", "sum")])
    return {row["kind"]: {"files": row["count_all"], "places": row["places_sum"]} for row in sums.to_pylist()}


def published_texts(shards: Iterable[pa.NativeFile], ids: pa.ChunkedArray) -> Iterator[str]:
    """The contents of documents of a published corpus, as they are there.

    Args:
        shards: its shards, in order.
        ids: of documents in them, in order.
    """
    left = ids.combine_chunks()
    for file in shards:
        with file, pq.ParquetFile(file) as shard:
            for number in range(shard.num_row_groups):
                group = shard.metadata.row_group(number)
                if not len(left):
                    return
                if group.column(0).statistics.max < left[0].as_py():
                    continue
                rows = shard.read_row_group(number, columns=["id", "content"])
                rows = rows.filter(pc.is_in(rows["id"], left))
                left = left.slice(len(rows))
                yield from rows["content"].to_pylist()


def read_documents(fs: pafs.FileSystem, path: str) -> Iterator[Document]:
    """The documents of one shard, a row group at a time in memory."""
    with fs.open_input_file(path) as source:
        shard = pq.ParquetFile(source)
        for number in range(shard.num_row_groups):
            table = shard.read_row_group(number, columns=["id", "cluster", "content", "repo", "path"])
            for row in table.to_pylist():
                yield Document(**row)


def write_table(fs: pafs.FileSystem, path: str, table: pa.Table, arrow_types: bool = False) -> None:
    """Write a table as one Parquet file; who reads it finds Arrow's types again, or the plain ones of Parquet."""
    with fs.open_output_stream(path) as out:
        pq.write_table(table, out, compression="zstd", store_schema=arrow_types)


def write_json(fs: pafs.FileSystem, path: str, value: object) -> None:
    """Write a JSON value, keys in order, so that equal values give equal bytes."""
    with fs.open_output_stream(path) as out:
        out.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
