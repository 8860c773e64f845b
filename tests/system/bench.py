"""A Ray cluster of several machines with S3 and an MLflow server, the quickstart's project, and `codelm submit`."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx

from codelm.run_dir import DIRECTORIES, Manifest
from tests.system.machines import Machine, Network
from tests.system.nodes import BIN, Nodes, free_ports, shell
from tests.system.quickstart import CONFIG, SMALL, project, put_sources
from tests.system.storage import BUCKET, Storage, wait_for_port

WORKERS = 3
STAGE_SECONDS = 600
VARYING = {
    "corpus": ("README.md",),
    "evaluate": ("report.html", "canonical_results.jsonl", "samples.jsonl_results.jsonl"),
    "sweep": ("best.json", "best.yaml", "trials.*", "tune/*"),
}
"""Files that hold seconds, memory, names that are drawn, or the run's directory: different in equal results."""
RECORDS = ("results.jsonl", "trials.jsonl")
"""Those of them that are compared, as metrics are, without what is `PARTICULAR` to a run."""
PARTICULAR = {"evaluate": ("cpu_seconds", "memory_bytes"), "sweep": ("name", "mlflow_run", "best_trial")}
WORK = {
    "corpus": {"_map_task", "deal_bands", "_links", "_match", "write_one_shard"},
    "tokenizer": {"_train", "_measure"},
    "pack": {"_encode", "_pack"},
    "pretrain": {"RayTrainWorker"},
    "sweep": {"RayTrainWorker"},
    "evaluate": {"Generator"},
    "endpoint": {f"ServeReplica:{name}" for name in ("endpoint-check:completions", "quickstart:completions")},
}
"""What a stage's work is called: tasks and actors. Not what watches it, such as Ray Train's controller."""


@dataclass(frozen=True)
class Result:
    """How a job ended.

    Attributes:
        status: of `codelm submit`.
        seconds: that it took.
        log: what it printed.
    """

    status: int
    seconds: float
    log: str


