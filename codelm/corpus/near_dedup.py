"""Near-duplicates: candidates from shared LSH bands, then exact verification.

Files that share a band are candidates. Which files stay is decided in one fixed order, larger first, then by
id: a file is removed if and only if its exact Jaccard similarity with a candidate *kept before it* reaches
the threshold; the most similar of these is its witness. So no file is removed by transitivity alone, and
the result depends on nothing but the files.

A cluster is a connected component of the graph whose edges are the candidate pairs, at least one of the
two kept, that reach the threshold; it is named after its smallest id.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codelm.corpus.shingles import U64, jaccard

MEMBERS = pa.schema([("band", pa.uint64()), ("id", pa.string())])
"""One row for each band of a file."""


@dataclass(frozen=True)
class Candidate:
    """A file that shares a band with another one; `bands` are those that it shares."""

    id: str
    size: int
    bands: tuple[int, ...]

    @property
    def rank(self) -> tuple[int, str]:
        """Sorts the files that stay before those that give way: larger first, then by id."""
        return -self.size, self.id


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate: its cluster and, where it is removed, its kept witness and their similarity."""

    id: str
    cluster: str
    witness: str | None = None
    similarity: float | None = None


def band_members(annotations: pa.Table) -> pa.Table:
    """The `MEMBERS` rows of annotated files."""
    parents = pc.list_parent_indices(annotations["bands"])
    columns = [pc.list_flatten(annotations["bands"]), annotations["id"].take(parents)]
    return pa.table(columns, schema=MEMBERS)


def by_partition(members: pa.Table, partitions: int) -> list[pa.Table]:
    """Deal the rows out by band, so that all members of a band are in the same part."""
    part = members["band"].to_numpy() % np.uint64(partitions)
    return [members.filter(pa.array(part == number)) for number in range(partitions)]


def shared_bands(members: pa.Table) -> pa.Table:
    """The rows of the bands that at least two different ids have, each row once."""
    distinct = members.group_by(["band", "id"]).aggregate([])
    counts = distinct.group_by("band").aggregate([([], "count_all")])
    shared = counts.filter(pc.greater(counts["count_all"], 1))["band"]
    return distinct.filter(pc.is_in(distinct["band"], shared.combine_chunks())).select(MEMBERS.names)


class Forest:
    """Disjoint sets of strings; a set is named after its smallest member."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, item: str) -> str:
        """The name of the item's set; an item not seen before is alone."""
        root = item
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while item != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, a: str, b: str) -> None:
        """Make the sets of two items one."""
        first, second = sorted((self.find(a), self.find(b)))
        self._parent[second] = first


def groups(shared: pa.Table, sizes: dict[str, int]) -> list[list[Candidate]]:
    """Candidates in groups that share no band with each other, so that each can be judged on its own.

    Args:
        shared: rows of shared bands (`shared_bands`).
        sizes: the size of each file's text, in bytes.
    """
    forest, first = Forest(), dict[int, str]()
    bands_of: dict[str, list[int]] = {}
    for band, member in zip(shared["band"].to_pylist(), shared["id"].to_pylist(), strict=True):
        forest.join(first.setdefault(band, member), member)
        bands_of.setdefault(member, []).append(band)
    found: dict[str, list[Candidate]] = {}
    for member in sorted(bands_of):
        candidate = Candidate(member, sizes[member], tuple(sorted(bands_of[member])))
        found.setdefault(forest.find(member), []).append(candidate)
    return list(found.values())


def batched(found: Sequence[list[Candidate]], batch_bytes: int) -> list[list[list[Candidate]]]:
    """Put groups together, in order, until a batch has so many bytes of text."""
    batches: list[list[list[Candidate]]] = []
    held = batch_bytes
    for group in found:
        if held >= batch_bytes:
            batches.append([])
            held = 0
        batches[-1].append(group)
        held += sum(candidate.size for candidate in group)
    return batches


def judge(group: Sequence[Candidate], shingle_set: Callable[[str], U64], threshold: float) -> list[Verdict]:
    """Decide about each file of a group, by exact similarity.

    Args:
        group: candidates (`groups`), in any order.
        shingle_set: the sorted set of the shingles of the text with an id.
        threshold: similarity from which two files are near-duplicates.
    """
    clusters = Forest()
    kept: dict[int, list[str]] = {}
    removed: dict[int, list[str]] = {}
    witnesses: dict[str, tuple[float, str]] = {}
    for file in sorted(group, key=lambda file: file.rank):
        own = shingle_set(file.id)
        for other in _sharing(file, kept):
            similarity = _similarity(own, shingle_set(other), threshold)
            if similarity >= threshold:
                clusters.join(file.id, other)
                if file.id not in witnesses or similarity > witnesses[file.id][0]:
                    witnesses[file.id] = similarity, other
        stays = file.id not in witnesses
        if stays:
            for other in _sharing(file, removed):
                if clusters.find(file.id) != clusters.find(other) and (
                    _similarity(own, shingle_set(other), threshold) >= threshold
                ):
                    clusters.join(file.id, other)
        for band in file.bands:
            (kept if stays else removed).setdefault(band, []).append(file.id)
    verdicts = []
    for file in group:
        best = witnesses.get(file.id)
        verdict = Verdict(file.id, clusters.find(file.id))
        verdicts.append(verdict if best is None else replace(verdict, witness=best[1], similarity=best[0]))
    return verdicts


def _sharing(file: Candidate, members: dict[int, list[str]]) -> Iterable[str]:
    """The earlier files that share a band with `file`, in the order they came (up to ties between bands)."""
    return dict.fromkeys(other for band in file.bands for other in members.get(band, ()))


def _similarity(a: U64, b: U64, threshold: float) -> float:
    """Jaccard similarity, or 0 where the sizes alone keep it below the threshold."""
    if min(len(a), len(b)) / max(len(a), len(b)) < threshold:
        return 0.0
    return jaccard(a, b)
