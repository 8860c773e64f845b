"""`ray job submit` against a cluster of `ray start --head`, as a person would."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from codelm import config
from codelm.config import Experiment
from codelm.run_dir import RunDir

pytestmark = pytest.mark.ray  # with clusters of its own

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 60


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell with the virtual environment activated, outside any cluster, with a token for the new one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def job_client(address: str, environment: dict[str, str]) -> JobSubmissionClient:
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def head(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """The dashboard's address of a cluster started by `ray start --head`, ended by its process group."""
    port, dashboard, client, agent = free_ports(4)
    command = ["ray", "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    # The agent's port has a fixed default, which the session's own cluster may hold.
    command += [
        f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}",
        "--num-cpus=2",
        f"--object-store-memory={128 * 2**20}",
    ]
    with (tmp_path / "head.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            job_client(address, environment).list_jobs()
            break
        except (ConnectionError, RuntimeError):
            assert process.poll() is None, (tmp_path / "head.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
            time.sleep(0.5)
    try:
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def experiment_file(make_experiment: Callable[..., Experiment], tmp_path: Path) -> Path:
    """An experiment on forty source files."""
    source = tmp_path / "source"
    source.mkdir()
    for index in range(40):
        lines = [
            f"def function_{index}_{line}(a, b):\n    c = a * {line} + b\n    return c" for line in range(index + 5)
        ]
        (source / f"module_{index}.py").write_text("\n\n".join(lines))
    path = tmp_path / "experiment.yaml"
    path.write_text(config.to_yaml(make_experiment(["cluster.object_store_mb=100"])))
    return path


def submit(address: str, environment: dict[str, str], *entrypoint: str) -> "subprocess.CompletedProcess[str]":
    command = ["ray", "job", "submit", "--address", address, "--working-dir", ".", "--", "python", "-m", *entrypoint]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        # The dashboard answers some seconds before the agent that starts jobs.
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done


def test_a_stage_as_a_job(head: str, environment: dict[str, str], experiment_file: Path) -> None:
    path = experiment_file
    experiment = config.load(path)
    done = submit(head, environment, "ray_jobs.corpus", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = RunDir(experiment.run_dir).manifest("corpus")
    assert manifest is not None
    assert manifest.metrics["files_in"] == 40

    client = job_client(head, environment)
    (job,) = client.list_jobs()
    assert job.status == JobStatus.SUCCEEDED
    assert job.submission_id is not None
    logs = client.get_job_logs(job.submission_id)
    assert "files in" in logs
    assert "40" in logs

    refused = submit(head, environment, "ray_jobs.pretrain", str(path), "--set", "training.stepz=3")
    assert refused.returncode != 0
    assert "did you mean training.steps?" in refused.stdout + refused.stderr
    failed = [job for job in client.list_jobs() if job.status == JobStatus.FAILED]
    assert len(failed) == 1
    assert failed[0].driver_exit_code == 2


def test_without_an_address_a_cluster_of_its_own_is_started(
    head: str, environment: dict[str, str], experiment_file: Path
) -> None:
    """Ray by itself would join the one that `ray start` has left word of."""
    command = ["codelm", "corpus", str(experiment_file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "started on this machine" in done.stderr
