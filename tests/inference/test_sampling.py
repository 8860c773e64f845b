"""Draws against the distribution they come from."""

from collections import Counter

import numpy as np
import pytest

from codelm.inference.engine import Request
from codelm.inference.sampling import Draws, _nucleus, adjusted, choose, scores

LOGITS = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))


def test_draws_are_uniform() -> None:
    draws = Draws(seed=1, index=0, prompt=(1, 2))
    values = np.array([draws.uniform(position) for position in range(10_000)])
    assert values.min() >= 0
    assert values.max() < 1
    # Standard errors: sqrt(1/12 / 10^4) = .003 for the mean, 0.0009 for the variance.
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert values.var() == pytest.approx(1 / 12, abs=0.004)


def test_frequencies_are_the_probabilities() -> None:
    draws = Draws(seed=1, index=0, prompt=())
    number = 4000
    tokens = choose(
        np.broadcast_to(LOGITS, (number, 4)),
        [1.0] * number,
        [1.0] * number,
        [draws.uniform(place) for place in range(number)],
    )
    counts = Counter(tokens)
    # Largest standard error: sqrt(.5 * .5 / 4000) = .008.
    for token, probability in enumerate([0.1, 0.5, 0.15, 0.25]):
        assert counts[token] / number == pytest.approx(probability, abs=0.03)


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    grid = [step / 100 for step in range(100)]
    for top_p, kept in ((0.4, {1}), (0.6, {1, 3}), (0.8, {1, 3, 2}), (1.0, {0, 1, 2, 3})):
        tokens = choose(np.broadcast_to(LOGITS, (100, 4)), [1.0] * 100, [top_p] * 100, grid)
        assert set(tokens) == kept


def test_temperature_zero_is_the_largest_logit_beside_sampled_rows() -> None:
    assert choose(np.broadcast_to(LOGITS, (3, 4)), [0.0, 1.0, 0.0], [1.0] * 3, [0.99] * 3) == [1, 3, 1]


def test_the_end_of_the_scale_is_a_token_with_a_probability() -> None:
    almost_one = 1 - 2.0**-53
    logits = np.array([[0.0, -np.inf, -1.0, -np.inf]], np.float32)
    for top_p in (1.0, 0.999):
        assert choose(logits, [1.0], [top_p], [almost_one]) == [2]


def test_bias_and_penalties_are_openais_formula() -> None:
    plain = Request((1,), 8)
    biased = Request((1,), 8, logit_bias=((2, 100.0), (0, -1.0)))
    penalised = Request((1,), 8, presence_penalty=0.5, frequency_penalty=0.25)
    both = Request((1,), 8, presence_penalty=0.5, logit_bias=((3, 2.0),))
    logits = np.broadcast_to(LOGITS, (4, 4))
    changed = adjusted(
        logits, [plain, biased, penalised, both], [Counter([1]), Counter([1]), Counter([1, 1, 3]), {3: 4}]
    )
    shift = np.array([[0, 0, 0, 0], [-1, 0, 100, 0], [0, -1.0, 0, -0.75], [0, 0, 0, 1.5]])
    assert np.allclose(changed, LOGITS + shift)
    assert adjusted(logits, [plain], [Counter([1])]) is logits


def test_scores_are_log_probabilities_likeliest_first() -> None:
    (score,) = scores(LOGITS[None] + 7, [2], 2)
    assert score.token == 2
    assert score.logprob == pytest.approx(np.log(0.15))
    assert [token for token, _ in score.top] == [1, 3]
    assert [2.718281828**value for _, value in score.top] == pytest.approx([0.5, 0.25], abs=1e-5)


def test_the_nucleus_equals_a_full_sort_for_flat_and_peaked_distributions() -> None:
    generator = np.random.default_rng(0)
    for spread in (0.0, 0.01, 1.0, 8.0):
        weights = np.exp(spread * generator.standard_normal(5000)).astype(np.float32)
        weights[::3] = weights[0]  # many equal ones
        for top_p in (1e-6, 0.3, 0.95, 0.999999):
            order = np.lexsort((np.arange(5000), -weights))
            kept = np.cumsum(weights[order], dtype=np.float64) < top_p * weights.sum(dtype=np.float64)
            assert _nucleus(weights, top_p).tolist() == order[: kept.sum() + 1].tolist()


def test_a_tiny_temperature_is_greedy() -> None:
    assert choose(np.array([[1e4, 1e4 + 1, -1e4]], np.float32), [1e-6], [1.0], [0.5]) == [1]
