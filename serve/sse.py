"""Answers in pieces: server-sent events, whose first is awaited before the status is sent."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import orjson
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.errors import ApiError
from serve.generation import Generation, Piece

DONE = "data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """A streaming answer that ends its generation however it ends itself."""

    def __init__(self, events: AsyncIterator[str], generation: Generation) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._generation.aclose()


async def stream(
    generation: Generation,
    render: Callable[[Piece], Any],
    before: Iterable[Any] = (),
    after: Callable[[], Iterable[Any]] = tuple,
    done: str = DONE,
) -> EventStream:
    """The answer whose events are `before`, what `render` makes of each piece, `after`, and the end.

    Events are JSON values; None is left out. An error before the first event is raised; a later one is an event.
    """
    try:
        first = await anext(generation)
    except BaseException:
        await generation.aclose()
        raise

    async def events() -> AsyncIterator[str]:
        try:
            yield "".join(map(_event, (*before, *map(render, first))))
            async for pieces in generation:
                # Steps that came while the last were being sent are sent together.
                text = "".join(map(_event, map(render, pieces)))
                if text:
                    yield text
            text = "".join(map(_event, after()))
            if text:
                yield text
        except ApiError as error:  # the status has been sent: clients raise on an event with an error
            yield _event(error.body())
        yield done

    return EventStream(events(), generation)


def _event(value: Any) -> str:
    return "" if value is None else f"data: {orjson.dumps(value).decode()}\n\n"
