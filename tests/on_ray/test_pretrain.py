import json
import math
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest
import ray
import torch
from mlflow.tracking import MlflowClient
from ray.exceptions import RayActorError
from ray.util import placement_group_table
from safetensors.numpy import load_file

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray import devices, pretrain, stage
from codelm.on_ray.devices import resolve_accelerator, scaling
from codelm.on_ray.pretrain import STAGE
from codelm.on_ray.stage import run_stage
from codelm.run_dir import Manifest, RunDir
from codelm.tokenization import bpe
from codelm.tracking import TrackedRun
from codelm.training.checkpoint import Progress, write_part
from codelm.training.curve import from_lines
from codelm.training.state import Piece
from tests.on_ray import killing, without_ray
from tests.training.packed import tiny_experiment, write_packed

pytestmark = pytest.mark.timeout(900)
MakeExperiment = Callable[..., Experiment]

RECIPE = {
    "engine": "deepspeed",
    "zero_stage": 1,
    "workers": 2,
    "steps": 12,
    "batch_size": 8,
    "micro_batch_size": 2,
    "warmup_steps": 2,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "log_every": 1,
    "validate_every": 6,
    "checkpoint_every": 4,
    "validation_sequences": 5,
}


def with_inputs(experiment: Experiment) -> Experiment:
    """Publish what the stage reads."""
    run_dir = RunDir(experiment.run_dir)
    write_packed(Path(run_dir.workspace("packed")), experiment.tokenizer.vocab_size, experiment.data.sequence_length)
    run_dir.publish("packed", Manifest("pack", {}, {}))
    run_dir.workspace("tokenizer")
    run_dir.publish("tokenizer", Manifest("tokenizer", {}, {}))
    return experiment


@dataclass(frozen=True)
class Trained:
    """A run in which a worker was killed at step 7 and Ray Train's controller at step 10.

    Attributes:
        printed: what the terminal showed.
        uninterrupted: the same by two plain processes (`without_ray.trained`).
    """

    experiment: Experiment
    manifest: Manifest
    printed: str
    uninterrupted: dict[str, Any]

    @property
    def directory(self) -> Path:
        return Path(self.experiment.run_dir) / "pretrain"


@pytest.fixture(scope="module")
def trained(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """By the whole path of a stage; starting Ray Train's workers is what takes time, so that one run shows it all."""
    root = tmp_path_factory.mktemp("trained")
    experiment = with_inputs(tiny_experiment("trained", root, RECIPE))
    uninterrupted = without_ray.trained(experiment, root)
    open_run = stage.open_run

    def open_killing_run(*arguments: Any) -> TrackedRun:
        run = open_run(*arguments)
        return killing.KillingRun(run.uri, run.run_id, ((7, killing.WORKER), (10, killing.CONTROLLER)), str(root))

    ray.cloudpickle.register_pickle_by_value(killing)
    with (root / "stderr").open("w") as out, pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "open_run", open_killing_run)
        patched.setattr(sys, "stderr", out)
        try:
            manifest = run_stage(STAGE, experiment, RunDir(experiment.run_dir))
        finally:
            ray.cloudpickle.unregister_pickle_by_value(killing)
    assert (root / "step-7").exists()
    assert (root / "step-10").exists()
    return Trained(experiment, manifest, (root / "stderr").read_text(), uninterrupted)


def elsewhere(trained: Trained, root: Path, name: str) -> Experiment:
    """The same experiment in another run directory."""
    return with_inputs(trained.experiment.model_copy(update={"run_dir": str(root / name)}))


def test_the_published_directory_holds_weights_config_and_curve_alone(trained: Trained) -> None:
    assert set(trained.manifest.files) == {"weights.safetensors", "config.json", "curve.jsonl", "loss_curve.png"}
    assert {path.name for path in trained.directory.iterdir()} == {*trained.manifest.files, "manifest.json"}


