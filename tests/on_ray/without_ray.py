"""The stage `pretrain` without Ray: by two plain processes, which is what it has to come to, or by one for a while."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from codelm.config import Experiment
from codelm.on_ray.assignment import CHECKPOINTS, Assignment
from codelm.on_ray.stage import Context, Outcome
from codelm.run_dir import RunDir
from codelm.training.checkpoint import Progress, step_name, write_part
from codelm.training.engine import Engine, make_engine, snapshot
from codelm.training.loop import Loop, Report, Save

WORKERS = 2
INTERRUPTED_AT = 10


def trained(experiment: Experiment, root: Path) -> dict[str, Any]:
    """`curve`, `samples` (their hash) and `weights` of an uninterrupted training by two processes."""
    multiprocessing.spawn(_work, (experiment, root), nprocs=WORKERS)
    result: dict[str, Any] = torch.load(root / "trained.pt", weights_only=False)
    return result


def interrupted(context: Context) -> Outcome:
    """As `Stage.run`: one process of plain torch, with its checkpoints, until someone presses Ctrl-C."""
    engine, train = _prepared(context.experiment, {"engine": "torch", "workers": 1})

    def report(step: int, metrics: dict[str, float]) -> None:
        if step == INTERRUPTED_AT:
            raise KeyboardInterrupt

    def save(progress: Progress) -> None:
        path = f"{context.workspace}/{CHECKPOINTS}/attempt-alone/{step_name(progress.step)}"
        write_part(context.run_dir.fs, path, 0, 1, snapshot(engine), progress)

    train(report, save)
    raise AssertionError("it was not interrupted")


def _work(rank: int, experiment: Experiment, root: Path) -> None:
    os.environ.update(LOCAL_RANK=str(rank))  # DeepSpeed asks for it; Ray Train sets it
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // WORKERS))
    dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=WORKERS)
    engine, train = _prepared(experiment, {})
    progress = train(lambda step, metrics: None, lambda progress: None)
    weights = engine.weights()
    if rank == 0:
        result = {"curve": progress.curve, "samples": progress.samples, "weights": weights}
        torch.save(result, root / "trained.pt")
    dist.destroy_process_group()


def _prepared(experiment: Experiment, changes: dict[str, Any]) -> tuple[Engine, Any]:
    """The engine, and what trains it from the start, called with `report` and `save`."""
    from codelm.on_ray.pretrain_worker import packed_corpus

    training = experiment.training.model_copy(update=changes)
    work = packed_corpus(Assignment(experiment, RunDir(experiment.run_dir), "", "cpu", None, "", False, 0.0))
    engine = make_engine(work.model, training, "fp32", torch.device("cpu"), work.objective)

    def train(report: Report, save: Save) -> Progress:
        progress = Progress()
        Loop(engine, work.train, work.valid, training, experiment.seed, report, save).run(progress)
        return progress

    return engine, train
