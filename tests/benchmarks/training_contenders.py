"""What `bench_training` compares: each contender is one process or two, and trains a segment when it is its turn.

All train the same model on the same batches with the same clipping and AdamW: a bare torch loop, ours on the torch
engine and on DeepSpeed ZeRO-1, without Ray and by the stage `pretrain` on Ray Train, Hugging Face `Trainer`, and the
accelerate loop that CodeParrot's article describes (`Accelerator`, AdamW, cosine schedule, the model's own loss).
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from codelm.config import Experiment, Model, Training
from codelm.modeling.build import build_model, model_config
from codelm.on_ray.assignment import Assignment
from codelm.training.checkpoint import Progress
from codelm.training.curve import Point
from codelm.training.data import PackedData
from codelm.training.engine import make_engine
from codelm.training.loop import Loop
from codelm.training.objective import Objective
from codelm.training.order import Integers
from codelm.training.precision import resolve_precision

VOCABULARY, LENGTH, BATCH = 8192, 512, 8
SHAPE = {"hidden_size": 256, "layers": 6, "heads": 8, "kv_heads": 2, "intermediate_size": 688, "max_positions": LENGTH}
STEPS = 1
"""Steps in a segment: a second or two."""

OBJECTIVE = Objective(eos_id=0, pad_id=4, isolate=False, predicted=LENGTH - 1)
ADDRESS, NAME, COMPILED = "BENCH_ADDRESS", "BENCH_NAME", "BENCH_COMPILED"
"""Variables of the contenders' environment."""


