"""How many problems an evaluation has, without downloading them."""

from pathlib import Path

from codelm.config import Evaluation
from codelm.evaluation.benchmarks.catalogue import BENCHMARKS, load
from codelm.evaluation.benchmarks.reading import read

PUBLISHED: dict[str, dict[str, int]] = {
    "humaneval+": {"": 164},
    "mbpp": {"": 500},
    "mbpp-sanitized": {"": 257},
    "mbpp+": {"": 378},
    "apps": {"introductory": 1000, "interview": 3000, "competition": 1000},
    "multipl-e": {"javascript": 161, "java": 158, "cpp": 161, "shell": 158},
}
"""Rows of the data sets on the hub, as their cards tell, by language or difficulty where a config can choose by it."""
RUN_FOR_TESTS = ("humaneval+", "mbpp+")
"""Making their problems runs programs; each record is one problem."""


def problem_count(evaluation: Evaluation, seed: int) -> int | None:
    """Problems of a benchmark, before `evaluation.problems` takes the first of them.

    Args:
        evaluation: names it, with what is wanted of it.
        seed: of the experiment; some benchmarks are drawn.

    Returns:
        Their number, or None where they are on the hub and nobody has told it.

    Raises:
        UserError: a file of them cannot be read.
    """
    name, source = evaluation.benchmark, evaluation.source
    benchmark = BENCHMARKS[name]
    at_hand = benchmark.packaged if source is None else source if Path(source).expanduser().exists() else None
    if at_hand is not None:
        if name in RUN_FOR_TESTS:
            return len(read(at_hand, benchmark.model, ()))
        return len(load(name, at_hand, languages=evaluation.languages, difficulties=evaluation.difficulties, seed=seed))
    if name not in PUBLISHED or source not in (None, *(hub.name for hub in benchmark.hubs)):
        return None
    wanted = {"apps": evaluation.difficulties, "multipl-e": evaluation.languages}.get(name)
    return sum(count for part, count in PUBLISHED[name].items() if wanted is None or part in wanted)
