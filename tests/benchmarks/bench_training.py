"""Tokens/s of training, ours beside peers, in turn on the same work: `python -m tests.benchmarks.bench_training [ray]`.

Without an argument, in one process with all cores: a bare torch loop, our loop on the torch engine and on DeepSpeed
ZeRO-1, Hugging Face `Trainer`, and the accelerate loop that CodeParrot's article describes (`Accelerator`, AdamW,
cosine schedule, clipping, the model's own loss). Same model, batches and precision for all. With `ray`, two workers of
the torch engine, on Ray Train and as plain processes.

Float32 where the processor has no bf16 arithmetic. The rates are medians of rounds, in which all take their turn.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from codelm.config import Model, Training
from codelm.modeling.build import build_model, count_parameters, model_config
from codelm.training.checkpoint import Progress
from codelm.training.curve import Point
from codelm.training.data import PackedData
from codelm.training.engine import make_engine
from codelm.training.loop import Loop
from codelm.training.objective import Objective
from codelm.training.precision import resolve_precision
from codelm.training.throughput import flops_per_token, peak_flops

VOCABULARY, LENGTH, BATCH = 8192, 512, 8
SHAPE = Model(hidden_size=256, layers=6, heads=8, kv_heads=2, intermediate_size=688, max_positions=LENGTH)
STEPS, ROUNDS = 4, 3
RECIPE: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": BATCH,
    "micro_batch_size": BATCH,
    "warmup_steps": 0,
    "log_every": STEPS,
    "validate_every": STEPS,
    "checkpoint_every": STEPS,
    "validation_sequences": 1,
}
Steps = Callable[[], float]


def data() -> PackedData:
    """Random tokens: how fast they are trained on does not depend on them."""
    tokens = np.random.default_rng(0).integers(8, VOCABULARY, (64, LENGTH)).astype("<u2")
    return PackedData(tokens, {})


def model() -> Any:
    return build_model(model_config(SHAPE, VOCABULARY), seed=0)


def ours(training: Training, precision: Any, workers: int = 1) -> Steps:
    packed = data()
    objective = Objective(eos_id=0, pad_id=4, isolate=False, predicted=LENGTH - 1)
    engine = make_engine(model(), training, precision, torch.device("cpu"), objective)

    def steps() -> float:
        loop = Loop(engine, packed, packed, training, 0, lambda step, metrics: None, lambda progress: None)
        loop.run(Progress(curve=[Point(0)]))
        return loop.tokens_per_second

    return steps


def bare(bf16: bool) -> Steps:
    trained, packed = model().train(), data()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=5e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(tokens: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = trained(input_ids=tokens, use_cache=False).logits
            labels = functional.pad(tokens[:, 1:], (0, 1), value=-100)
            loss = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    def steps() -> float:
        started = time.perf_counter()
        for number in range(STEPS):
            step(packed.batch(np.arange(number * BATCH, (number + 1) * BATCH) % len(packed)))
        return STEPS * BATCH * LENGTH / (time.perf_counter() - started)

    return steps


def trainer(bf16: bool, scratch: str) -> Steps:
    """Hugging Face's, with the settings that are fastest on a CPU: fused AdamW, no logging, no saving."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        started = ended = 0.0

        def on_step_begin(self, *arguments: Any, **named: Any) -> None:
            self.started = self.started or time.perf_counter()

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            self.ended = time.perf_counter()

    rows = [{"input_ids": row, "labels": row} for row in data().batch(np.arange(64))]
    trained = model()

    def steps() -> float:
        clock = Clock()
        arguments = TrainingArguments(
            scratch,
            per_device_train_batch_size=BATCH,
            max_steps=STEPS,
            learning_rate=5e-4,
            weight_decay=0.1,
            optim="adamw_torch_fused",
            lr_scheduler_type="cosine",
            bf16=bf16,
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(trained, arguments, train_dataset=rows, callbacks=[clock]).train()  # type: ignore[arg-type]
        return STEPS * BATCH * LENGTH / (clock.ended - clock.started)

    return steps


def accelerated(bf16: bool) -> Steps:
    """CodeParrot's training script, as its article describes it."""
    from accelerate import Accelerator
    from transformers import get_scheduler

    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if bf16 else "no")
    trained = model()
    plain = [value for value in trained.parameters() if value.ndim < 2]
    matrices = [value for value in trained.parameters() if value.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4)
    rows: Any = list(data().batch(np.arange(64)))
    loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True)
    trained, optimizer, loader = accelerator.prepare(trained, optimizer, loader)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=10_000)

    def steps() -> float:
        trained.train()
        started = time.perf_counter()
        batches = iter(loader)
        for _ in range(STEPS):
            batch = next(batches)
            loss = trained(batch, labels=batch, use_cache=False).loss
            accelerator.gather(loss.repeat(BATCH))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return STEPS * BATCH * LENGTH / (time.perf_counter() - started)

    return steps


