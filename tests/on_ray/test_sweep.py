"""What a sweep refuses before its first trial."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray import pipeline, sweep
from tests.on_ray.test_finetune import RECIPE, section

MakeExperiment = Callable[..., Experiment]
KEY = "finetuning.training.learning_rate"


def sweeping(make_experiment: MakeExperiment, tmp_path: Path, overrides: list[str], **changes: Any) -> Experiment:
    recipe = {**RECIPE, "workers": 1, "validate_every": 2, "checkpoint_every": 12}
    return make_experiment(
        overrides,
        finetuning=section(tmp_path, training=recipe),
        sweep={
            "space": {KEY: {"grid": [2e-2, 1e-6, 1e30, 1e-3]}},
            "trials": 1,
            "concurrency": 2,
            "grace_share": 0.3,
            "reduction": 2,
            "retries": 1,
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"finetuning.trainning.steps": {"choice": [1, 2]}}}, "did you mean finetuning.training.steps"),
        ({"metric": "pass@3"}, "no trial reports 'pass@3'"),
        ({"target": "pretrain"}, "does not change what a trial of pretrain does"),
    ],
)
def test_refused_before_anything_starts(
    make_experiment: MakeExperiment, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    experiment = sweeping(make_experiment, tmp_path, [], **changes)
    with pytest.raises(UserError, match=message):
        pipeline.check(experiment, ["examples", "sweep"])


def test_more_workers_than_the_cluster_has_are_told_at_once(
    ray_cluster: None, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    many = {**RECIPE, "workers": 64, "batch_size": 128}
    experiment = make_experiment(
        finetuning=section(tmp_path, training=many), sweep={"space": {KEY: {"choice": [1e-4, 1e-3]}}}
    )
    assert experiment.sweep is not None
    with pytest.raises(UserError, match=r"finetuning.training.workers: 64 for each trial, but the cluster has 4 CPUs"):
        sweep.concurrency(experiment, experiment.sweep, "finetune")
