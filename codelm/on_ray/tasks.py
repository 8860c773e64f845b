"""Waits for Ray tasks: results in the order asked for, progress, and the user's mistakes as they were raised."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from codelm.errors import UserError

POLL_SECONDS = 0.5


def gather(references: Sequence[Any], finished: Callable[[int], None] = lambda place: None) -> list[Any]:
    """The results of tasks, in the order of `references`.

    Args:
        references: one object reference a task.
        finished: told the place of each task as it ends.

    Raises:
        UserError: a task raised one; the others are cancelled.
    """
    places = {reference: place for place, reference in enumerate(references)}
    waiting = list(references)
    try:
        while waiting:
            # All that are ready at once: asking for one at a time is quadratic in the number of tasks.
            done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS, fetch_local=False)
            answer(done)
            for reference in done:
                finished(places[reference])
        return list(answer(list(references)))
    except (RayTaskError, UserError):
        for reference in waiting:
            ray.cancel(reference)
        raise


def answer(reference: Any) -> Any:
    """The result of one task or call, or those of a list of them.

    Raises:
        UserError: one of them raised it.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def use_threads(count: int) -> None:
    """Let the Rust libraries of this worker (tokenizers, rensa) use so many threads, if they have not started."""
    os.environ["RAYON_NUM_THREADS"] = str(count)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"


def cpus_of_a_task() -> int:
    """The most CPUs that one task can ask for and still be done when any one machine is lost.

    That is what the second largest machine offers, or the only one with CPUs.
    """
    offered = sorted((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), reverse=True)
    return next((cpus for cpus in offered[1:] if cpus), offered[0])
