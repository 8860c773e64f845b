"""Draws tokens. Every draw is a hash of (seed, index, prompt, position), so that no state need be kept.

In NumPy, for every engine: the same logits give the same tokens in all of them.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codelm.inference.engine import Request, TokenScore

Logits = NDArray[np.float32]
"""Rows x vocabulary."""

NUCLEUS = 128
"""So many of the likeliest tokens are sorted at first; more only where they do not reach `top_p`."""


class Draws:
    """The random numbers of one completion: the same whatever runs beside it, and on every machine."""

    def __init__(self, seed: int, index: int, prompt: Sequence[int]) -> None:
        self._key = hashlib.sha256(repr((seed, index, tuple(prompt))).encode()).digest()

    def uniform(self, position: int) -> float:
        """A number in [0, 1) for the token at `position`, counted from 0 at the first generated."""
        digest = hashlib.blake2b(position.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53  # the 53 bits that a double holds


def choose(logits: Logits, temperature: Sequence[float], top_p: Sequence[float], uniform: Sequence[float]) -> list[int]:
    """Choose a token for each row by inverting a cumulative distribution.

    Args:
        logits: rows x vocabulary.
        temperature: of each row; 0 takes the largest logit.
        top_p: of each row; the fewest of the likeliest tokens whose probabilities sum to at least this remain.
        uniform: of each row, in [0, 1).
    """
    return [
        _draw(row, *settings) if settings[0] > 0 else int(row.argmax())
        for row, *settings in zip(logits, temperature, top_p, uniform, strict=True)
    ]


def _draw(logits: NDArray[np.float32], temperature: float, top_p: float, uniform: float) -> int:
    """One token: of all in the order of their ids, or of the nucleus, likeliest first."""
    # The largest is taken away first: a tiny temperature would make others overflow.
    weights = np.exp((logits - logits.max()) / np.float32(temperature))
    if top_p >= 1:
        cumulative = np.cumsum(weights, dtype=np.float64)
        place = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
        # Rounding can put the target past the last token with a probability.
        return place if place < len(weights) else int(np.flatnonzero(weights)[-1])
    order = _nucleus(weights, top_p)
    cumulative = np.cumsum(weights[order], dtype=np.float64)
    place = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return int(order[min(place, len(order) - 1)])


def _nucleus(weights: NDArray[np.float32], top_p: float) -> NDArray[np.int64]:
    """The fewest likeliest tokens that have `top_p` of the weight, likeliest first; equal ones by their ids."""
    enough = top_p * float(weights.sum(dtype=np.float64))
    size = NUCLEUS
    while True:
        if size < len(weights):
            threshold = np.partition(weights, -size)[-size]
            some = np.flatnonzero(weights >= threshold)
        else:
            some = np.flatnonzero(weights)
        order = some[np.argsort(-weights[some], kind="stable")]
        cumulative = np.cumsum(weights[order], dtype=np.float64)
        if cumulative[-1] >= enough or size >= len(weights):
            return order[: int(np.searchsorted(cumulative, enough, side="left")) + 1]
        size *= 8


def adjusted(logits: Logits, requests: Sequence[Request], counts: Sequence[Mapping[int, int]]) -> Logits:
    """The logits with each request's bias and penalties, by OpenAI's formula: `logit - count * frequency_penalty -
    (count > 0) * presence_penalty` (platform.openai.com/docs/advanced-usage), over the tokens generated so far.

    Args:
        logits: rows x vocabulary; not changed.
        requests: of each row.
        counts: of each row, how often each token has been generated.
    """
    changed = None
    for row, (request, seen) in enumerate(zip(requests, counts, strict=True)):
        changes = dict(request.logit_bias)
        if request.presence_penalty or request.frequency_penalty:
            for token, count in seen.items():
                penalty = request.presence_penalty + count * request.frequency_penalty
                changes[token] = changes.get(token, 0.0) - penalty
        if changes:
            changed = logits.copy() if changed is None else changed
            changed[row, list(changes)] += np.array(list(changes.values()), np.float32)
    return logits if changed is None else changed


def scores(logits: Logits, tokens: Sequence[int], top: int) -> list[TokenScore]:
    """How likely tokens are by their rows of logits, with so many alternatives each."""
    scored = []
    for row, token in zip(logits, tokens, strict=True):
        shifted = row.astype(np.float64) - row.max()
        logprobs = shifted - np.log(np.exp(shifted).sum())
        size = min(top, len(row))
        best = np.argpartition(-logprobs, size - 1)[:size] if 0 < size < len(row) else np.arange(len(row))[: size or 0]
        best = best[np.argsort(-logprobs[best], kind="stable")]
        scored.append(TokenScore(token, float(logprobs[token]), tuple((int(i), float(logprobs[i])) for i in best)))
    return scored
