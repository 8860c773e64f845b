"""Runs an engine in a thread of its own, and brings each request its deltas on the event loop."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from codelm.inference.engine import Delta, Engine, Request, TokenScore

Item = tuple[int, Delta]
"""A delta with the place of its request."""


@dataclass(eq=False)
class _Ticket:
    """One request on its way through the thread."""

    place: int
    request: Request
    loop: asyncio.AbstractEventLoop
    answers: "asyncio.Queue[Item | Exception]"
    number: int | None = None
    """The engine's, once it has been added."""


@dataclass(eq=False)
class _Scoring:
    """A text to score between two steps."""

    ids: tuple[int, ...]
    top: int
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[list[TokenScore]]"


@dataclass
class _Inbox:
    """What the event loop has left for the thread."""

    arrived: list[_Ticket] = field(default_factory=list)
    gone: list[_Ticket] = field(default_factory=list)
    scorings: list[_Scoring] = field(default_factory=list)
    closed: bool = False


class Run:
    """Several completions under way: an iterator over what they gain. `aclose` cancels what has not finished."""

    def __init__(self, scheduler: "Scheduler", requests: Sequence[Request], seconds: float | None) -> None:
        self._scheduler, self._loop = scheduler, asyncio.get_running_loop()
        self._answers: asyncio.Queue[Item | Exception] = asyncio.Queue()
        tickets = [_Ticket(place, request, self._loop, self._answers) for place, request in enumerate(requests)]
        self._unfinished = dict(enumerate(tickets))
        self._deadline = None if seconds is None else self._loop.time() + seconds
        self._closed = False
        scheduler._leave(arrived=tickets)
        scheduler.active += 1

    def __aiter__(self) -> "Run":
        return self

    async def __anext__(self) -> list[Item]:
        """All that has come since the last call, or what comes next.

        After the deadline whatever has not finished ends with the reason `length`.

        Raises:
            ValueError: the engine refuses a request.
            RuntimeError: the engine has failed.
        """
        items: list[Item] = []
        while not items:
            if not self._unfinished:
                await self.aclose()
                raise StopAsyncIteration
            items = [item for item in await self._arrived() if self._is_wanted(item)]
        return items

    async def _arrived(self) -> list[Item]:
        try:
            async with asyncio.timeout_at(self._deadline):
                arrived = [await self._answers.get()]
            while not self._answers.empty():
                arrived.append(self._answers.get_nowait())
            for item in arrived:
                if isinstance(item, Exception):
                    raise item
        except TimeoutError:
            self._scheduler._leave(gone=list(self._unfinished.values()))
            return [(place, Delta("", (), "length")) for place in self._unfinished]
        except BaseException:
            await self.aclose()
            raise
        return [item for item in arrived if not isinstance(item, Exception)]

    def _is_wanted(self, item: Item) -> bool:
        if item[0] not in self._unfinished:
            return False
        if item[1].finish_reason is not None:
            del self._unfinished[item[0]]
        return True

    def cancel(self, place: int) -> None:
        """End one of the completions; nothing more is heard of it."""
        ticket = self._unfinished.pop(place, None)
        if ticket is not None:
            self._scheduler._leave(gone=[ticket])

    async def aclose(self) -> None:
        """Cancel what has not finished. May be called again."""
        if not self._closed:
            self._closed = True
            self._scheduler.active -= 1
            self._scheduler._leave(gone=list(self._unfinished.values()))
            self._unfinished.clear()


