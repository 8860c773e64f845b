"""What a worker process of the engine tests does: train with several engines in turn, and leave what came of it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pyarrow.fs import LocalFileSystem

from codelm.config import Model, Training
from codelm.modeling.build import build_model, model_config
from codelm.training.checkpoint import Progress, open_state, read_progress, write_part
from codelm.training.data import open_packed
from codelm.training.engine import make_engine, snapshot
from codelm.training.loop import Loop
from codelm.training.objective import objective_of
from codelm.training.precision import Precision

SHAPE = Model(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64, max_positions=32)
VOCAB_SIZE = 64
RECIPE: dict[str, Any] = {
    "steps": 50,
    "batch_size": 8,
    "micro_batch_size": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 5,
    "log_every": 7,
    "validate_every": 25,
    "validation_sequences": 9,
    "checkpoint_every": 45,
}


def run_engine(
    training: Training, data: Path, checkpoints: Path, resume: Path | None = None, precision: Precision = "fp32"
) -> dict[str, Any]:
    """Train; the curve, the gradient norms and the final weights. Checkpoints go to `checkpoints/<step>`."""
    model = build_model(model_config(SHAPE, VOCAB_SIZE), seed=3)
    train, valid = open_packed(data / "train"), open_packed(data / "valid")
    engine = make_engine(model, training, precision, torch.device("cpu"), objective_of(train.info, isolate=False))
    norms: dict[int, float] = {}

    def report(step: int, metrics: Mapping[str, float]) -> None:
        norms[step] = metrics.get("gradient_norm", 0.0)

    def save(progress: Progress) -> None:
        path = str(checkpoints / str(progress.step))
        write_part(LocalFileSystem(), path, engine.rank, engine.workers, snapshot(engine), progress)
        if dist.is_initialized():
            dist.barrier()

    progress = Progress()
    if resume is not None:
        engine.load(open_state(resume))
        progress = read_progress(resume)
    loop = Loop(engine, train, valid, training, 11, report, save)
    loop.run(progress)
    return {
        "curve": progress.curve,
        "norms": norms,
        "samples": progress.samples,
        "workers": progress.workers,
        "weights": engine.weights(),
    }


def work(
    rank: int, workers: int, root: Path, data: Path, engines: dict[str, tuple[Training, Precision]], started: Path
) -> None:
    """Train with each engine from the start, and again from its first checkpoint; those of 50 steps also from the
    checkpoint `started`, which one process has left.

    Rank 0 leaves `<root>/<name>.pt`, `<root>/<name>-resumed.pt` and `<root>/<name>-from-one.pt`.
    """
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank))  # DeepSpeed asks for it; Ray Train sets it
    os.environ.update(PATH="/nowhere", CC="", CXX="")  # no engine needs a compiler
    assert shutil.which("g++") is shutil.which("c++") is shutil.which("ninja") is None
    dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=workers)
    for name, (training, precision) in engines.items():
        checkpoints, unused = root / name, root / "unused"
        whole = run_engine(training, data, checkpoints, precision=precision)
        again = run_engine(training, data, unused, checkpoints / str(training.checkpoint_every), precision)
        results = {name: whole, f"{name}-resumed": again}
        if training.steps == RECIPE["steps"]:
            results[f"{name}-from-one"] = run_engine(training, data, unused, started, precision)
        if rank == 0:
            for place, result in results.items():
                torch.save(result, root / f"{place}.pt")
    dist.destroy_process_group()
