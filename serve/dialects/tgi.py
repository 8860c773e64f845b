"""text-generation-inference's `/generate`, `/generate_stream` and `/info`, which llm-ls and Continue speak."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from codelm.inference.engine import Request
from serve.generation import Generation, Piece, a_seed, collect, middle_prompt, parse_middle, plain_prompt, requests_for
from serve.schema import Body, MaxTokens, Seed, Temperature, TopP
from serve.service import Service
from serve.sse import stream

FINISHED = {"stop": "eos_token", "length": "length"}


class GenerateParameters(Body):
    """`parameters` of a request."""

    max_new_tokens: MaxTokens = 100
    temperature: Temperature | None = None
    top_p: TopP = 1.0
    top_k: Annotated[int, Field(ge=0)] | None = None
    """1 is the likeliest token; other values are not used."""
    do_sample: bool | None = None
    """False is the likeliest token; null samples where there is a temperature."""
    stop: Annotated[list[str], Field(max_length=64)] = Field(default_factory=list)
    seed: Seed | None = None
    truncate: MaxTokens | None = None
    """Only so many of the last tokens of the prompt are used."""
    return_full_text: bool = False
    details: bool = False

    def heat(self) -> float:
        """The temperature by all that decides it."""
        sampled = self.do_sample if self.do_sample is not None else self.temperature is not None
        if self.top_k == 1 or not sampled:
            return 0.0
        return 1.0 if self.temperature is None else self.temperature


class GenerateRequest(Body):
    """The body of `POST /generate`. Inputs like `<fim_prefix>..<fim_suffix>..<fim_middle>` fill in the middle."""

    inputs: str
    parameters: GenerateParameters = Field(default_factory=GenerateParameters)


def _begin(service: Service, request: GenerateRequest) -> Generation:
    wanted = request.parameters
    parts = parse_middle(request.inputs)
    if parts is not None:
        prompt = middle_prompt(service, *parts, room=wanted.truncate and max(wanted.truncate, 4))
    else:
        prompt = plain_prompt(service, request.inputs)
        if wanted.truncate is not None:
            prompt = replace(prompt, ids=prompt.ids[-wanted.truncate :])
    template = Request(
        (), wanted.max_new_tokens, wanted.heat(), wanted.top_p, tuple(wanted.stop), a_seed(wanted.seed), logprobs=0
    )
    return Generation(service, [prompt], requests_for(service, [prompt], 1, template), service.seconds(None))


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    def token(index: int, logprob: float, text: str) -> dict[str, Any]:
        return {"id": index, "text": text, "logprob": logprob, "special": False}

    @routes.get("/info")
    async def info() -> dict[str, Any]:
        """What the model is, and how long texts may be."""
        positions = service.engine().max_positions
        return {
            "model_id": service.model,
            "model_sha": service.version,
            "max_input_tokens": service.allowed_prompt(),
            "max_total_tokens": positions,
            "max_stop_sequences": 64,
            "version": "codelm",
        }

    @routes.post("/generate")
    async def generate(request: GenerateRequest) -> dict[str, Any]:
        """Complete a text."""
        generation = _begin(service, request)
        (whole,) = await collect(generation, 1)
        answer: dict[str, Any] = {
            "generated_text": (request.inputs if request.parameters.return_full_text else "") + whole.text
        }
        if request.parameters.details:
            texts = service.engine().codec.pieces(whole.token_ids)
            answer["details"] = {
                "finish_reason": FINISHED[whole.finish_reason],
                "generated_tokens": len(whole.token_ids),
                "seed": request.parameters.seed,
                "prefill": [],
                "tokens": [
                    token(score.token, score.logprob or 0.0, text)
                    for score, text in zip(whole.scores, texts, strict=True)
                ],
            }
        return answer

    @routes.post("/generate_stream")
    async def generate_stream(request: GenerateRequest) -> Any:
        """Complete a text, token by token."""
        generation = _begin(service, request)
        so_far: list[str] = []

        def render(piece: Piece) -> dict[str, Any] | None:
            so_far.append(piece.text)
            score = piece.scores[-1] if piece.scores else None
            event: dict[str, Any] = {
                "index": generation.generated,
                "token": token(score.token, score.logprob or 0.0, piece.text) if score else token(0, 0.0, piece.text),
                "generated_text": None,
                "details": None,
            }
            if piece.finish_reason is not None:
                event["generated_text"] = "".join(so_far)
                event["details"] = {
                    "finish_reason": FINISHED[piece.finish_reason],
                    "generated_tokens": generation.generated,
                    "seed": request.parameters.seed,
                }
            return event

        return await stream(generation, render, done="")

    return routes
