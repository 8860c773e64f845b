"""The reference engine: Hugging Face models on any device, with requests joining and leaving between steps.

Running requests share one key/value cache, padded on the left. A newcomer's prompt is computed on its own,
with the other newcomers of the step, and its cache joined to the others'; a finished request's row is dropped.
A prompt that several requests have is computed once, for those that join in this step and those that still wait.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from codelm.inference.codec import Codec, TextStream, load_codec
from codelm.inference.engine import Delta, FinishReason, Request, TokenScore
from codelm.inference.sampling import Draws, adjusted, choose, scores


@dataclass
class _Row:
    """One request on its way."""

    number: int
    request: Request
    prompt: tuple[int, ...]
    draws: Draws
    text: TextStream
    generated: int = 0
    last: int = -1
    counts: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Prompt:
    """What the model remembers of one prompt, and its logits of the first new token.

    Attributes:
        layers: (keys, values) of each: 1 x heads x tokens x size of a head.
        logits: 1 x vocabulary.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    logits: torch.Tensor


@dataclass
class _Batch:
    """The running rows with what the model remembers of them: row i of the cache and of the mask is `rows[i]`."""

    rows: list[_Row]
    cache: DynamicCache
    mask: torch.Tensor
    """rows x cached positions: 1 for a token, 0 for padding on the left."""


class TransformersEngine:
    """An `Engine` on `transformers`' own forward pass."""

    def __init__(self, model: PreTrainedModel, codec: Codec, max_batch: int) -> None:
        self.codec = codec
        self.max_positions: int = model.config.max_position_embeddings
        self._model, self._max_batch = model, max_batch
        self._vocabulary: int = model.config.vocab_size
        self._ends = _end_tokens(model, codec)
        self._waiting: deque[_Row] = deque()
        self._batch: _Batch | None = None
        self._prompts: dict[tuple[int, ...], _Prompt] = {}
        self._added = 0

    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._waiting) or self._batch is not None

    def add(self, request: Request) -> int:
        """Take a request; see `Engine.add`."""
        prompt = self.codec.prompt_ids(request.prompt)
        self._check_ids(prompt)
        unknown = [token for token, _ in request.logit_bias if not 0 <= token < self._vocabulary]
        if unknown:
            raise ValueError(f"logit_bias has token id {unknown[0]}, outside 0..{self._vocabulary - 1}")
        if request.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {request.max_new_tokens}; take at least 1")
        if len(prompt) + request.max_new_tokens > self.max_positions:
            raise ValueError(
                f"{len(prompt)} prompt tokens and {request.max_new_tokens} new ones are more than the model's "
                f"{self.max_positions} positions"
            )
        self._added += 1
        draws = Draws(request.seed, request.index, prompt)
        text = TextStream(self.codec.decode, request.stop)
        self._waiting.append(_Row(self._added, request, prompt, draws, text))
        return self._added

    def cancel(self, number: int) -> None:
        """Forget a request; nothing happens if it has finished."""
        self._waiting = deque(row for row in self._waiting if row.number != number)
        if self._batch is not None:
            self._keep([row.number != number for row in self._batch.rows])

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Delta]]:
        """Generate the next token of the running requests; see `Engine.step`."""
        parts = []
        if self._batch is not None:
            parts.append(self._decode(self._batch))
        free = self._max_batch - (len(self._batch.rows) if self._batch is not None else 0)
        newcomers = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        if newcomers:
            entering, logits = self._prefill(newcomers)
            parts.append(logits)
            self._batch = entering if self._batch is None else _join(self._batch, entering)
        if self._batch is None:
            return []
        rows = self._batch.rows
        logits = torch.cat(parts)
        tokens = choose(
            adjusted(logits, [row.request for row in rows], [row.counts for row in rows]),
            [row.request.temperature for row in rows],
            [row.request.top_p for row in rows],
            [row.draws.uniform(row.generated) for row in rows],
        )
        deltas = [
            (row.number, self._advance(row, token, logits[place]))
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True))
        ]
        self._keep([delta.finish_reason is None for _, delta in deltas])
        return deltas

    @torch.inference_mode()
    def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        """How likely each token of a text is; see `Engine.score`."""
        self._check_ids(ids)
        if len(ids) > self.max_positions:
            raise ValueError(f"{len(ids)} tokens are more than the model's {self.max_positions} positions")
        logits = self._model(input_ids=torch.tensor([ids], device=self._model.device), use_cache=False).logits[0, :-1]
        return [TokenScore(ids[0], None), *scores(logits, ids[1:], top)]

    def _check_ids(self, ids: tuple[int, ...]) -> None:
        if not ids:
            raise ValueError("the prompt has no tokens")
        if not all(0 <= token < self._vocabulary for token in ids):
            raise ValueError(f"the prompt has token ids outside 0..{self._vocabulary - 1}")

    def _advance(self, row: _Row, token: int, logits: torch.Tensor) -> Delta:
        """Add a token to a row; `logits`, the model's own, are those that it was chosen from."""
        if token in self._ends:
            return Delta(row.text.finish(), (), "stop")
        row.last = token
        row.generated += 1
        row.counts[token] += 1
        asked = row.request.logprobs
        scored = () if asked is None else tuple(scores(logits[None], [token], asked))
        text = row.text.push(token)
        reason: FinishReason | None = None
        if not row.text.stopped and row.generated == row.request.max_new_tokens:
            text += row.text.finish()
            reason = "length"
        return Delta(text, (token,), "stop" if row.text.stopped else reason, scored)

    def _decode(self, batch: _Batch) -> torch.Tensor:
        """Feed each row's last token; the logits of the next."""
        device = batch.mask.device
        batch.mask = pad(batch.mask, (0, 1), value=1)
        ids = torch.tensor([[row.last] for row in batch.rows], device=device)
        positions = torch.tensor([[len(row.prompt) + row.generated - 1] for row in batch.rows], device=device)
        return self._forward(ids, batch.mask, positions, batch.cache)

    def _prefill(self, rows: list[_Row]) -> tuple[_Batch, torch.Tensor]:
        """The batch of new rows, padded on the left, and the logits of their first new token."""
        unique = list(dict.fromkeys(row.prompt for row in rows))
        self._prompts.update(self._compute([prompt for prompt in unique if prompt not in self._prompts]))
        known = [self._prompts[prompt] for prompt in unique]
        waiting = {row.prompt for row in self._waiting}
        self._prompts = {prompt: one for prompt, one in self._prompts.items() if prompt in waiting}
        width = max(map(len, unique))
        places = {prompt: place for place, prompt in enumerate(unique)}
        device = self._model.device
        chosen = torch.tensor([places[row.prompt] for row in rows], device=device)

        def spread(parts: list[torch.Tensor]) -> torch.Tensor:
            return torch.cat([pad(part, (0, 0, width - part.shape[2], 0)) for part in parts])[chosen]

        cache = DynamicCache()
        for number, parts in enumerate(zip(*(one.layers for one in known), strict=True)):
            cache.update(spread([keys for keys, _ in parts]), spread([values for _, values in parts]), number)
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows], device=device)
        return _Batch(rows, cache, mask), torch.cat([one.logits for one in known])[chosen]

    def _compute(self, prompts: list[tuple[int, ...]]) -> dict[tuple[int, ...], _Prompt]:
        """Feed prompts, padded on the left."""
        if not prompts:
            return {}
        width = max(map(len, prompts))
        device = self._model.device
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        cache = DynamicCache()
        logits = self._forward(ids, mask, (mask.cumsum(dim=-1) - 1).clamp(min=0), cache)
        computed = {}
        for row, prompt in enumerate(prompts):
            one, first = slice(row, row + 1), width - len(prompt)
            layers = [(layer.keys[one, :, first:], layer.values[one, :, first:]) for layer in _layers(cache)]
            computed[prompt] = _Prompt(layers, logits[one])
        return computed

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _keep(self, wanted: list[bool]) -> None:
        """Drop the other rows, and the padding that no row needs any longer."""
        batch = self._batch
        if batch is None or all(wanted):
            return
        if not any(wanted):
            self._batch = None
            return
        indices = torch.tensor([index for index, keep in enumerate(wanted) if keep], device=batch.mask.device)
        batch.rows = [row for row, keep in zip(batch.rows, wanted, strict=True) if keep]
        batch.mask = batch.mask[indices]
        unused = int((batch.mask.sum(dim=0) == 0).sum())
        batch.mask = batch.mask[:, unused:]
        for layer in _layers(batch.cache):
            layer.keys = layer.keys[indices][..., unused:, :]
            layer.values = layer.values[indices][..., unused:, :]


