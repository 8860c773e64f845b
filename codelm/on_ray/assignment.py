"""What the workers of a training are told, and where they begin: it loads neither torch nor transformers, which take
seconds, so that the driver does not wait for what it does not use.
"""

import time
from dataclasses import dataclass
from typing import Any

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray.stopwatch import Stopwatch
from codelm.on_ray.worker_groups import note_group
from codelm.run_dir import RunDir

CHECKPOINTS = "checkpoints"
"""Where the attempts at a training have their checkpoints, in its workspace."""

BEST = "best"
"""Where the weights with the lowest validation loss are, in the workspace of a training that keeps them."""


@dataclass(frozen=True)
class Assignment:
    """The same for all workers.

    Attributes:
        experiment: the whole config.
        run_dir: where the inputs are.
        workspace: where the result goes, in terms of `run_dir.fs`.
        accelerator: cpu, gpu or tpu.
        start: a checkpoint to begin with where the workspace has none, in terms of `run_dir.fs`.
        prepare: `module:function` of what is trained on what: `Assignment -> Work`.
        keep_best: the weights with the lowest validation loss are the result, rather than the last.
        began: when the driver asked for workers, in seconds since 1970.
    """

    experiment: Experiment
    run_dir: RunDir
    workspace: str
    accelerator: str
    start: str | None
    prepare: str
    keep_best: bool
    began: float


def train(loop_config: dict[str, Any]) -> dict[str, Any]:
    """Train as one of the workers. What rank 0 returns reaches the driver.

    Args:
        loop_config: `assignment`, `tracked` (a TrackedRun) and `board` (a handle of a progress Board).

    Returns:
        The curve and figures; or only `error`, for what a restart would not mend.
    """
    assignment = loop_config["assignment"]
    note_group(assignment.run_dir.fs, assignment.workspace)
    watch = Stopwatch(time.time() - assignment.began)
    watch.lap("ray_train")
    from codelm.on_ray import pretrain_worker

    watch.lap("imports")
    try:
        return pretrain_worker.train(assignment, loop_config["tracked"], loop_config["board"], watch)
    except UserError as error:
        return {"error": str(error), "samples": getattr(error, "samples", [])}
