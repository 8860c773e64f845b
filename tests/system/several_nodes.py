"""The pipeline on three Ray nodes with S3 storage, against the same on one; with a node killed, with S3 down, with a
full disk. Run by hand, minutes each:

    python -m tests.system.several_nodes pipeline              every stage; the artefacts equal those of one node
    python -m tests.system.several_nodes pipeline STAGE ...    and with SIGKILL of a node in these stages (or `all`)
    python -m tests.system.several_nodes storage               S3 answers 503 for 30 seconds
    python -m tests.system.several_nodes disk                  the nodes' disks are full

Nodes are processes of this machine with addresses of their own (127.0.0.11 ...), each with its own HOME and TMPDIR;
the storage is moto's S3 behind a proxy that can be told to fail.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import yaml

from codelm.run_dir import Manifest
from tests.system.nodes import BIN, Nodes, free_ports, shell

ROOT = Path(__file__).parent.parent.parent
HEAD, WORKERS = "127.0.0.11", ("127.0.0.12", "127.0.0.13")
ALONE = "127.0.0.21"
BUCKET = "codelm"
STAGES = ("corpus", "tokenizer", "pack", "pretrain", "export", "evaluate", "endpoint")
DIRECTORIES = {"pack": "packed", "export": "model", "evaluate": "evaluation"}
IN_ONE_PLACE = ("tokenizer", "export")
"""Stages that are one task, or the driver's own work: merging pairs of a vocabulary, writing one file of weights."""
SOURCES = 150
OUTAGE_SECONDS = 30
DISK_BYTES = 24 << 20
PATIENCE_SECONDS = 600
STAGE_SECONDS = 240
TIMES_OF_DAY = {
    "corpus": {"README.md", "card.md"},
    "evaluate": {"results.jsonl", "report.html", "canonical_results.jsonl", "metrics.json"},
}
"""Files that hold seconds, CPU time or memory: different in equal results."""


HOP_BY_HOP = frozenset({"content-length", "transfer-encoding", "connection", "expect"})


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


class Storage:
    """S3, with a proxy before it that answers 503 while `down`."""

    def __init__(self, directory: Path) -> None:
        behind, self.port = free_ports(2)
        self.down = False
        self.refused = 0
        with (directory / "s3.log").open("wb") as log:
            self._server = subprocess.Popen([BIN / "moto_server", "-p", str(behind)], stdout=log, stderr=log)
        storage = self
        wait_for_port(behind)

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self._body()
                if storage.down:
                    storage.refused += 1
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = HTTPConnection("127.0.0.1", behind, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP | {"date", "server"}:
                        self.send_header(name, value)
                size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", size or "0")
                self.end_headers()
                self.wfile.write(content)
                connection.close()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return body

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

            def log_message(self, *_: Any) -> None:
                pass

        self._proxy = ThreadingHTTPServer(("127.0.0.1", self.port), Proxy)
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket=BUCKET)

    def manifest(self, run: str, stage: str) -> Manifest | None:
        """What a stage has published in a run, or None."""
        try:
            key = f"{run}/{DIRECTORIES.get(stage, stage)}/manifest.json"
            return Manifest(**json.loads(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()))
        except self.client.exceptions.NoSuchKey:
            return None

    def close(self) -> None:
        self._proxy.shutdown()
        self._server.terminate()
        self._server.wait()


def project(directory: Path) -> Path:
    """A working directory with the experiment in it; sources are a part of the standard library, on the storage."""
    root = directory / "project"
    for name in ("codelm", "ray_jobs", "serve"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "vscode")
        )
    for name in ("pyproject.toml", ".rayignore"):
        shutil.copy(ROOT / name, root)
    tree = yaml.safe_load((ROOT / "ray_jobs/configs/quickstart.yaml").read_text())
    tree["corpus"] |= {"sources": [f"s3://{BUCKET}/sources"], "shards": 4}
    tree["tokenizer"]["vocab_size"] = 1024
    tree["model"] |= {"hidden_size": 96, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 256}
    tree["training"] |= {"steps": 60, "warmup_steps": 10, "checkpoint_every": 10, "validate_every": 30, "log_every": 5}
    tree["evaluation"] |= {"problems": 8, "samples": 4, "max_new_tokens": 48}
    tree["serving"] = {"port": free_ports(1)[0], "replicas": 2}
    (root / "several.yaml").write_text(yaml.safe_dump(tree))
    return root


def sources(storage: Storage) -> None:
    files = sorted(path for path in Path(os.__file__).parent.glob("*.py") if path.stat().st_size < 60_000)[:SOURCES]
    for path in files:
        storage.client.upload_file(str(path), BUCKET, f"sources/{path.name}")


