"""MLflow: one run a stage, continued after an interruption, found again by another client."""

import pickle
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from codelm.run_dir import RunDir
from codelm.tracking import SMALL_BYTES, TrackedRun, download_model, log_once, open_run, tracking_uri


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_metrics_params_and_files_arrive(uri: str, tmp_path: Path) -> None:
    run = open_run(uri, "exp", "pretrain", None)
    run.log_params({"training": {"steps": 3}, "seed": 0})
    run.log_metrics({"loss": 5.0}, step=1)
    run.log_metrics({"loss": 4.0}, step=2)
    for name in ("note.txt", "curve.txt"):
        (tmp_path / name).write_text(name)
        run.log_file(tmp_path / name)
    run.finish(succeeded=True)

    client = MlflowClient(tracking_uri=uri)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"training.steps": "3", "seed": "0"}
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "loss")] == [(1, 5.0), (2, 4.0)]
    assert {item.path for item in client.list_artifacts(run.run_id)} == {"note.txt", "curve.txt"}
    assert (tmp_path / "mlartifacts").is_dir()

    (tmp_path / "large.txt").write_bytes(bytes(SMALL_BYTES + 1))
    log_once(uri, "judge", "a.jsonl", {"pass@1": {"value": 0.5}, "mode": "both"}, list(tmp_path.glob("*.txt")))
    (judged,) = client.search_runs([client.get_experiment_by_name("judge").experiment_id])
    assert (judged.info.status, judged.data.metrics) == ("FINISHED", {"pass_at_1.value": 0.5})
    assert {item.path for item in client.list_artifacts(judged.info.run_id)} == {"note.txt", "curve.txt"}


def test_runs_are_nested_and_a_model_is_found_by_its_alias(uri: str, tmp_path: Path) -> None:
    parent = open_run(uri, "exp", "sweep", None)
    child = open_run(uri, "exp", "trial 1", None, parent.run_id)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("exp")
    assert experiment is not None
    nested = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
    assert [run.info.run_id for run in nested] == [child.run_id]
    (tmp_path / "model").mkdir()
    for version in ("1", "2"):
        (tmp_path / "model" / "config.json").write_text(version)
        assert parent.register_model(tmp_path / "model", "quick-start.1", "best") == version
    assert client.get_model_version_by_alias("quick-start.1", "best").run_id == parent.run_id
    found, directory = download_model("models:/quick-start.1@best", uri)
    assert (found, (directory / "config.json").read_text()) == ("2", "2")


def test_an_interrupted_run_is_continued(uri: str) -> None:
    first = open_run(uri, "exp", "pretrain", None)
    first.log_params({"steps": 3})
    first.finish(succeeded=False)
    again = open_run(uri, "exp", "pretrain", first.run_id)
    again.log_params({"steps": 3})
    assert again == first
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("exp")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert client.get_run(first.run_id).info.status == "RUNNING"


def test_a_run_of_a_deleted_database_is_opened_anew(uri: str) -> None:
    assert open_run(uri, "exp", "pretrain", "0123456789abcdef").run_id != "0123456789abcdef"


def test_runs_travel_to_workers(uri: str) -> None:
    run = open_run(uri, "exp", "pretrain", None)
    copy: TrackedRun = pickle.loads(pickle.dumps(run))
    copy.log_metrics({"loss": 1.0})
    assert MlflowClient(tracking_uri=uri).get_run(run.run_id).data.metrics == {"loss": 1.0}


def test_address(make_experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_dir = RunDir(str(tmp_path / "run"))
    assert tracking_uri(make_experiment(), run_dir) == f"sqlite:///{tmp_path}/run/mlflow.db"
    monkeypatch.chdir(tmp_path)
    assert (
        tracking_uri(make_experiment(), RunDir("s3://bucket/run?region=us-east-1")) == f"sqlite:///{tmp_path}/mlflow.db"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(make_experiment(), run_dir) == "http://server:5000"
    assert tracking_uri(make_experiment(tracking={"uri": "http://other"}), run_dir) == "http://other"
