"""Progress from workers to the driver's terminal, for work that Ray drives and not we (training)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codelm.console import progress, say

POLL_SECONDS = 0.5


class Board:
    """Holds the last progress that a worker posted, and the lines to print since the driver looked."""

    def __init__(self) -> None:
        self._done, self._note = 0, ""
        self._lines: list[str] = []

    def post(self, done: int, note: str) -> None:
        """Units done so far and a short text beside the bar."""
        self._done, self._note = done, note

    def line(self, text: str) -> None:
        """A line to print."""
        self._lines.append(text)

    def look(self) -> tuple[int, str, list[str]]:
        """What was posted last, and the lines not yet printed."""
        lines, self._lines = self._lines, []
        return self._done, self._note, lines


@contextmanager
def board(stage: str, unit: str, total: int) -> Iterator[Any]:
    """A `Board` for workers to post to, shown on this terminal until the block ends."""
    # On the machine of who looks: another may be lost, and the work there is made again elsewhere.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote_class: Any = ray.remote(num_cpus=0)(Board)
    actor: Any = remote_class.options(scheduling_strategy=here).remote()
    ended = threading.Event()
    with progress(stage, unit, total) as advance:

        def show() -> None:
            while True:
                last = ended.wait(POLL_SECONDS)
                done, note, lines = ray.get(actor.look.remote())
                for line in lines:
                    say(stage, line)
                advance(done, note)
                if last:
                    return

        thread = threading.Thread(target=show, name=f"{stage}-progress", daemon=True)
        thread.start()
        try:
            yield actor
        finally:
            ended.set()
            thread.join()
            ray.kill(actor)
