"""One request in no dialect: prompts made ready for the engine, and the pieces of text that come of them."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codelm.inference.engine import Delta, Engine, FinishReason, Request, TokenScore
from codelm.inference.extent import Context, Cutter, Extent
from codelm.records import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from serve.errors import ApiError
from serve.service import Service

LOG = logging.getLogger("ray.serve.codelm")
"""A child of Serve's logger, so that a replica's file has it."""


@dataclass(frozen=True)
class Prompt:
    """A prompt for the engine.

    Attributes:
        ids: tokens.
        text: what `echo` shows of it.
        context: where the completion stands, for its extent.
    """

    ids: tuple[int, ...]
    text: str
    context: Context


@dataclass(frozen=True)
class Piece:
    """What one of a request's completions has gained.

    Attributes:
        place: of the completion: prompt by prompt, choice by choice.
        text: to show.
        token_ids: generated, whether they are shown or not.
        finish_reason: on the last piece.
        scores: of the tokens, where they were asked for.
    """

    place: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    scores: tuple[TokenScore, ...] = ()


def plain_prompt(service: Service, prompt: str | tuple[int, ...], extent: Extent = "free") -> Prompt:
    """A prompt that is continued."""
    codec = service.engine().codec
    text = prompt if isinstance(prompt, str) else codec.decode(prompt)
    return Prompt(codec.opening_ids(prompt), text, Context(text, "", extent))


def middle_prompt(
    service: Service, prefix: str, suffix: str, extent: Extent = "free", room: int | None = None, indent: int = 0
) -> Prompt:
    """A prompt whose completion stands between two texts.

    Args:
        service: of the model.
        prefix: text before; special tokens in it are plain text.
        suffix: text after; empty means that nothing follows, and the prefix is continued.
        extent: of the completion.
        room: tokens at most, what is nearest to the cursor; None refuses nothing here.
        indent: columns that the lines of a block have at least; 0 takes those of the cursor's line.
    """
    codec = service.engine().codec
    context = Context(prefix, suffix, extent, indent or None)
    if not suffix:
        ids = plain_prompt(service, prefix).ids
        return Prompt(ids if room is None else ids[-max(room, 1) :], prefix, context)
    try:
        ids = codec.fill_in_the_middle(prefix, suffix, room)
    except ValueError as error:
        raise ApiError(400, f"suffix cannot be used: {error}", "suffix", "unsupported_parameter") from error
    return Prompt(ids, prefix, context)


def editor_prompt(
    service: Service, prefix: str, suffix: str, max_tokens: int, extent: Extent | None, indent: int = 0
) -> Prompt:
    """As `middle_prompt`, of as much of the texts as there is room for."""
    room = min(service.allowed_prompt(), service.engine().max_positions - max_tokens)
    if room < 4:
        raise too_long(0, max_tokens, service.engine())
    return middle_prompt(service, prefix, suffix, extent or service.editor_extent, room, indent)


def parse_middle(text: str) -> tuple[str, str] | None:
    """Prefix and suffix of a text that a client has put into our fill-in-the-middle format itself, as llm-ls does.

    Example: `<fim_prefix>a<fim_suffix>b<fim_middle>` -> ("a", "b"). Other places of these words are plain text.
    """
    if not (text.startswith(FIM_PREFIX) and text.endswith(FIM_MIDDLE) and FIM_SUFFIX in text):
        return None
    prefix, _, suffix = text[len(FIM_PREFIX) : -len(FIM_MIDDLE)].rpartition(FIM_SUFFIX)
    return prefix, suffix


def too_long(tokens: int, max_tokens: int, engine: Engine) -> ApiError:
    """That prompt and completion are together more than the model can take."""
    room = engine.max_positions
    message = (
        f"max_tokens is {max_tokens}, and the prompt has {tokens} tokens: together more than the model's "
        f"{room} positions; ask for at most {max(room - tokens, 0)}"
    )
    return ApiError(400, message, "max_tokens", "context_length_exceeded")


def requests_for(service: Service, prompts: Sequence[Prompt], each: int, template: Request) -> list[Request]:
    """`each` engine's requests for each prompt, like the template; raises an ApiError for what is too much."""
    if len(prompts) * each > service.max_completions:
        message = f"{len(prompts)} prompts with {each} completions each are more than {service.max_completions}"
        raise ApiError(400, f"prompt: {message}; ask for fewer at a time", "prompt", "too_many_completions")
    allowed, engine = service.allowed_prompt(), service.engine()
    for prompt in prompts:
        if len(prompt.ids) > allowed:
            message = f"the prompt has {len(prompt.ids)} tokens, more than the {allowed} allowed; send less of it"
            raise ApiError(400, message, "prompt", "context_length_exceeded")
        if len(prompt.ids) + template.max_new_tokens > engine.max_positions:
            raise too_long(len(prompt.ids), template.max_new_tokens, engine)
    return [replace(template, prompt=prompt.ids, index=index) for prompt in prompts for index in range(each)]


