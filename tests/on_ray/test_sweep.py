"""A sweep on a cluster: killed, gone on with, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from mlflow.tracking import MlflowClient
from transformers import AutoModelForCausalLM

from codelm import config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray import examples, pipeline, pretrain, sweep
from codelm.on_ray.stage import run_stage
from codelm.run_dir import Manifest, RunDir
from tests.on_ray.test_finetune import RECIPE, section

MakeExperiment = Callable[..., Experiment]
KEY = "finetuning.training.learning_rate"
PATIENCE_SECONDS = 240


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


def records(run_dir: str) -> dict[str, float]:
    """The finished trials, and when each was finished."""
    return {path.parent.name: path.stat().st_mtime for path in Path(run_dir).glob(".work/sweep/trials/*/trial.json")}


@pytest.mark.timeout(600)
def test_a_killed_sweep_goes_on_and_tells_the_best(
    ray_cluster: None, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    address = ray.get_runtime_context().gcs_address
    experiment = sweeping(make_experiment, tmp_path, [f"cluster.address={address}"])
    run_dir = RunDir(experiment.run_dir)
    run_stage(examples.STAGE, experiment, run_dir)
    path = tmp_path / "sweep.yaml"
    path.write_text(config.to_yaml(experiment))
    program = Path(sys.executable).parent / "codelm"
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen([program, "sweep", path], stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while not records(experiment.run_dir):
            assert driver.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = records(experiment.run_dir)

    kept: dict[str, float] = {}
    keep_best = sweep._keep_best

    def look(*arguments: Any) -> str:
        kept.update(records(experiment.run_dir))
        return keep_best(*arguments)

    sweep._keep_best = look
    try:
        manifest = run_stage(sweep.STAGE, experiment, run_dir)
    finally:
        sweep._keep_best = keep_best
    assert before.items() <= kept.items(), "a finished trial was run again"

    trials = [json.loads(line) for line in (Path(experiment.run_dir) / "sweep" / "trials.jsonl").open()]
    by_rate = {trial["overrides"][KEY]: trial for trial in trials}
    assert len(trials) == len(by_rate) == 4
    assert by_rate[1e30]["state"] == "failed"
    assert "the training loss is" in by_rate[1e30]["error"] or "gradient" in by_rate[1e30]["error"]
    finished = [trial for trial in trials if trial["state"] == "finished"]
    best = min(finished, key=lambda trial: trial["score"])
    metrics = manifest.metrics
    assert (metrics["best"], metrics["best_trial"], metrics["trials"]) == (best["score"], best["name"], 4)
    assert metrics["steps"] == sum(trial["step"] for trial in trials) <= metrics["full_steps"] == 48

    directory = Path(experiment.run_dir) / "sweep"
    chosen = config.load(directory / "best.yaml")
    assert chosen.finetuning is not None
    assert chosen.finetuning.training.learning_rate == best["overrides"][KEY]
    AutoModelForCausalLM.from_pretrained(directory / "best")
    assert {"sweep.png", "trials.md"} <= set(manifest.files)
    assert not (directory / "trials").exists()

    client = MlflowClient(tracking_uri=f"sqlite:///{experiment.run_dir}/mlflow.db")
    [logged] = client.search_experiments(filter_string="name = 'test'")
    parent = manifest.facts["mlflow_run"]
    nested = client.search_runs([logged.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.info.run_id for run in nested} == {trial["mlflow_run"] for trial in trials}
    assert {float(run.data.params[KEY]) for run in nested} == set(by_rate)
    ends = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    statuses = {run.info.run_id: run.info.status for run in nested}
    assert statuses == {trial["mlflow_run"]: ends[trial["state"]] for trial in trials}
    assert client.get_model_version_by_alias("test", "best").run_id == parent
    assert list(directory.rglob("events.out.tfevents*")), "no TensorBoard logs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"finetuning.trainning.steps": {"choice": [1, 2]}}}, "did you mean finetuning.training.steps"),
        ({"metric": "pass@3"}, "no trial reports 'pass@3'"),
        ({"target": "pretrain"}, "does not change what a trial of pretrain does"),
        ({"space": {"finetuning.training.workers": {"choice": [1, 64]}}}, "workers changes how a trial runs"),
    ],
)
def test_refused_before_anything_starts(
    make_experiment: MakeExperiment, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    experiment = sweeping(make_experiment, tmp_path, [], **changes)
    with pytest.raises(UserError, match=message):
        pipeline.check(experiment, ["examples", "sweep"])


def test_what_a_benchmark_needs_is_checked_before_the_first_trial(
    make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    nowhere = ["evaluation.benchmark=apps", "evaluation.source=/nowhere.jsonl"]
    with pytest.raises(UserError, match=r"evaluation.source: '/nowhere.jsonl' does not exist"):
        pipeline.check(sweeping(make_experiment, tmp_path, nowhere, metric="pass@1"), ["examples", "sweep"])


def test_the_benchmark_is_part_of_the_result_where_it_is_the_metric(
    make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    def fingerprint(problems: int, metric: str) -> str:
        experiment = sweeping(make_experiment, tmp_path, [f"evaluation.problems={problems}"], metric=metric)
        return Manifest("sweep", sweep.STAGE.config(experiment), {}).fingerprint

    assert fingerprint(3, "pass@1") != fingerprint(4, "pass@1")
    assert fingerprint(3, "validation_loss") == fingerprint(4, "validation_loss")


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


@pytest.mark.parametrize("streaming", [False, True])
def test_trials_of_pretraining_read_what_pretraining_does(make_experiment: MakeExperiment, streaming: bool) -> None:
    space = {"training.learning_rate": {"choice": [1e-3, 1e-2]}}
    experiment = make_experiment(data={"streaming": streaming}, sweep={"space": space})
    assert ("corpus" in sweep.inputs(experiment)) == streaming
    assert sweep.inputs(experiment) == pretrain.STAGE.reads(experiment)
