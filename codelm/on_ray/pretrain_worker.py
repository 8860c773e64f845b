"""What each worker of Ray Train does in the stage `pretrain`."""

import os
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pkgutil import resolve_name
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device
from transformers import PreTrainedModel

from codelm.config import Experiment
from codelm.modeling.build import count_parameters
from codelm.modeling.pretrained import initial_model
from codelm.modeling.quiet import quiet_transformers
from codelm.on_ray.assignment import CHECKPOINTS, Assignment
from codelm.on_ray.best_weights import BestWeights, write_weights
from codelm.on_ray.checkpointing import Saver, restore
from codelm.on_ray.meter import Meter, live_line
from codelm.on_ray.metrics import export_training
from codelm.on_ray.stopwatch import Stopwatch
from codelm.tracking import MetricsThread, TrackedRun
from codelm.training.curve import validations
from codelm.training.data import PackedData, open_packed
from codelm.training.engine import make_engine
from codelm.training.loop import Loop, TrainingData
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
    train: TrainingData
    valid: PackedData
    objective: Objective


def packed_corpus(assignment: Assignment) -> Work:
    """The model of the config, and the packed corpus."""
    experiment = assignment.experiment
    packed = assignment.run_dir.local_copy("packed")
    train_data, valid_data = open_packed(packed / "train"), open_packed(packed / "valid")
    info = train_data.info
    model = _model(experiment, info)
    return Work(model, train_data, valid_data, objective_of(info, experiment.data.isolate_documents))


def streamed_corpus(assignment: Assignment) -> Work:
    """The model of the config, and the corpus as a stream of sequences."""
    from codelm.on_ray.streaming import Stream

    experiment = assignment.experiment
    data = experiment.data
    valid = open_packed(assignment.run_dir.local_copy("packed") / "valid")
    info = valid.info | {"tokens": 0}
    model = _model(experiment, info)
    device = torch.device("cpu") if assignment.accelerator == "cpu" else get_device()
    stream = Stream(experiment, assignment.run_dir, info, device)
    # How many tokens a sequence will have to predict is not known before; best fit leaves next to none out.
    objective = Objective(info["eos_id"], info["pad_id"], data.isolate_documents, data.sequence_length - 1)
    return Work(model, stream, valid, objective)


def _model(experiment: Experiment, info: dict[str, Any]) -> PreTrainedModel:
    """The model to start from, for the tokens of a split."""
    vocab_size, length = max(experiment.tokenizer.vocab_size, info["vocab_size"]), info["sequence_length"]
    return initial_model(experiment.model, vocab_size, info["eos_id"], info["pad_id"], length, experiment.seed)


def train(assignment: Assignment, tracked: TrackedRun, board: Any, watch: Stopwatch) -> dict[str, Any]:
    """Train as one of the workers.

    Args:
        assignment: what.
        tracked: gets the metrics.
        board: a handle of a progress `Board`.
        watch: of the start.

    Returns:
        The curve and figures; only those of rank 0 are used.

    Raises:
        UserError: what a restart would not mend.
    """
    experiment = assignment.experiment
    training = experiment.training
    context = ray.train.get_context()
    threads = max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size())
    torch.set_num_threads(threads)
    quiet_transformers()

    device = torch.device("cpu") if assignment.accelerator == "cpu" else get_device()
    precision = resolve_precision(training.precision, device.type)
    prepare: Callable[[Assignment], Work] = resolve_name(assignment.prepare)
    work = prepare(assignment)
    config = work.model.config
    parameters = count_parameters(config)
    fs = assignment.run_dir.fs
    trained = frozenset(name for name, parameter in work.model.named_parameters() if parameter.requires_grad)
    best = BestWeights(fs, assignment.workspace, config, trained) if assignment.keep_best else None
    watch.lap("model")
    engine = make_engine(work.model, training, precision, device, work.objective)
    leads = engine.rank == 0
    root = f"{assignment.workspace}/{CHECKPOINTS}"
    progress = restore(engine, fs, root, assignment.start, lambda text: ray.get(board.line.remote(text)))
    watch.lap("engine")
    metrics_thread = MetricsThread(tracked)
    saver = Saver(engine, metrics_thread.drain)
    meter = Meter(engine, device, precision, parameters, config, work.train.info["sequence_length"], experiment)

    def report(step: int, metrics: dict[str, float]) -> None:
        if best is not None and "validation_loss" in metrics:
            best.offer(engine, step, metrics["validation_loss"])
        if not leads:
            return
        metrics = metrics | meter.read(metrics)
        metrics_thread.log_metrics(metrics, step)
        export_training(experiment.name, step, metrics)
        if "train_loss" in metrics:
            board.post.remote(step, live_line(metrics))
        if "validation_loss" in metrics:
            board.line.remote(
                f"step {step:,}: validation loss {metrics['validation_loss']:.3f}, "
                f"perplexity {metrics['validation_perplexity']:,.1f}"
            )

    if leads:
        where = (
            f"{engine.workers} workers on {device.type}, {threads} threads each"
            if device.type == "cpu"
            else (f"{engine.workers} workers on {device.type}")
        )
        board.line.remote(f"{parameters:,} parameters, {training.engine}, {precision}, {where}")
        if progress.curve:
            board.line.remote(f"going on from step {progress.step:,}")
    loop = Loop(engine, work.train, work.valid, training, experiment.seed, report, saver.save)
    try:
        loop.run(progress)
    finally:
        saver.wait()
    if best is None:
        write_weights(engine, config, fs, assignment.workspace, None)
    elif best.found is None:  # nothing was left to train after the checkpoint that it began with
        best.offer(engine, *validations(progress.curve)[-1])
    if leads:
        metrics_thread.drain()
    if loop.first_step_at is not None:
        watch.lap("first_step", loop.first_step_at)
    return {
        "curve": [astuple(point) for point in progress.curve],
        "parameters": parameters,
        "sequence_length": work.train.info["sequence_length"],
        "training_tokens": work.train.info["tokens"],
        "unigram_entropy": work.valid.info["unigram_entropy"],
        "samples_sha256": progress.samples,
        "best": None if best is None else best.found,
        "facts": {
            "workers": engine.workers,
            "workers_from_step": {str(step): workers for step, workers in progress.workers},
            "tokens_per_second": round(loop.tokens_per_second, 1),
            **meter.facts(loop.tokens_per_second),
            "checkpoint_wait_share": round(loop.checkpoint_wait_share, 5),
            "start_seconds": watch.laps,
            "precision": precision,
            "device": device.type,
            "threads": threads,
        },
    }
