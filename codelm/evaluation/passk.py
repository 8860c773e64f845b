"""pass@k: its unbiased estimate, and how far the choice of problems can move it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BOOTSTRAP_RESAMPLES = 10_000
"""The bounds of a 95 % interval then vary by about 1 % of its width from seed to seed."""

TAIL = 0.025
"""Probability beyond each bound of a 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95 % bootstrap interval; all three between 0 and 1."""

    value: float
    low: float
    high: float


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that at least one of k samples, drawn from those at hand without replacement, is correct.

    pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod(1 - k / i for i in n - c + 1 .. n), with n samples of which c are
    correct (Chen et al. 2021, arXiv:2107.03374, equation 1). The product does not overflow.

    Example: `pass_at_k(samples=4, correct=2, k=1) -> 0.5`.

    Raises:
        ValueError: there are fewer than k samples.
    """
    if samples < k:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, got {samples}")
    if samples - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - correct + 1, samples + 1)))


def estimate(counts: Sequence[tuple[int, int]], k: int, seed: int) -> Estimate:
    """The mean pass@k over problems, with a percentile bootstrap over the problems.

    The interval says what another choice of equally hard problems would have given; the samples drawn for each
    problem are taken as they are. Where no problem, or every one, was solved each time, all resamples are alike
    and say nothing: the open bound is then the exact one of Clopper and Pearson (1934) for m problems,
    1 - 0.025^(1/m) above 0, or 0.025^(1/m) below 1. Example: 0 of 20 problems -> 0 to 0.168.

    Args:
        counts: (samples, correct) of each problem.
        k: how many tries.
        seed: of the resampling.
    """
    values = np.array([pass_at_k(samples, correct, k) for samples, correct in counts])
    drawn = np.random.default_rng(seed).integers(len(values), size=(BOOTSTRAP_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [TAIL, 1 - TAIL])
    if values.max() == 0.0:
        high = 1 - TAIL ** (1 / len(values))
    if values.min() == 1.0:
        low = TAIL ** (1 / len(values))
    return Estimate(float(values.mean()), float(low), float(high))


def count_correct(passed: Mapping[str, Sequence[bool]]) -> list[tuple[int, int]]:
    """For each problem, how many samples it has and how many of them passed."""
    return [(len(verdicts), sum(verdicts)) for verdicts in passed.values()]
