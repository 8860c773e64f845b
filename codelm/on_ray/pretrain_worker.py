"""What each worker of Ray Train does in the stage `pretrain`."""

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint
from ray.train.torch import get_device
from transformers import PreTrainedModel

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.modeling.build import count_parameters
from codelm.modeling.pretrained import initial_model
from codelm.on_ray.best_weights import BestWeights, write_weights
from codelm.run_dir import RunDir
from codelm.training.checkpoint import Progress, read_progress, seal, step_name, write_progress
from codelm.training.curve import validations
from codelm.training.data import PackedData, open_packed
from codelm.training.engine import Engine, make_engine
from codelm.training.loop import Loop
from codelm.training.objective import Objective, objective_of
from codelm.training.precision import resolve_precision


@dataclass(frozen=True)
class Work:
    """What is trained on what.

    Attributes:
        model: equal on all workers.
        train, valid: the two splits.
        objective: the loss.
    """

    model: PreTrainedModel
    train: PackedData
    valid: PackedData
    objective: Objective


@dataclass(frozen=True)
class Assignment:
    """The same for all workers.

    Attributes:
        experiment: the whole config.
        run_dir: where the inputs are.
        workspace: where the result goes, in terms of `run_dir.fs`.
        accelerator: cpu, gpu or tpu.
        resume: the checkpoint of an earlier, interrupted try to start from, in terms of `run_dir.fs`.
        prepare: what is trained on what.
        keep_best: the weights with the lowest validation loss are the result, rather than the last.
    """

    experiment: Experiment
    run_dir: RunDir
    workspace: str
    accelerator: str
    resume: str | None
    prepare: Callable[["Assignment"], Work]
    keep_best: bool


def packed_corpus(assignment: Assignment) -> Work:
    """The model of the config, and the packed corpus."""
    experiment = assignment.experiment
    packed = assignment.run_dir.local_copy("packed")
    train_data, valid_data = open_packed(packed / "train"), open_packed(packed / "valid")
    info = train_data.info
    model = initial_model(
        experiment.model,
        max(experiment.tokenizer.vocab_size, info["vocab_size"]),
        info["eos_id"],
        info["pad_id"],
        info["sequence_length"],
        experiment.seed,
    )
    return Work(model, train_data, valid_data, objective_of(info, experiment.data.isolate_documents))


def train(loop_config: dict[str, Any]) -> dict[str, Any]:
    """Train as one of the workers. What rank 0 returns reaches the driver.

    Args:
        loop_config: `assignment`, `tracked` (a TrackedRun) and `board` (a handle of a progress Board).

    Returns:
        The curve and figures; or only `error`, for what a restart would not mend.
    """
    try:
        return _train(loop_config["assignment"], loop_config["tracked"], loop_config["board"])
    except UserError as error:
        return {"error": str(error)}


def _train(assignment: Assignment, tracked: Any, board: Any) -> dict[str, Any]:
    experiment = assignment.experiment
    training = experiment.training
    context = ray.train.get_context()
    threads = max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size())
    torch.set_num_threads(threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)

    device = torch.device("cpu") if assignment.accelerator == "cpu" else get_device()
    precision = resolve_precision(training.precision, device.type)
    work = assignment.prepare(assignment)
    config = work.model.config
    parameters = count_parameters(config)
    fs = assignment.run_dir.fs
    trained = frozenset(name for name, parameter in work.model.named_parameters() if parameter.requires_grad)
    best = BestWeights(fs, assignment.workspace, config, trained) if assignment.keep_best else None
    engine = make_engine(work.model, training, precision, device, work.objective)
    progress = _restore(engine, assignment)
    leads = engine.rank == 0

    def report(step: int, metrics: dict[str, float]) -> None:
        if best is not None and "validation_loss" in metrics:
            best.offer(engine, step, metrics["validation_loss"])
        if not leads:
            return
        tracked.log_metrics(metrics, step)
        if "train_loss" in metrics:
            board.post.remote(step, f"loss {metrics['train_loss']:.2f}  {metrics['tokens_per_second']:,.0f} tokens/s")
        if "validation_loss" in metrics:
            board.line.remote(f"step {step:,}: validation loss {metrics['validation_loss']:.3f}")

    if leads:
        where = (
            f"{engine.workers} workers on {device.type}, {threads} threads each"
            if device.type == "cpu"
            else (f"{engine.workers} workers on {device.type}")
        )
        board.line.remote(f"{parameters:,} parameters, {training.engine}, {precision}, {where}")
        if progress.curve:
            board.line.remote(f"going on from step {progress.step:,}")
    loop = Loop(engine, work.train, work.valid, training, experiment.seed, report, lambda done: _save(engine, done))
    loop.run(progress)
    if best is None:
        write_weights(engine, config, fs, assignment.workspace, None)
    return {
        "curve": [astuple(point) for point in progress.curve],
        "parameters": parameters,
        "sequence_length": work.train.info["sequence_length"],
        "training_tokens": work.train.info["tokens"],
        "unigram_entropy": work.valid.info["unigram_entropy"],
        "best": None if best is None else best.found,
        "facts": {
            "tokens_per_second": round(loop.tokens_per_second, 1),
            "precision": precision,
            "device": device.type,
            "threads": threads,
        },
    }


def _restore(engine: Engine, assignment: Assignment) -> Progress:
    """Load the last checkpoint: of this try, after a lost worker, or else of an earlier one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None and assignment.resume is not None:
        checkpoint = Checkpoint(assignment.resume, filesystem=assignment.run_dir.fs)
    if checkpoint is None:
        return Progress()
    with checkpoint.as_directory() as directory:
        engine.load(Path(directory))
        progress = read_progress(Path(directory))
        dist.barrier()  # workers on one machine share a downloaded copy, and the first to leave deletes it
    return progress


def _save(engine: Engine, progress: Progress) -> None:
    """Write a checkpoint together with the other workers; returns when all parts are in storage."""
    with tempfile.TemporaryDirectory(prefix="codelm-checkpoint-") as name:
        directory = Path(name)
        engine.save(directory)
        if engine.rank == 0:
            write_progress(directory, progress)
        seal(directory, engine.rank, engine.workers)
        ray.train.report(
            {"step": progress.step, **_last_validation(progress)},
            checkpoint=Checkpoint.from_directory(name),
            checkpoint_dir_name=step_name(progress.step),
        )


def _last_validation(progress: Progress) -> dict[str, float]:
    measured = validations(progress.curve)
    return {"validation_loss": measured[-1][1]} if measured else {}
