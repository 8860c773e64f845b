"""Running one stage: skipped when done, one MLflow run across tries, curves kept apart from results."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray.stage import SMALL_BYTES, Context, Outcome, Stage, run_stage
from codelm.run_dir import RunDir

Make = Callable[..., Experiment]


def stage(run: Callable[[Context], Outcome], continues: bool = False) -> Stage:
    return Stage("corpus", (), lambda experiment: {"seed": experiment.seed}, run, continues=continues)


def runs(run_dir: RunDir) -> list[str]:
    client = MlflowClient(f"sqlite:///{run_dir.root}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    return [run.info.status for run in client.search_runs([experiment.experiment_id])]


def test_a_result_adds_no_point_to_the_curve_of_its_name(make_experiment: Make) -> None:
    def train(context: Context) -> Outcome:
        for step, loss in ((0, 8.0), (10, 4.0)):
            context.tracked.log_metrics({"validation_loss": loss}, step)
        return Outcome({"validation_loss": 4.0})

    experiment = make_experiment()
    manifest = run_stage(stage(train), experiment, RunDir(experiment.run_dir))
    client = MlflowClient(f"sqlite:///{experiment.run_dir}/mlflow.db")
    run_id = manifest.facts["mlflow_run"]
    curve = client.get_metric_history(run_id, "validation_loss")
    assert [(point.step, point.value) for point in curve] == [(0, 8.0), (10, 4.0)]
    assert client.get_run(run_id).data.metrics["result/validation_loss"] == 4.0


def test_small_reports_are_kept_with_the_run(make_experiment: Make) -> None:
    def report(context: Context) -> Outcome:
        Path(context.workspace, "ledger.json").write_text("{}")
        Path(context.workspace, "weights.bin").write_bytes(b"0")
        Path(context.workspace, "large.json").write_bytes(b" " * (SMALL_BYTES + 1))
        return Outcome({})

    experiment = make_experiment()
    manifest = run_stage(stage(report), experiment, RunDir(experiment.run_dir))
    client = MlflowClient(f"sqlite:///{experiment.run_dir}/mlflow.db")
    assert [item.path for item in client.list_artifacts(manifest.facts["mlflow_run"])] == ["ledger.json"]


def test_a_finished_stage_is_skipped_and_makes_no_second_run(make_experiment: Make) -> None:
    calls = []

    def count(context: Context) -> Outcome:
        calls.append(context.workspace)
        return Outcome({})

    experiment = make_experiment()
    run_dir = RunDir(experiment.run_dir)
    first = run_stage(stage(count), experiment, run_dir)
    assert run_stage(stage(count), experiment, run_dir) == first
    assert len(calls) == 1
    assert runs(run_dir) == ["FINISHED"]
    with pytest.raises(UserError, match="seed: 0 there, 7 asked for"):
        run_stage(stage(count), make_experiment(["seed=7"]), run_dir)


@pytest.mark.parametrize("continues", [False, True])
def test_an_interrupted_stage_keeps_its_run_and_if_it_can_its_files(make_experiment: Make, continues: bool) -> None:
    seen = []

    def fail_once(context: Context) -> Outcome:
        left = Path(context.workspace, "half")
        seen.append(left.exists())
        left.write_text("half")
        if len(seen) == 1:
            raise RuntimeError("power cut")
        left.unlink()
        return Outcome({})

    experiment = make_experiment()
    run_dir = RunDir(experiment.run_dir)
    with pytest.raises(RuntimeError, match="power cut"):
        run_stage(stage(fail_once, continues), experiment, run_dir)
    assert runs(run_dir) == ["FAILED"]
    run_stage(stage(fail_once, continues), experiment, run_dir)
    assert seen == [False, continues]
    assert runs(run_dir) == ["FINISHED"]
