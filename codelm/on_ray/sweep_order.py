"""What all trials of a sweep are told, and the files by which each is known."""

from dataclasses import dataclass

from codelm.config import Experiment
from codelm.on_ray import finetune
from codelm.run_dir import RunDir
from codelm.tracking import TrackedRun

TUNE = "tune"
"""Where Ray Tune keeps its state and the logs for TensorBoard, in the stage's directory."""

RECORD, NOTE = "trial.json", "note.json"
"""In a trial's directory: what it reported at its end, and what has to be known to go on with it."""

ACTOR = "actor.json"
"""In a trial's directory: the id of its process."""


@dataclass(frozen=True)
class Order:
    """The same for all trials.

    Attributes:
        experiment: the whole config, without a trial's values.
        run_dir: where the inputs are.
        workspace: the sweep's, in terms of `run_dir.fs`.
        target: `finetune` or `pretrain`.
        metric: what the best trial is best at.
        shares_checkpoints: whether trials go on from each other's checkpoints.
        tracked: the sweep's MLflow run.
        mlflow_experiment: its name.
    """

    experiment: Experiment
    run_dir: RunDir
    workspace: str
    target: str
    metric: str
    shares_checkpoints: bool
    tracked: TrackedRun
    mlflow_experiment: str

    def directory(self, name: str) -> str:
        """Where a trial works, in terms of `run_dir.fs`."""
        return f"{self.workspace}/trials/{name}"


def steps_of(experiment: Experiment, order: Order) -> int:
    """Optimizer steps that a trial takes if it is not stopped."""
    if order.target == "pretrain":
        return experiment.training.steps
    return finetune.recipe_of(experiment, finetune.sequences(order.run_dir)).steps
