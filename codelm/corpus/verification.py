"""Exact comparison of each file with the files kept before it, without looking at every pair.

Files of a group are taken in order; one that reaches the threshold with a file kept before it is not kept. A pair of
sets A, B with Jaccard similarity >= t has |A and B| >= t max(|A|, |B|) elements in common, and |A and B| >=
t / (1 + t) (|A| + |B|). Three consequences, all exact, keep the work about linear:

- Elements that no other set of the group has cannot be common. Where too few others are left for any set of the group,
  by the sizes alone, a set is matched by nothing and is left out; that may leave others without (*peeling*).
- With the elements in one order everywhere, two matching sets share one of their first |A| - ceil(t |A|) + 1 (*prefix
  filter*, Chaudhuri et al. 2006, Bayardo et al. 2007). Ordered from rare to frequent, files that share a licence
  header or boilerplate do not meet there.
- Only kept files are looked up, so that a hundred thousand like files cost one comparison each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codelm.corpus.candidates import runs
from codelm.corpus.shingles import GOLDEN, U64, mix

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

ROUNDING = 1e-9
"""Relative margin of the filters' bounds: a pair at the threshold itself must not be lost by rounding."""
SETS_AT_ONCE = 1024
"""Kept files that are compared with one file together; it bounds the memory."""
ELEMENTS_AT_ONCE = 1 << 17
"""Elements of groups that are looked at together: arrays of them stay in a core's cache, however many there are."""
PEELED_SHARE = 0.02
"""Peeling goes on while it leaves out more than this share of the sets: so it is linear in all."""


@dataclass(frozen=True)
class Matches:
    """Pairs that reach the threshold: a file that is not kept, by place, a file kept before it, their similarity."""

    file: I64
    kept: I64
    similarity: F64


def matches(
    hashes: U64, offsets: I64, groups: I64, threshold: float, known: NDArray[np.bool_] | None = None
) -> Matches:
    """Decide which files are kept, and find for each other one all kept files before it that reach the threshold.

    Args:
        hashes: the files' sets of shingles, one after the other, each without repetitions.
        offsets: file i has `hashes[offsets[i]:offsets[i + 1]]`, at least one.
        groups: a number for each file; only files of the same group are compared, in the order that they have here.
        threshold: Jaccard similarity from which two files are near-duplicates.
        known: where given, the files that are kept; the others are compared with those only.
    """
    parts = [
        (part.start, _matches(hashes[ends[0] : ends[-1]], ends - ends[0], groups[part], threshold, part_known))
        for part in _independent(offsets, groups)
        for ends in [offsets[part.start : part.stop + 1]]
        for part_known in [None if known is None else known[part]]
    ]
    return Matches(
        np.concatenate([np.empty(0, np.int64), *(start + found.file for start, found in parts)]),
        np.concatenate([np.empty(0, np.int64), *(start + found.kept for start, found in parts)]),
        np.concatenate([np.empty(0), *(found.similarity for _, found in parts)]),
    )


def _independent(offsets: I64, groups: I64) -> list[slice]:
    """Runs of files that no group straddles, with about `ELEMENTS_AT_ONCE` elements or one group."""
    if not len(groups):
        return []
    lowest = np.minimum.accumulate(groups[::-1])[::-1]
    starts = np.flatnonzero(np.maximum.accumulate(groups)[:-1] < lowest[1:]) + 1
    bounds = np.concatenate([[0], starts, [len(groups)]])
    cuts = runs(np.diff(offsets[bounds]), ELEMENTS_AT_ONCE)
    return [slice(int(bounds[cut.start]), int(bounds[cut.stop])) for cut in cuts]


def _matches(hashes: U64, offsets: I64, groups: I64, threshold: float, known: NDArray[np.bool_] | None) -> Matches:
    sets = _Shared(hashes, offsets, groups)
    active = sets.peel(threshold)
    prefixes, bounds = sets.prefixes(threshold, active)
    posts = _Posts(prefixes, len(sets.mark))
    found: list[tuple[int, I64, F64]] = []
    for place, file in enumerate(active.tolist()):
        prefix = prefixes[bounds[place] : bounds[place + 1]]
        is_kept = known is None or bool(known[file])
        if known is None or not is_kept:
            kept, similarity = sets.compare(file, posts.files(prefix), threshold)
            if len(kept):
                found.append((file, kept, similarity))
                is_kept = False
        if is_kept:
            posts.add(prefix, file)
    return Matches(
        np.repeat(np.array([file for file, _, _ in found], np.int64), [len(kept) for _, kept, _ in found]),
        np.concatenate([np.empty(0, np.int64), *(kept for _, kept, _ in found)]),
        np.concatenate([np.empty(0), *(similarity for _, _, similarity in found)]),
    )


def partner_sizes(sizes: I64, shared: I64, threshold: float) -> tuple[F64, F64]:
    """The least and the most elements of a set that can reach the threshold with a set of so many, `shared` of which
    other sets have too; there is none if that is fewer than the least."""
    least = (sizes * (threshold * (1 - ROUNDING))).astype(np.float64)
    most = np.minimum(sizes / threshold, shared * ((1 + threshold) / threshold) - sizes) * (1 + ROUNDING)
    return least, most


