"""One request on its way through an engine: what all engines check, choose and count alike."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from codelm.inference.codec import Codec, TextStream
from codelm.inference.engine import Delta, FinishReason, Request, TokenScore
from codelm.inference.sampling import Draws, Logits, adjusted, choose, scores


class Progress:
    """A request with its prompt's ids and what has been generated."""

    def __init__(self, number: int, request: Request, prompt: tuple[int, ...], codec: Codec) -> None:
        self.number, self.request, self.prompt = number, request, prompt
        self.draws = Draws(request.seed, request.index, prompt)
        self.generated: list[int] = []
        self.counts: Counter[int] = Counter()
        self._text = TextStream(codec.decode, request.stop)

    def advance(self, token: int, scored: tuple[TokenScore, ...], ends: frozenset[int]) -> Delta:
        """Add a token, which is told with its score where the request asks for that."""
        if token in ends:
            return Delta(self._text.finish(), (), "stop")
        self.generated.append(token)
        self.counts[token] += 1
        text = self._text.push(token)
        reason: FinishReason | None = None
        if not self._text.stopped and len(self.generated) == self.request.max_new_tokens:
            text += self._text.finish()
            reason = "length"
        return Delta(text, (token,), "stop" if self._text.stopped else reason, scored)


def advance_all(rows: Sequence[Progress], logits: Logits, ends: frozenset[int]) -> list[tuple[int, Delta]]:
    """Choose the next token of each row by its logits, and add it."""
    tokens = choose(
        adjusted(logits, [row.request for row in rows], [row.counts for row in rows]),
        [row.request.temperature for row in rows],
        [row.request.top_p for row in rows],
        [row.draws.uniform(len(row.generated)) if row.request.temperature > 0 else 0.0 for row in rows],
    )
    deltas = []
    for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        asked = row.request.logprobs
        scored = () if asked is None else tuple(scores(logits[place : place + 1], [token], asked))
        deltas.append((row.number, row.advance(token, scored, ends)))
    return deltas


def check_ids(ids: Sequence[int], vocabulary: int) -> None:
    """Raise ValueError unless there are ids, all of them known."""
    if not ids:
        raise ValueError("the prompt has no tokens")
    if not (min(ids) >= 0 and max(ids) < vocabulary):
        raise ValueError(f"the prompt has token ids outside 0..{vocabulary - 1}")


def check_score(ids: Sequence[int], vocabulary: int, max_positions: int) -> None:
    """Raise ValueError for a text that cannot be scored; see `Engine.score`."""
    check_ids(ids, vocabulary)
    if len(ids) > max_positions:
        raise ValueError(f"{len(ids)} tokens are more than the model's {max_positions} positions")


def check_request(request: Request, prompt: Sequence[int], vocabulary: int, max_positions: int) -> None:
    """Raise ValueError for a request that cannot be served; see `Engine.add`."""
    check_ids(prompt, vocabulary)
    unknown = [token for token, _ in request.logit_bias if not 0 <= token < vocabulary]
    if unknown:
        raise ValueError(f"logit_bias has token id {unknown[0]}, outside 0..{vocabulary - 1}")
    if request.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {request.max_new_tokens}; take at least 1")
    if len(prompt) + request.max_new_tokens > max_positions:
        raise ValueError(
            f"{len(prompt)} prompt tokens and {request.max_new_tokens} new ones are more than the model's "
            f"{max_positions} positions"
        )


def end_tokens(model_dir: Path, codec: Codec) -> frozenset[int]:
    """The tokens that end a completion: `<|endoftext|>`, and what the model's files say."""
    stated: list[int | None] = [codec.end_of_text]
    for name in ("config.json", "generation_config.json"):
        path = model_dir / name
        ids = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        stated += ids if isinstance(ids, list) else [ids]
    return frozenset(token for token in stated if token is not None)
