"""Requests and responses of OpenAI's completions API (platform.openai.com/docs/api-reference/completions)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_CHOICES = 128
"""OpenAI's bound on `n`."""
MAX_STOPS = 4
"""OpenAI's bound on `stop`."""

TokenIds = Annotated[list[int], Field(min_length=1)]


class StreamOptions(BaseModel):
    """`stream_options` of a request."""

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """The body of `POST /v1/completions`. Unknown keys are ignored: editors send their own."""

    model_config = ConfigDict(extra="ignore")

    prompt: str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    model: str | None = None
    suffix: str | None = None
    """What follows the cursor; the prompt is then what precedes it. Empty means that nothing follows."""
    max_tokens: Annotated[int, Field(ge=1)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = None
    """Equal requests with a seed get equal answers; without one, each gets its own."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    echo: bool = False
    best_of: int | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    def unsupported(self) -> str | None:
        """The first parameter whose value asks for what no engine does yet."""
        asked = {
            "logprobs": self.logprobs is not None,
            "best_of": self.best_of not in (None, self.n),
            "logit_bias": bool(self.logit_bias),
            "presence_penalty": bool(self.presence_penalty),
            "frequency_penalty": bool(self.frequency_penalty),
        }
        return next((name for name, wanted in asked.items() if wanted), None)

    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, one or many, each text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(self.prompt)]
        return [item if isinstance(item, str) else tuple(item) for item in self.prompt]

    def stops(self) -> tuple[str, ...]:
        """The stop strings, none, one or many."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Choice(BaseModel):
    """One completion, or a piece of one in a stream."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None


class Usage(BaseModel):
    """Tokens that a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResponse(BaseModel):
    """The answer, or one event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


def model_list(name: str, created: int, max_model_len: int) -> dict[str, Any]:
    """The answer to `GET /v1/models`; `max_model_len` is vLLM's addition, which editors read."""
    model = {"id": name, "object": "model", "created": created, "owned_by": "codelm", "max_model_len": max_model_len}
    return {"object": "list", "data": [model]}