def test_metrics_agree_with_the_curve_and_the_data(trained: Trained) -> None:
    metrics = trained.manifest.metrics
    curve = [json.loads(line) for line in (trained.directory / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == list(range(13))
    assert metrics["initial_validation_loss"] == curve[0]["validation_loss"] == pytest.approx(math.log(512), abs=0.1)
    assert metrics["validation_loss"] == curve[-1]["validation_loss"] < metrics["initial_validation_loss"]
    assert metrics["validation_perplexity"] == pytest.approx(math.exp(metrics["validation_loss"]))
    assert (metrics["steps"], metrics["tokens"]) == (12, 12 * 8 * 64)
    info = json.loads((Path(trained.experiment.run_dir) / "packed" / "valid" / "info.json").read_text())
    assert metrics["unigram_entropy"] == info["unigram_entropy"]
    weights = load_file(trained.directory / "weights.safetensors")
    assert metrics["parameters"] == sum(weight.size for weight in weights.values())
    assert all(np.isfinite(weight).all() for weight in weights.values())


def test_facts_tell_how_it_ran(trained: Trained) -> None:
    facts = trained.manifest.facts
    assert (facts["engine"], facts["workers"], facts["device"], facts["precision"]) == ("deepspeed", 2, "cpu", "fp32")
    assert facts["threads"] >= 1
    assert facts["tokens_per_second"] > 0
    assert facts["workers_from_step"] == {"1": 2}
    assert set(facts["start_seconds"]) == {"ray_train", "imports", "model", "engine", "first_step"}
    assert all(seconds >= 0 for seconds in facts["start_seconds"].values())
    assert 0 < facts["mfu"] < 1
    assert facts["peak_flops"].endswith(" measured")
    assert 0 < facts["checkpoint_wait_share"] < 1


def test_mlflow_has_the_curve_by_step(trained: Trained) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{trained.experiment.run_dir}/mlflow.db")
    run = trained.manifest.facts["mlflow_run"]
    for key in ("train_loss", "learning_rate", "gradient_norm", "tokens_per_second", "tokens", "mfu", "memory_gib"):
        assert {metric.step for metric in client.get_metric_history(run, key)} >= set(range(1, 13)), key
    measured = [metric for metric in client.get_metric_history(run, "validation_loss") if metric.step]
    assert {metric.step for metric in measured} == {6, 12}
    assert client.get_metric_history(run, "validation_perplexity")[-1].value == pytest.approx(
        trained.manifest.metrics["validation_perplexity"]
    )
    assert {metric.step for metric in client.get_metric_history(run, "checkpoint_seconds")} == {5, 9}


def test_the_terminal_shows_codelms_lines_alone(trained: Trained) -> None:
    lines = trained.printed.splitlines()
    assert all(line.lstrip().startswith("pretrain") for line in lines), lines
    assert len({line for line in lines if "validation loss" in line}) == 3
    assert any("deepspeed, fp32, 2 workers on cpu" in line for line in lines)
    assert any(re.search(r"going on from step [48]\b", line) for line in lines)  # as far as it was written by then
    assert sum("Ray Train's controller was lost" in line for line in lines) == 1


def test_ctrl_c_is_still_pythons(trained: Trained) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_worker_and_a_killed_controller_change_no_bit_of_the_result(trained: Trained) -> None:
    wanted = trained.uninterrupted
    assert trained.manifest.metrics["samples_sha256"] == wanted["samples"]
    assert from_lines((trained.directory / "curve.jsonl").read_text()) == wanted["curve"]
    weights = load_file(trained.directory / "weights.safetensors")
    assert weights.keys() == wanted["weights"].keys()
    for name, weight in wanted["weights"].items():
        assert np.array_equal(weights[name], weight.numpy()), name
    # The lost controller's workers hold no CPUs: what asks for all of them would wait for good.
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}
    assert not list(trained.directory.glob("placement_group*"))


def test_an_interrupted_run_is_one_run_in_mlflow(trained: Trained) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{trained.experiment.run_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("trained")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (trained.manifest.facts["mlflow_run"], "FINISHED")


def test_a_rerun_with_more_workers_goes_on_from_the_last_whole_checkpoint(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker until Ctrl-C, its last checkpoint damaged; then two workers, of another engine."""
    experiment = elsewhere(trained, tmp_path, "run")
    run_dir = RunDir(experiment.run_dir)
    with pytest.raises(KeyboardInterrupt):
        run_stage(replace(STAGE, run=without_ray.interrupted), experiment, run_dir)
    assert run_dir.manifest("pretrain") is None
    other = experiment.model_copy(update={"seed": 1})
    with pytest.raises(
        UserError, match=r"an interrupted pretrain of another config or input:\n  seed: 0 there, 1 asked"
    ):
        run_stage(STAGE, other, run_dir)
    [damaged] = Path(run_dir.path(".work")).glob("pretrain/checkpoints/*/step-000000008/state-0-0.safetensors")
    with damaged.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))

    manifest = run_stage(STAGE, experiment, run_dir)
    told = capsys.readouterr().err
    assert "checkpoint step-000000008 is not whole (state-0-0.safetensors does not have the content" in told
    assert "going on from step 4" in told
    assert manifest.facts["workers_from_step"] == {"1": 1, "5": 2}
    assert manifest.metrics["samples_sha256"] == trained.manifest.metrics["samples_sha256"]
    assert manifest.metrics["validation_loss"] == pytest.approx(trained.manifest.metrics["validation_loss"], abs=1e-4)


def test_a_diverging_run_stops_at_once_and_is_not_tried_again(
    ray_cluster: None, make_experiment: MakeExperiment
) -> None:
    experiment = with_inputs(
        make_experiment(["training.engine=torch", "training.learning_rate=1e30", "training.max_failures=3"])
    )
    root = Path(experiment.run_dir)
    (root / "tokenizer" / bpe.TOKENIZER_FILE).write_text(bpe.train(["def f(x): return x"], 300, 2).to_str())
    (root / "corpus" / "data").mkdir(parents=True)
    said = r"(training loss|norm of the gradient) is (nan|inf) at step \d; lower .* The batch is sequence \d+"
    with pytest.raises(UserError, match=said):
        run_stage(STAGE, experiment, RunDir(experiment.run_dir))
    attempts = Path(experiment.run_dir) / ".work" / "pretrain" / "checkpoints"
    assert len([path for path in attempts.iterdir() if path.is_dir()]) == 1


def test_lost_controllers_are_replaced_no_more_often_than_the_config_says() -> None:
    def after(losses: int) -> Callable[[], dict[str, Any]]:
        left = iter(range(losses))

        def attempt() -> dict[str, Any]:
            if next(left, None) is not None:
                raise RayActorError
            return {"done": True}

        return attempt

    freed: list[None] = []

    def free() -> None:
        freed.append(None)

    assert pretrain._in_spite_of_lost_controllers(after(2), free, "pretrain", 2) == {"done": True}
    assert len(freed) == 2
    with pytest.raises(RayActorError):
        pretrain._in_spite_of_lost_controllers(after(3), free, "pretrain", 2)


def test_keys_that_leave_the_result_alone_are_not_in_the_fingerprint(make_experiment: MakeExperiment) -> None:
    same = ["training.log_every=3", "training.checkpoint_every=7", "training.max_failures=9", "training.workers=2"]
    assert STAGE.config(make_experiment(same)) == STAGE.config(make_experiment())
    for other in ("training.steps=9", "seed=4", "model.layers=3", "training.validate_every=3"):
        assert STAGE.config(make_experiment([other])) != STAGE.config(make_experiment())


@pytest.mark.parametrize(
    ("found", "wanted", "resolved"),
    [
        ({}, "auto", "cpu"),
        ({"GPU": 2}, "auto", "gpu"),
        ({"TPU": 4}, "auto", "tpu"),
        ({"GPU": 2}, "cpu", "cpu"),
        ({"TPU": 4}, "tpu", "tpu"),
    ],
)
def test_auto_takes_the_accelerator_that_is_there(
    monkeypatch: pytest.MonkeyPatch, make_experiment: MakeExperiment, found: dict[str, int], wanted: str, resolved: str
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(devices, "_on_this_machine", lambda resource: found.get(resource, 0))
    experiment = make_experiment([f"accelerator={wanted}"])
    assert resolve_accelerator(experiment) == resolved
    chosen = scaling(experiment, resolved)
    assert (chosen.num_workers, chosen.use_gpu, chosen.use_tpu) == (1, resolved == "gpu", resolved == "tpu")


def test_elastic_workers_are_a_range(make_experiment: MakeExperiment) -> None:
    elastic = make_experiment(["training.workers=2", "training.min_workers=1"])
    assert scaling(elastic, "cpu").num_workers == (1, 2)


def test_a_tpu_slice_gets_one_process_a_chip(make_experiment: MakeExperiment) -> None:
    slice_of_four = ["cluster.accelerator_type=TPU-V4", "cluster.tpu_topology=2x2x1", "training.workers=4"]
    chosen = scaling(make_experiment([*slice_of_four, "training.micro_batch_size=1"]), "tpu")
    assert (chosen.num_workers, chosen.resources_per_worker) == (4, {"CPU": 1, "TPU": 1})
    assert (chosen.topology, chosen.accelerator_type) == ("2x2x1", "TPU-V4")


def test_attempts_without_one_of_the_last_whole_checkpoints_are_deleted(tmp_path: Path) -> None:
    local = pafs.LocalFileSystem()
    for step in ("attempt-a/step-000000004", "attempt-b/step-000000008", "attempt-c/step-000000012"):
        write_part(local, str(tmp_path / step), 0, 1, [Piece("w", "weight", 0, torch.ones(2))], Progress())
    (tmp_path / "attempt-d" / "step-000000016").mkdir(parents=True)  # begun, and killed
    pretrain._delete_attempts(local, str(tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attempt-b", "attempt-c"]
    pretrain._delete_attempts(local, str(tmp_path / "absent"), 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["accelerator=gpu"], "accelerator: gpu, but there is no GPU here; set accelerator: auto"),
        (["accelerator=tpu", "training.engine=torch"], "accelerator: tpu, but there is no TPU here"),
        (
            ["training.offload_optimizer=true"],
            "training.offload_optimizer: on cpu the optimizer is in the host's memory",
        ),
        (["accelerator=tpu"], "training.engine: deepspeed does not run on TPUs; set training.engine: torch"),
        (
            ["training.workers=4", "cluster.num_cpus=2", "training.micro_batch_size=1"],
            "training.workers: 4 on cpu, but there are 2 CPUs here; lower it",
        ),
        (
            ["accelerator=tpu", "training.engine=torch", "training.workers=2"],
            "training.workers: 2 on tpu need cluster.tpu_topology and cluster.accelerator_type",
        ),
    ],
)
def test_what_cannot_run_here_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, make_experiment: MakeExperiment, overrides: list[str], message: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(devices, "_on_this_machine", lambda resource: 0)
    with pytest.raises(UserError, match=message):
        STAGE.check(make_experiment(overrides))


def test_another_cluster_is_not_judged_by_this_machine(make_experiment: MakeExperiment) -> None:
    STAGE.check(make_experiment(["accelerator=gpu", "cluster.address=10.0.0.1:6379"]))
