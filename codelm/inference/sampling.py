"""Draws tokens. Every draw is a hash of (seed, index, prompt, position), so that no state need be kept."""

import hashlib
from collections.abc import Mapping, Sequence

import torch

from codelm.inference.engine import Request, TokenScore


class Draws:
    """The random numbers of one completion: the same whatever runs beside it, and on every machine."""

    def __init__(self, seed: int, index: int, prompt: Sequence[int]) -> None:
        self._key = hashlib.sha256(repr((seed, index, tuple(prompt))).encode()).digest()

    def uniform(self, position: int) -> float:
        """A number in [0, 1) for the token at `position`, counted from 0 at the first generated."""
        digest = hashlib.blake2b(position.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53  # the 53 bits that a double holds


def choose(
    logits: torch.Tensor, temperature: Sequence[float], top_p: Sequence[float], uniform: Sequence[float]
) -> list[int]:
    """Choose a token for each row by inverting the cumulative distribution over tokens, likeliest first.

    Args:
        logits: rows x vocabulary.
        temperature: of each row; 0 takes the largest logit.
        top_p: of each row; the fewest of the likeliest tokens whose probabilities sum to at least this remain.
        uniform: of each row, in [0, 1).
    """
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    rows = [row for row, value in enumerate(temperature) if value > 0]
    if not rows:
        return tokens

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor([[values[row]] for row in rows], dtype=torch.float64, device=logits.device)

    probabilities = torch.softmax(logits[rows].double() / column(temperature), dim=-1)
    # Stable, so that equal probabilities have one order.
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.masked_fill(before >= column(top_p), 0.0)
    cumulative = ordered.cumsum(dim=-1)
    target = column(uniform) * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True)
    # Rounding can put the target past the last token with a probability.
    place = place.minimum((ordered > 0).sum(dim=-1, keepdim=True) - 1)
    for row, token in zip(rows, order.gather(-1, place).squeeze(-1).tolist(), strict=True):
        tokens[row] = token
    return tokens


def adjusted(logits: torch.Tensor, requests: Sequence[Request], counts: Sequence[Mapping[int, int]]) -> torch.Tensor:
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
            changed = logits.clone() if changed is None else changed
            tokens = torch.tensor(list(changes), device=logits.device)
            changed[row, tokens] += torch.tensor(list(changes.values()), dtype=logits.dtype, device=logits.device)
    return logits if changed is None else changed


def scores(logits: torch.Tensor, tokens: Sequence[int], top: int) -> list[TokenScore]:
    """How likely tokens are by their rows of logits, with so many alternatives each."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    chosen = logprobs.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    best = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    return [
        TokenScore(token, logprob, tuple(zip(ids, values, strict=True)))
        for token, logprob, ids, values in zip(tokens, chosen, best.indices.tolist(), best.values.tolist(), strict=True)
    ]
