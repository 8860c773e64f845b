"""Runs of Ray Train in which processes are killed at stated steps."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from codelm.tracking import TrackedRun

WORKER, CONTROLLER = 0, -1
"""Who is killed, where it is no process id: the worker that logs, and Ray Train's controller."""


@dataclass(frozen=True)
class KillingRun(TrackedRun):
    """Tracks as usual, and the first time that a worker logs a step of `victims` it kills a process.

    Attributes:
        victims: (step, process to kill).
        marks: a directory where a file `step-N` tells that it has happened.
    """

    victims: tuple[tuple[int, int], ...]
    marks: str

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log, or kill."""
        for when, victim in self.victims:
            mark = Path(self.marks, f"step-{when}")
            if step == when and not mark.exists():
                mark.touch()
                os.kill(_process(victim), signal.SIGKILL)
        super().log_metrics(metrics, step)


def _process(victim: int) -> int:
    if victim == CONTROLLER:
        [controller] = [
            process.pid
            for process in psutil.Process(os.getppid()).children()  # of the raylet: of this cluster alone
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::TrainController")
        ]
        return controller
    return os.getpid() if victim == WORKER else victim
