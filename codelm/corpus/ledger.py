"""Puts all decisions together: which files are kept, why the others are not, and the sums.

All over Arrow columns: a Python object for each of ten million files would take gigabytes and minutes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

EXACT_DUPLICATE, NEAR_DUPLICATE = "exact_duplicate", "near_duplicate"

VERDICTS = pa.schema(
    [
        ("id", pa.large_string()),
        ("cluster", pa.large_string()),
        ("witness", pa.large_string()),
        ("similarity", pa.float64()),
    ]
)
"""A row for each text that was compared with others: its cluster; its kept witness and their similarity, null where
it stays. Texts without a row have no near-duplicates."""

DROPPED = pa.schema(
    [
        ("source", pa.large_string()),
        ("path", pa.large_string()),
        ("size", pa.int64()),
        ("id", pa.large_string()),
        ("reason", pa.large_string()),
        ("witness", pa.large_string()),
        ("similarity", pa.float64()),
    ]
)
"""A row for each dropped file; `witness` is the id of a kept document for duplicates, the problem for files that hold
one of a benchmark, the line of the opt-out list, or the licence."""


def first_copies(files: pa.Table) -> pa.Table:
    """The files that pass, one of each id: that of the repository with the most stars, then the first in order.

    Args:
        files: annotations of all files, ordered by source and path; without stars counts as with none.
    """
    return files.filter(pa.array(_is_first(files)))


def _is_first(files: pa.Table) -> NDArray[np.bool_]:
    passed = np.flatnonzero(_mask(pc.is_null(files["reason"])))
    codes = files["id"].take(passed).combine_chunks().dictionary_encode().indices.to_numpy()
    stars = pc.fill_null(files["stars"], 0).take(passed).to_numpy()
    order = np.lexsort((-stars, codes))  # stable: rows with equal keys stay in order
    is_first = np.zeros(len(files), bool)
    is_first[passed[order[np.flatnonzero(np.diff(codes[order], prepend=-1))]]] = True
    return is_first


def _mask(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(), dtype=bool)


@dataclass(frozen=True)
class Decisions:
    """What happens to every file.

    Attributes:
        kept: annotations of the kept files, with `cluster`, by id.
        dropped: a `DROPPED` table, by source and path.
        ledger: files and bytes, in all, kept, and dropped by reason. Bytes are those of the files on disk.
    """

    kept: pa.Table
    dropped: pa.Table
    ledger: dict[str, Any]


def decide(files: pa.Table, verdicts: pa.Table) -> Decisions:
    """Combine the reasons of single files with exact duplicates and the verdicts on near-duplicates.

    The witness of an exact duplicate is its own id, or where the first copy is a near-duplicate of a kept
    document, that document.

    Args:
        files: annotations of all files, ordered by source and path.
        verdicts: a `VERDICTS` table, each id once.
    """
    ids, passed = files["id"], pc.is_null(files["reason"])
    at = pc.index_in(ids, value_set=verdicts["id"].combine_chunks())
    witness, similarity = verdicts["witness"].take(at), verdicts["similarity"].take(at)
    is_near = pc.and_(passed, pc.is_valid(witness))
    is_copy = pc.and_(passed, pa.chunked_array([~_is_first(files)]))
    no_similarity = pa.scalar(None, pa.float64())
    decided = {
        "reason": pc.if_else(is_copy, EXACT_DUPLICATE, pc.if_else(is_near, NEAR_DUPLICATE, files["reason"])),
        "witness": pc.if_else(is_copy, pc.coalesce(witness, ids), pc.if_else(is_near, witness, files["witness"])),
        "similarity": pc.if_else(is_copy, pc.coalesce(similarity, 1.0), pc.if_else(is_near, similarity, no_similarity)),
        "cluster": pc.coalesce(verdicts["cluster"].take(at), ids),
    }
    files = files.drop_columns(["reason", "witness"])
    for name, column in decided.items():
        files = files.append_column(name, column)
    kept = files.filter(pc.is_null(files["reason"])).sort_by("id")
    dropped = files.filter(pc.is_valid(files["reason"])).select(DROPPED.names).cast(DROPPED)
    return Decisions(kept=kept, dropped=dropped, ledger=_ledger(files, kept, dropped))


def _ledger(files: pa.Table, kept: pa.Table, dropped: pa.Table) -> dict[str, Any]:
    by_reason = dropped.group_by("reason").aggregate([([], "count_all"), ("size", "sum")]).sort_by("reason")
    ledger = {
        "input": {"files": len(files), "bytes": pc.sum(files["size"]).as_py() or 0},
        "kept": {"files": len(kept), "bytes": pc.sum(kept["size"]).as_py() or 0},
        "dropped": {
            row["reason"]: {"files": row["count_all"], "bytes": row["size_sum"]} for row in by_reason.to_pylist()
        },
    }
    check(ledger)
    return ledger


def check(ledger: dict[str, Any]) -> None:
    """Raise AssertionError unless the kept and the dropped add up to the input, in files and in bytes."""
    for unit in ("files", "bytes"):
        accounted = ledger["kept"][unit] + sum(entry[unit] for entry in ledger["dropped"].values())
        if accounted != ledger["input"][unit]:
            raise AssertionError(f"the ledger accounts for {accounted} of {ledger['input'][unit]} {unit}")
