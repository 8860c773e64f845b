"""What a trial that was stopped leaves behind: its process is ended, and the workers of Ray Train hold their CPUs on
(`worker_groups`). So the sweep's driver looks itself, and asks Ray's control store.
"""

import json
import time
from collections.abc import Iterable
from typing import Any

import pyarrow.fs as pafs
import ray
from ray._private.state import actors

from codelm.console import say
from codelm.on_ray.sweep_order import ACTOR, Order
from codelm.on_ray.worker_groups import GROUP, free_group
from codelm.run_dir import read_json, write_whole

PATIENCE_SECONDS, POLL_SECONDS = 30.0, 0.2


class Releaser:
    """Frees what trials that do not run any more have left.

    Args:
        order: the sweep's.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._free: set[str] = set()

    def look(self, trials: Iterable[Any]) -> None:
        """Free what can be freed now; to be called again and again.

        Args:
            trials: Tune's, in any state.
        """
        for trial in trials:
            if trial.status == "RUNNING":
                self._free.discard(trial.trial_id)
            elif trial.trial_id not in self._free and release(self._order, trial.trial_id):
                self._free.add(trial.trial_id)


def release_all(order: Order, names: Iterable[str]) -> None:
    """Free what the trials of a sweep that is over have left, as soon as their processes have ended."""
    left, deadline = list(names), time.monotonic() + PATIENCE_SECONDS
    while left := [name for name in left if not release(order, name)]:
        if time.monotonic() > deadline:
            say("sweep", f"these trials may still hold workers: {', '.join(left)}")
            return
        time.sleep(POLL_SECONDS)


def note_actor(order: Order, name: str) -> None:
    """Leave word of the process that a trial runs in. It calls this itself."""
    note = {"actor": ray.get_runtime_context().get_actor_id()}
    write_whole(order.run_dir.fs, f"{order.directory(name)}/{ACTOR}", json.dumps(note))


def release(order: Order, name: str) -> bool:
    """Remove the workers of a trial that does not run, and what is reserved for them.

    Args:
        order: the sweep's.
        name: the trial's.

    Returns:
        Whether there is nothing left; if not, the trial's own process has not ended yet.
    """
    fs, directory = order.run_dir.fs, order.directory(name)
    if fs.get_file_info(f"{directory}/{GROUP}").type == pafs.FileType.NotFound:
        return True
    note = read_json(fs, f"{directory}/{ACTOR}")
    # Alive, it would have the workers started again.
    if note is not None and note["actor"] and actors(note["actor"]).get("State", "DEAD") != "DEAD":
        return False
    free_group(fs, directory)
    return True
