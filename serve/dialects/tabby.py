"""Tabby's clients: `segments` in `/v1/completions`, `/v1/health`, `/v1/events` (tabby.tabbyml.com/api)."""

import os
import platform
import uuid
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from codelm import __version__
from codelm.inference.engine import Request
from serve.generation import Generation, a_seed, collect, editor_prompt, requests_for
from serve.schema import Body, Seed, Temperature
from serve.service import Service

MAX_TOKENS = 64
"""Tabby's `MAX_DECODE_TOKENS` for code completion."""


class Segments(Body):
    """What is round the cursor; what else Tabby's clients know (declarations, snippets, the clipboard) is not used."""

    prefix: str
    suffix: str = ""


class TabbyRequest(Body):
    """A completion as Tabby's clients ask for it."""

    segments: Segments
    language: str | None = None
    user: str | None = None
    temperature: Temperature = 0.0
    seed: Seed | None = None


class TabbyChoice(BaseModel):
    """Its answer's one choice."""

    index: int
    text: str


class TabbyResponse(BaseModel):
    """Its answer."""

    id: str
    choices: list[TabbyChoice]


class Event(Body):
    """What became of a completion. It is taken and not kept."""

    type: str
    completion_id: str | None = None
    choice_index: Annotated[int, Field(ge=0)] | None = None


async def answer_segments(service: Service, request: TabbyRequest) -> TabbyResponse:
    """Fill in the middle, as far as editors want it."""
    room = min(MAX_TOKENS, service.engine().max_positions // 4)
    prompt = editor_prompt(service, request.segments.prefix, request.segments.suffix, room, None)
    template = Request((), room, request.temperature, seed=a_seed(request.seed))
    requests = requests_for(service, [prompt], 1, template)
    (whole,) = await collect(Generation(service, [prompt], requests, service.seconds(None)), 1)
    return TabbyResponse(id=f"cmpl-{uuid.uuid4().hex}", choices=[TabbyChoice(index=0, text=whole.text)])


def router(service: Service) -> APIRouter:
    """The routes that are Tabby's alone."""
    routes = APIRouter()

    @routes.get("/v1/health")
    @routes.post("/v1/health", include_in_schema=False)
    async def health() -> dict[str, Any]:
        """Tabby's state of health, once the model is loaded."""
        service.engine()
        return {
            "model": service.model,
            "device": service.device,
            "arch": platform.machine(),
            "cpu_info": platform.processor() or platform.machine(),
            "cpu_count": os.cpu_count() or 1,
            "cuda_devices": [],
            "version": {"build_date": "", "build_timestamp": "", "git_sha": "", "git_describe": __version__},
        }

    @routes.post("/v1/events")
    async def events(event: Event) -> dict[str, Any]:
        """Take note of nothing."""
        return {}

    return routes
