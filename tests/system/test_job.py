"""`ray job submit` against a cluster of `ray start --head`, as a person would."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from codelm import cli, config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.run_dir import RunDir
from codelm.submission.server import cluster_facts, find_token
from tests.system.nodes import BIN, Nodes, shell

pytestmark = pytest.mark.ray  # with clusters of its own

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 60
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted-7f3a-aws",
    "HF_TOKEN": "planted-7f3a-hub",
    "MLFLOW_TRACKING_PASSWORD": "planted-7f3a-mlflow",
}
"""In the environment of all nodes, and of who submits."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**shell(tmp_path_factory.mktemp("shell")), **SECRETS}


def job_client(address: str, environment: dict[str, str]) -> JobSubmissionClient:
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Nodes]:
    """A cluster started by `ray start --head`."""
    cluster = Nodes(tmp_path_factory.mktemp("nodes"), environment)
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def head(nodes: Nodes) -> str:
    return nodes.dashboard


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
    (job,) = [job for job in client.list_jobs() if str(path) in job.entrypoint]
    assert job.status == JobStatus.SUCCEEDED
    assert job.submission_id is not None
    logs = client.get_job_logs(job.submission_id)
    assert "files in" in logs
    assert "40" in logs

    refused = submit(head, environment, "ray_jobs.pretrain", str(path), "--set", "training.stepz=3")
    assert refused.returncode != 0
    (failed,) = [job for job in client.list_jobs() if "stepz" in job.entrypoint]
    assert failed.status == JobStatus.FAILED
    assert failed.driver_exit_code == 2
    # Ray's own command may print nothing of a job that ends at once.
    assert "did you mean training.steps?" in client.get_job_logs(failed.submission_id or "")