def compare(contenders: dict[str, Steps]) -> dict[str, float]:
    """The median rate of each over rounds, after one round to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(ROUNDS + 1):
        for name, steps in contenders.items():
            rate = steps()
            if number:
                rates[name].append(rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def one_process() -> None:
    precision = resolve_precision("auto", "cpu")
    bf16 = precision == "bf16"
    with tempfile.TemporaryDirectory() as scratch:
        contenders = {
            "bare torch loop": bare(bf16),
            "codelm, torch engine": ours(Training(engine="torch", **RECIPE), precision),
            "Hugging Face Trainer": trainer(bf16, scratch),
            "accelerate loop (CodeParrot's)": accelerated(bf16),
        }
        dist.init_process_group("gloo", init_method=f"file://{scratch}/meet", rank=0, world_size=1)
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed asks for it; for accelerate it would mean something else
        contenders["codelm, DeepSpeed ZeRO-1"] = ours(Training(engine="deepspeed", zero_stage=1, **RECIPE), precision)
        del os.environ["LOCAL_RANK"]
        rates = compare(contenders)
        dist.destroy_process_group()
    shape = model_config(SHAPE, VOCABULARY)
    flops = flops_per_token(count_parameters(shape), SHAPE.layers, SHAPE.hidden_size, LENGTH)
    peak, _ = peak_flops(torch.device("cpu"), precision)
    base = rates["bare torch loop"]
    print(
        f"{count_parameters(shape):,} parameters, {BATCH} x {LENGTH} tokens, {precision}, {peak:.3g} FLOP/s by matmul"
    )
    for name, rate in rates.items():
        print(f"{name:32s} {rate:8,.0f} tokens/s  {rate / base:6.1%} of bare  mfu {rate * flops / peak:6.1%}")
    for name in ("Hugging Face Trainer", "accelerate loop (CodeParrot's)"):
        print(f"codelm, torch engine / {name}: {rates['codelm, torch engine'] / rates[name]:.3f}")


def on_two_workers(rank: int, place: str) -> None:
    """One of two workers without Ray."""
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    rate = rates_of_two()
    if rank == 0:
        Path(place, "rate.json").write_text(json.dumps(rate))
    dist.destroy_process_group()


def rates_of_two() -> list[float]:
    steps = ours(Training(engine="torch", **{**RECIPE, "micro_batch_size": BATCH // 2, "workers": 2}), "fp32")
    return [steps() for _ in range(ROUNDS + 1)][1:]


def with_ray() -> None:
    import ray
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def train(config: dict[str, Any]) -> list[float]:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
        return rates_of_two()

    # As without Ray, for it is the engine's rate beside Ray's processes that is measured, not their priority.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
    ray.init(address="local", num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level="ERROR")
    ray_rates: list[float] = []
    plain_rates: list[float] = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as place:
            make: Any = TorchTrainer
            ray_rates += make(train, scaling_config=ScalingConfig(num_workers=2)).fit().return_value
            command = [sys.executable, "-m", "tests.benchmarks.bench_training", "worker", place]
            started = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
            assert [process.wait() for process in started] == [0, 0]
            plain_rates += json.loads(Path(place, "rate.json").read_text())
    ray.shutdown()
    with_it, without = statistics.median(ray_rates), statistics.median(plain_rates)
    print(f"two workers: on Ray Train {with_it:,.0f} tokens/s, without {without:,.0f}: {with_it / without:.1%}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ray"]:
            with_ray()
        case ["worker", place, rank]:
            on_two_workers(int(rank), place)
        case _:
            one_process()
