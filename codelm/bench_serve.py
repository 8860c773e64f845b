"""`codelm bench-serve`: how fast an OpenAI-compatible address completes, at several numbers of streams at once."""

import asyncio
import itertools
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.table import Table

from codelm.errors import UserError

PERCENTILES = (50, 90, 95, 99)
WORDS = ("value", "index", "total", "items", "name", "result", "data", "node", "key", "size", "path", "line")


@dataclass(frozen=True)
class Load:
    """What is asked.

    Attributes:
        url: up to and with `/v1`.
        model: its name there.
        max_tokens: of each completion.
        prompt_words: of each prompt; no two prompts begin alike, so that no cache helps.
        temperature: 0 takes the likeliest token.
        ignore_end: ask servers that know `ignore_eos` to go on to the limit.
        key: API key, if the server asks for one.
    """

    url: str
    model: str
    max_tokens: int = 128
    prompt_words: int = 32
    temperature: float = 0.0
    ignore_end: bool = True
    key: str | None = None


@dataclass
class Timing:
    """One request, in seconds since its start.

    Attributes:
        events: when each piece of text came.
        tokens: that were generated: the server's count, or one a piece where it does not tell.
        error: what it said instead.
    """

    events: list[float] = field(default_factory=list)
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Figures:
    """One number of streams.

    Attributes:
        streams: at once.
        requests: that were answered.
        errors: requests that were not.
        tokens_per_second: of all streams together.
        first_token_ms: percentiles (`PERCENTILES`) of the time to the first piece of text.
        per_token_ms: percentiles of a request's mean time between tokens after the first.
        whole_ms: percentiles of the time to the end.
    """

    streams: int
    requests: int
    errors: int
    tokens_per_second: float
    first_token_ms: tuple[float, ...]
    per_token_ms: tuple[float, ...]
    whole_ms: tuple[float, ...]


def bench(load: Load, streams: Sequence[int], requests: int, prompts: Iterator[str] | None = None) -> list[Figures]:
    """Measure each number of streams in turn, after one request to warm up.

    Args:
        load: what is asked.
        streams: numbers of requests at once.
        requests: for each stream.
        prompts: to ask; None makes some.

    Raises:
        UserError: the address does not answer as OpenAI's API does.
    """
    return asyncio.run(_bench(load, streams, requests, prompts or _prompts(load.prompt_words)))


async def _bench(load: Load, streams: Sequence[int], requests: int, prompts: Iterator[str]) -> list[Figures]:
    headers = {"Authorization": f"Bearer {load.key}"} if load.key else {}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        first = await _ask(session, load, next(prompts))
        if first.error is not None:
            raise UserError(f"{load.url} does not complete: {first.error}")
        return [await _measure(session, load, prompts, number, requests) for number in streams]


async def _measure(
    session: aiohttp.ClientSession, load: Load, prompts: Iterator[str], streams: int, requests: int
) -> Figures:
    timings: list[Timing] = []

    async def stream() -> None:
        for _ in range(requests):
            timings.append(await _ask(session, load, next(prompts)))

    begun = time.perf_counter()
    await asyncio.gather(*(stream() for _ in range(streams)))
    return figures(streams, timings, time.perf_counter() - begun)


def figures(streams: int, timings: Sequence[Timing], seconds: float) -> Figures:
    """Sum up timings of requests that took so many seconds together."""
    good = [timing for timing in timings if timing.error is None and timing.events]
    spans = [(timing.events[-1] - timing.events[0]) / (timing.tokens - 1) for timing in good if timing.tokens > 1]
    return Figures(
        streams=streams,
        requests=len(good),
        errors=sum(timing.error is not None for timing in timings),
        tokens_per_second=sum(timing.tokens for timing in good) / seconds,
        first_token_ms=percentiles([timing.events[0] * 1000 for timing in good]),
        per_token_ms=percentiles([span * 1000 for span in spans]),
        whole_ms=percentiles([timing.events[-1] * 1000 for timing in good]),
    )


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """The `PERCENTILES` of values, between neighbours where they fall between; nothing for no values."""
    if len(values) < 2:
        return tuple(values) * len(PERCENTILES)
    hundredths = statistics.quantiles(values, n=100, method="inclusive")
    return tuple(hundredths[percentile - 1] for percentile in PERCENTILES)


def _prompts(words: int) -> Iterator[str]:
    for number in itertools.count():
        chosen = random.Random(number).choices(WORDS, k=words)
        yield f"# {number}\ndef compute_{number}({', '.join(dict.fromkeys(chosen))}):\n    " + " + ".join(chosen)


async def _ask(session: aiohttp.ClientSession, load: Load, prompt: str) -> Timing:
    body = {
        "model": load.model,
        "prompt": prompt,
        "max_tokens": load.max_tokens,
        "temperature": load.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"ignore_eos": True} if load.ignore_end else {}),
    }
    timing, begun = Timing(), time.perf_counter()
    try:
        async with session.post(f"{load.url}/completions", json=body) as response:
            if response.status != 200:
                timing.error = f"status {response.status}: {(await response.text())[:200]}"
                return timing
            async for event in _events(response):
                if "error" in event:
                    timing.error = str(event["error"])
                elif event.get("usage"):
                    timing.tokens = event["usage"]["completion_tokens"]
                if any(choice.get("text") for choice in event.get("choices", ())):
                    timing.events.append(time.perf_counter() - begun)
    except (aiohttp.ClientError, TimeoutError) as error:
        timing.error = f"{type(error).__name__}: {error}"
    timing.tokens = timing.tokens or len(timing.events)
    return timing


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        data = line.strip().removeprefix(b"data:").strip()
        if data and data != b"[DONE]":
            yield orjson.loads(data)


def key_from_environment() -> str | None:
    """OPENAI_API_KEY, as OpenAI's own clients."""
    return os.environ.get("OPENAI_API_KEY")


def described(measured: Sequence[Figures], width: int) -> str:
    """A table of the figures."""
    table = Table(box=None)
    for column in ("streams", "requests", "errors", "tokens/s", "first token, ms", "a token, ms", "whole, ms"):
        table.add_column(column, justify="right")
    table.add_row("", "", "", "", *(["/".join(f"p{percentile}" for percentile in PERCENTILES)] * 3), style="dim")
    for one in measured:
        spread = ["/".join(f"{v:.3g}" for v in each) for each in (one.first_token_ms, one.per_token_ms, one.whole_ms)]
        table.add_row(str(one.streams), str(one.requests), str(one.errors), f"{one.tokens_per_second:,.0f}", *spread)
    console = Console(width=max(width, 100), color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
