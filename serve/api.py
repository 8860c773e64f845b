"""The HTTP interface: routes over a scheduler, knowing nothing of Ray."""

import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from codelm.inference.codec import Codec
from codelm.inference.engine import Delta, Engine, Request
from serve.errors import ApiError, install, unavailable
from serve.scheduler import Scheduler
from serve.schema import Choice, CompletionRequest, CompletionResponse, Usage, model_list

DONE = "data: [DONE]\n\n"


@dataclass
class Service:
    """What the routes need.

    Attributes:
        scheduler: of the engine.
        model: its name in the API.
        max_active: completions requests at a time, those that wait for the engine among them; more are refused.
        max_prompt_tokens: None for as many as the model has positions.
    """

    scheduler: Scheduler
    model: str
    max_active: int
    max_prompt_tokens: int | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    def engine(self) -> Engine:
        """The engine, or a 503 while there is none."""
        if self.scheduler.failure is not None:
            raise unavailable(f"the model cannot be served: {self.scheduler.failure}", "engine_failed")
        if self.scheduler.engine is None:
            raise unavailable(f"model {self.model!r} is being loaded; try again soon", "loading")
        return self.scheduler.engine


@dataclass(frozen=True)
class _Job:
    """A request made ready for the engine: choice i is `requests[i]`, and shows `echoes[i]` first."""

    id: str
    created: int
    requests: list[Request]
    echoes: list[str]
    prompt_tokens: int


def make_api(service: Service) -> FastAPI:
    """The application."""
    api = FastAPI(title="codelm", docs_url=None, redoc_url=None)
    install(api)

    @api.get("/health")
    async def health() -> dict[str, Any]:
        service.engine()
        return {"status": "ok", "model": service.model, "active": service.scheduler.active}

    @api.get("/v1/models")
    async def models() -> dict[str, Any]:
        return model_list(service.model, service.created, service.engine().max_positions)

    @api.post("/v1/completions", response_model=None)
    async def completions(request: CompletionRequest) -> CompletionResponse | StreamingResponse:
        engine = service.engine()
        if service.scheduler.active >= service.max_active:
            raise unavailable(f"{service.max_active} requests are under way, which is all there is room for", "busy")
        _check(service, request)
        job = _prepare(service, engine, request)
        if request.stream:
            return StreamingResponse(_events(service, request, job), media_type="text/event-stream")
        return await _whole(service, job)

    return api


def _check(service: Service, request: CompletionRequest) -> None:
    """Refuse what cannot be served as it was asked."""
    if request.model not in (None, service.model):
        message = f"no model {request.model!r} here; this endpoint serves {service.model!r}"
        raise ApiError(404, message, "model", "model_not_found")
    name = request.unsupported()
    if name is not None:
        raise ApiError(400, f"{name} is not supported yet; leave it out", name, "unsupported_parameter")
    if request.suffix and not all(isinstance(prompt, str) for prompt in request.prompts()):
        raise ApiError(400, "suffix needs prompts that are text, not token ids", "suffix")


def _prepare(service: Service, engine: Engine, request: CompletionRequest) -> _Job:
    """Encode the prompts; every choice of every prompt becomes an engine's request."""
    seed = secrets.randbits(32) if request.seed is None else request.seed
    requests, echoes, prompt_tokens = [], [], 0
    for prompt in request.prompts():
        ids = _encode(engine.codec, prompt, request.suffix)
        _check_length(service, engine, len(ids), request.max_tokens)
        prompt_tokens += len(ids)
        text = prompt if isinstance(prompt, str) else engine.codec.decode(prompt)
        for index in range(request.n):
            echoes.append(text if request.echo else "")
            requests.append(
                Request(ids, request.max_tokens, request.temperature, request.top_p, request.stops(), seed, index)
            )
    return _Job(f"cmpl-{uuid.uuid4().hex}", int(time.time()), requests, echoes, prompt_tokens)


def _encode(codec: Codec, prompt: str | tuple[int, ...], suffix: str | None) -> tuple[int, ...]:
    if suffix and isinstance(prompt, str):
        try:
            return codec.fill_in_the_middle(prompt, suffix)
        except ValueError as error:
            raise ApiError(400, f"suffix cannot be used: {error}", "suffix", "unsupported_parameter") from error
    ids = codec.prompt_ids(prompt)
    # Nothing before the completion: it begins a document, as after the end of another.
    return ids or (() if codec.end_of_text is None else (codec.end_of_text,))


def _check_length(service: Service, engine: Engine, tokens: int, max_tokens: int) -> None:
    room = engine.max_positions
    allowed = min(service.max_prompt_tokens or room, room - 1)
    if tokens > allowed:
        message = f"the prompt has {tokens} tokens, more than the {allowed} allowed; send less of it"
        raise ApiError(400, message, "prompt", "context_length_exceeded")
    if tokens + max_tokens > room:
        message = (
            f"max_tokens is {max_tokens}, and the prompt has {tokens} tokens: together more than the model's "
            f"{room} positions; ask for at most {room - tokens}"
        )
        raise ApiError(400, message, "max_tokens", "context_length_exceeded")


async def _deltas(service: Service, job: _Job) -> AsyncGenerator[tuple[int, Delta], None]:
    """The scheduler's deltas, with its errors as the API's."""
    try:
        async with aclosing(service.scheduler.run(job.requests)) as deltas:
            async for item in deltas:
                yield item
    except ValueError as error:
        raise ApiError(400, str(error), "prompt") from error
    except RuntimeError as error:
        raise ApiError(500, str(error), code="engine_failed") from error


async def _whole(service: Service, job: _Job) -> CompletionResponse:
    texts, tokens = list(job.echoes), 0
    reasons: list[Any] = [None] * len(texts)
    async with aclosing(_deltas(service, job)) as deltas:
        async for place, delta in deltas:
            texts[place] += delta.text
            tokens += len(delta.token_ids)
            reasons[place] = delta.finish_reason
    choices = [
        Choice(index=index, text=text, finish_reason=reason)
        for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    ]
    return _response(service, job, choices, _usage(job, tokens))


async def _events(service: Service, request: CompletionRequest, job: _Job) -> AsyncGenerator[str, None]:
    """Server-sent events: a piece of a choice each, then the usage if it was asked for, then the end."""
    tokens = 0
    try:
        for place, echo in enumerate(job.echoes):
            if echo:
                yield _event(_response(service, job, [Choice(index=place, text=echo, finish_reason=None)]))
        async with aclosing(_deltas(service, job)) as deltas:
            async for place, delta in deltas:
                tokens += len(delta.token_ids)
                if delta.text or delta.finish_reason:
                    choice = Choice(index=place, text=delta.text, finish_reason=delta.finish_reason)
                    yield _event(_response(service, job, [choice]))
        if request.stream_options is not None and request.stream_options.include_usage:
            yield _event(_response(service, job, [], _usage(job, tokens)))
    except ApiError as error:  # the status has been sent: clients raise on an event with an error
        yield f"data: {json.dumps(error.body())}\n\n"
    yield DONE


def _response(service: Service, job: _Job, choices: list[Choice], usage: Usage | None = None) -> CompletionResponse:
    return CompletionResponse(id=job.id, created=job.created, model=service.model, choices=choices, usage=usage)


def _usage(job: _Job, tokens: int) -> Usage:
    return Usage(prompt_tokens=job.prompt_tokens, completion_tokens=tokens, total_tokens=job.prompt_tokens + tokens)


def _event(response: CompletionResponse) -> str:
    return f"data: {response.model_dump_json()}\n\n"
