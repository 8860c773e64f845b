"""The tables of the page: scores by temperature, difficulty and language, and beside published ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codelm.evaluation.published import published_for

Table = tuple[str, list[str], list[tuple[bool, list[str]]]]
"""Heading, head and rows; a row with whether it is ours."""


def tables(benchmark: str, metrics: Mapping[str, Any]) -> Iterator[Table]:
    """Those that a run has something for."""
    scores = metrics["pass_at_k"]
    for key in ("by_temperature", "by_difficulty", "by_language"):
        if key in metrics:
            heading = key.replace("_", " ").capitalize()
            rows = [
                (False, [name, str(one["problems"]), *(_with_interval(score) for score in one["pass_at_k"].values())])
                for name, one in metrics[key].items()
            ]
            yield heading, [heading.removeprefix("By ").capitalize(), "problems", *scores], rows
    published = published_for(benchmark)
    if published:
        ks = sorted({k for row in published for k in row.pass_at_k} | {int(name[5:]) for name in scores})
        ours = [percent(scores[f"pass@{k}"]["value"]) if f"pass@{k}" in scores else "" for k in ks]
        rows = [(True, ["this run", *ours, f"{metrics['samples']} samples a problem", ""])]
        for row in published:
            theirs = [percent(row.pass_at_k[k]) if k in row.pass_at_k else "" for k in ks]
            rows.append((False, [row.model, *theirs, row.settings, row.source]))
        yield "Beside published results", ["model", *(f"pass@{k}" for k in ks), "settings", "source"], rows


def numeric(head: Sequence[str]) -> set[int]:
    """Places of the columns that hold numbers."""
    return {place for place, name in enumerate(head) if name.startswith("pass@") or name == "problems"}


def _with_interval(score: Mapping[str, float]) -> str:
    return f"{percent(score['value'])} ({percent(score['low'])} to {percent(score['high'])})"


def percent(value: float) -> str:
    """A share, with two decimals where it is small."""
    return f"{value:.2%}" if 0 < value < 0.1 else f"{value:.1%}"