class Scheduler:
    """Loads an engine and steps it as long as there are requests.

    All methods but `close` are called on an event loop; the engine is touched by the thread alone.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self.engine: Engine | None = None
        """None until it is loaded."""
        self.failure: Exception | None = None
        """What ended the thread: the engine could not be loaded, or a step failed."""
        self.active = 0
        """Runs that have not ended."""
        self._load = load
        self._inbox, self._changed = _Inbox(), threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def run(self, requests: Sequence[Request], seconds: float | None = None) -> Run:
        """Begin several completions at once.

        Args:
            requests: to the engine.
            seconds: what is not finished by then ends as it is.

        Raises:
            RuntimeError: the engine has failed.
        """
        return Run(self, requests, seconds)

    async def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        """How likely each token of a text is: `Engine.score`, between two steps."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[TokenScore]] = loop.create_future()
        self._leave(scorings=[_Scoring(ids, top, loop, answer)])
        self.active += 1
        try:
            return await answer
        finally:
            self.active -= 1

    def close(self) -> None:
        """End the thread after its current step, or when the engine is loaded."""
        with self._changed:
            self._inbox.closed = True
            self._changed.notify()

    async def drain(self) -> None:
        """Close when all that runs has ended."""
        while self.active:
            await asyncio.sleep(0.05)
        self.close()

    def _leave(
        self, arrived: Sequence[_Ticket] = (), gone: Sequence[_Ticket] = (), scorings: Sequence[_Scoring] = ()
    ) -> None:
        with self._changed:
            if self.failure is not None and (arrived or scorings):
                raise RuntimeError(f"the engine has failed: {self.failure}") from self.failure
            self._inbox.arrived.extend(arrived)
            self._inbox.gone.extend(gone)
            self._inbox.scorings.extend(scorings)
            self._changed.notify()

    def _take(self, running: bool) -> _Inbox:
        """What has been left; waits for something if nothing is running."""
        with self._changed:
            self._changed.wait_for(lambda: running or self._inbox != _Inbox())
            inbox, self._inbox = self._inbox, _Inbox()
            return inbox

    def _work(self) -> None:
        tickets: dict[int, _Ticket] = {}
        inbox = _Inbox()
        try:
            engine = self.engine = self._load()
            while not inbox.closed:
                inbox = self._take(running=engine.busy())
                for ticket in inbox.arrived:
                    _admit(engine, ticket, tickets)
                for ticket in inbox.gone:
                    if ticket.number is not None:
                        engine.cancel(ticket.number)
                        tickets.pop(ticket.number, None)
                for scoring in inbox.scorings:
                    _score(engine, scoring)
                if engine.busy():
                    _hand_out(engine.step(), tickets)
        except Exception as error:  # noqa: BLE001  (a thread's exception would be lost: it goes to those who wait)
            with self._changed:
                self.failure = error
                waiting = [*tickets.values(), *inbox.arrived, *self._inbox.arrived]
                unscored = [*inbox.scorings, *self._inbox.scorings]
            failed = RuntimeError(f"the engine has failed: {error}")
            for ticket in waiting:
                _answer(ticket, failed)
            for scoring in unscored:
                _on_loop(scoring.loop, _settle, scoring.answer, failed)


def _admit(engine: Engine, ticket: _Ticket, tickets: dict[int, _Ticket]) -> None:
    try:
        ticket.number = engine.add(ticket.request)
    except ValueError as error:
        _answer(ticket, error)
    else:
        tickets[ticket.number] = ticket


def _score(engine: Engine, scoring: _Scoring) -> None:
    answer: list[TokenScore] | Exception
    try:
        answer = engine.score(scoring.ids, scoring.top)
    except ValueError as error:
        answer = error
    _on_loop(scoring.loop, _settle, scoring.answer, answer)


def _hand_out(deltas: Sequence[Item], tickets: dict[int, _Ticket]) -> None:
    """Bring a step's deltas to their event loops, which are woken once, and forget what has finished."""
    for_loops: dict[asyncio.AbstractEventLoop, list[tuple[_Ticket, Delta]]] = {}
    for number, delta in deltas:
        ticket = tickets[number]
        for_loops.setdefault(ticket.loop, []).append((ticket, delta))
        if delta.finish_reason is not None:
            del tickets[number]
    for loop, items in for_loops.items():
        _on_loop(loop, _put_all, items)


def _put_all(items: list[tuple[_Ticket, Delta]]) -> None:
    for ticket, delta in items:
        ticket.answers.put_nowait((ticket.place, delta))


def _answer(ticket: _Ticket, error: Exception) -> None:
    _on_loop(ticket.loop, ticket.answers.put_nowait, error)


def _settle(future: "asyncio.Future[list[TokenScore]]", answer: list[TokenScore] | Exception) -> None:
    if not future.done():  # who asked may have left
        future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: Any) -> None:
    with suppress(RuntimeError):  # the loop has been closed: nobody waits any longer
        loop.call_soon_threadsafe(call, *arguments)
