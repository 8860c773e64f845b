"""From LSH bands to groups of files that may be near-duplicates: by hashes and numbers alone, in linear time.

Files that share a band are linked, and what links connect is a group. Where many tasks work, a file is named by its
key, 64 bits of its id; on the driver, by its number. Links come to the driver a task at a time, no task gives more
links than it has files, and the driver keeps four bytes a file between them.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from codelm.corpus.shingles import U64

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

MEMBERS = pa.schema([("band", pa.uint64()), ("key", pa.uint64())])
"""One row for each band of a file."""
LINKS = pa.schema([("first", pa.uint64()), ("other", pa.uint64())])
"""One row for each link, by the keys of its files."""

ROWS_AT_ONCE = 1 << 17
"""Rows that are turned into Python objects, or links that are joined, together: it bounds the memory."""


def keys(ids: pa.ChunkedArray) -> U64:
    """The first 64 bits of each id (hexadecimal).

    Two of 10^8 files have one key by chance with probability 3 * 10^-4; then `Numbers` knows one of them only, and
    the other is not compared.
    """
    parts = [
        np.frombuffer(bytes.fromhex("".join(ids.slice(start, ROWS_AT_ONCE).to_pylist())), dtype=">u8")[::2]
        for start in range(0, len(ids), ROWS_AT_ONCE)
    ]
    return np.concatenate([np.empty(0, np.uint64), *parts], dtype=np.uint64)


def band_members(annotations: pa.Table) -> pa.Table:
    """The `MEMBERS` rows of annotated files."""
    bands = annotations["bands"]
    owners = pc.list_parent_indices(bands)
    used = pc.greater(pc.fill_null(pc.list_value_length(bands), 0), 0)
    own = np.zeros(len(annotations), np.uint64)
    own[used.to_numpy()] = keys(annotations["id"].filter(used))
    return pa.table([pc.list_flatten(bands), pa.array(own[owners.to_numpy()])], schema=MEMBERS)


def by_partition(members: pa.Table, partitions: int) -> list[pa.Table]:
    """Deal the rows out by band, so that all members of a band are in the same part."""
    part = members["band"].to_numpy() % np.uint64(partitions)
    return [members.filter(pa.array(part == number)) for number in range(partitions)]


def links(members: pa.Table) -> pa.Table:
    """`LINKS` that connect the files of each band: as few as do, fewer than there are files.

    Args:
        members: `MEMBERS` rows, all of each band. Copies of one text, which have one key, count once.
    """
    bands, own = members["band"].to_numpy(), members["key"].to_numpy()
    order = np.argsort(bands)
    bands, own = bands[order], own[order]
    linked = (bands[1:] == bands[:-1]) & (own[1:] != own[:-1])
    ends = np.stack([own[:-1][linked], own[1:][linked]])
    nodes, places = np.unique(ends, return_inverse=True)
    first = nodes[smallest_linked(places.reshape(2, -1), len(nodes))]
    return pa.table([first[first != nodes], nodes[first != nodes]], schema=LINKS)


def smallest_linked(edges: NDArray[np.integer], nodes: int) -> I64:
    """For each of the nodes 0, 1, ... the smallest one that edges, of shape (2, edges), connect it to."""
    graph = coo_array((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), shape=(nodes, nodes))
    _, labels = connected_components(graph, directed=False)
    smallest: I64 = np.unique(labels, return_index=True)[1][labels]
    return smallest


class Numbers:
    """Finds the numbers of files by their keys; file i has the i-th key."""

    def __init__(self, keys_in_order: U64) -> None:
        self._order = np.argsort(keys_in_order, kind="stable").astype(np.int32)
        self._keys = keys_in_order[self._order]

    def of(self, wanted: U64) -> I32:
        """The numbers of the files with these keys; all have to be known."""
        found: I32 = self._order[np.searchsorted(self._keys, wanted)]
        return found


class Components:
    """Disjoint sets of the numbers below `size`, joined many at a time; four bytes a number."""

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size, dtype=np.int32)

    def join(self, first: I32, other: I32) -> None:
        """Make the sets of first[i] and other[i] one, for each i."""
        for start in range(0, len(first), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            roots = np.stack([self._roots(first[part]), self._roots(other[part])])
            nodes, places = np.unique(roots, return_inverse=True)
            self._parent[nodes] = nodes[smallest_linked(places.reshape(2, -1), len(nodes))]

    def _roots(self, numbers: I32) -> I32:
        roots = self._parent[numbers]
        while (above := self._parent[roots]).tobytes() != roots.tobytes():
            roots = above
        return roots

    def smallest(self) -> I32:
        """The smallest number of each number's set."""
        for start in range(0, len(self._parent), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            self._parent[part] = self._roots(self._parent[part])
        return self._parent


@dataclass(frozen=True)
class Groups:
    """Files in groups.

    Attributes:
        files: the numbers of the files, one group after the other, ascending in each.
        offsets: group i is `files[offsets[i]:offsets[i + 1]]`; every group has at least two files.
    """

    files: I32
    offsets: I64

    @classmethod
    def of(cls, components: Components) -> "Groups":
        """The sets with more than one number, by their smallest."""
        smallest = components.smallest()
        alone = np.bincount(smallest, minlength=1).astype(np.int32)[smallest] == 1
        files = np.flatnonzero(~alone).astype(np.int32)
        files = files[np.argsort(smallest[files], kind="stable")]
        starts = np.flatnonzero(np.diff(smallest[files], prepend=-1))
        return cls(files, np.append(starts, len(files)))

    def batches(self, sizes: I64, batch_bytes: int) -> list[slice]:
        """Put consecutive groups together, as many as fit into so many bytes, or one that does not fit.

        Args:
            sizes: of the files by number, in bytes.
            batch_bytes: how many.

        Returns:
            Slices of the groups' numbers, in order.
        """
        if not len(self.files):
            return []
        return runs(np.add.reduceat(sizes[self.files], self.offsets[:-1]), batch_bytes)


def runs(sizes: I64, most: int) -> list[slice]:
    """Put consecutive things together, as many as have this size in all, or one that has more."""
    cuts, held = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if place > cuts[-1] and held + size > most:
            cuts.append(place)
            held = 0
        held += size
    return [slice(start, stop) for start, stop in zip(cuts, [*cuts[1:], len(sizes)], strict=True) if stop > start]