def recipe(engine: str, workers: int, segments: int) -> Training:
    """As long as the benchmark, and one step more: its beginning tells the end of the last segment."""
    steps = segments * STEPS + 1
    every = {"log_every": STEPS, "validate_every": steps, "checkpoint_every": steps, "validation_sequences": 1}
    return Training.model_validate(
        {"engine": engine, "workers": workers, "steps": steps, "warmup_steps": 0, "max_failures": 0, **every}
        | {"batch_size": BATCH, "micro_batch_size": BATCH // workers, "compile": COMPILED in os.environ}
    )


def data() -> PackedData:
    """Random tokens: how fast they are trained on does not depend on them."""
    tokens = np.random.default_rng(0).integers(8, VOCABULARY, (4096, LENGTH)).astype("<u2")
    facts = {"sequence_length": LENGTH, "tokens": tokens.size, "unigram_entropy": 0.0}
    return PackedData(tokens, facts)


@cache
def model() -> Any:
    return build_model(model_config(Model.model_validate(SHAPE), VOCABULARY), seed=0)


def bf16() -> bool:
    return resolve_precision("auto", "cpu") == "bf16"


class Turns:
    """A contender's side of the line to the benchmark: it is told when to train, and tells how long that took."""

    def __init__(self, rank: int) -> None:
        self._line: Connection = Client(os.environ[ADDRESS])
        self._line.send((os.environ[NAME], rank))
        self._began: float | None = None

    def next(self) -> None:
        """End a segment, and wait for the next one."""
        self._line.send(None if self._began is None else time.perf_counter() - self._began)
        self._line.recv()
        self._began = time.perf_counter()


@dataclass(frozen=True)
class Paced:
    """Our data, and our samples: `take` waits for the contender's turn. See `codelm.training.data`."""

    packed: PackedData
    turns: Turns

    @property
    def info(self) -> dict[str, Any]:
        return self.packed.info

    @property
    def length(self) -> int:
        return LENGTH

    def samples(self, seed: int) -> "Paced":
        return self

    def take(self, cursor: int, batch: int, mine: Integers) -> Tensor:
        if cursor // batch % STEPS == 0:
            self.turns.next()
        return self.packed.samples(0).take(cursor, batch, mine)

    def numbers(self, cursor: int, batch: int) -> Integers:
        return self.packed.samples(0).numbers(cursor, batch)

    def position(self) -> list[int]:
        return []

    def seek(self, position: list[int]) -> None:
        """Always from the start."""


def ours(engine: str, rank: int, workers: int, segments: int) -> None:
    training, packed = recipe(engine, workers, segments), data()
    precision = resolve_precision("auto", "cpu")
    made = make_engine(model(), training, precision, torch.device("cpu"), OBJECTIVE)
    paced = Paced(packed, Turns(rank))
    loop = Loop(made, paced, packed, training, 0, lambda step, metrics: None, lambda progress: None)
    loop.run(Progress(curve=[Point(0)]))


def paced_corpus(assignment: Assignment) -> Any:
    """What workers of Ray Train prepare in place of the packed corpus."""
    from codelm.on_ray.pretrain_worker import Work

    packed = data()
    return Work(model(), Paced(packed, Turns(dist.get_rank())), packed, OBJECTIVE)


def on_ray(engine: str, root: str, workers: int, segments: int) -> None:
    """The stage `pretrain`, with all that it reports and tracks, in a cluster of its own as commands start it."""
    from codelm import config
    from codelm.on_ray import cluster, pretrain
    from codelm.run_dir import RunDir
    from codelm.tracking import open_run

    place = Path(root, engine)
    experiment: Experiment = config.parse(
        {
            "name": "bench",
            "run_dir": str(place),
            "accelerator": "cpu",
            "cluster": {"num_cpus": workers},
            "corpus": {"sources": [root]},
            "tokenizer": {"vocab_size": VOCABULARY},
            "data": {"sequence_length": LENGTH},
            "model": SHAPE,
            "training": recipe(engine, workers, segments).model_dump(exclude={"preset"}),
        },
        "the benchmark's",
    )
    run_dir = RunDir(str(place))
    workspace = run_dir.workspace("pretrain")
    tracked = open_run(f"sqlite:///{place}/mlflow.db", "bench", "pretrain", None)
    with cluster.connected(experiment.cluster):
        pretrain.fit(experiment, run_dir, workspace, f"{__name__}:paced_corpus", tracked, "pretrain")


def by_hand(step: Callable[[Tensor], None], rank: int, workers: int, segments: int) -> None:
    """Call a step with this worker's sequences, as often as the others take one."""
    packed, turns = data(), Turns(rank)
    for number in range(segments * STEPS + 1):
        if number % STEPS == 0:
            turns.next()
        rows = np.arange(number * BATCH, (number + 1) * BATCH)[rank::workers]
        step(packed.batch(rows % len(packed)))


def bare(rank: int, workers: int, segments: int) -> None:
    replica: nn.Module = model().train()
    optimizer = torch.optim.AdamW(replica.parameters(), lr=5e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    if workers > 1:
        replica = nn.parallel.DistributedDataParallel(replica, gradient_as_bucket_view=True)
    if COMPILED in os.environ:
        replica.compile()

    def step(tokens: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
            logits = replica(input_ids=tokens, use_cache=False).logits
            labels = functional.pad(tokens[:, 1:], (0, 1), value=-100)
            loss = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(replica.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    by_hand(step, rank, workers, segments)


def accelerated(rank: int, workers: int, segments: int) -> None:
    from accelerate import Accelerator
    from transformers import get_scheduler

    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if bf16() else "no")
    trained: Any = model()
    plain = [value for value in trained.parameters() if value.ndim < 2]
    matrices = [value for value in trained.parameters() if value.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4)
    trained, optimizer = accelerator.prepare(trained, optimizer)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=10_000)
    if COMPILED in os.environ:
        trained.compile()
    trained.train()

    def step(tokens: Tensor) -> None:
        loss = trained(tokens, labels=tokens, use_cache=False).loss
        accelerator.gather(loss.repeat(BATCH // workers))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    by_hand(step, rank, workers, segments)


def trainer(rank: int, workers: int, segments: int, scratch: str) -> None:
    """Hugging Face's, with the settings that are fastest on a CPU: fused AdamW, no logging, no saving."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    turns = Turns(rank)

    class Waits(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step % STEPS == 0:
                turns.next()

    rows = [{"input_ids": row, "labels": row} for row in data().batch(np.arange(4096))]
    arguments = TrainingArguments(
        scratch,
        per_device_train_batch_size=BATCH // workers,
        max_steps=segments * STEPS + 1,
        learning_rate=5e-4,
        weight_decay=0.1,
        optim="adamw_torch_fused",
        lr_scheduler_type="cosine",
        bf16=bf16(),
        torch_compile=COMPILED in os.environ,
        use_cpu=True,
        ddp_backend="gloo" if workers > 1 else None,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(model(), arguments, train_dataset=rows, callbacks=[Waits()]).train()  # type: ignore[arg-type]


def contend(name: str, rank: int, workers: int, segments: int, scratch: str) -> None:
    """Train as one process of a contender.

    Args:
        name: a key of `bench_training.CONTENDERS`.
        rank, workers: of its processes.
        segments: how often it will have its turn.
        scratch: a directory of the contender's own.
    """
    if name.endswith("Ray"):
        on_ray("deepspeed" if "DeepSpeed" in name else "torch", scratch, workers, segments)
        return
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // workers))
    if name.startswith("codelm, DeepSpeed") or workers > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
        if not name.startswith(("Hugging Face", "accelerate")):  # these make their own
            dist.init_process_group("gloo", init_method=f"file://{scratch}/meet", rank=rank, world_size=workers)
    if name.startswith("codelm"):
        ours("deepspeed" if "DeepSpeed" in name else "torch", rank, workers, segments)
    elif name.startswith("bare"):
        bare(rank, workers, segments)
    elif name.startswith("Hugging Face"):
        trainer(rank, workers, segments, scratch)
    else:
        accelerated(rank, workers, segments)
