"""Cuts a group that is too large for one task into groups that no similar pair straddles, by hashes alone.

By the prefix filter (`codelm.corpus.verification`), two sets that reach the threshold have one of their rarest shared
elements in common, so it is enough to link files by these, as by bands. Files that share boilerplate and nothing else
come apart. In steps, each for a part of the files or of the hashes:

1. `counted`: the elements of the files' sets, and how many of these files have each.
2. `shared`: of the elements of all files, those that two files or more have.
3. `rare_members`: by which elements a file is to be linked; `candidates.links` does so.
4. `indexed`, `neighbours`: where that leaves a group too large, which files are linked to given ones.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from codelm.corpus.candidates import I32, MEMBERS
from codelm.corpus.shingles import U64
from codelm.corpus.verification import I64, partner_sizes, ranges

COUNTS = pa.schema([("hash", pa.uint64()), ("files", pa.int64())])
"""A row for each element: how many files have it. Ascending."""


def counted(hashes: U64, partitions: int) -> list[pa.Table]:
    """`COUNTS` of sets one after the other, cut by equal ranges of hashes."""
    elements, files = np.unique(hashes, return_counts=True)
    edges = [(2**64 * part) // partitions for part in range(1, partitions)]
    bounds = [0, *np.searchsorted(elements, np.array(edges, np.uint64)).tolist(), len(elements)]
    table = pa.table([elements, files], schema=COUNTS)
    return [table.slice(start, end - start) for start, end in pairwise(bounds)]


def shared(counts: Sequence[pa.Table]) -> pa.Table:
    """The `COUNTS` of one range of hashes, added up, of elements that more than one file has."""
    table = pa.concat_tables(counts)
    hashes, files = table["hash"].to_numpy(), table["files"].to_numpy()
    order = np.argsort(hashes)
    hashes = hashes[order]
    starts = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint64(1)) != 0)
    sums = np.add.reduceat(files[order], starts) if len(starts) else files
    return pa.table([hashes[starts][sums > 1], sums[sums > 1]], schema=COUNTS)


def rare_members(hashes: U64, offsets: I64, files: I64, sizes: I64, common: pa.Table, threshold: float) -> pa.Table:
    """`MEMBERS` rows that link each file, by its number, to all those that it can reach the threshold with.

    Args:
        hashes: the files' sets, one after the other.
        offsets: file i has `hashes[offsets[i]:offsets[i + 1]]`.
        files: their numbers.
        sizes: of the sets of all files of the group, in any order.
        common: the `COUNTS` of elements that more than one file of the group has, by hash.
        threshold: Jaccard similarity from which two files are near-duplicates.
    """
    known, counts = common["hash"].to_numpy(), common["files"].to_numpy()
    places = np.minimum(np.searchsorted(known, hashes), max(len(known) - 1, 0))
    is_shared = known[places] == hashes if len(known) else np.zeros(len(hashes), bool)
    own = np.diff(offsets)
    owners = np.repeat(np.arange(len(files)), own)[is_shared]
    hashes, counts = hashes[is_shared], counts[places[is_shared]]
    of_file = np.bincount(owners, minlength=len(files))
    least, most = partner_sizes(own, of_file, threshold)
    line = np.sort(sizes)
    partners = np.searchsorted(line, most, "right") - np.searchsorted(line, least, "left")
    lengths = of_file - np.maximum(np.ceil(least).astype(np.int64), 1) + 1
    lengths[(partners <= (most >= own)) | (lengths < 0)] = 0
    order = np.lexsort((hashes, counts, owners))
    rarest = order[ranges(np.cumsum(of_file) - of_file, lengths)]
    return pa.table([hashes[rarest], np.repeat(files, lengths).astype(np.uint64)], schema=MEMBERS)


def indexed(members: pa.Table) -> tuple[pa.Table, pa.Table]:
    """`MEMBERS` rows by band, and the same by file: what `neighbours` looks up, without reading all of it."""
    return members.sort_by("band"), members.sort_by("key")


def neighbours(by_band: pa.Table, by_file: pa.Table, files: I32) -> I32:
    """The files that have one of the given files' bands, these included, ascending; of `indexed` members."""
    bands = np.unique(_found(by_file["key"], np.sort(files).astype(np.uint64), by_file["band"]))
    return np.unique(_found(by_band["band"], bands, by_band["key"])).astype(np.int32)


def _found(column: pa.ChunkedArray, wanted: U64, other: pa.ChunkedArray) -> U64:
    """What `other` has in the rows where an ascending column has one of the wanted values."""
    values = column.to_numpy()
    starts, ends = np.searchsorted(values, wanted, "left"), np.searchsorted(values, wanted, "right")
    found: U64 = other.to_numpy()[ranges(starts, ends - starts)]
    return found
