"""Near-duplicates over the cluster: bands are dealt out to tasks, and groups of candidates compared by others.

Only hashes and numbers cross the cluster; each task reads the texts that it compares from the store.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from codelm.config import Corpus, NearDedup
from codelm.console import progress
from codelm.corpus.candidates import (
    I32,
    I64,
    LINKS,
    Components,
    Groups,
    Numbers,
    band_members,
    by_partition,
    keys,
    links,
    runs,
)
from codelm.corpus.index import stored_sets
from codelm.corpus.ledger import first_copies
from codelm.corpus.licences import NO_LICENCE, NOT_PERMISSIVE
from codelm.corpus.near_dedup import MATCHES, Job, Neighbours, match_all, survivors_first, verdicts
from codelm.corpus.shingles import U64
from codelm.corpus.splitting import counted, indexed, neighbours, rare_members, shared
from codelm.corpus.text_store import PLACES, TextStore
from codelm.corpus.verification import matches
from codelm.on_ray.tasks import gather

JOB_BYTES = 32 << 20
"""Text that one task compares; it needs nine times as much memory, twice that in groups that cannot be cut."""
NO_KEYS = np.empty(0, np.uint64)


@ray.remote
def deal_bands(annotations: pa.Table, partitions: int) -> list[pa.Table]:
    """The annotations without their bands, then a part of the bands' rows for each partition."""
    return [annotations.drop_columns("bands"), *by_partition(band_members(annotations), partitions)]


@ray.remote
def _links(refused: U64, *parts: pa.Table) -> pa.Table:
    """Links between the files of a partition, but for those refused after their bands were made."""
    members = pa.concat_tables(parts)
    return links(members.filter(pa.array(~np.isin(members["key"].to_numpy(), refused))) if len(refused) else members)


def near_duplicates(files: pa.Table, members: list[list[Any]], corpus: Corpus, store: TextStore) -> pa.Table:
    """Compare all files that bands link, directly or by others.

    Args:
        files: annotations of all files, ordered by source and path, with the texts' `PLACES` in the store.
        members: for each partition of the bands, references to its rows.
        corpus: has the settings.
        store: has the texts.

    Returns:
        A `VERDICTS` table.
    """
    copies = first_copies(files).select(["id", "text_bytes", "stars", *PLACES.names])
    copies = copies.take(survivors_first(copies))
    refused = ray.put(_refused(files, copies["id"]))
    groups = _groups(copies, [_links.remote(refused, *parts) for parts in members])
    settings, done = corpus.near_dedup, 0
    with progress("corpus", "files", len(groups.files)) as advance:

        def run(jobs: Sequence[Job]) -> list[pa.Table]:
            tasks = [
                _match.remote(store, _places(copies, job), settings.shingle_words, settings.threshold) for job in jobs
            ]

            def finished(place: int) -> None:
                nonlocal done
                done += len(jobs[place].files)
                advance(min(done, len(groups.files)), "compared with those like them")

            return gather(tasks, finished)

        sizes = copies["text_bytes"].to_numpy()
        split = partial(_split, store, copies, settings)
        return verdicts(match_all(groups, sizes, JOB_BYTES, run, split), copies["id"].combine_chunks())


def _refused(files: pa.Table, passed: pa.ChunkedArray) -> U64:
    """Keys of the texts that have bands but no file that passes: their licence is not wanted."""
    late = files.filter(pc.is_in(files["reason"], pa.array([NO_LICENCE, NOT_PERMISSIVE])))["id"]
    return keys(late.filter(pc.invert(pc.is_in(late, passed.combine_chunks()))))


def _groups(copies: pa.Table, linked: Sequence[Any]) -> Groups:
    """The groups of files, by number; links are fetched a partition at a time."""
    numbers, components = Numbers(keys(copies["id"])), Components(len(copies))
    for reference in linked:
        [part] = gather([reference])
        components.join(numbers.of(part["first"].to_numpy()), numbers.of(part["other"].to_numpy()))
    return Groups.of(components)


