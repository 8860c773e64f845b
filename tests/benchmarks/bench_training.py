"""Tokens/s of training, ours beside peers in turn: `python -m tests.benchmarks.bench_training MODE [compiled]`.

MODE `one`: one process with all cores; `two`: two processes with half of them each; `ray`: our two without Ray,
and the stage `pretrain` on Ray Train with all that it reports and tracks (`ray-deepspeed` with the other engine). Who
they are: `training_contenders`. `compiled` is with torch.compile for all; BENCH_ROUNDS, how often all have their turn.

A machine's speed changes within minutes, so each contender trains a step at a time, all in turn, in another order in
each round, and what counts is the median over rounds of the ratio within a round. While others have their turn, Ray's
daemons are stopped. Float32 where the processor has no bf16 arithmetic.
"""

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path

import psutil
import torch

from codelm.config import Model
from codelm.modeling.build import count_parameters, model_config
from codelm.training.precision import resolve_precision
from codelm.training.throughput import flops_per_token, peak_flops
from tests.benchmarks.training_contenders import (
    ADDRESS,
    BATCH,
    COMPILED,
    LENGTH,
    NAME,
    SHAPE,
    STEPS,
    VOCABULARY,
    contend,
)

BARE, TORCH, DEEPSPEED = "bare torch loop", "codelm, torch engine", "codelm, DeepSpeed ZeRO-1"
TRAINER, ACCELERATE = "Hugging Face Trainer", "accelerate loop (CodeParrot's)"
MODES: dict[str, tuple[int, list[str], list[tuple[str, str, float]]]] = {
    "one": (
        1,
        [BARE, TORCH, DEEPSPEED, TRAINER, ACCELERATE],
        [(TORCH, BARE, 0.99), (DEEPSPEED, BARE, 0.95), (TORCH, TRAINER, 1.2), (TORCH, ACCELERATE, 1.2)],
    ),
    "two": (
        2,
        [BARE, TORCH, DEEPSPEED, TRAINER, ACCELERATE],
        [(TORCH, BARE, 0.99), (DEEPSPEED, BARE, 0.95), (TORCH, TRAINER, 1.2), (TORCH, ACCELERATE, 1.2)],
    ),
    "ray": (2, [TORCH, f"{TORCH}, on Ray"], [(f"{TORCH}, on Ray", TORCH, 0.97)]),
    "ray-deepspeed": (2, [DEEPSPEED, f"{DEEPSPEED}, on Ray"], [(f"{DEEPSPEED}, on Ray", DEEPSPEED, 0.97)]),
}
"""Processes of each, contenders, and (ours, peer, aim) of what is compared."""

ROUNDS = 16
WARM_UP = 2
"""Rounds that do not count: caches fill, memory is found, and torch compiles."""


@dataclass
class Contender:
    """Its processes, the lines to them by rank, and the seconds of its segments."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    lines: dict[int, Connection] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def segment(self) -> None:
        """Let it train one segment; the slowest of its processes counts."""
        for line in self.lines.values():
            line.send(None)
        self.seconds.append(max(line.recv() for line in self.lines.values()))

    def signal(self, number: signal.Signals) -> None:
        """To its processes and to all that they have started."""
        roots = [psutil.Process(process.pid) for process in self.processes if process.poll() is None]
        for process in [*roots, *(child for root in roots for child in root.children(recursive=True))]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextmanager
def awake(contender: Contender) -> Iterator[None]:
    """While the block lasts, let a contender's processes run."""
    contender.signal(signal.SIGCONT)
    try:
        yield
    finally:
        contender.signal(signal.SIGSTOP)


def start(contenders: dict[str, Contender], names: list[str], workers: int, segments: int, scratch: Path) -> None:
    """Add all contenders, each ready for its first segment and stopped; one after the other: they all load torch."""
    for number, name in enumerate(names):
        place, listener = scratch / str(number), Listener(str(scratch / f"{number}.sock"))
        place.mkdir()
        environment = os.environ | {ADDRESS: str(listener.address), NAME: name}
        environment |= {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // workers))}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29600 + number)}
        command = [sys.executable, "-m", "tests.benchmarks.bench_training", "contend", name]
        count = 1 if name.endswith("Ray") else workers
        contenders[name] = contender = Contender()
        for rank in range(count):
            arguments = [str(rank), str(workers), str(segments), str(place)]
            contender.processes.append(subprocess.Popen([*command, *arguments], env=environment, stdout=sys.stderr))
        for _ in range(workers):
            line = listener.accept()
            contender.lines[line.recv()[1]] = line
        for line in contender.lines.values():
            line.recv()  # it is ready
        contender.signal(signal.SIGSTOP)
        print(f"{name} is ready", file=sys.stderr, flush=True)


def compare(mode: str) -> None:
    workers, names, pairs = MODES[mode]
    rounds = int(os.environ.get("BENCH_ROUNDS", ROUNDS))
    contenders: dict[str, Contender] = {}
    precision, peak = resolve_precision("auto", "cpu"), 0.0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nobody else would end who is stopped
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        try:
            start(contenders, names, workers, rounds + WARM_UP, Path(scratch))
            order = random.Random(0)
            for _ in range(rounds + WARM_UP):
                for name in order.sample(names, len(names)):
                    with awake(contenders[name]):
                        contenders[name].segment()
                peak = max(peak, peak_flops(torch.device("cpu"), precision)[0])
                last = ", ".join(f"{contender.seconds[-1]:.2f}" for contender in contenders.values())
                print(f"seconds of a step: {last}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("ended before all rounds")
        finally:
            for contender in contenders.values():
                contender.signal(signal.SIGKILL)
    if min(len(contender.seconds) for contender in contenders.values()) < WARM_UP + 2:
        sys.exit("too few rounds to tell")
    seconds = {name: contender.seconds[WARM_UP:] for name, contender in contenders.items()}
    report(workers, seconds, pairs, precision, peak)


def report(
    workers: int,
    seconds: dict[str, list[float]],
    pairs: list[tuple[str, str, float]],
    precision: str,
    peak: float,
) -> None:
    shape = model_config(Model.model_validate(SHAPE), VOCABULARY)
    flops = flops_per_token(count_parameters(shape), shape.num_hidden_layers, shape.hidden_size, LENGTH)
    how = "compiled" if COMPILED in os.environ else "not compiled"
    print(
        f"{count_parameters(shape):,} parameters, {BATCH} x {LENGTH} tokens a step, {precision}, {how}, {workers} proc."
    )
    for name, values in seconds.items():
        rate = STEPS * BATCH * LENGTH / statistics.median(values)
        print(f"{name:36s} {rate:8,.0f} tokens/s  mfu {rate * flops / peak:6.1%} of {peak:.3g}")
    for ours, peer, aim in pairs:
        ratios = [theirs / mine for mine, theirs in zip(seconds[ours], seconds[peer], strict=False)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{ours} / {peer}: {middle:.3f} (quartiles {low:.3f} to {high:.3f}; aim {aim})")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["contend", name, rank, workers, segments, scratch]:
            contend(name, int(rank), int(workers), int(segments), scratch)
        case [mode, *rest] if mode in MODES:
            if rest == ["compiled"]:
                os.environ[COMPILED] = "1"
            began = time.monotonic()
            compare(mode)
            print(f"{time.monotonic() - began:.0f} s")
        case _:
            print(__doc__)
