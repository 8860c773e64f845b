"""The reference engine: Hugging Face models on any device, with requests joining and leaving between steps.

Running requests share one key/value cache, padded on the left. A newcomer's prompt is computed on its own,
with the other newcomers of the step, and its cache joined to the others'; a finished request's row is dropped.
A prompt that several requests have is computed once, for those that join in this step and those that still wait.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from codelm.errors import UserError
from codelm.inference.codec import Codec, load_codec
from codelm.inference.engine import Delta, Options, Request, TokenScore
from codelm.inference.progress import Progress, advance_all, check_request, check_score, end_tokens
from codelm.inference.sampling import scores


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

    rows: list[Progress]
    cache: DynamicCache
    mask: torch.Tensor
    """rows x cached positions: 1 for a token, 0 for padding on the left."""


class TransformersEngine:
    """An `Engine` on `transformers`' own forward pass."""

    def __init__(self, model: PreTrainedModel, codec: Codec, ends: frozenset[int], max_batch: int) -> None:
        self.codec = codec
        self.max_positions: int = model.config.max_position_embeddings
        self._model, self._max_batch = model, max_batch
        self._vocabulary: int = model.config.vocab_size
        self._ends = ends
        self._waiting: deque[Progress] = deque()
        self._batch: _Batch | None = None
        self._prompts: dict[tuple[int, ...], _Prompt] = {}
        self._added = 0

    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._waiting) or self._batch is not None

    def add(self, request: Request) -> int:
        """Take a request; see `Engine.add`."""
        prompt = self.codec.prompt_ids(request.prompt)
        check_request(request, prompt, self._vocabulary, self.max_positions)
        self._added += 1
        self._waiting.append(Progress(self._added, request, prompt, self.codec))
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
        deltas = advance_all(self._batch.rows, torch.cat(parts).cpu().numpy(), self._ends)
        self._keep([delta.finish_reason is None for _, delta in deltas])
        return deltas

    @torch.inference_mode()
    def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        """How likely each token of a text is; see `Engine.score`."""
        check_score(ids, self._vocabulary, self.max_positions)
        logits = self._model(input_ids=torch.tensor([ids], device=self._model.device), use_cache=False).logits[0, :-1]
        return [TokenScore(ids[0], None), *scores(logits.float().cpu().numpy(), ids[1:], top)]

    def _decode(self, batch: _Batch) -> torch.Tensor:
        """Feed each row's last token; the logits of the next."""
        device = batch.mask.device
        batch.mask = pad(batch.mask, (0, 1), value=1)
        ids = torch.tensor([[row.generated[-1]] for row in batch.rows], device=device)
        positions = torch.tensor([[len(row.prompt) + len(row.generated) - 1] for row in batch.rows], device=device)
        return self._forward(ids, batch.mask, positions, batch.cache)

    def _prefill(self, rows: list[Progress]) -> tuple[_Batch, torch.Tensor]:
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


def load(model_dir: Path, device: str, options: Options) -> TransformersEngine:
    """Load a model: in float32 on a CPU, where it is exact, and in bfloat16 elsewhere, unless the options say it.

    Raises:
        UserError: int8 is asked for.
    """
    if options.precision == "int8":
        raise UserError("engine transformers has no int8; take precision fp32 or bf16, or engine openvino")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    half = options.precision == "bf16" or (options.precision == "auto" and device != "cpu")
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16 if half else torch.float32)
    codec = load_codec(model_dir)
    return TransformersEngine(model.to(device).eval(), codec, end_tokens(model_dir, codec), options.max_batch)
