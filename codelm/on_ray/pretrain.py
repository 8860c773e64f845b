"""Stage `pretrain`: train a model from scratch on the packed corpus with Ray Train."""

import logging
import math
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pyarrow.fs as pafs
import ray
from ray._private.accelerators import get_accelerator_manager_for_resource

from codelm.config import Experiment
from codelm.console import say
from codelm.errors import UserError
from codelm.modeling.source import check_source
from codelm.on_ray.cluster import starts_here
from codelm.on_ray.progress import board
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.run_dir import RunDir
from codelm.tracking import TrackedRun

ACCELERATORS = {"gpu": "GPU", "tpu": "TPU"}
"""What the config calls an accelerator -> the resource of Ray that stands for it."""

NOT_PART_OF_THE_RESULT = frozenset({"log_every", "checkpoint_every", "keep_checkpoints", "max_failures"})
"""Keys of the section `training` that may change between an interruption and the rerun."""

CHECKPOINTS = "checkpoints"

START_SECONDS = 600
"""Ray gives workers 60 s to start and then starts all of them again, without end where a busy machine or a
slow disk takes longer to load torch."""


def run(context: Context) -> Outcome:
    """Train, going on from the last complete checkpoint if there is one."""
    # It loads torch, which takes seconds that the check of the other stages need not wait for.
    from codelm.on_ray.pretrain_worker import packed_corpus

    told = fit(context.experiment, context.run_dir, context.workspace, packed_corpus, context.tracked, "pretrain")
    return summed_up(context.experiment, context.run_dir.fs, context.workspace, told)