def _layers(cache: DynamicCache) -> list[Any]:
    """The cache's layers: `keys` and `values` are rows x heads x positions x size of a head."""
    return list(cache.layers)


def _join(running: _Batch, entering: _Batch) -> _Batch:
    """Both batches as one, the shorter padded on the left."""
    width = max(running.mask.shape[1], entering.mask.shape[1])

    def widened(batch: _Batch) -> _Batch:
        missing = width - batch.mask.shape[1]
        for layer in _layers(batch.cache):
            layer.keys, layer.values = pad(layer.keys, (0, 0, missing, 0)), pad(layer.values, (0, 0, missing, 0))
        return _Batch(batch.rows, batch.cache, pad(batch.mask, (missing, 0)))

    first, second = widened(running), widened(entering)
    for into, new in zip(_layers(first.cache), _layers(second.cache), strict=True):
        into.keys, into.values = torch.cat([into.keys, new.keys]), torch.cat([into.values, new.values])
    return _Batch(first.rows + second.rows, first.cache, torch.cat([first.mask, second.mask]))


def _end_tokens(model: PreTrainedModel, codec: Codec) -> frozenset[int]:
    """The tokens that end a completion: `<|endoftext|>`, and what the model's files say."""
    assert model.generation_config is not None
    stated = model.generation_config.eos_token_id
    ids = stated if isinstance(stated, list) else [stated]
    return frozenset(token for token in (*ids, codec.end_of_text) if token is not None)


def load(model_dir: Path, device: str, max_batch: int) -> TransformersEngine:
    """Load a model: in float32 on a CPU, where it is exact, and in bfloat16 elsewhere."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype)
    return TransformersEngine(model.to(device).eval(), load_codec(model_dir), max_batch)