def test_without_an_address_a_cluster_of_its_own_is_started(
    head: str, environment: dict[str, str], experiment_file: Path
) -> None:
    """Ray by itself would join the one that `ray start` has left word of."""
    command = ["codelm", "corpus", str(experiment_file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "started on this machine" in done.stderr


@pytest.fixture
def project(tmp_path: Path, experiment_file: Path) -> Path:
    """A working directory as a user has it, with the experiment in it."""
    root = tmp_path / "project"
    shutil.copytree(
        ROOT, root, ignore=shutil.ignore_patterns(".*", "tests", "docs", "runs", "*.egg-info", "node_modules")
    )
    shutil.copy(ROOT / ".rayignore", root)
    shutil.copy(experiment_file, root / "mine.yaml")
    return root


def codelm(project: Path, environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [BIN / "codelm", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(
    nodes: Nodes,
    environment: dict[str, str],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    """`codelm` in this process, which has imported Ray; gives the status and both outputs."""
    monkeypatch.chdir(project)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", nodes.dashboard)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["codelm", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return run


def test_submit_follow_list_stop(nodes: Nodes, environment: dict[str, str], project: Path, here: Here) -> None:
    """The job's log and exit status are the command's; secrets of the nodes are nowhere in what it leaves behind."""
    to = {**environment, "RAY_API_SERVER_ADDRESS": nodes.dashboard}
    done = codelm(project, to, "submit", "corpus", "mine.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files in" in done.stdout
    assert "files, " in done.stderr
    assert "1 nodes with Ray" in done.stderr
    assert f"dashboard at {nodes.dashboard}" in done.stdout
    assert "sqlite:///" in done.stdout
    _, listed, _ = here("jobs")
    (job,) = [line.split()[0] for line in listed.splitlines() if "corpus test" in line]
    assert here("logs", job)[:2] == (0, done.stdout)

    # It passes the preflight, and fails in the job: nothing is trained.
    status, log, _ = here("submit", "export", "mine.yaml")
    assert status == 2
    assert "run `codelm pretrain CONFIG` first" in log

    status, detached, _ = here("submit", "corpus", "mine.yaml", "--detach", "--set", "run_dir=/proc/nowhere")
    assert status == 0
    status, _, told = here("stop", detached.strip())
    assert status == 0
    assert "has ended" in told
    assert here("stop", "raysubmit_none")[0] == 2

    jobs = [job for job in nodes.ask("jobs/") if "codelm" in (job["metadata"] or {})]
    assert len({json.dumps(job["runtime_env"]) for job in jobs}) == len(jobs) > 1, "see codelm.on_ray.submit.OWN"
    written = [
        path.read_bytes() for path in Path(config.load(project / "mine.yaml").run_dir).rglob("*") if path.is_file()
    ]
    said = json.dumps([nodes.ask("jobs/"), nodes.ask(f"jobs/{job}/logs")]) + done.stdout + done.stderr
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    for secret in (*SECRETS.values(), token):
        assert secret not in said
        assert not [content for content in written if secret.encode() in content]


def interrupted(
    project: Path, environment: dict[str, str], arguments: tuple[str, ...], until: str, answer: str
) -> tuple[int, str]:
    """`codelm` at a terminal, with Ctrl-C when a text has come, and an answer to its question; status and output."""
    terminal, inside = pty.openpty()
    path = project / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "codelm"), *arguments],
            cwd=project,
            env=environment,
            stdin=inside,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while until not in path.read_text():
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    os.write(terminal, f"{answer}\n".encode())
    status = process.wait(PATIENCE_SECONDS)
    for end in (terminal, inside):
        os.close(end)
    return status, path.read_text()


def test_an_interrupted_follower_detaches_or_stops_the_job(
    nodes: Nodes, environment: dict[str, str], project: Path
) -> None:
    """Ctrl-C asks; the job goes on unless the answer is to stop it."""
    to = {**environment, "RAY_API_SERVER_ADDRESS": nodes.dashboard}
    status, said = interrupted(project, to, ("submit", "pipeline", "mine.yaml"), "#/jobs/", answer="d")
    assert "leave it running and detach?" in said
    job = said.partition("#/jobs/")[2].split()[0]
    assert f"{job} goes on; `codelm logs {job}` follows it again" in said
    assert status == 0
    client = job_client(nodes.dashboard, environment)
    assert not client.get_job_status(job).is_terminal()

    status, said = interrupted(project, to, ("logs", job), "dashboard at", answer="s")
    assert status == 130, said
    assert "has ended: stopped" in said
    assert client.get_job_status(job) == JobStatus.STOPPED


def test_a_wrong_token_and_resources_that_are_not_there(
    nodes: Nodes, environment: dict[str, str], here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told in one sentence with status 2, in the time that it takes to ask."""
    began = time.monotonic()
    facts = cluster_facts(nodes.dashboard, find_token(environment))
    assert time.monotonic() - began < 2
    assert [node.address for node in facts.nodes]
    assert not facts.scales
    with pytest.raises(UserError, match="asks for a token and none was found"):
        cluster_facts(nodes.dashboard, None)
    status, _, told = here("submit", "pretrain", "mine.yaml", "--set", "accelerator=gpu")
    assert status == 2
    assert "needs 1 GPU" in told
    assert told.count("\n") == 1
    monkeypatch.setenv("RAY_AUTH_TOKEN", "expired")
    for command in (("submit", "pretrain", "mine.yaml"), ("jobs",), ("logs", "x"), ("stop", "x")):
        status, _, told = here(*command)
        assert status == 2
        assert "does not accept the token of RAY_AUTH_TOKEN" in told
        assert told.count("\n") == 1


def test_programs_run_only_on_nodes_for_sandboxes(nodes: Nodes, environment: dict[str, str], project: Path) -> None:
    """The judges' actors are all on the node that offers the resource, which has no CPU for anything else."""
    nodes.start_worker("127.0.0.3", '--resources={"sandbox": 2}', cpus=0)
    nodes.wait(2)
    samples = project / "samples.jsonl"
    samples.write_text("".join(json.dumps({"task_id": "HumanEval/0", "completion": text}) + "\n" for text in "ab"))
    done = codelm(project, environment, "judge", "samples.jsonl", "--partial", "--address", nodes.head)
    assert done.returncode == 0, done.stderr
    actors = nodes.ask("v0/actors?detail=1")["data"]["result"]["result"]
    ids = {row["node_id"]: row["node_ip"] for row in nodes.ask("v0/nodes?detail=1")["data"]["result"]["result"]}
    judges = [ids[row["node_id"]] for row in actors if row["class_name"] == "Judge"]
    assert len(judges) == 2
    assert set(judges) == {"127.0.0.3"}
