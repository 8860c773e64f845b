"""Actors that are asked whether they are there: they answer when they have found room on the cluster.

One whose machine is lost is started again on another one. Until Ray has noticed that (its health checks take some
15 seconds), every call fails at once as unavailable; so it is asked again after a pause.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError

from codelm.on_ray.tasks import answer

PAUSE_SECONDS = 3.0
MOST_LOSSES = 20
"""Of one actor: a minute, or more often where it dies of the question itself, since Ray has to start it each time."""


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
        self._losses: Counter[Any] = Counter()

    def __contains__(self, reference: Any) -> bool:
        return reference in self._asked

    def wait(self, others: Sequence[Any] = ()) -> Any:
        """The first reference that is ready: of an actor that has answered or is lost, or of `others`."""
        while True:
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

    def lost(self, actor: Any) -> None:
        """An actor has died."""
        self._away.append((time.monotonic() + PAUSE_SECONDS, actor))

    def welcome(self, reference: Any) -> tuple[Any, Any] | None:
        """An actor with its answer; None if it is lost, and will be asked again.

        Raises:
            ActorUnavailableError: it was lost too often.
            UserError: that the actor has raised.
        """
        actor = self._asked.pop(reference)
        try:
            return actor, answer(reference)
        except ActorUnavailableError:
            self._losses[actor] += 1
            if self._losses[actor] > MOST_LOSSES:
                raise
            self.lost(actor)
            return None
