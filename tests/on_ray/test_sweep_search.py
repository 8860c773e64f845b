"""What decides about the trials of a sweep, without trials."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from ray import tune
from ray.tune.execution import class_cache

from codelm.config import Experiment
from codelm.config.sweep import Sweep
from codelm.on_ray import sweep_search
from codelm.on_ray.sweep_order import Order
from codelm.run_dir import RunDir
from codelm.tracking import open_run


def test_optuna_waits_for_a_metric_that_only_the_last_report_has() -> None:
    section = Sweep.model_validate(
        {"space": {"a": {"uniform": [0, 1]}}, "search": "optuna", "metric": "pass@1", "scheduler": "none"}
    )
    search: Any = sweep_search._search(section, 2, 0)
    search.set_search_properties(None, None, {"a": tune.uniform(0, 1)})
    for name, last in (("x", {"pass@1": 0.5}), ("y", {}), ("z", {"pass@1": 0.25})):
        assert set(search.suggest(name)) == {"a"}
        report = {"validation_loss": 1.0, "training_iteration": 1}
        search.on_trial_result(name, report)
        search.on_trial_complete(name, report | last)
    trials = search.searcher._ot_study.trials
    assert [(trial.state.name, trial.value) for trial in trials] == [
        ("COMPLETE", 0.5),
        ("PRUNED", None),
        ("COMPLETE", 0.25),
    ]
    assert search.searcher._ot_study.best_value == 0.5


@pytest.mark.parametrize(
    ("failed", "recorded", "status"), [(False, False, "KILLED"), (True, False, "FAILED"), (False, True, "RUNNING")]
)
def test_the_run_of_a_trial_whose_process_was_ended_is_ended(
    make_experiment: Callable[..., Experiment], tmp_path: Path, failed: bool, recorded: bool, status: str
) -> None:
    """Else MLflow would show it as running for good; a trial that ends by itself sees to its run."""
    experiment = make_experiment()
    run = open_run(f"sqlite:///{experiment.run_dir}/mlflow.db", "test", "trial a", None)
    order = Order(
        experiment, RunDir(experiment.run_dir), str(tmp_path), "finetune", "validation_loss", False, run, "test"
    )
    (tmp_path / "trials" / "a").mkdir(parents=True)
    sweep_search.end_run(order, "a", failed)  # it never began
    (tmp_path / "trials" / "a" / "note.json").write_text(json.dumps({"mlflow_run": run.run_id}))
    if recorded:
        (tmp_path / "trials" / "a" / "trial.json").write_text("{}")
    sweep_search.end_run(order, "a", failed)
    told = MlflowClient(tracking_uri=run.uri).get_run(run.run_id).info
    assert told.status == status
    time.sleep(0.01)
    sweep_search.end_run(order, "a", failed)  # at the sweep's end, for all
    assert MlflowClient(tracking_uri=run.uri).get_run(run.run_id).info.end_time == told.end_time


def test_the_keys_of_the_storage_are_not_part_of_a_trials_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows an actor's environment in the dashboard and writes it to its logs."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-90ab")
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(class_cache.ENV_VARS_TO_PROPAGATE))

    def shown() -> str:
        return str(class_cache._ActorClassCache().get(type("Trainable", (), {}))._default_options)

    assert "planted-90ab" in shown(), "if Ray has stopped doing this, so can we"
    sweep_search.keep_keys_back()
    assert "planted-90ab" not in shown()
