"""OpenAI's completions: `/v1/completions`, the same under fauxpilot's `/v1/engines/{engine}`, and `/v1/models`."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import Discriminator, Tag

from codelm.inference.engine import TokenScore
from serve.dialects.tabby import TabbyRequest, TabbyResponse, answer_segments
from serve.errors import ApiError
from serve.generation import (
    Generation,
    Piece,
    Prompt,
    Whole,
    a_seed,
    collect,
    editor_prompt,
    middle_prompt,
    parse_middle,
    plain_prompt,
    requests_for,
)
from serve.logprobs import LogprobsWriter
from serve.schema import Choice, CompletionRequest, CompletionResponse, Logprobs, Usage, usage
from serve.service import Service
from serve.sse import stream


def _kind(body: Any) -> str:
    """Tabby's clients share a path with OpenAI's, and send `segments` instead of a prompt."""
    if isinstance(body, dict):
        return "tabby" if "segments" in body and "prompt" not in body else "openai"
    return "tabby" if isinstance(body, TabbyRequest) else "openai"


AnyRequest = Annotated[
    Annotated[CompletionRequest, Tag("openai")] | Annotated[TabbyRequest, Tag("tabby")], Discriminator(_kind)
]


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model; `max_model_len` is vLLM's addition, which editors read."""
        model = {
            "id": service.model,
            "object": "model",
            "created": service.created,
            "owned_by": "codelm",
            "max_model_len": service.engine().max_positions,
        }
        return {"object": "list", "data": [model]}

    @routes.post("/v1/completions", response_model=CompletionResponse | TabbyResponse)
    async def completions(request: Annotated[AnyRequest, Body()]) -> Any:
        """Complete text or token ids; with `suffix`, fill in the middle."""
        if isinstance(request, TabbyRequest):
            return await answer_segments(service, request)
        service.engine()
        service.check_model(request.model)
        return await _answer(service, request, [_prompt(service, request, one) for one in request.prompts()])

    @routes.post("/v1/engines/{engine}/completions", response_model=CompletionResponse)
    async def engine_completions(engine: str, request: CompletionRequest) -> Any:
        """As `/v1/completions`, under any engine's name, of as much of the prompt as there is room for."""
        service.engine()
        prompts = [_fitting(service, request, one) for one in request.prompts()]
        return await _answer(service, request, prompts)

    return routes


def _prompt(service: Service, request: CompletionRequest, prompt: str | tuple[int, ...]) -> Prompt:
    if isinstance(prompt, str):
        parts = parse_middle(prompt) if request.parameters is not None else None
        if parts is not None:
            return middle_prompt(service, *parts, request.extent)
        if request.suffix:
            return middle_prompt(service, prompt, request.suffix, request.extent)
    elif request.suffix:
        raise ApiError(400, "suffix needs prompts that are text, not token ids", "suffix")
    return plain_prompt(service, prompt, request.extent)


def _fitting(service: Service, request: CompletionRequest, prompt: str | tuple[int, ...]) -> Prompt:
    if isinstance(prompt, str):
        return editor_prompt(service, prompt, request.suffix or "", request.max_tokens, request.extent)
    return _prompt(service, request, prompt)