class Bench:
    """The cluster, the storage and the project."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.storage = Storage(directory)
        sources(self.storage)
        self.project = project(directory)
        environment = {**shell(directory), **self.storage.environment, "PYTHONPATH": str(self.project)}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{directory}/mlflow.db"
        self.nodes = Nodes(directory, environment)

    def start(self, workers: tuple[str, ...] = WORKERS) -> None:
        self.nodes.start_head(self.disk(HEAD), host=HEAD, cpus=1, extra=self.own(HEAD))
        for host in workers:
            self.add(host)
        self.nodes.wait(1 + len(workers))
        print(f"nodes: {', '.join(sorted(self.nodes.alive()))}", flush=True)

    def add(self, host: str) -> None:
        self.nodes.start_worker(host, self.disk(host), cpus=2, extra=self.own(host))

    def disk(self, host: str) -> str:
        """Ray's own files of a node: nodes that share them delete each other's."""
        return f"--temp-dir={self.own(host)['HOME']}/ray"

    def own(self, host: str) -> dict[str, str]:
        """Directories that a node shares with no other."""
        home = self.directory / f"n{host.rpartition('.')[2]}"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        return {"HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home / "cache")}

    def submit(self, stage: str, run: str, *overrides: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "codelm.cli", "submit", stage, "several.yaml"]
        command = [BIN / "codelm", *map(str, command[3:]), "--address", self.nodes.dashboard]
        for override in (f"run_dir=s3://{BUCKET}/{run}", *overrides):
            command += ["--set", override]
        log = (self.directory / f"{run}-{stage}.log").open("ab")
        return subprocess.Popen(command, cwd=self.project, env=self.nodes.environment, stdout=log, stderr=log)

    def log(self, run: str, stage: str) -> str:
        return (self.directory / f"{run}-{stage}.log").read_text()

    def run(self, stage: str, run: str, *overrides: str) -> set[str]:
        """Run a stage to its end; the addresses of the nodes that its workers were on."""
        process = self.submit(stage, run, *overrides)
        used: set[str] = set()
        while process.poll() is None:
            used |= self.busy()
            time.sleep(0.3)
        assert process.returncode == 0, self.log(run, stage)
        return used

    def busy(self) -> set[str]:
        """Addresses of the nodes that run a task or hold an actor of ours now."""
        try:
            nodes = self.nodes.ask("v0/nodes?detail=1")["data"]["result"]["result"]
            actors = self.nodes.ask("v0/actors?detail=1&limit=1000")["data"]["result"]["result"]
            tasks = self.nodes.ask("v0/tasks?detail=1&limit=1000")["data"]["result"]["result"]
        except Exception:  # noqa: BLE001 - the head is slow at times; the next look will tell
            return set()
        address = {row["node_id"]: row["node_ip"] for row in nodes}
        alive = [row for row in actors if row["state"] == "ALIVE" and row["class_name"] not in NOT_WORK]
        running = [row for row in tasks if row["state"] == "RUNNING" and row["type"] == "NORMAL_TASK"]
        return {address[row["node_id"]] for row in [*alive, *running] if row["node_id"] in address}

    def close(self) -> None:
        self.nodes.close()
        self.storage.close()


NOT_WORK = ("JobSupervisor", "Board", "_StatsActor", "AutoscalingRequester", "TrainController")


@contextmanager
def bench() -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="several-", dir=os.environ.get("SEVERAL_DIR", "/tmp")))
    made = Bench(directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)


def digests(storage: Storage, run: str, stage: str) -> dict[str, str]:
    manifest = storage.manifest(run, stage)
    assert manifest is not None, f"{stage} is not published"
    return {name: digest for name, digest in manifest.files.items() if name not in TIMES_OF_DAY.get(stage, ())}


def differing(storage: Storage, one: str, other: str, stage: str) -> list[str]:
    """Files of a stage that differ between two runs."""
    left, right = digests(storage, one, stage), digests(storage, other, stage)
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def compare(bench: Bench, one: str, other: str, stages: tuple[str, ...]) -> bool:
    same = True
    for stage in stages:
        wrong = differing(bench.storage, one, other, stage)
        same = same and not wrong
        print(f"{stage:10} {len(digests(bench.storage, one, stage))} files, differing: {wrong or 'none'}", flush=True)
    return same


def pipeline(*kills: str) -> bool:
    """Every stage on three nodes, each of `kills` once more with a node killed, and all on one node."""
    with bench() as made:
        made.start()
        good = True
        for number, stage in enumerate(STAGES):
            began = time.monotonic()
            used = made.run(stage, "calm")
            good = good and (len(used) > 1 or stage in IN_ONE_PLACE)
            print(f"{stage:10} {time.monotonic() - began:.0f} s on {len(used)} nodes: {sorted(used)}", flush=True)
            if stage in kills or "all" in kills:
                copy_run(made.storage, "calm", "hit", STAGES[:number])
                good = killed(made, stage, f"127.0.0.{30 + number}") and good
        # One node as large as the two workers were.
        made.nodes.close()
        made.nodes = Nodes(made.directory, made.nodes.environment)
        made.nodes.start_head(made.disk(ALONE), host=ALONE, cpus=4, extra=made.own(ALONE))
        for stage in STAGES:
            made.run(stage, "one")
            good = compare(made, "one", "calm", (stage,)) and good
        return good


def killed(made: Bench, stage: str, spare: str) -> bool:
    """Run a stage, kill a node that works for it, start another one; whether the result is that of the calm run."""
    process = made.submit(stage, "hit")
    victim = ""
    while not victim:
        assert process.poll() is None, f"{stage} ended before a node was busy\n{made.log('hit', stage)}"
        victim = next(iter(sorted(made.busy() - {HEAD})), "")
        time.sleep(0.1)
    time.sleep(KILL_AFTER.get(stage, 0.5))
    still = process.poll() is None
    made.nodes.kill(victim)
    print(f"{stage}: killed {victim}{'' if still else ', which came too late'}", flush=True)
    made.add(spare)
    try:
        status: int | str = process.wait(STAGE_SECONDS)
    except subprocess.TimeoutExpired:
        status = f"none in {STAGE_SECONDS} s"
        process.terminate()
    print(f"{stage}: exit status {status}", flush=True)
    if status:
        print(made.log("hit", stage)[-3000:], flush=True)
        return False
    return compare(made, "calm", "hit", (stage,)) and still


KILL_AFTER = {"pretrain": 25.0, "evaluate": 8.0, "endpoint": 12.0}
"""Seconds after the first work of a stage is seen on a node: in the middle of it, not in its beginning."""


def copy_run(storage: Storage, one: str, other: str, stages: tuple[str, ...]) -> None:
    prefixes = tuple(f"{one}/{DIRECTORIES.get(stage, stage)}/" for stage in stages)
    pages = storage.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{one}/")
    for item in (item for page in pages for item in page.get("Contents", [])):
        if item["Key"].startswith(prefixes):
            source = {"Bucket": BUCKET, "Key": item["Key"]}
            storage.client.copy(source, BUCKET, other + item["Key"].removeprefix(one))


def storage_down() -> bool:
    """503 for thirty seconds in the middle of each of three stages."""
    good = True
    with bench() as made:
        made.start()
        for stage in STAGES[:4]:
            made.run(stage, "calm")
        for stage in ("corpus", "pack", "pretrain"):
            process = made.submit(stage, "hit")
            wait_for_work(made, process, stage)
            made.storage.down = True
            time.sleep(OUTAGE_SECONDS)
            made.storage.down = False
            status = process.wait(PATIENCE_SECONDS)
            print(f"{stage}: {made.storage.refused} requests refused, exit status {status}", flush=True)
            print(made.log("hit", stage)[-1500:], flush=True)
            if status:
                # Ended in an error: nothing may be lost, and the next try goes on.
                made.run(stage, "hit")
            if stage == "corpus":
                made.run("tokenizer", "hit")
            good = compare(made, "calm", "hit", (stage,)) and good
    return good


def wait_for_work(made: Bench, process: "subprocess.Popen[bytes]", stage: str) -> None:
    while not made.busy():
        assert process.poll() is None, made.log("hit", stage)
        time.sleep(0.1)


def disk_full() -> bool:
    """The local disks of the workers hold a few megabytes; given room again, the stage ends as it should."""
    with bench() as made:
        for host in (HEAD, *WORKERS):
            place = Path(made.own(host)["HOME"])
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place], check=True)
            made.own(host)
        try:
            made.start()
            good = True
            for stage in STAGES[:4]:
                for host in (HEAD, *WORKERS):
                    fill(Path(made.own(host)["HOME"]) / "ballast")
                process = made.submit(stage, "full")
                status = process.wait(PATIENCE_SECONDS)
                print(f"{stage} on full disks: exit status {status}\n{made.log('full', stage)[-1500:]}", flush=True)
                for host in (HEAD, *WORKERS):
                    (Path(made.own(host)["HOME"]) / "ballast").unlink()
                if status:
                    made.run(stage, "full")
                made.run(stage, "calm")
                good = compare(made, "calm", "full", (stage,)) and good
            return good
        finally:
            made.nodes.close()
            for host in (HEAD, *WORKERS):
                subprocess.run(["umount", "-l", made.own(host)["HOME"]], check=False)


def fill(path: Path) -> None:
    with path.open("wb") as out:
        try:
            while True:
                out.write(b"\0" * 65536)
                out.flush()
        except OSError:
            pass


def main() -> None:
    asked: dict[str, Callable[..., bool]] = {
        "pipeline": pipeline,
        "storage": storage_down,
        "disk": disk_full,
    }
    good = asked[sys.argv[1]](*sys.argv[2:])
    print("PASSED" if good else "FAILED", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
