"""A trial that goes on from another's checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from mlflow.tracking import MlflowClient
from pyarrow.fs import LocalFileSystem

from codelm.config import Experiment
from codelm.on_ray.sweep_adoption import adopt
from codelm.on_ray.sweep_order import Order
from codelm.run_dir import RunDir
from codelm.tracking import open_run
from codelm.training.checkpoint import Progress, latest_whole, write_part
from codelm.training.state import Piece

KEY = "finetuning.training.learning_rate"


def test_a_trial_goes_on_from_the_last_whole_checkpoint_of_another(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment, local = make_experiment(), LocalFileSystem()
    run = open_run(f"sqlite:///{experiment.run_dir}/mlflow.db", "test", "trial b", None)
    order = Order(
        experiment, RunDir(experiment.run_dir), str(tmp_path), "finetune", "validation_loss", True, run, "test"
    )
    pieces = [Piece("w", "weight", 0, torch.ones(2))]
    for name, step in (("a", 1), ("a", 2), ("a", 4), ("b", 6)):
        path = f"{order.directory(name)}/checkpoints/attempt/step-{step:09d}"
        write_part(local, path, 0, 1, pieces, Progress(step))
    (tmp_path / "trials/a/checkpoints/attempt/step-000000004/seal-0.json").write_text("{")  # is being written
    own = tmp_path / "trials/b"
    for name in ("best/best.json", "finetuned/manifest.json", "evaluation/manifest.json", "trial.json"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("{}")
    (own / "note.json").write_text(json.dumps({"mlflow_run": run.run_id}))

    assert adopt(order, "b", {"trial": "b", "step": 6}, {}, run) is None
    assert (own / "checkpoints").exists()
    pointer = {"trial": "a", "step": 4}
    start = adopt(order, "b", pointer, {KEY: 2e-3, "kind": "x"}, run)
    assert start is not None
    assert json.loads((Path(start) / "progress.json").read_text())["step"] == 2
    assert {path.name for path in own.iterdir()} == {"adopted", "note.json"}, "it is another model now"
    assert latest_whole(local, f"{own}/checkpoints", print) is None

    start = adopt(order, "b", {"trial": "a", "step": 1}, {}, run)
    assert start is not None
    assert json.loads((Path(start) / "progress.json").read_text())["step"] == 1

    # Interrupted before its own first checkpoint: it goes on from the copy, not from the beginning.
    assert adopt(order, "b", {"trial": "a", "step": 1}, {}, run) == start
    assert adopt(order, "b", {"trial": "b", "step": 3}, {}, run) == start
    assert adopt(order, "b", {"trial": "none", "step": 3}, {}, run) is None
    history = MlflowClient(tracking_uri=run.uri).get_metric_history(run.run_id, KEY)
    assert [(metric.step, metric.value) for metric in history] == [(4, 2e-3)]
