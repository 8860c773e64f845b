"""Mistral's fill in the middle, `/v1/fim/completions`, which Continue speaks: answers in the form of a chat's."""

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AliasChoices, Field

from codelm.inference.engine import Request
from codelm.inference.extent import Extent
from serve.generation import Generation, Piece, a_seed, collect, editor_prompt, requests_for
from serve.schema import Body, MaxTokens, Milliseconds, Seed, Stop, Temperature, TopP, stops, usage
from serve.service import Service
from serve.sse import stream


class FimRequest(Body):
    """The body of `POST /v1/fim/completions`."""

    prompt: str
    suffix: str = ""
    model: str | None = None
    max_tokens: MaxTokens = 64
    temperature: Temperature = 0.7
    top_p: TopP = 1.0
    stop: Stop | None = None
    seed: Annotated[Seed | None, Field(validation_alias=AliasChoices("random_seed", "seed"))] = None
    stream: bool = False
    extent: Extent | None = None
    """Ours: how far the completion goes; null is what the service does for editors."""
    max_time_ms: Milliseconds | None = None


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/v1/fim/completions")
    async def fim(request: FimRequest) -> Any:
        """Fill in the middle, of as much of the texts as there is room for."""
        service.engine()
        service.check_model(request.model)
        prompt = editor_prompt(service, request.prompt, request.suffix, request.max_tokens, request.extent)
        seed = a_seed(request.seed)
        template = Request((), request.max_tokens, request.temperature, request.top_p, stops(request.stop), seed)
        requests = requests_for(service, [prompt], 1, template)
        generation = Generation(service, [prompt], requests, service.seconds(request.max_time_ms))
        head = {"id": f"fim-{uuid.uuid4().hex}", "created": int(time.time()), "model": service.model}
        if not request.stream:
            (whole,) = await collect(generation, 1)
            message = {"role": "assistant", "content": whole.text, "tool_calls": None}
            choice = {"index": 0, "message": message, "finish_reason": whole.finish_reason}
            spent = usage(generation.prompt_tokens, generation.generated).model_dump()
            return {**head, "object": "chat.completion", "choices": [choice], "usage": spent}
        chunk = {**head, "object": "chat.completion.chunk"}

        def render(piece: Piece) -> dict[str, Any] | None:
            if not piece.text and not piece.finish_reason:
                return None
            delta = {"role": "assistant", "content": piece.text}
            event: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": piece.finish_reason}
            if piece.finish_reason is None:
                return {**chunk, "choices": [event]}
            spent = usage(generation.prompt_tokens, generation.generated).model_dump()
            return {**chunk, "choices": [event], "usage": spent}

        return await stream(generation, render)

    return routes
