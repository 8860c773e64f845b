"""Elastic workers that come and go: `python -m tests.system.elastic_workers`, about three minutes.

A node of one CPU begins with one worker of two; a second node comes, and Ray Train goes on with two workers; that node
is killed, and one goes on. The same samples are to be consumed as by anybody else, each once.
"""

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.cluster_utils import Cluster
from torch import Tensor

from codelm.config import Experiment
from codelm.on_ray import pretrain
from codelm.on_ray.assignment import Assignment
from codelm.on_ray.pretrain_worker import Work, packed_corpus
from codelm.run_dir import Manifest, RunDir
from codelm.tracking import open_run
from codelm.training.checkpoint import Progress
from codelm.training.data import PackedData, PackedSamples, open_packed
from codelm.training.order import Integers
from tests.system.nodes import free_ports
from tests.training.packed import tiny_experiment, write_packed

STEPS, CHECKPOINT_EVERY, BATCH = 24, 4, 8
ALONE_AT, TOGETHER_AT = 7, 15
"""Steps that are not begun by one worker, and by two: a node comes, or goes, meanwhile."""

ROOM_SECONDS = 240


@dataclass(frozen=True)
class Waiting:
    """Packed data that waits for ever at the two steps; Ray Train ends who waits when it changes the workers."""

    packed: PackedData
    marks: Path

    @property
    def info(self) -> dict[str, Any]:
        return self.packed.info

    def samples(self, seed: int) -> "WaitingSamples":
        samples = self.packed.samples(seed)
        return WaitingSamples(samples.data, samples.order, self.marks)


@dataclass(frozen=True)
class WaitingSamples(PackedSamples):
    marks: Path

    def take(self, cursor: int, batch: int, mine: Integers) -> Tensor:
        step, workers = cursor // batch + 1, dist.get_world_size()
        more, fewer = self.marks / "waits-for-more", self.marks / "waits-for-fewer"
        if step == ALONE_AT and workers == 1 and not fewer.exists():
            more.touch()
            time.sleep(ROOM_SECONDS)
        if step == TOGETHER_AT and workers == 2:
            fewer.touch()
            time.sleep(ROOM_SECONDS)
        return super().take(cursor, batch, mine)


def waiting_corpus(assignment: Assignment) -> Work:
    """What the workers prepare in place of the packed corpus."""
    work = packed_corpus(assignment)
    assert isinstance(work.train, PackedData)
    return Work(work.model, Waiting(work.train, Path(assignment.run_dir.root)), work.valid, work.objective)


def experiment(root: Path) -> Experiment:
    training = {"workers": 2, "min_workers": 1, "steps": STEPS, "batch_size": BATCH, "micro_batch_size": 2}
    every = {"checkpoint_every": CHECKPOINT_EVERY, "log_every": 1, "validate_every": STEPS, "validation_sequences": 4}
    return tiny_experiment("elastic", root, {**training, **every, "warmup_steps": 2, "precision": "fp32"})


def samples_hash(packed: PackedData, seed: int) -> str:
    """Of what any number of workers has to consume."""
    progress, samples = Progress(), packed.samples(seed)
    for step in range(STEPS):
        progress.consume(samples.numbers(step * BATCH, BATCH).astype("<i8").tobytes())
    return progress.samples


def wait_for(mark: Path, training: threading.Thread) -> None:
    deadline = time.monotonic() + ROOM_SECONDS
    while not mark.exists():
        assert training.is_alive(), f"the training has ended without {mark.name}"
        assert time.monotonic() < deadline, f"no {mark.name} within {ROOM_SECONDS} s"
        time.sleep(0.2)


def main() -> None:
    """Train, let the node come and go, and compare."""
    with tempfile.TemporaryDirectory(prefix="elastic-", ignore_cleanup_errors=True) as name:
        made = experiment(Path(name))
        run_dir = RunDir(made.run_dir)
        write_packed(Path(run_dir.workspace("packed")))
        run_dir.publish("packed", Manifest("pack", {}, {}))
        packed = run_dir.local_copy("packed")
        workspace = run_dir.workspace("pretrain")
        tracked = open_run(f"sqlite:///{name}/mlflow.db", "elastic", "pretrain", None)
        told: dict[str, Any] = {}
        [port] = free_ports(1)
        head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)

        def train() -> None:
            corpus = "tests.system.elastic_workers:waiting_corpus"
            told.update(pretrain.fit(made, run_dir, workspace, corpus, tracked, "pretrain"))

        training = threading.Thread(target=train, daemon=True)
        training.start()
        try:
            began = time.monotonic()
            wait_for(Path(run_dir.root) / "waits-for-more", training)
            print(f"{time.monotonic() - began:.0f} s: one worker has come to step {ALONE_AT}; a node comes", flush=True)
            node = cluster.add_node(num_cpus=1)
            wait_for(Path(run_dir.root) / "waits-for-fewer", training)
            print(
                f"{time.monotonic() - began:.0f} s: two have come to step {TOGETHER_AT}; the node is killed", flush=True
            )
            cluster.remove_node(node, allow_graceful=False)
            training.join(ROOM_SECONDS)
            print(
                f"{time.monotonic() - began:.0f} s: workers from step {told['facts']['workers_from_step']}", flush=True
            )
        finally:
            ray.shutdown()
            cluster.shutdown()
        assert told["facts"]["workers_from_step"] == {"1": 1, "5": 2, "13": 1}
        assert told["samples_sha256"] == samples_hash(open_packed(packed / "train"), made.seed)
        print("all samples were consumed, each once: held")


if __name__ == "__main__":
    main()
