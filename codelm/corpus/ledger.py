"""Puts all decisions together: which files are kept, why the others are not, and the sums."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codelm.corpus.near_dedup import Verdict

EXACT_DUPLICATE, NEAR_DUPLICATE = "exact_duplicate", "near_duplicate"

DROPPED = pa.schema(
    [
        ("source", pa.string()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("id", pa.string()),
        ("reason", pa.string()),
        ("witness", pa.string()),
        ("similarity", pa.float64()),
    ]
)
"""A row for each dropped file; `witness` is the id of a kept document for duplicates, and the problem's
name for files that hold one of a benchmark."""


def first_copies(files: pa.Table) -> pa.Table:
    """The files that pass, one of each id: the first in the order of the listing.

    Args:
        files: listing and annotations side by side, in the order of the listing.
    """
    passed = files.filter(pc.is_null(files["reason"]))
    codes = passed["id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return passed.take(np.unique(codes, return_index=True)[1])


@dataclass(frozen=True)
class Decisions:
    """What happens to every file.

    Attributes:
        kept: listing and annotations of the kept files, with `cluster`, by id.
        dropped: a `DROPPED` table, in the order of the listing.
        ledger: files and bytes, in all, kept, and dropped by reason. Bytes are those of the files on disk.
    """

    kept: pa.Table
    dropped: pa.Table
    ledger: dict[str, Any]


def decide(files: pa.Table, verdicts: Iterable[Verdict]) -> Decisions:
    """Combine the reasons of single files with exact duplicates and the verdicts on near-duplicates.

    The witness of an exact duplicate is its own id, or where the first copy is a near-duplicate of a kept
    document, that document.

    Args:
        files: listing and annotations side by side, in the order of the listing.
        verdicts: about the candidates; other files have no near-duplicates.
    """
    judged = {verdict.id: verdict for verdict in verdicts}
    copies = first_copies(files)
    first = set(copies["index"].to_pylist())
    reasons: list[str | None] = []
    witnesses: list[str | None] = []
    similarities: list[float | None] = []
    columns = (files[name].to_pylist() for name in ("index", "id", "reason", "contaminant"))
    for index, content, reason, witness in zip(*columns, strict=True):
        verdict = judged.get(content)
        similarity = None
        if reason is None and verdict is not None and verdict.witness is not None:
            reason, witness, similarity = NEAR_DUPLICATE, verdict.witness, verdict.similarity
        if index not in first and reason in (None, NEAR_DUPLICATE):
            reason, witness, similarity = EXACT_DUPLICATE, witness or content, similarity or 1.0
        reasons.append(reason)
        witnesses.append(witness)
        similarities.append(similarity)
    files = files.set_column(files.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))
    files = files.append_column("witness", pa.array(witnesses, pa.string()))
    files = files.append_column("similarity", pa.array(similarities, pa.float64()))
    kept = files.filter(pc.is_null(files["reason"])).sort_by("id")
    clusters = [judged[content].cluster if content in judged else content for content in kept["id"].to_pylist()]
    dropped = files.filter(pc.is_valid(files["reason"]))
    return Decisions(
        kept=kept.append_column("cluster", pa.array(clusters, pa.string())),
        dropped=dropped.select(DROPPED.names).cast(DROPPED),
        ledger=_ledger(files, kept, dropped),
    )


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
