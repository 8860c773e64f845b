"""Near-duplicates: the rule that decides which files stay, whatever machines, blocks and batches there are.

Two files are compared if they are in one group: linked by files that share LSH bands (`codelm.corpus.candidates`).
Similarity is the Jaccard similarity of their sets of word shingles, computed exactly. Files are taken in one order,
those of repositories with more stars first (unknown counts as none), then larger ones, then by id. A file is removed
if and only if it reaches the threshold with a file of its group *kept before it*; the most similar of these is its
witness, of equals the first. So no file is removed by transitivity alone, no two kept files of a group reach the
threshold, and the result depends on nothing but the files.

A cluster is what the pairs of a removed file and a kept one before it that reach the threshold connect; it is named
after its first file, which is kept.

Words are what is compared, not the white space and punctuation between them: files that differ only there have
similarity 1, and all but one are removed, although for exact deduplication they are different documents (in Python,
another indentation may be another program). A text with fewer words than a shingle has no near-duplicates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from codelm.corpus.candidates import I32, I64, Groups, runs, smallest_linked
from codelm.corpus.ledger import VERDICTS

MATCHES = pa.schema([("file", pa.int32()), ("kept", pa.int32()), ("similarity", pa.float64())])
"""A row for each pair that reaches the threshold, by the files' numbers: a file that is removed, one kept before it."""


def survivors_first(files: pa.Table) -> I64:
    """The order in which files are considered; what comes first survives.

    Args:
        files: with `id`, `text_bytes` and `stars`, each id once.
    """
    stars = pc.fill_null(files["stars"], 0)
    columns = pa.table({"stars": stars, "text_bytes": files["text_bytes"], "id": files["id"]})
    keys = [("stars", "descending"), ("text_bytes", "descending"), ("id", "ascending")]
    order: I64 = pc.sort_indices(columns, sort_keys=keys).to_numpy().astype(np.int64)
    return order


@dataclass(frozen=True)
class Job:
    """Files to be compared by one task, in order in each group.

    Attributes:
        files: their numbers.
        groups: the group of each.
        known: where given, the files that are kept; the others are then compared with those only.
    """

    files: I32
    groups: I32
    known: NDArray[np.bool_] | None = None


Run = Callable[[Sequence[Job]], list[pa.Table]]
"""Runs jobs, side by side, and gives the `MATCHES` of each."""
Neighbours = Callable[[I32], I32]
"""Of given files of a group, all those that may reach the threshold with one of them, ascending."""
Split = Callable[[I32], tuple[Groups, Neighbours]]
"""Cuts a group into groups that no pair which reaches the threshold straddles (`codelm.corpus.splitting`)."""


def match_all(groups: Groups, sizes: I64, job_bytes: int, run: Run, split: Split) -> pa.Table:
    """Compare the files of all groups.

    Args:
        groups: of files by number; a smaller number comes first.
        sizes: of the files, by number, in bytes.
        job_bytes: text in a job; those for a group that has more, and cannot be cut, have up to twice that.
        run: compares.
        split: cuts groups that have more.

    Returns:
        A `MATCHES` table.
    """
    jobs, large = _jobs(groups, sizes, job_bytes)
    found = run(jobs)
    for files in large:
        parts, neighbours = split(files)
        jobs, connected = _jobs(parts, sizes, job_bytes)
        found += run(jobs)
        for rest in connected:
            found += _match_large(rest, sizes, job_bytes, run, neighbours)
    return pa.concat_tables([MATCHES.empty_table(), *found])


def _jobs(groups: Groups, sizes: I64, job_bytes: int) -> tuple[list[Job], list[I32]]:
    """Jobs for the groups that fit into one, several into each; and the files of each other group."""
    jobs, large = [], []
    for batch in groups.batches(sizes, job_bytes):
        offsets = groups.offsets[batch.start : batch.stop + 1]
        files = groups.files[offsets[0] : offsets[-1]]
        if len(offsets) == 2 and sizes[files].sum() > job_bytes:
            large.append(files)
        else:
            numbers = np.arange(len(offsets) - 1, dtype=np.int32)
            jobs.append(Job(files, np.repeat(numbers, np.diff(offsets))))
    return jobs, large


def _match_large(files: I32, sizes: I64, job_bytes: int, run: Run, neighbours: Neighbours) -> list[pa.Table]:
    """Compare the files of a connected group that is too large for one job, with the same result.

    The first files that fit into a job are judged; then their neighbours that follow are compared with those of them
    that are kept, side by side, and what is left is a smaller group. A file is read once as one of the first, and once
    for each round that keeps a neighbour of it.
    """
    found: list[pa.Table] = []
    removed = np.empty(0, np.int32)
    while len(files):
        head = files[: runs(sizes[files], job_bytes)[0].stop]
        found += run([Job(head, np.zeros(len(head), np.int32))])
        kept = np.setdiff1d(head, found[-1]["file"].to_numpy(), assume_unique=False)
        rest = files[len(head) :]
        # Removed files go on to be compared: a later file may be more similar to one than its witness so far.
        others = np.union1d(rest, removed[removed > kept[0]])
        others = np.intersect1d(others, neighbours(kept), assume_unique=True).astype(np.int32)
        jobs = [_against(kept, others[part]) for part in runs(sizes[others], job_bytes)]
        compared = run(jobs)
        found += compared
        matched = pa.concat_tables([MATCHES.empty_table(), *compared])["file"].to_numpy()
        removed = np.union1d(removed, matched).astype(np.int32)
        files = rest[~np.isin(rest, matched)]
    return found


def _against(kept: I32, others: I32) -> Job:
    files = np.concatenate([kept, others])
    known = np.repeat([True, False], [len(kept), len(others)])
    order = np.argsort(files)
    return Job(files[order], np.zeros(len(files), np.int32), known[order])


def verdicts(matches: pa.Table, ids: pa.Array) -> pa.Table:
    """What became of the files that are similar to others.

    Args:
        matches: a `MATCHES` table.
        ids: of the files, by number.

    Returns:
        A `VERDICTS` table, by number.
    """
    file, kept = matches["file"].to_numpy(), matches["kept"].to_numpy()
    similarity = matches["similarity"].to_numpy()
    best = np.lexsort((kept, -similarity, file))
    best = best[np.flatnonzero(np.diff(file[best], prepend=-1))]
    nodes, places = np.unique(np.concatenate([file, kept]), return_inverse=True)
    first = nodes[smallest_linked(places.reshape(2, -1), len(nodes))]
    witness = np.full(len(nodes), -1, np.int64)
    at = np.searchsorted(nodes, file[best])
    witness[at] = kept[best]
    most = np.zeros(len(nodes))
    most[at] = similarity[best]
    stays = witness < 0
    columns = [
        ids.take(pa.array(nodes)),
        ids.take(pa.array(first)),
        ids.take(pa.array(witness, mask=stays)),
        pa.array(most, mask=stays),
    ]
    return pa.table(columns, schema=VERDICTS)
