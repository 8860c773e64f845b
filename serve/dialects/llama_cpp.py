"""llama.cpp's `/infill`, which llama.vscode and llama.vim speak (llama.cpp, tools/server/README.md)."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from codelm.inference.engine import Request
from codelm.inference.extent import Extent
from serve.generation import Generation, Piece, a_seed, collect, editor_prompt, requests_for
from serve.schema import Body, Milliseconds, Seed, Temperature, TopP, stops
from serve.service import Service
from serve.sse import stream

DEFAULT_TOKENS = 128
"""For `n_predict` of -1, which means no limit."""


class Extra(Body):
    """A piece of another file."""

    text: str
    filename: str = ""


class InfillRequest(Body):
    """The body of `POST /infill`."""

    input_prefix: str = ""
    input_suffix: str = ""
    prompt: str = ""
    """The cursor's line up to the cursor; it follows `input_prefix`."""
    input_extra: list[Extra] = Field(default_factory=list)
    """Put before the prefix, as far as there is room."""
    n_predict: Annotated[int, Field(ge=-1)] = DEFAULT_TOKENS
    """0 only computes the prompt, so that the next request finds it in the cache."""
    n_indent: Annotated[int, Field(ge=0)] = 0
    """Columns that the lines have at least."""
    t_max_predict_ms: Annotated[int, Field(ge=0)] | None = None
    """0 for no limit."""
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    seed: Annotated[Seed, Field(ge=-1)] = -1
    stop: Annotated[list[str], Field(max_length=64)] = Field(default_factory=list)
    stream: bool = False
    extent: Extent | None = None


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/infill")
    async def infill(request: InfillRequest) -> Any:
        """Fill in the middle, of as much of the texts as there is room for."""
        positions = service.engine().max_positions
        asked = DEFAULT_TOKENS if request.n_predict < 0 else max(request.n_predict, 1)
        tokens = max(min(asked, positions // 2), 1)
        extra = "".join(f"{one.text}\n" for one in request.input_extra)
        prefix = extra + request.input_prefix + request.prompt
        prompt = editor_prompt(service, prefix, request.input_suffix, tokens, request.extent, request.n_indent)
        seed = a_seed(None if request.seed < 0 else request.seed)
        template = Request((), tokens, request.temperature, request.top_p, stops(request.stop), seed)
        requests = requests_for(service, [prompt], 1, template)
        limit: Milliseconds | None = request.t_max_predict_ms or None
        generation = Generation(service, [prompt], requests, service.seconds(limit))

        def last(reason: str) -> dict[str, Any]:
            return {
                "index": 0,
                "model": service.model,
                "stop": True,
                "stop_type": "limit" if reason == "length" else "eos",
                "tokens_predicted": generation.generated,
                "tokens_evaluated": generation.prompt_tokens,
                "truncated": False,
            }

        if request.stream and request.n_predict:

            def render(piece: Piece) -> dict[str, Any] | None:
                if piece.finish_reason is not None:
                    return {**last(piece.finish_reason), "content": piece.text}
                return {"index": 0, "content": piece.text, "stop": False} if piece.text else None

            return await stream(generation, render, done="")
        (whole,) = await collect(generation, 1)
        return {**last(whole.finish_reason), "content": whole.text if request.n_predict else ""}

    return routes
