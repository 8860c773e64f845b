"""What workers do for the corpus stage: read and annotate blocks, write shards.

Workers import this module: it does without MLflow, which takes seconds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from codelm.config import NearDedup
from codelm.corpus.annotate import Annotator
from codelm.corpus.blocks import Block, annotated
from codelm.corpus.candidates import band_members, by_partition
from codelm.corpus.index import base_texts, write_part
from codelm.corpus.pictures import pictures
from codelm.corpus.redaction import Redacted, redact
from codelm.corpus.shards import published_texts, shard_name, write_shard
from codelm.corpus.text_store import BASE, TextStore
from codelm.errors import UserError
from codelm.on_ray.tasks import use_threads

MISTAKE = "mistake.txt"


def annotate_block(annotator: Annotator, store: TextStore, rows: pa.Table) -> pa.Table:
    """Read and annotate a block, `packed` in the one row: its `FILES`, with the texts that pass in the store.

    Raises:
        UserError: Ray Data loses it on its way, so what it says is left in the store too (`MISTAKE`).
    """
    use_threads(1)
    try:
        return annotated(Block.unpacked(rows["block"][0].as_py()), annotator, store)
    except UserError as error:
        with store.writing(MISTAKE) as out:
            out.write(str(error).encode())
        raise


@ray.remote
def draw_pictures(ledger: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, bytes]:
    """The pictures of the card, drawn while others write."""
    return pictures(ledger, figures)


@ray.remote
def base_members(store: TextStore, name: str, ids: pa.Array, partitions: int) -> list[pa.Table]:
    """A part of the bands' rows for each partition, of texts with these ids in a file of the index of the base."""
    texts = base_texts(store, name)
    return by_partition(band_members(texts.filter(pc.is_in(texts["id"], ids))), partitions)


@ray.remote
def write_index_part(store: TextStore, number: int, texts: pa.Table, settings: NearDedup) -> None:
    """Write a part of the index."""
    use_threads(1)
    write_part(store, number, texts, settings)


@dataclass(frozen=True)
class Published:
    """What of the base is written again: the names of its shards, and its `REDACTED` rows."""

    shards: tuple[str, ...]
    redacted: pa.Table


@ray.remote
def write_one_shard(
    store: TextStore, number: int, files: pa.Table, redact_seed: int | None, published: Published | None
) -> pa.Table:
    """Write a shard, and beside the texts a note of what was redacted in it; where the note is, the shard is."""
    name, note = shard_name(number), f"shard-{number:05d}.parquet"
    try:
        with store.reading(note) as file:
            return pq.read_table(file)
    except FileNotFoundError:
        contents = _contents(store, files, redact_seed, published)
    with store.writing(f"../{name}") as out:
        redacted = write_shard(out, files, contents)
    with store.writing(note) as out:
        pq.write_table(redacted, out)
    return redacted


def _contents(
    store: TextStore, files: pa.Table, redact_seed: int | None, published: Published | None
) -> Iterator[Redacted]:
    """What to write of each file: of texts that the base has, as it has them."""
    is_old = pc.starts_with(files["block"], BASE)
    new = store.read(files.filter(pc.invert(is_old)))
    old: Iterator[str] = iter(())
    counts: dict[str, dict[str, int]] = {}
    if published is not None:
        old_ids = files["id"].filter(is_old)
        old = published_texts((store.reading(name) for name in published.shards), old_ids)
        for row in published.redacted.filter(pc.is_in(published.redacted["id"], old_ids.combine_chunks())).to_pylist():
            counts.setdefault(row["id"], {})[row["kind"]] = row["places"]
    for content_id, from_base in zip(files["id"].to_pylist(), is_old.to_pylist(), strict=True):
        if from_base:
            yield Redacted(next(old), counts.get(content_id, {}))
        else:
            text = next(new).decode()
            yield Redacted(text, {}) if redact_seed is None else redact(redact_seed, text, content_id)
