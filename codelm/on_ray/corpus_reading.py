"""Reads the sources for the corpus stage with Ray Data: all files, those that a base does not know, or some again."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayTaskError

from codelm.console import progress, say
from codelm.corpus.annotate import Annotator
from codelm.corpus.base import Base, known, reused
from codelm.corpus.blocks import FILES, Listing, blocks
from codelm.corpus.index import Known, part_of, parted, texts_beside
from codelm.corpus.opt_out import OptOuts
from codelm.corpus.source_file import Split
from codelm.corpus.text_store import BASE, PLACES, TextStore
from codelm.errors import UserError
from codelm.on_ray.corpus_tasks import MISTAKE, annotate_block, base_members
from codelm.on_ray.near_dedup import deal_bands
from codelm.on_ray.tasks import gather

ORDER = ("source", "path", "repo", "id", "size", "stars", "language", "licence", "reason", "stamp")
"""Files are sorted by these columns, whatever order they came in; rows equal in all of them are equal."""

MOST_PARTITIONS = 128
"""Of the bands: each block is dealt out to all of them, and the driver keeps 2.2 kB of each part (`bench_limits
objects`), so that 9,000 blocks and a partition for each of 1,000 CPUs would take 20 GB."""

Members = list[list[Any]]
"""For each partition of the bands, references to its rows (`candidates.MEMBERS`)."""


@dataclass(frozen=True)
class Annotated:
    """All files of the sources.

    Attributes:
        files: annotations but for the bands, and `PLACES`, by `ORDER`.
        members: the bands.
        read: how many of the files were read now.
    """

    files: pa.Table
    members: Members
    read: int


def annotate(annotator: Annotator, store: TextStore, listing: Listing) -> Annotated:
    """Read and annotate all files."""
    files, members = _read(annotator, store, listing.packed)
    return Annotated(_ordered(files), members, len(files))


def extend(
    annotator: Annotator, store: TextStore, listing: Listing, base: Base, opt_outs: OptOuts | None, same_list: bool
) -> Annotated:
    """Read and annotate the files that a base does not know, and take over the others.

    Args:
        annotator: annotates.
        store: for texts; knows the base.
        listing: of the sources.
        base: the corpus that is extended.
        opt_outs: the opt-out list, if there is one.
        same_list: whether it is the base's.
    """
    before, stamps = base.files(), list[str]()
    known_stamps = known(before, same_list)

    def unknown() -> Iterator[Split]:
        for split in listing.splits():
            old, rest = parted(split, known_stamps)
            stamps.extend(old)
            if rest is not None:
                yield rest

    files, members = _read(annotator, store, _packed(unknown()))
    old = reused(before, stamps, None if same_list else opt_outs)
    say("corpus", f"{len(old):,} files of {base.path} have not changed and were not read, {len(files):,} were")
    if annotator.corpus.near_dedup.enabled:
        members = _with_base(members, old, base, store)
    return Annotated(_ordered(pa.concat_tables([files, old.select(files.column_names)])), members, len(files))


def _with_base(members: Members, old: pa.Table, base: Base, store: TextStore) -> Members:
    """Add the bands of texts that the base has."""
    passed = old.filter(pc.is_valid(old["block"]))
    ids = ray.put(pc.unique(passed["id"]))
    task: Any = base_members.options(num_returns=len(members))
    names = [texts_beside(block) for block in _blocks(passed)]
    outputs = [task.remote(store, name, ids, len(members)) for name in names]
    outputs = [output if len(members) > 1 else [output] for output in outputs]
    return [[*part, *(output[number] for output in outputs)] for number, part in enumerate(members)]


def _blocks(files: pa.Table) -> list[str]:
    names: list[str] = sorted(pc.unique(files["block"]).to_pylist())
    return names


def with_texts(kept: pa.Table, annotator: Annotator, store: TextStore, base: Base) -> tuple[pa.Table, int]:
    """Kept files, each with the place of its text, or of its set where the base has kept the text too.

    A file whose text the base has not kept, because it was removed as a near-duplicate there, is read again.

    Returns:
        The files, and how many were read again.

    Raises:
        UserError: one of these has changed meanwhile.
    """
    is_lost = pc.and_(pc.starts_with(kept["block"], BASE), pc.invert(pc.is_in(kept["id"], base.kept)))
    lost = kept.filter(is_lost)
    if not len(lost):
        return kept, 0
    stamps = Known.of(lost["stamp"])
    corpus = annotator.corpus.model_copy(update={"sources": tuple(sorted(pc.unique(lost["source"]).to_pylist()))})
    listed = Listing.of(corpus).splits()
    parts = (part for split in listed if (part := part_of(split, stamps.has(split.stamps()))))
    files, _ = _read(annotator, store, _packed(parts))
    files = files.filter(pc.is_valid(files["block"]))
    at = pc.index_in(lost["id"], value_set=files["id"].combine_chunks())
    if at.null_count:
        path = lost["path"].filter(pc.is_null(at))[0].as_py()
        raise UserError(
            f"source file {path!r} is not as it was, though its size and time are; leave out corpus.extends"
        )
    lost = lost.drop_columns(PLACES.names)
    for name in PLACES.names:
        lost = lost.append_column(PLACES.field(name), files[name].take(at))
    kept = pa.concat_tables([kept.filter(pc.invert(is_lost)), lost.select(kept.column_names)])
    return kept.sort_by("id"), len(lost)


def _packed(splits: Iterable[Split]) -> Iterator[bytes]:
    return (block.packed() for block in blocks(splits))


def _ordered(files: pa.Table) -> pa.Table:
    return files.sort_by([(name, "ascending") for name in ORDER])


def _read(annotator: Annotator, store: TextStore, packed: Iterable[bytes]) -> tuple[pa.Table, Members]:
    """Read and annotate the files of packed blocks: annotations, but for the bands, in any order; and the bands."""
    partitions = min(int(ray.cluster_resources()["CPU"]), MOST_PARTITIONS)
    plans = [pa.table({"block": [block]}) for block in packed]
    if not plans:
        return FILES.empty_table().drop_columns("bands"), [[] for _ in range(partitions)]
    dataset = ray.data.from_arrow(plans).map_batches(
        partial(annotate_block, annotator, store), batch_size=None, batch_format="pyarrow"
    )
    deal: Any = deal_bands.options(num_returns=1 + partitions)
    outputs = []
    with progress("corpus", "blocks", len(plans)) as advance, _mistakes_told(store):
        for bundle in dataset.iter_internal_ref_bundles():
            outputs += [deal.remote(entry.ref, partitions) for entry in bundle.blocks]
            advance(len(outputs), "read and filtered")
    files = pa.concat_tables(gather([output[0] for output in outputs]))
    return files, [[output[1 + part] for output in outputs] for part in range(partitions)]


@contextmanager
def _mistakes_told(store: TextStore) -> Iterator[None]:
    """Raise the UserError of a task as such."""
    with store.writing(MISTAKE):
        pass  # what an earlier run left is not this one's
    try:
        yield
    except RayTaskError:
        with store.reading(MISTAKE) as file:
            said = file.read().decode()
        if said:
            raise UserError(said) from None
        raise
