"""Runs of Ray Train in which something is killed at a stated step; `python -m` trains until it is killed itself."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.tracking import TrackedRun


@dataclass(frozen=True)
class KillingRun(TrackedRun):
    """Tracks as usual, and the first time that a worker logs `step` it kills a process, once.

    Attributes:
        step: when.
        victim: the process to kill; 0 for the worker itself.
        done: a file that tells that it has happened.
    """

    step: int
    victim: int
    done: str

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log, or kill."""
        if step == self.step and not Path(self.done).exists():
            Path(self.done).touch()
            os.kill(self.victim or os.getpid(), signal.SIGKILL)
        super().log_metrics(metrics, step)


def main(config_path: str, step: int, done: str, *overrides: str) -> None:
    """Train in a cluster of its own until a worker kills this process at `step`."""
    import ray

    from codelm import config
    from codelm.on_ray import pipeline, stage

    open_run = stage.open_run

    def open_killing_run(*arguments: Any) -> TrackedRun:
        run = open_run(*arguments)
        return KillingRun(run.uri, run.run_id, step, os.getpid(), done)

    stage.open_run = open_killing_run
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pipeline.run(
        config.load(config_path, ["cluster.num_cpus=2", "cluster.object_store_mb=100", *overrides]), ["pretrain"]
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