@dataclass(frozen=True)
class _Job:
    """A request with its prompts, and what its answer needs."""

    service: Service
    request: CompletionRequest
    prompts: list[Prompt]
    scores: list[list[TokenScore]]
    """Of each prompt's tokens, where they are echoed with log probabilities."""
    id: str
    created: int

    def writer(self, place: int) -> LogprobsWriter | None:
        """Of a choice's generated tokens; None where they are not asked for."""
        if self.request.logprobs is None:
            return None
        shown = self.prompts[place // self.request.n].text if self.request.echo else ""
        return LogprobsWriter(self.service.engine().codec, len(shown))

    def echo(self, place: int) -> tuple[str, Logprobs | None]:
        """What is shown of a choice's prompt."""
        if not self.request.echo:
            return "", None
        prompt = self.prompts[place // self.request.n]
        if not self.scores:
            return prompt.text, None
        return prompt.text, LogprobsWriter(self.service.engine().codec).write(self.scores[place // self.request.n])

    def response(self, choices: list[Choice], spent: Usage | None = None) -> CompletionResponse:
        """The answer, or an event."""
        return CompletionResponse(
            id=self.id, created=self.created, model=self.service.model, choices=choices, usage=spent
        )


async def _answer(service: Service, request: CompletionRequest, prompts: list[Prompt]) -> Any:
    each = max(request.n, request.best_of or 0)
    if request.best_of is not None and request.best_of < request.n:
        raise ApiError(400, f"best_of is {request.best_of}, less than n, which is {request.n}", "best_of")
    if request.stream and each > request.n:
        raise ApiError(400, "best_of cannot be streamed: which are the best is known at the end", "best_of")
    if request.max_tokens == 0 and not request.echo:
        raise ApiError(400, "max_tokens is 0, which needs echo", "max_tokens")
    if request.echo and request.logprobs is not None and request.suffix:
        raise ApiError(400, "echo with logprobs is of a prompt alone; leave suffix out", "echo")
    requests = requests_for(service, prompts, each, request.template(a_seed(request.seed)))
    scores = await _prompt_scores(service, request, prompts)
    job = _Job(service, request, prompts, scores, f"cmpl-{uuid.uuid4().hex}", int(time.time()))
    if request.max_tokens == 0:
        return job.response([_choice(job, place, None) for place in range(len(requests))], _only_prompts(job))
    generation = Generation(service, prompts, requests, service.seconds(request.max_time_ms))
    if request.stream:
        return await _stream(job, generation)
    wholes = await collect(generation, len(requests))
    if each > request.n:
        wholes = [one for at in range(0, len(wholes), each) for one in _best(wholes[at : at + each], request.n)]
    choices = [_choice(job, place, whole) for place, whole in enumerate(wholes)]
    return job.response(choices, usage(generation.prompt_tokens, generation.generated))


async def _prompt_scores(service: Service, request: CompletionRequest, prompts: list[Prompt]) -> list[list[TokenScore]]:
    if not request.echo or request.logprobs is None:
        return []
    slot = service.admit()
    try:
        return [await service.scheduler.score(prompt.ids, request.logprobs) for prompt in prompts]
    except ValueError as error:
        raise ApiError(400, str(error), "prompt") from error
    except RuntimeError as error:
        raise ApiError(500, str(error), code="engine_failed") from error
    finally:
        slot.free()


def _only_prompts(job: _Job) -> Usage:
    return usage(sum(len(prompt.ids) for prompt in job.prompts), 0)


def _best(wholes: list[Whole], number: int) -> list[Whole]:
    """Those whose tokens are the likeliest on average, best first."""

    def mean(whole: Whole) -> float:
        return sum(score.logprob or 0.0 for score in whole.scores) / max(len(whole.scores), 1)

    return sorted(wholes, key=mean, reverse=True)[:number]


def _choice(job: _Job, place: int, whole: Whole | None) -> Choice:
    """A finished choice; None where nothing was to be generated."""
    text, lists = job.echo(place)
    if whole is None:
        return Choice(index=place, text=text, logprobs=lists, finish_reason="length")
    writer = job.writer(place)
    if writer is not None:
        lists = _joined(lists or Logprobs(), writer.write(whole.scores))
    return Choice(index=place, text=text + whole.text, logprobs=lists, finish_reason=whole.finish_reason)


def _joined(first: Logprobs, second: Logprobs) -> Logprobs:
    return Logprobs(
        tokens=first.tokens + second.tokens,
        token_logprobs=first.token_logprobs + second.token_logprobs,
        top_logprobs=first.top_logprobs + second.top_logprobs,
        text_offset=first.text_offset + second.text_offset,
    )


async def _stream(job: _Job, generation: Generation) -> Response:
    """A piece of a choice in each event, then the usage if it was asked for."""
    writers = [job.writer(place) for place in range(len(job.prompts) * job.request.n)]
    head = {"id": job.id, "object": "text_completion", "created": job.created, "model": job.service.model}

    def event(place: int, text: str, lists: Logprobs | None, reason: str | None) -> dict[str, Any]:
        logprobs = None if lists is None else lists.model_dump()
        return {**head, "choices": [{"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason}]}

    def render(piece: Piece) -> dict[str, Any] | None:
        writer = writers[piece.place]
        if not (piece.text or piece.finish_reason or (writer is not None and piece.scores)):
            return None
        lists = None if writer is None else writer.write(piece.scores)
        return event(piece.place, piece.text, lists, piece.finish_reason)

    def echoes() -> Iterator[dict[str, Any]]:
        for place in range(len(writers)):
            text, lists = job.echo(place)
            if text or lists:
                yield event(place, text, lists, None)

    def spent() -> Iterator[dict[str, Any]]:
        options = job.request.stream_options
        if options is not None and options.include_usage:
            yield {**head, "choices": [], "usage": usage(generation.prompt_tokens, generation.generated).model_dump()}

    return await stream(generation, render, echoes(), spent)