def _split(store: TextStore, copies: pa.Table, settings: NearDedup, files: I32) -> tuple[Groups, Neighbours]:
    """The groups that rare shingles link within a group of files; its sets are made twice, and hashes cross.

    The rare shingles stay in the object store, for the neighbours of files in groups that are still too large.
    """
    parts = [files[part] for part in runs(copies["text_bytes"].to_numpy()[files], JOB_BYTES)]
    places = [_places(copies, Job(part, np.zeros_like(part))) for part in parts]
    count: Any = _count.options(num_returns=1 + len(parts))
    outputs = [count.remote(store, each, settings.shingle_words, len(parts)) for each in places]
    sizes = np.concatenate(gather([output[0] for output in outputs]))
    common = [_shared.remote(*(output[1 + part] for output in outputs)) for part in range(len(parts))]
    deal: Any = _rare_members.options(num_returns=len(parts))
    rows = [deal.remote(store, each, settings.shingle_words, settings.threshold, sizes, *common) for each in places]
    if len(parts) == 1:
        rows = [[row] for row in rows]
    components = Components(len(files))
    for partition in range(len(parts)):
        [linked] = gather([_links.remote(NO_KEYS, *(row[partition] for row in rows))])
        ends = [np.searchsorted(files, linked[name].to_numpy()).astype(np.int32) for name in LINKS.names]
        components.join(*ends)
    groups = Groups.of(components)
    index: list[Any] = []

    def linked_to(kept: I32) -> I32:
        if not index:
            make: Any = _indexed.options(num_returns=2)
            index.extend(make.remote(*(row[part] for row in rows)) for part in range(len(parts)))
        asked = ray.put(kept)
        found = gather([_neighbours.remote(by_band, by_file, asked) for by_band, by_file in index])
        return np.unique(np.concatenate(found))

    return Groups(files[groups.files], groups.offsets), linked_to


@ray.remote
def _indexed(*parts: pa.Table) -> tuple[pa.Table, pa.Table]:
    return indexed(pa.concat_tables(parts))


@ray.remote
def _neighbours(by_band: pa.Table, by_file: pa.Table, files: I32) -> I32:
    return neighbours(by_band, by_file, files)


@ray.remote
def _count(store: TextStore, places: pa.Table, words: int, partitions: int) -> list[Any]:
    """The sizes of the sets of files (`_places`); then their `COUNTS`, for each range of hashes."""
    hashes, offsets = stored_sets(store, places, words)
    return [np.diff(offsets), *counted(hashes, partitions)]


@ray.remote
def _shared(*counts: pa.Table) -> pa.Table:
    return shared(counts)


@ray.remote
def _rare_members(
    store: TextStore, places: pa.Table, words: int, threshold: float, sizes: I64, *common: pa.Table
) -> list[pa.Table]:
    hashes, offsets = stored_sets(store, places, words)
    numbers = places["number"].to_numpy()
    rows = rare_members(hashes, offsets, numbers, sizes, pa.concat_tables(common), threshold)
    return by_partition(rows, len(common))


def _places(copies: pa.Table, job: Job) -> pa.Table:
    """What a task needs to know of the files of a job."""
    places = copies.select(["text_bytes", *PLACES.names]).take(pa.array(job.files))
    known = pa.nulls(len(places), pa.bool_()) if job.known is None else pa.array(job.known)
    return (
        places.append_column("number", pa.array(job.files))
        .append_column("group", pa.array(job.groups))
        .append_column("known", known)
    )


@ray.remote
def _match(store: TextStore, places: pa.Table, words: int, threshold: float) -> pa.Table:
    """`MATCHES` among files (`_places`)."""
    hashes, offsets = stored_sets(store, places, words)
    known = places["known"].to_numpy() if places["known"].null_count == 0 else None
    found = matches(hashes, offsets, places["group"].to_numpy(), threshold, known)
    numbers = places["number"].to_numpy()
    return pa.table([numbers[found.file], numbers[found.kept], found.similarity], schema=MATCHES)
