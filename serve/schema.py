"""Requests and responses of OpenAI's completions API (platform.openai.com/docs/api-reference/completions)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from codelm.inference.engine import Request
from codelm.inference.extent import Extent

MAX_CHOICES = 128
"""OpenAI's bound on `n`."""
MAX_STOPS = 4
"""OpenAI's bound on `stop`."""
MAX_LOGPROBS = 5
"""OpenAI's bound on `logprobs`."""
MAX_SEED = 2**63 - 1

TokenIds = Annotated[list[int], Field(min_length=1)]
Stop = str | Annotated[list[str], Field(max_length=MAX_STOPS)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
MaxTokens = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-MAX_SEED - 1, le=MAX_SEED)]
Milliseconds = Annotated[int, Field(ge=1)]


class Body(BaseModel):
    """What a client sends. Unknown keys are ignored, since editors send their own; null is as good as nothing."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value

    @field_validator("*")
    @classmethod
    def _of_characters(cls, value: Any) -> Any:
        """JSON can write half of a surrogate pair, which is no character, and which no tokenizer takes."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                text.encode()  # a UnicodeEncodeError is a ValueError, and says where
        return value


class StreamOptions(Body):
    """`stream_options` of a request."""

    include_usage: bool = False


class Parameters(Body):
    """What llm-ls puts beside OpenAI's own keys."""

    max_new_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None


class CompletionRequest(Body):
    """The body of `POST /v1/completions`."""

    prompt: str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    model: str | None = None
    suffix: str | None = None
    """What follows the cursor; the prompt is then what precedes it. Empty means that nothing follows."""
    max_tokens: Annotated[int, Field(ge=0)] = 16
    """0, with `echo`, tells of the prompt only."""
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    """Generate so many and answer with the `n` whose tokens are the likeliest on average."""
    stop: Stop | None = None
    seed: Seed | None = None
    """Equal requests with a seed get equal answers; without one, each gets its own."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    user: str | None = None
    """Taken, and kept nowhere."""
    extent: Extent = "free"
    """Ours: `line` ends with the line, `block` with the block; neither repeats the suffix."""
    max_time_ms: Milliseconds | None = None
    """Ours: the answer is what there is by then."""
    parameters: Parameters | None = None

    @field_validator("logit_bias")
    @classmethod
    def _ids(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for key in value or {}:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise ValueError(f"{key!r} is no token id")
        return value

    @model_validator(mode="after")
    def _check(self) -> "CompletionRequest":
        if self.parameters is not None:
            stated = self.parameters
            self.max_tokens = stated.max_new_tokens or self.max_tokens
            self.temperature = self.temperature if stated.temperature is None else stated.temperature
            self.top_p = stated.top_p or self.top_p
        return self

    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, one or many, each text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(self.prompt)]
        return [item if isinstance(item, str) else tuple(item) for item in self.prompt]

    def template(self, seed: int) -> Request:
        """The engine's request, but for the prompt."""
        ranked = self.best_of is not None and self.best_of > self.n
        return Request(
            (),
            self.max_tokens,
            self.temperature,
            self.top_p,
            stops(self.stop),
            seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple((int(key), bias) for key, bias in (self.logit_bias or {}).items()),
            logprobs=0 if self.logprobs is None and ranked else self.logprobs,
        )


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """The stop strings, none, one or many."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


class Logprobs(BaseModel):
    """OpenAI's four lists, an entry a token. A text's first token has none; a token that is no text by itself is
    named by its bytes."""

    tokens: list[str] = Field(default_factory=list)
    token_logprobs: list[float | None] = Field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = Field(default_factory=list)
    text_offset: list[int] = Field(default_factory=list)


class Choice(BaseModel):
    """One completion, or a piece of one in a stream."""

    index: int
    text: str
    logprobs: Logprobs | None = None
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


def usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    """Usage by its parts."""
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )
