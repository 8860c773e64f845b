"""The pipeline's figures for Prometheus: Ray exports them, each name with `ray_` before it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from ray.util.metrics import Gauge

from codelm import console

TAGS = ("experiment", "stage")
DONE, TOTAL = "codelm_progress_done", "codelm_progress_total"
RUNNING, SECONDS = "codelm_stage_running", "codelm_stage_seconds"
UNIT_TAGS = (*TAGS, "unit")


@contextmanager
def progress_exported(experiment: str) -> Iterator[None]:
    """While the block lasts, export the progress that the terminal shows: units done, and their number in all.

    Args:
        experiment: its name.
    """
    done = Gauge(DONE, "Units of work that a stage has done.", tag_keys=UNIT_TAGS)
    all_of_it = Gauge(TOTAL, "Units of work that a stage has in all.", tag_keys=UNIT_TAGS)

    def watch(stage: str, unit: str, count: int, total: int | None) -> None:
        tags = {"experiment": experiment, "stage": stage, "unit": unit}
        done.set(count, tags)
        if total is not None:
            all_of_it.set(total, tags)

    console.watchers.append(watch)
    try:
        yield
    finally:
        console.watchers.remove(watch)


@contextmanager
def stage_exported(experiment: str, stage: str) -> Iterator[None]:
    """Export that a stage runs, and when it has ended, that it does not."""
    tags = {"experiment": experiment, "stage": stage}
    running = Gauge(RUNNING, "1 while a stage runs.", tag_keys=TAGS)
    running.set(1, tags)
    try:
        yield
    finally:
        running.set(0, tags)


def export_seconds(experiment: str, stage: str, seconds: float) -> None:
    """Export how long a stage took."""
    gauge = Gauge(SECONDS, "That a finished stage took.", tag_keys=TAGS)
    gauge.set(seconds, {"experiment": experiment, "stage": stage})


def export_training(experiment: str, step: int, metrics: Mapping[str, float]) -> None:
    """Export what a training says of a step, as `codelm_training_loss` for its `train_loss` and so on.

    Called by the worker that leads, on whatever node that is.
    """
    for name, value in {"step": float(step), **metrics}.items():
        gauge = _training_gauge(name)
        if gauge is not None:
            gauge.set(value, {"experiment": experiment})


TRAINING = {
    "step": ("codelm_training_step", "The optimizer step that was taken last."),
    "train_loss": ("codelm_training_loss", "Nats per token of the last steps."),
    "validation_loss": ("codelm_validation_loss", "Nats per token of the validation split."),
    "learning_rate": ("codelm_training_learning_rate", "Of the last step."),
    "gradient_norm": ("codelm_training_gradient_norm", "Of the last step, before clipping."),
    "tokens_per_second": ("codelm_training_tokens_per_second", "Of all workers together."),
    "mfu": ("codelm_training_mfu", "Model FLOPs utilisation, a share of 1."),
}
"""A training's figure -> the name and meaning of its metric."""


@cache
def _training_gauge(name: str) -> Gauge | None:
    return Gauge(*TRAINING[name], tag_keys=("experiment",)) if name in TRAINING else None
