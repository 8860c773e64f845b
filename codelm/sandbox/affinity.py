"""Keeps a cell on one core at a time, which the kernel chooses. Standard library only.

Referee, zygote and program wait for each other: on two cores they gain nothing, and each message wakes a core, each
fork starts with cold caches. On one they use a fifth less CPU time.
"""

import os
import time
from collections.abc import Sequence

from codelm.sandbox import linux

STAY_SECONDS = 0.25


class OneCore:
    """The core of some processes, which wait for each other; their children are born there."""

    def __init__(self, pids: Sequence[int]) -> None:
        """They stay free until `settle` is called.

        Args:
            pids: the processes; 0 is this one.
        """
        self._pids, self._allowed = pids, os.sched_getaffinity(0)
        self._settled, self._until = False, 0.0

    def settle(self) -> None:
        """To be called before each program: stay where they are, or every so often be free for one program, so that
        the kernel moves them to where there is room.
        """
        if self._settled and time.monotonic() < self._until:
            return
        self._settled = not self._settled
        self._until = time.monotonic() + STAY_SECONDS
        for pid in self._pids:
            os.sched_setaffinity(pid, {linux.current_cpu()} if self._settled else self._allowed)