def fit(
    experiment: Experiment,
    run_dir: RunDir,
    workspace: str,
    prepare: Any,
    tracked: TrackedRun,
    stage: str,
    keep_best: bool = False,
    callbacks: Sequence[Any] = (),
    start: str | None = None,
) -> dict[str, Any]:
    """Train with Ray Train by `experiment.training`, going on from the workspace's last complete checkpoint.

    Args:
        experiment: the whole config.
        run_dir: where the inputs are.
        workspace: where the weights go, in terms of `run_dir.fs`.
        prepare: `Assignment -> Work`: what the workers train on what.
        tracked: gets the curve.
        stage: whose work it is, for the terminal.
        keep_best: write the weights with the lowest validation loss, rather than the last.
        callbacks: Ray Train's.
        start: a checkpoint to begin with where the workspace has none.

    Returns:
        What rank 0 told (`codelm.on_ray.pretrain_worker.train`).

    Raises:
        UserError: the training cannot go on, and a restart would not mend it.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    from codelm.on_ray.pretrain_worker import Assignment, train
    from codelm.training.checkpoint import latest_complete

    fs, training = run_dir.fs, experiment.training
    accelerator = resolve_accelerator(experiment)
    _tell_of_a_wait(stage, training.workers, accelerator)
    root = f"{workspace}/{CHECKPOINTS}"
    resume = latest_complete(fs, root, training.workers)
    _delete_attempts(fs, root, resume)
    make_trainer: Any = TorchTrainer  # its annotations are those of Ray Train V1
    with board(stage, "steps", training.steps) as progress:
        trainer = make_trainer(
            train,
            train_loop_config={
                "assignment": Assignment(
                    experiment, run_dir, workspace, accelerator, resume or start, prepare, keep_best
                ),
                "tracked": tracked,
                "board": progress,
            },
            scaling_config=scaling(experiment, accelerator),
            run_config=RunConfig(
                # Ray resumes a run of an equal name from a snapshot that it rewrites in place, so that a kill
                # at the wrong moment leaves half of one. A name of its own for each try leaves that out.
                name=f"attempt-{uuid.uuid4().hex}",
                storage_path=root,
                storage_filesystem=fs,
                failure_config=FailureConfig(max_failures=training.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=training.keep_checkpoints),
                callbacks=list(callbacks),
            ),
        )
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_SECONDS))
        told: dict[str, Any] = _outside_the_main_thread(trainer.fit).return_value
    if "error" in told:
        raise UserError(told["error"])
    return told


def summed_up(experiment: Experiment, fs: pafs.FileSystem, workspace: str, told: dict[str, Any]) -> Outcome:
    """Write the curve and its picture, delete the checkpoints, and return the figures."""
    from codelm.training.curve import Point, draw, to_lines, validations

    training = experiment.training
    curve = [Point(*values) for values in told["curve"]]
    entropy = told["unigram_entropy"]
    with fs.open_output_stream(f"{workspace}/curve.jsonl") as out:
        out.write(to_lines(curve).encode())
    with fs.open_output_stream(f"{workspace}/loss_curve.png") as out:
        draw(curve, entropy, out)
    fs.delete_dir(f"{workspace}/{CHECKPOINTS}")
    measured = validations(curve)
    tokens = training.steps * training.batch_size * told["sequence_length"]
    return Outcome(
        metrics={
            "parameters": told["parameters"],
            "steps": training.steps,
            "tokens": tokens,
            "epochs": round(tokens / told["training_tokens"], 4),
            "initial_validation_loss": measured[0][1],
            "validation_loss": measured[-1][1],
            "validation_perplexity": math.exp(measured[-1][1]),
            "unigram_entropy": entropy,
        },
        facts={"engine": training.engine, "workers": training.workers, **told["facts"]},
    )


def scaling(experiment: Experiment, accelerator: str) -> Any:
    """Ray Train's ScalingConfig: a process for each accelerator, or for each of Ray's CPUs."""
    from ray.train import ScalingConfig

    make: Any = ScalingConfig  # its annotations are those of Ray Train V1
    return make(
        num_workers=experiment.training.workers,
        use_gpu=accelerator == "gpu",
        use_tpu=accelerator == "tpu",
        # Ray would give a process all chips of its host; torch binds a process to one.
        resources_per_worker={"CPU": 1, "TPU": 1} if accelerator == "tpu" else None,
        accelerator_type=experiment.cluster.accelerator_type if accelerator != "cpu" else None,
        topology=experiment.cluster.tpu_topology if accelerator == "tpu" else None,
    )


def resolve_accelerator(experiment: Experiment) -> str:
    """`cpu`, `gpu` or `tpu`: what to train on. `auto` takes what the cluster has, GPUs first.

    Raises:
        UserError: the cluster has not got what the config demands.
    """
    has = ray.cluster_resources() if ray.is_initialized() else {kind: _on_this_machine(kind) for kind in ("GPU", "TPU")}
    if experiment.accelerator == "auto":
        return next((name for name, resource in ACCELERATORS.items() if has.get(resource, 0) >= 1), "cpu")
    resource = ACCELERATORS.get(experiment.accelerator)
    if resource is not None and not has.get(resource, 0):
        raise UserError(
            f"accelerator: {experiment.accelerator}, but there is no {resource} here; "
            "set accelerator: auto, or cluster.address to a cluster that has one"
        )
    return experiment.accelerator


def check(experiment: Experiment) -> None:
    """Refuse what this machine cannot do, if the training is to run on it, and what no machine can."""
    if experiment.model.pretrained is not None:
        check_source("model.pretrained", experiment.model.pretrained)
    check_resources(experiment, "training")


def check_resources(experiment: Experiment, section: str) -> None:
    """Refuse a training that the accelerator, or this machine if it is to run on it, cannot do.

    Args:
        experiment: the whole config, with the recipe in `training`.
        section: of the config that the recipe stands in, for the message.

    Raises:
        UserError: it cannot.
    """
    training = experiment.training
    if experiment.accelerator == "tpu" and training.engine == "deepspeed":
        raise UserError(f"{section}.engine: deepspeed does not run on TPUs; set {section}.engine: torch")
    slice_known = experiment.cluster.tpu_topology and experiment.cluster.accelerator_type
    if experiment.accelerator == "tpu" and training.workers > 1 and not slice_known:
        raise UserError(
            f"{section}.workers: {training.workers} on tpu need cluster.tpu_topology and cluster.accelerator_type, "
            "such as 4x4 and TPU-V6E"
        )
    if not starts_here(experiment.cluster):
        return
    accelerator = resolve_accelerator(experiment)
    resource = ACCELERATORS.get(accelerator, "CPU")
    has = int(ray.cluster_resources().get(resource, 0)) if ray.is_initialized() else _started_here(experiment, resource)
    if training.workers > has:
        raise UserError(
            f"{section}.workers: {training.workers} on {accelerator}, but there are {has} {resource}s here; lower it"
        )


def _started_here(experiment: Experiment, resource: str) -> int:
    """How many of a resource a cluster has that is started on this machine for the experiment."""
    if resource == "CPU":
        return experiment.cluster.num_cpus or os.cpu_count() or 1
    return _on_this_machine(resource)


def _on_this_machine(resource: str) -> int:
    """How many accelerators Ray will find when it starts here."""
    manager = get_accelerator_manager_for_resource(resource)
    return manager.get_current_node_num_accelerators() if manager is not None else 0


def _tell_of_a_wait(stage: str, workers: int, accelerator: str) -> None:
    """Say so where the cluster has too little now: it may grow, and Ray Train waits without a word."""
    resource = ACCELERATORS.get(accelerator, "CPU")
    has = int(ray.cluster_resources().get(resource, 0))
    if has < workers:
        say(stage, f"waiting for {workers} {resource}s; the cluster has {has}")


def _delete_attempts(fs: pafs.FileSystem, root: str, resume: str | None) -> None:
    """Delete what earlier tries have left, but the try that holds the checkpoint to go on from."""
    for info in fs.get_file_info(pafs.FileSelector(root, allow_not_found=True)):
        if info.type == pafs.FileType.Directory and not (resume or "").startswith(f"{info.path}/"):
            fs.delete_dir(info.path)


def _outside_the_main_thread(call: Callable[[], Any]) -> Any:
    """Call, and return or raise what it does. In the main thread Ray Train takes Ctrl-C over, for good."""
    outcome: Future[Any] = Future()

    def run_it() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            outcome.set_exception(error)

    threading.Thread(target=run_it, name="pretrain", daemon=True).start()
    return outcome.result()


STAGE = Stage(
    name="pretrain",
    inputs=("pack", "tokenizer"),
    config=lambda experiment: {
        "seed": experiment.seed,
        "accelerator": experiment.accelerator,
        "sequence_length": experiment.data.sequence_length,
        "isolate_documents": experiment.data.isolate_documents,
        "model": experiment.model.model_dump(mode="json"),
        "training": experiment.training.model_dump(mode="json", exclude=set(NOT_PART_OF_THE_RESULT)),
    },
    run=run,
    check=check,
    continues=True,
)
