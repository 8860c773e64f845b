"""`POST /v1/highlight`: how much each token of a text surprises the model, to spot likely bugs."""

import math
from typing import Any

from fastapi import APIRouter

from codelm.inference.engine import TokenScore
from serve.errors import ApiError
from serve.schema import Body
from serve.service import Service

ALTERNATIVES = 3
MAX_WINDOWS = 16
"""A text of more windows of the model's positions is refused."""


class HighlightRequest(Body):
    """A text to look at."""

    text: str
    model: str | None = None


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/v1/highlight")
    async def highlight(request: HighlightRequest) -> dict[str, Any]:
        """Each token's place in the text, in characters, its loss in bits, and what the model would have put there."""
        codec = service.engine().codec
        service.check_model(request.model)
        start = () if codec.end_of_text is None else (codec.end_of_text,)
        ids = codec.encode(request.text)
        scores = await _scores(service, (*start, *ids)) if ids else []
        tokens: list[dict[str, Any]] = []
        at = 0
        for score, text in zip(scores[len(start) :], codec.pieces(ids), strict=True):
            top = [{"text": codec.token_name(token), "probability": math.exp(value)} for token, value in score.top]
            bits = None if score.logprob is None else -score.logprob / math.log(2)
            tokens.append({"start": at, "end": at + len(text), "text": text, "bits": bits, "instead": top})
            at += len(text)
        known = [token["bits"] for token in tokens if token["bits"] is not None]
        mean = sum(known) / len(known) if known else None
        return {"model": service.model, "tokens": tokens, "bits_per_token": mean}

    return routes


async def _scores(service: Service, ids: tuple[int, ...]) -> list[TokenScore]:
    """Of a text of any length: windows overlap by half, so that each token has half a window before it at least."""
    size = service.allowed_prompt()
    step = max(size // 2, 1)
    starts = range(0, max(len(ids) - size, 0) + step, step)
    if len(starts) > MAX_WINDOWS:
        most = size + (MAX_WINDOWS - 1) * step
        raise ApiError(400, f"the text has {len(ids)} tokens, more than {most}; send less of it", "text", "too_long")
    slot = service.admit()
    try:
        scores: list[TokenScore] = []
        for start in starts:
            window = await service.scheduler.score(ids[start : start + size], ALTERNATIVES)
            scores += window[len(scores) - start :]
        return scores
    except ValueError as error:
        raise ApiError(400, str(error), "text") from error
    except RuntimeError as error:
        raise ApiError(500, str(error), code="engine_failed") from error
    finally:
        slot.free()