class Bench:
    """The cluster, its storage, and the project to submit from."""

    def __init__(self, directory: Path, network: Network) -> None:
        self._directory, self._network = directory, network
        self._next = 11
        self.machines: dict[str, Machine] = {}
        self.project = project(directory)
        with ExitStack() as stack:
            self.storage = Storage(directory, network.here)
            stack.callback(self.storage.close)
            put_sources(self.storage)
            tracker = f"http://{network.here}:{free_ports(1, network.here)[0]}"
            environment = {**shell(directory), **self.storage.environment, "PYTHONPATH": str(self.project)}
            self.environment = {**environment, "MLFLOW_TRACKING_URI": tracker}
            self._start_tracker(tracker, stack)
            self.nodes = Nodes(directory, self.environment)
            self._stack = stack.pop_all()

    def _start_tracker(self, address: str, stack: ExitStack) -> None:
        host, port = address.removeprefix("http://").split(":")
        command = [str(BIN / "mlflow"), "server", "--host", host, "--port", port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._directory}/mlflow.db"]
        command += ["--artifacts-destination", str(self._directory / "artifacts")]
        environment = self.environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes more
        with (self._directory / "mlflow.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        stack.callback(process.wait)
        stack.callback(os.killpg, process.pid, signal.SIGTERM)
        wait_for_port(host, int(port))

    def start(self, workers: int = WORKERS, cpus: int = 1) -> None:
        """Start a cluster: a head that has no CPUs for work, as Ray advises, and workers."""
        self.nodes.start_head(on=self.machine(), cpus=0)
        for _ in range(workers):
            self.add(cpus)
        self.nodes.wait(1 + workers)

    def add(self, cpus: int = 1) -> None:
        """Start one more worker."""
        self.nodes.start_worker(self.machine(), cpus=cpus)

    def machine(self) -> Machine:
        """A new machine."""
        machine = self._network.machine(self._next)
        self._next += 1
        self.machines[machine.address] = machine
        return machine

    def workers(self) -> list[Machine]:
        """The machines of the nodes that are there, without the head."""
        return [self.machines[address] for address in self.nodes.processes if address not in self.nodes.head]

    def kill(self, address: str) -> None:
        """Take a machine's power away."""
        self.nodes.kill(address)

    def submit(self, stage: str, run: str, *overrides: str) -> "subprocess.Popen[bytes]":
        """`codelm submit` of a stage, or of the pipeline."""
        command = [str(BIN / "codelm"), "submit", stage, CONFIG, "--address", self.nodes.dashboard]
        for override in (*SMALL, f"run_dir=s3://{BUCKET}/{run}", *overrides):
            command += ["--set", override]
        with self._log(stage, run).open("ab") as log:
            return subprocess.Popen(command, cwd=self.project, env=self.environment, stdout=log, stderr=log)

    def log(self, stage: str, run: str) -> str:
        """What it has printed."""
        return self._log(stage, run).read_text()

    def _log(self, stage: str, run: str) -> Path:
        return self._directory / f"{run}-{stage}.log"

    def finish(self, process: "subprocess.Popen[bytes]", stage: str, run: str, began: float) -> Result:
        """Wait for the end of a job; one that takes ten minutes has not ended."""
        try:
            status = process.wait(STAGE_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            status = -1
        return Result(status, time.monotonic() - began, self.log(stage, run))

    def run(self, stage: str, run: str, *overrides: str) -> Result:
        """Run a job to its end."""
        began = time.monotonic()
        return self.finish(self.submit(stage, run, *overrides), stage, run, began)

    def known(self) -> set[str]:
        """Ids of all tasks and actors that have been so far."""
        return {row["task_id"] for row in self._tasks()} | {row["actor_id"] for row in self._actors()}

    def used(self, before: set[str]) -> dict[str, set[str]]:
        """For each stage the addresses of the nodes that its tasks and actors were on.

        Args:
            before: what was known before the stage.
        """
        address = {row["node_id"]: row["node_ip"] for row in self._ask("nodes?detail=1")}
        work = [(row["task_id"], row["func_or_class_name"], row["node_id"]) for row in self._tasks()]
        work += [(row["actor_id"], row["class_name"], row["node_id"]) for row in self._actors()]
        return {
            stage: {address[node] for id, name, node in work if id not in before and name in names and node in address}
            for stage, names in WORK.items()
        }

    def busy(self, stage: str) -> set[str]:
        """Addresses of the nodes that do a stage's work now."""
        address = {row["node_id"]: row["node_ip"] for row in self._ask("nodes?detail=1")}
        names = WORK[stage]
        actors = (row for row in self._actors() if row["class_name"] in names)
        tasks = (row for row in self._tasks() if row["func_or_class_name"] in names)
        at_work = [row for row in actors if row["state"] == "ALIVE"] + [
            row for row in tasks if row["state"] == "RUNNING"
        ]
        return {address[row["node_id"]] for row in at_work if row["node_id"] in address}

    def _tasks(self) -> list[dict[str, Any]]:
        return self._ask("tasks?detail=1&limit=10000")

    def _actors(self) -> list[dict[str, Any]]:
        return self._ask("actors?detail=1&limit=1000")

    def _ask(self, path: str) -> list[dict[str, Any]]:
        try:
            rows: list[dict[str, Any]] = self.nodes.ask(f"v0/{path}")["data"]["result"]["result"]
            return rows
        except httpx.HTTPError:
            return []  # the dashboard of a busy machine is late at times; the next look will tell

    def manifest(self, stage: str, run: str) -> Manifest | None:
        """What a stage has published, or None."""
        key = f"{run}/{DIRECTORIES[stage]}/manifest.json"
        return Manifest(**json.loads(self.storage.read(key))) if key in self.storage.keys(key) else None

    def differing(self, stage: str, one: str, other: str) -> list[str]:
        """What differs in a stage between two runs: files by their hashes, records and metrics by what is in them."""
        left, right = self.manifest(stage, one), self.manifest(stage, other)
        if left is None or right is None:
            return [f"not published in {one if left is None else other}"]
        found = set()
        for name in left.files.keys() | right.files.keys():
            if not any(fnmatch(name, pattern) for pattern in VARYING.get(stage, ())):
                if left.files.get(name) != right.files.get(name):
                    found.add(name)
            elif name.endswith(RECORDS) and self._records(stage, one, name) != self._records(stage, other, name):
                found.add(name)
        if _general(stage, left.metrics) != _general(stage, right.metrics):
            found.add("metrics")
        return sorted(found)

    def _records(self, stage: str, run: str, name: str) -> list[dict[str, Any]]:
        lines = self.storage.read(f"{run}/{DIRECTORIES[stage]}/{name}").decode().splitlines()
        return [_general(stage, json.loads(line)) for line in lines]

    def left_behind(self, run: str) -> Iterator[tuple[str, bytes]]:
        """All that a run has left where others may look, by its place: storage, MLflow, jobs, Ray's logs."""
        for key in self.storage.keys(f"{run}/"):
            yield key, self.storage.read(key)
        for job in self.nodes.ask("jobs/"):
            yield "job", json.dumps(job).encode()
        logs = [machine.disk / "ray" for machine in self.machines.values()]
        for place in (self._directory / "mlflow.db", self._directory / "artifacts", *logs):
            for path in [place, *place.rglob("*")]:
                if path.is_file() and not path.is_symlink():
                    yield str(path.relative_to(self._directory)), path.read_bytes()
        for path in self._directory.glob(f"{run}-*.log"):
            yield path.name, path.read_bytes()

    def close(self) -> None:
        """End everything."""
        self.nodes.close()
        self._stack.close()


def _general(stage: str, record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in PARTICULAR.get(stage, ())}


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench without nodes yet, below /var/tmp: each machine has a /tmp of its own."""
    with tempfile.TemporaryDirectory(prefix="several-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        network = Network(Path(name))
        try:
            made = Bench(Path(name), network)
            try:
                yield made
            finally:
                made.close()
        finally:
            network.close()
