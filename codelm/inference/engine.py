"""What every engine can do: take requests at any time, and move all of them on by one step.

The protocol is that of engines with continuous batching (vLLM's `add_request`, `step`, `abort_request`;
OpenVINO GenAI's `add_request`, `step`, `cancel`), so that evaluation and serving need know no other.
"""

import importlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from codelm.config.engines import Precision
from codelm.console import say
from codelm.errors import UserError
from codelm.inference.codec import Codec

FinishReason = Literal["stop", "length"]

ENGINES = {
    "openvino": "codelm.inference.openvino_engine",
    "vllm": "codelm.inference.vllm_engine",
    "transformers": "codelm.inference.transformers_engine",
}
"""Engine name -> its module, imported when it is asked for; the module has `load(model_dir, device, options)`."""

OPENVINO_MODELS = ("llama", "gpt2", "gpt_bigcode", "gpt_neo")
"""`model_type` of those that can be exported to OpenVINO."""


@dataclass(frozen=True)
class Options:
    """How an engine runs a model.

    Attributes:
        max_batch: requests that run together; more wait.
        precision: of the arithmetic; `auto` is bf16 where the device computes with it natively and else fp32, `int8`
            fp32 with weights rounded to 8 bits.
        cache_mb: MiB for keys and values; a request of the model's full length fits in any case.
        threads: of a CPU; None for OMP_NUM_THREADS, as torch, and without that all.
        remember: keep what has been computed of prompts for later requests. Without, an idle engine is as good as
            new: the same requests then have the same answers, bit for bit, whatever it has done before.
    """

    max_batch: int = 32
    precision: Precision = "auto"
    cache_mb: int = 1024
    threads: int | None = None
    remember: bool = True


@dataclass(frozen=True)
class Request:
    """One completion to generate.

    Attributes:
        prompt: token ids; or text, in which special tokens count as plain text.
        max_new_tokens: at most so many.
        temperature: 0 takes the likeliest token each time.
        top_p: sample among the likeliest tokens whose probabilities reach this sum.
        stop: the text ends before the first of these.
        seed: with the prompt and `index` it decides every draw, whatever else runs beside.
        index: tells several completions of one prompt and seed apart.
        presence_penalty: taken once from the logit of each token that has been generated; OpenAI's formula.
        frequency_penalty: taken from it each time.
        logit_bias: (token, what is added to its logit).
        logprobs: also tell the log probability of each generated token and of so many alternatives; None for none.
    """

    prompt: str | tuple[int, ...]
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    index: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True)
class TokenScore:
    """How likely the model found one token, by its logits as they are: without temperature, penalties or bias.

    Attributes:
        token: its id.
        logprob: natural logarithm of its probability; None for the first token of a text, which nothing precedes.
        top: (id, logprob) of the likeliest tokens in its place, likeliest first.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What a step added to one completion. Texts and ids joined in order are the completion's.

    Attributes:
        text: whole characters, safe to show: never part of a stop string, never a special token.
        token_ids: what was generated, stop strings included, the end-of-text token not.
        finish_reason: set on the last delta: `stop` for a stop string or end of text, `length` at the limit.
        scores: of each of `token_ids`, where the request asks for `logprobs`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class Completion:
    """A finished completion."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated."""
        return len(self.token_ids)