class _Shared:
    """The elements that at least two sets of a group have, as codes that are smaller for rarer elements."""

    def __init__(self, hashes: U64, offsets: I64, groups: I64) -> None:
        self.sizes = np.diff(offsets)
        self.groups = groups
        files = len(self.sizes)
        owners = np.repeat(np.arange(files), self.sizes)
        # The group is a part of the element: what other groups have is not shared.
        elements = hashes ^ mix(groups.astype(np.uint64) * np.uint64(GOLDEN))[owners]
        order = np.argsort(elements)
        elements = elements[order]
        runs = np.cumsum(np.diff(elements, prepend=elements[:1]) != 0)
        counts = np.bincount(runs)
        shared = counts[runs] > 1
        self._recode(owners[order[shared]], runs[shared], counts)

    def _recode(self, owners: I64, codes: I64, counts: I64) -> None:
        """Take over elements given by owner and any code, of which `counts` has how many sets have each."""
        rank = np.empty(len(counts), np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(counts)) - np.count_nonzero(counts < 2)
        size = max(int(np.count_nonzero(counts > 1)), 1)
        both = np.sort(owners * size + rank[codes])
        self.owners, self.codes = both // size, both % size
        self.mark = np.zeros(size, bool)
        self.bounds = np.searchsorted(self.owners, np.arange(len(self.sizes) + 1))

    def peel(self, threshold: float) -> I64:
        """Leave out the sets that no other can match; the others' places, in order."""
        files = len(self.sizes)
        while True:
            shared = np.diff(self.bounds)
            least, most = partner_sizes(self.sizes, shared, threshold)
            active = shared >= np.maximum(least, 1)
            span = int(self.sizes.max(initial=0)) + 2
            lines = self.groups * span
            line = np.sort((lines + self.sizes)[active])
            low, high = np.ceil(least), np.minimum(np.floor(most), span - 1)
            partners = np.searchsorted(line, lines + high, "right") - np.searchsorted(line, lines + low, "left")
            active &= partners > (high >= self.sizes)  # more than itself, where it is among them
            gone = np.count_nonzero(~active & (shared > 0))
            stays = active[self.owners]
            owners, codes = self.owners[stays], self.codes[stays]
            counts = np.bincount(codes, minlength=1)
            again = counts[codes] > 1
            self._recode(owners[again], codes[again], counts)
            if gone <= PEELED_SHARE * files:
                return np.flatnonzero(np.diff(self.bounds) >= np.maximum(least, 1))

    def prefixes(self, threshold: float, files: I64) -> tuple[I64, I64]:
        """The rarest shared elements of each of the files: one of them is common with each set that it matches.

        Returns:
            All codes one after the other, and offsets by file.
        """
        shared = np.diff(self.bounds)[files]
        least = np.ceil(self.sizes[files] * (threshold * (1 - ROUNDING))).astype(np.int64)
        lengths = shared - np.maximum(least, 1) + 1
        places = ranges(self.bounds[:-1][files], lengths)
        return self.codes[places], np.concatenate([[0], np.cumsum(lengths)])

    def compare(self, file: int, others: I64, threshold: float) -> tuple[I64, F64]:
        """Those of the others that reach the threshold with the file, in order, and their similarities."""
        size = self.sizes[file]
        sizes = self.sizes[others]
        near = np.minimum(sizes, size) >= np.maximum(sizes, size) * (threshold * (1 - ROUNDING))
        others = others[near]
        if not len(others):
            return others, np.empty(0)
        own = self.codes[self.bounds[file] : self.bounds[file + 1]]
        self.mark[own] = True
        common = np.concatenate(
            [self._marked(others[start : start + SETS_AT_ONCE]) for start in range(0, len(others), SETS_AT_ONCE)]
        )
        self.mark[own] = False
        similarity = common / (self.sizes[others] + size - common)
        reaches = similarity >= threshold
        return others[reaches], similarity[reaches]

    def _marked(self, files: I64) -> I64:
        starts, ends = self.bounds[files], self.bounds[files + 1]
        inside = self.mark[self.codes[ranges(starts, ends - starts)]]
        first = np.cumsum(ends - starts) - (ends - starts)
        return np.add.reduceat(inside, first, dtype=np.int64)


class _Posts:
    """For each element of prefixes, the files added with it; the space is set apart beforehand."""

    def __init__(self, prefixes: I64, codes: int) -> None:
        room = np.bincount(prefixes, minlength=codes)
        self._starts = np.cumsum(room) - room
        self._filled = np.zeros(codes, np.int64)
        self._files = np.empty(len(prefixes), np.int64)

    def add(self, prefix: I64, file: int) -> None:
        """Enter a file under each code of its prefix."""
        self._files[self._starts[prefix] + self._filled[prefix]] = file
        self._filled[prefix] += 1

    def files(self, prefix: I64) -> I64:
        """The files that were added with one of the codes, in order."""
        filled = self._filled[prefix]
        found = np.sort(self._files[ranges(self._starts[prefix], filled)])
        return found[np.diff(found, prepend=-1) != 0]


def ranges(starts: I64, lengths: I64) -> I64:
    """The numbers from starts[i] up to starts[i] + lengths[i], one range after the other. `[5, 0], [2, 1] -> 5 6 0`"""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