def a_seed(stated: int | None) -> int:
    """The seed that a request states, or one of its own."""
    return secrets.randbits(32) if stated is None else stated


class Generation:
    """The completions of one request under way: an iterator over lists of pieces. `aclose` ends them."""

    def __init__(
        self, service: Service, prompts: Sequence[Prompt], requests: Sequence[Request], seconds: float | None = None
    ) -> None:
        """Begin.

        Args:
            service: of the model.
            prompts: each with the same number of requests.
            requests: prompt by prompt.
            seconds: until the answer is what there is.
        """
        each = len(requests) // len(prompts)
        self._cutters = [Cutter(prompt.context) for prompt in prompts for _ in range(each)]
        self.prompt_tokens = sum(len(prompt.ids) for prompt in prompts)
        self.generated = 0
        if service.log_prompts:
            for prompt in prompts:
                LOG.info("prompt %r, suffix %r", prompt.context.prefix, prompt.context.suffix)
        self._slot = service.admit()
        try:
            self._run = service.scheduler.run(requests, seconds)
        except RuntimeError as error:
            self._slot.free()
            raise ApiError(500, str(error), code="engine_failed") from error
        self._progress = [service.metrics.begin(len(prompt.ids)) for prompt in prompts for _ in range(each)]

    def __aiter__(self) -> "Generation":
        return self

    async def __anext__(self) -> list[Piece]:
        try:
            return [self._piece(place, delta) for place, delta in await anext(self._run)]
        except StopAsyncIteration:
            await self.aclose()
            raise
        except ValueError as error:
            await self.aclose()
            name = "logit_bias" if "logit_bias" in str(error) else "prompt"
            raise ApiError(400, str(error), name) from error
        except RuntimeError as error:
            await self.aclose()
            raise ApiError(500, str(error), code="engine_failed") from error
        except BaseException:  # the client has left
            await self.aclose()
            raise

    def _piece(self, place: int, delta: Delta) -> Piece:
        cutter, reason = self._cutters[place], delta.finish_reason
        text = cutter.push(delta.text)
        if reason is not None and not cutter.done:
            text += cutter.finish()
        elif reason is None and cutter.done:
            reason = "stop"
            self._run.cancel(place)
        self.generated += len(delta.token_ids)
        self._progress[place].tokens(len(delta.token_ids))
        if reason is not None:
            self._progress[place].end()
        return Piece(place, text, delta.token_ids, reason, delta.scores)

    async def aclose(self) -> None:
        """End what has not finished, and give the place back. May be called again."""
        await self._run.aclose()
        for progress in self._progress:
            progress.end(cancelled=True)
        self._slot.free()


@dataclass(frozen=True)
class Whole:
    """A finished completion."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    scores: tuple[TokenScore, ...]


async def collect(generation: Generation, number: int) -> list[Whole]:
    """The completions when all have finished."""
    parts: list[list[Piece]] = [[] for _ in range(number)]
    try:
        async for pieces in generation:
            for piece in pieces:
                parts[piece.place].append(piece)
    finally:
        await generation.aclose()
    return [_joined(pieces) for pieces in parts]


def _joined(pieces: Sequence[Piece]) -> Whole:
    reason = pieces[-1].finish_reason
    assert reason is not None
    return Whole(
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.token_ids),
        reason,
        tuple(score for piece in pieces for score in piece.scores),
    )