class Engine(Protocol):
    """Generates text. Not safe for several threads: one of them calls all methods, or they hold a lock."""

    @property
    def codec(self) -> Codec:
        """The model's tokenizer."""

    @property
    def max_positions(self) -> int:
        """Prompt and completion together have at most so many tokens."""

    def busy(self) -> bool:
        """Whether any request is unfinished."""

    def add(self, request: Request) -> int:
        """Take a request and return the number that its deltas carry.

        Raises:
            ValueError: the prompt is empty, has unknown ids, or leaves no room for `max_new_tokens`.
        """

    def step(self) -> list[tuple[int, Delta]]:
        """Generate the next token of the running requests; what each gained, by number."""

    def cancel(self, number: int) -> None:
        """Forget a request; nothing happens if it has finished."""

    def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        """How likely each token of a text is after those before it; other requests do not matter.

        Raises:
            ValueError: there are none, too many, or unknown ones.
        """


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is not the one that was asked for or would be the best; empty if it is."""

    name: str
    note: str = ""


def choose_engine(name: str, model_dir: Path, device: str) -> Choice:
    """The engine for a model: `auto` is openvino on a CPU, vllm on a GPU where it is installed, else transformers.

    Raises:
        UserError: there is no such engine, it is not installed, or it does not run on the device.
    """
    if name not in ("auto", *ENGINES):
        raise UserError(f"there is no engine {name!r}; take one of auto, {', '.join(ENGINES)}")
    on_cpu = device == "cpu"
    if name == "vllm" and importlib.util.find_spec("vllm") is None:
        raise UserError("engine vllm is not installed; `pip install codelm[vllm]`, or take engine auto")
    if name == "openvino" and not on_cpu:
        raise UserError(f"engine openvino runs on CPUs, and the device is {device}; take engine vllm or transformers")
    if name in ("auto", "openvino") and on_cpu:
        kind = json.loads((model_dir / "config.json").read_text())["model_type"]
        if kind in OPENVINO_MODELS:
            return Choice("openvino")
        return Choice("transformers", f"openvino has no export of {kind} models: engine transformers serves this one")
    if name == "auto":
        if importlib.util.find_spec("vllm") is not None:
            return Choice("vllm")
        return Choice("transformers", "vllm is not installed: engine transformers serves, at a fraction of the speed")
    return Choice(name)


def load_engine(
    name: str, model_dir: str | Path, device: str = "cpu", max_batch: int = 32, options: Options | None = None
) -> Engine:
    """Load a model into an engine.

    Args:
        name: a key of `ENGINES`, or `auto`; if another has to take its place, a line on the terminal says so.
        model_dir: a directory in Hugging Face format, with a `tokenizer.json`.
        device: as torch names it.
        max_batch: requests that run together; more wait.
        options: the other settings, and `max_batch` is theirs.

    Raises:
        UserError: see `choose_engine`.
    """
    model_dir = Path(model_dir)
    choice = choose_engine(name, model_dir, device)
    if choice.note:
        say("engine", choice.note)
    options = Options(max_batch=max_batch) if options is None else options
    engine: Engine = importlib.import_module(ENGINES[choice.name]).load(model_dir, device, options)
    return engine


def generate(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """Complete requests together, in an engine that has no other work."""
    done = dict(as_completed(engine, requests))
    return [done[place] for place in range(len(requests))]


def as_completed(engine: Engine, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
    """Complete requests together, in an engine that has no other work: each with its place, as it is finished."""
    assert not engine.busy()
    places = {engine.add(request): place for place, request in enumerate(requests)}
    deltas: dict[int, list[Delta]] = {number: [] for number in places}
    while engine.busy():
        for number, delta in engine.step():
            deltas[number].append(delta)
            if delta.finish_reason is not None:
                place = places[number]
                yield place, _join(engine, requests[place], deltas.pop(number))


def stream(engine: Engine, request: Request) -> Iterator[Delta]:
    """Complete one request, in an engine that has no other work, as its text becomes known.

    Closing the iterator cancels the request.
    """
    assert not engine.busy()
    number = engine.add(request)
    try:
        while engine.busy():
            for _, delta in engine.step():
                yield delta
    finally:
        engine.cancel(number)


def _join(engine: Engine, request: Request, deltas: list[Delta]) -> Completion:
    reason = deltas[-1].finish_reason
    assert reason is not None
    return Completion(
        text="".join(delta.text for delta in deltas),
        token_ids=tuple(token for delta in deltas for token in delta.token_ids),
        finish_reason=reason,
        prompt_tokens=len(engine.codec.prompt_ids(request.prompt)),
    )


def model_positions(model_dir: Path) -> int:
    """How many positions a model has, by its `config.json`, without loading it."""
    return model_shape(model_dir)[0]


def model_shape(model_dir: Path) -> tuple[int, int]:
    """How many positions a model has, and tokens in its vocabulary, by its `config.json`, without loading it."""
    shape = json.loads((model_dir / "config.json").read_text())
    # GPT-2 and GPTBigCode call it n_positions.
    return shape["max_position_embeddings" if "max_position_embeddings" in shape else "n_positions"], shape[
        "vocab_size"
    ]
