"""The engine for GPUs: vLLM (extra `codelm[vllm]`), which batches, caches prefixes and draws tokens itself.

Stops and text are handled as in the other engines, over token ids. Its draws come from a generator for each request,
so that a sample does not depend on its company; they are not those of the other engines.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

from codelm.inference.codec import Codec, load_codec
from codelm.inference.engine import Delta, Options, Request, TokenScore, model_shape
from codelm.inference.progress import Progress, check_request, check_score, end_tokens

MAX_LOGPROBS = 128
DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}


class VllmEngine:
    """An `Engine` on vLLM's `LLMEngine`."""

    def __init__(self, engine: Any, codec: Codec, ends: frozenset[int], shape: tuple[int, int]) -> None:
        """Make an engine.

        Args:
            engine: vLLM's, without a tokenizer.
            codec: the model's tokenizer.
            ends: tokens that end a completion.
            shape: positions and vocabulary.
        """
        self.codec, self._engine, self._ends = codec, engine, ends
        self.max_positions, self._vocabulary = shape
        self._rows: dict[str, Progress] = {}
        self._early: list[tuple[int, Delta]] = []
        """What came while a text was scored."""
        self._added = 0

    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._rows or self._early)

    def add(self, request: Request) -> int:
        """Take a request; see `Engine.add`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompt = self.codec.prompt_ids(request.prompt)
        check_request(request, prompt, self._vocabulary, self.max_positions)
        self._added += 1
        settings = SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_new_tokens,
            seed=_seed(request, prompt),
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logit_bias=dict(request.logit_bias) or None,
            logprobs=request.logprobs,
            stop_token_ids=sorted(self._ends),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._engine.add_request(str(self._added), {"prompt_token_ids": list(prompt)}, settings)
        self._rows[str(self._added)] = Progress(self._added, request, prompt, self.codec)
        return self._added

    def cancel(self, number: int) -> None:
        """Forget a request; nothing happens if it has finished."""
        if self._rows.pop(str(number), None) is not None:
            self._engine.abort_request([str(number)])
        self._early = [item for item in self._early if item[0] != number]

    def step(self) -> list[tuple[int, Delta]]:
        """Generate the next token of the running requests; see `Engine.step`."""
        early, self._early = self._early, []
        return early or self._deltas(self._engine.step())

    def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        """How likely each token of a text is; see `Engine.score`."""
        from vllm import SamplingParams

        # vLLM always generates a token after them.
        check_score(ids, self._vocabulary, self.max_positions - 1)
        settings = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=top, detokenize=False)
        name = f"score-{time.monotonic_ns()}"
        self._engine.add_request(name, {"prompt_token_ids": list(ids)}, settings)
        while True:
            outputs = self._engine.step()
            self._early += self._deltas([one for one in outputs if one.request_id != name])
            for output in outputs:
                if output.request_id == name and output.finished:
                    return [_score(token, told, top) for token, told in zip(ids, output.prompt_logprobs, strict=True)]

    def _deltas(self, outputs: list[Any]) -> list[tuple[int, Delta]]:
        deltas = []
        for output in outputs:
            row = self._rows.get(output.request_id)
            if row is None:
                continue
            (choice,) = output.outputs
            for place, token in enumerate(choice.token_ids):
                asked = row.request.logprobs
                scored = () if asked is None else (_score(token, choice.logprobs[place], asked),)
                delta = row.advance(token, scored, self._ends)
                deltas.append((row.number, delta))
                if delta.finish_reason is not None:
                    del self._rows[output.request_id]
                    if not output.finished:
                        self._engine.abort_request([output.request_id])
                    break
        return deltas


def _score(token: int, told: Any, top: int) -> TokenScore:
    """vLLM's dictionary of ids with `logprob` and `rank`, the token's own among them, as ours."""
    if told is None:
        return TokenScore(token, None)
    best = sorted(told.items(), key=lambda item: item[1].rank)[:top]
    return TokenScore(token, told[token].logprob, tuple((other, one.logprob) for other, one in best))


def _seed(request: Request, prompt: tuple[int, ...]) -> int:
    text = repr((request.seed, request.index, prompt)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "little")


def load(model_dir: Path, device: str, options: Options) -> VllmEngine:
    """Load a model on the device that vLLM was built for.

    Raises:
        UserError: int8 is asked for.
    """
    from vllm import EngineArgs, LLMEngine

    from codelm.errors import UserError

    if options.precision == "int8":
        raise UserError("engine vllm has no int8 here; take precision fp32 or bf16, or engine openvino")
    del device
    codec = load_codec(model_dir)
    shape = model_shape(model_dir)
    arguments = EngineArgs(
        model=str(model_dir),
        skip_tokenizer_init=True,
        dtype=DTYPES[options.precision],
        max_model_len=shape[0],
        max_num_seqs=options.max_batch,
        max_logprobs=MAX_LOGPROBS,
        enable_prefix_caching=options.remember,
        generation_config="vllm",
        disable_log_stats=True,
    )
    return VllmEngine(LLMEngine.from_engine_args(arguments), codec, end_tokens(model_dir, codec), shape)
