"""One trial of a sweep: the same training as by itself, with other values of some keys, in a directory of its own.

It is a function of Ray Tune that starts Ray Train. What rank 0 logs at a validation is passed on to Tune, whose
schedulers decide by it. A trial that was interrupted goes on from its own checkpoint, whatever Tune remembers.
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs
import ray
from ray import tune
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.on_ray import evaluate, finetune, pretrain
from codelm.on_ray.stage import run_stage
from codelm.on_ray.sweep_adoption import adopted, report
from codelm.on_ray.sweep_order import NOTE, RECORD, Order, steps_of
from codelm.on_ray.sweep_release import note_actor
from codelm.run_dir import DIRECTORIES, Manifest, RunDir, read_json, staged, write_whole
from codelm.tracking import TrackedRun, open_run
from codelm.training.curve import Point, validations
from codelm.tuning.space import overridden

POLL_SECONDS = 0.5

Result = TypeVar("Result")


@dataclass(frozen=True)
class ReportingRun(TrackedRun):
    """A trial's MLflow run; what is logged at a validation goes to the trial as well."""

    queue: Any

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """See `TrackedRun`."""
        super().log_metrics(metrics, step)
        if "validation_loss" in metrics and step:
            self.queue.put({"step": step, "validation_loss": metrics["validation_loss"]})


def trial(config: dict[str, Any], order: Order) -> None:
    """Run one trial; what it found is reported to Tune and kept in its directory."""
    name = tune.get_context().get_trial_id()
    fs, directory = order.run_dir.fs, order.directory(name)
    fs.create_dir(directory, recursive=True)
    note_actor(order, name)
    finished = read_json(fs, f"{directory}/{RECORD}")
    if finished is not None and not order.shares_checkpoints:
        tune.report({**finished["reported"], "done": True})
        return
    note = read_json(fs, f"{directory}/{NOTE}") or {}
    run = open_run(
        order.tracked.uri, order.mlflow_experiment, f"trial {name}", note.get("mlflow_run"), order.tracked.run_id
    )
    if note.get("mlflow_run") != run.run_id:
        run.log_params(config)
        write_whole(fs, f"{directory}/{NOTE}", json.dumps({"mlflow_run": run.run_id}))
    try:
        reported = _trained(config, order, name, run)
    except UserError as error:  # it would not go better another time
        reported = {"validation_loss": math.inf, "percent": 100.0, "step": 0, "error": str(error)}
    except BaseException:
        run.finish(succeeded=False)
        raise
    kept = {key: value for key, value in reported.items() if key != "error"}
    run.log_metrics({f"result/{key}": value for key, value in kept.items() if math.isfinite(value)})
    run.finish(succeeded="error" not in reported)
    record = {"overrides": config, "reported": reported, "mlflow_run": run.run_id}
    write_whole(fs, f"{directory}/{RECORD}", json.dumps(record))
    tune.report({**reported, "done": True})  # or a scheduler might let it go on from another's checkpoint


def _trained(config: dict[str, Any], order: Order, name: str, run: TrackedRun) -> dict[str, Any]:
    """Train, report each validation to Tune, and return the last report."""
    directory = order.directory(name)
    experiment = overridden(order.experiment, config)
    start = adopted(order, name, config, run)
    queue = Queue(actor_options={"num_cpus": 0})
    reporting = ReportingRun(run.uri, run.run_id, queue)

    def train() -> dict[str, Any]:
        if order.target == "finetune":
            return finetune.train(experiment, order.run_dir, directory, reporting, start=start)[0]
        corpus = pretrain.corpus_of(experiment)
        return pretrain.fit(experiment, order.run_dir, directory, corpus, reporting, stage="pretrain", start=start)

    steps = steps_of(experiment, order)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(train)
        while not (future.done() and queue.empty()):
            try:
                point = queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if point["step"] >= steps:
                continue  # told below, when all is done: a scheduler might end the trial before that
            report({**point, "percent": 100 * point["step"] / steps}, order, name)
    told = future.result()
    loss = told["best"]["validation_loss"] if told["best"] else _last_loss(told)
    reported = {"validation_loss": loss, "step": steps, "percent": 100.0}
    if order.metric != "validation_loss":
        reported[order.metric] = _benchmark(experiment, order, directory, told["facts"]["precision"], run)
    return reported


def _last_loss(told: dict[str, Any]) -> float:
    return validations([Point(*values) for values in told["curve"]])[-1][1]


def _benchmark(experiment: Experiment, order: Order, directory: str, precision: str, run: TrackedRun) -> float:
    """pass@k of the trial's model, by the stage `evaluate` in a run directory of the trial's own."""
    own = RunDir(order.run_dir.uri + directory[len(order.run_dir.root) :])
    stage = experiment.model_stage if order.target == "finetune" else "export"
    if own.manifest(DIRECTORIES[stage]) is None:
        workspace = own.clear_workspace(DIRECTORIES[stage])
        write_model(experiment, order, directory, workspace, precision)
        own.publish(DIRECTORIES[stage], Manifest(stage, {}, {}))
    there = experiment.model_copy(
        update={
            "run_dir": own.uri,
            "tracking": experiment.tracking.model_copy(
                update={"uri": order.tracked.uri, "experiment": order.mlflow_experiment}
            ),
            "finetuning": experiment.finetuning if order.target == "finetune" else None,
        }
    )
    manifest = outside(_evaluated, there, own)
    TrackedRun(run.uri, manifest.facts["mlflow_run"]).nest(run.run_id)
    return float(manifest.metrics["pass_at_k"][order.metric]["value"])


def _evaluated(experiment: Experiment, run_dir: RunDir) -> Manifest:
    return run_stage(evaluate.STAGE, experiment, run_dir)


def outside(function: Callable[..., Result], *given: Any) -> Result:
    """Call a function in a task that has left the trial's placement group, which has no CPU for tasks and actors."""
    no_group: Any = None  # as Ray documents it; its annotation denies that
    options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0}
    options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(placement_group=no_group)
    task: Any = ray.remote(**options)(function)
    result: Result = ray.get(task.remote(*given))
    return result


def write_model(experiment: Experiment, order: Order, directory: str, target: str, precision: str) -> None:
    """Write a finished trial's model as a Hugging Face directory.

    Args:
        experiment: with the trial's values.
        order: the sweep's.
        directory: the trial's.
        target: where to, in terms of the run directory's file system.
        precision: `bf16` or `fp32`.
    """
    fs = order.run_dir.fs
    if order.target == "finetune":
        finetune.export_model(experiment, order.run_dir, directory, target, precision)
        return
    from codelm.modeling.export import export

    with tempfile.TemporaryDirectory(prefix="codelm-trial-") as name, staged(fs, target) as model:
        trained = Path(name)
        for file in ("weights.safetensors", "config.json"):  # not the checkpoints that lie beside them
            pafs.copy_files(f"{directory}/{file}", str(trained / file), source_filesystem=fs)
        export(trained, order.run_dir.local_copy("tokenizer"), precision, model)
