"""Actors that are asked whether they are there: they answer when they have found room on the cluster.

One whose machine is lost is started again on another one. Until Ray has noticed that (its health checks take some
15 seconds), every call fails at once as unavailable; so it is asked again after a pause.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError

from codelm.errors import UserError
from codelm.on_ray.circumstances import AGAIN
from codelm.on_ray.tasks import answer

PAUSE_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
"""After the first loss of an actor; one that is lost again then dies wherever Ray starts it, and is given up."""


class Starting:
    """Actors that have not answered yet.

    Args:
        actors: all; new, or restarted by Ray when they are lost.
        ask: calls a method of one, which it answers once it can work; the reference.
    """

    def __init__(self, actors: Iterable[Any], ask: Callable[[Any], Any]) -> None:
        self._ask = ask
        self._asked = {ask(actor): actor for actor in actors}
        self._away: list[tuple[float, Any]] = []
        self._lost_since: dict[Any, float] = {}
        self._last_error: ActorUnavailableError | None = None

    def __contains__(self, reference: Any) -> bool:
        return reference in self._asked

    def wait(self, others: Sequence[Any] = ()) -> Any:
        """The first reference that is ready: of an actor that has answered or is lost, or of `others`.

        Raises:
            UserError: there are no others, and all actors are given up.
        """
        while others or self._asked or self._away:
            now = time.monotonic()
            due = [actor for at, actor in self._away if at <= now]
            self._away = [(at, actor) for at, actor in self._away if at > now]
            self._asked |= {self._ask(actor): actor for actor in due}
            pause = min((at for at, _ in self._away), default=now) - now
            if not others and not self._asked:
                time.sleep(pause)
                continue
            done, _ = ray.wait([*others, *self._asked], num_returns=1, timeout=pause if self._away else None)
            if done:
                return done[0]
        raise UserError(
            "workers die wherever Ray starts them, as they do where a disk is full or memory is short; "
            f"see to the machines, {AGAIN}"
        ) from self._last_error

    def lost(self, actor: Any) -> None:
        """An actor has died."""
        now = time.monotonic()
        if now - self._lost_since.setdefault(actor, now) < PATIENCE_SECONDS:
            self._away.append((now + PAUSE_SECONDS, actor))

    def welcome(self, reference: Any) -> tuple[Any, Any] | None:
        """An actor with its answer; None if it is lost.

        Raises:
            UserError: that the actor has raised.
        """
        actor = self._asked.pop(reference)
        try:
            found = answer(reference)
        except ActorUnavailableError as error:
            self._last_error = error
            self.lost(actor)
            return None
        self._lost_since.pop(actor, None)
        return actor, found
