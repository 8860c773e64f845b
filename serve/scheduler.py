"""Runs an engine in a thread of its own, and brings each request its deltas on the event loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from codelm.inference.engine import Delta, Engine, Request


@dataclass(eq=False)
class _Ticket:
    """One request on its way through the thread."""

    place: int
    request: Request
    loop: asyncio.AbstractEventLoop
    answers: "asyncio.Queue[tuple[int, Delta] | Exception]"
    number: int | None = None
    """The engine's, once it has been added."""

    def answer(self, item: "tuple[int, Delta] | Exception") -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any longer
            self.loop.call_soon_threadsafe(self.answers.put_nowait, item)


@dataclass
class _Inbox:
    """What the event loop has left for the thread."""

    arrived: list[_Ticket] = field(default_factory=list)
    gone: list[_Ticket] = field(default_factory=list)
    closed: bool = False


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
        """Calls of `run` that have not ended."""
        self._load = load
        self._inbox, self._changed = _Inbox(), threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    async def run(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Delta], None]:
        """Generate several completions at once: their deltas, each with its request's place, as they come.

        Closing the iterator, or cancelling its task, cancels what has not finished.

        Raises:
            ValueError: the engine refuses a request.
            RuntimeError: the engine has failed.
        """
        answers: asyncio.Queue[tuple[int, Delta] | Exception] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        tickets = [_Ticket(place, request, loop, answers) for place, request in enumerate(requests)]
        unfinished = dict(enumerate(tickets))
        self.active += 1
        try:
            self._leave(arrived=tickets)
            while unfinished:
                item = await answers.get()
                if isinstance(item, Exception):
                    raise item
                if item[1].finish_reason is not None:
                    del unfinished[item[0]]
                yield item
        finally:
            self.active -= 1
            self._leave(gone=list(unfinished.values()))

    def close(self) -> None:
        """End the thread after its current step, or when the engine is loaded."""
        with self._changed:
            self._inbox.closed = True
            self._changed.notify()

    def _leave(self, arrived: Sequence[_Ticket] = (), gone: Sequence[_Ticket] = ()) -> None:
        with self._changed:
            if self.failure is not None and arrived:
                raise RuntimeError(f"the engine has failed: {self.failure}") from self.failure
            self._inbox.arrived.extend(arrived)
            self._inbox.gone.extend(gone)
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
                for number, delta in engine.step() if engine.busy() else ():
                    ticket = tickets[number]
                    ticket.answer((ticket.place, delta))
                    if delta.finish_reason is not None:
                        del tickets[number]
        except Exception as error:  # noqa: BLE001  (a thread's exception would be lost: it goes to those who wait)
            with self._changed:
                self.failure = error
                waiting = [*tickets.values(), *inbox.arrived, *self._inbox.arrived]
            for ticket in waiting:
                ticket.answer(RuntimeError(f"the engine has failed: {error}"))


def _admit(engine: Engine, ticket: _Ticket, tickets: dict[int, _Ticket]) -> None:
    try:
        ticket.number = engine.add(ticket.request)
    except ValueError as error:
        ticket.answer(error)
    else:
        tickets[ticket.number] = ticket
