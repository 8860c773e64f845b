"""Every mistake before a submission, against a small HTTP server that answers as Ray's dashboard does.

What the dashboard answers in truth is tested in tests/system/test_job.py.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from codelm import cli, config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.submission.preflight import Asked, has_password, preflight
from codelm.submission.server import find_token, has_autoscaler, normalised

PACKAGES = ("codelm", "ray_jobs", "serve")
ROOT = Path(__file__).parent.parent.parent
HUB_TOKEN = "hf_" + "QkZwLxRjTnVbMdPsYhGc" + "JfKqWvXzCtBnRm"
"""Of the hub's form, and nobody's."""


class Dashboard:
    """The four answers that are asked for, to be changed by a test."""

    def __init__(self) -> None:
        self.ray, self.python = "2.60.0", "3.11.7"
        self.resources: list[dict[str, float]] = [{"CPU": 8.0}]
        self.kinds = {"ab": "node_ab"}

    def answer(self, path: str) -> Any:
        if path == "/api/version":
            return {"ray_version": self.ray}
        if path == "/api/v0/cluster_metadata":
            return {"data": {"rayVersion": self.ray, "pythonVersion": self.python}}
        if path.startswith("/api/v0/nodes"):
            rows = [{"state": "ALIVE", "node_ip": "10.0.0.1", "resources_total": row} for row in self.resources]
            return {"data": {"result": {"result": [*rows, {"state": "DEAD"}]}}}
        return {"data": {"clusterStatus": {"autoscalerReport": {"nodeTypeMapping": self.kinds}}}}


@pytest.fixture
def dashboard() -> Iterator[tuple[Dashboard, str]]:
    state = Dashboard()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(state.answer(self.path)).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path, make_experiment: Callable[..., Experiment]) -> Path:
    root = tmp_path / "project"
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (root / "mine.yaml").write_text(config.to_yaml(make_experiment()))
    return root


def asked(project: Path, address: str, *overrides: str, stage: str = "pipeline", name: str = "mine.yaml") -> Asked:
    return Asked(stage, project / name, overrides, address, None, project)


def test_ready_in_under_two_seconds(dashboard: tuple[Dashboard, str], project: Path) -> None:
    began = time.monotonic()
    ready = preflight(asked(project, dashboard[1], "training.steps=3", stage="pretrain"))
    assert time.monotonic() - began < 2
    assert ready.entrypoint == "python -m ray_jobs.pretrain mine.yaml --set training.steps=3"
    assert ready.describe() == [ready.upload.describe(), "1 nodes with Ray 2.60.0, Python 3.11.7: 8 CPU"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["training.workers=9", "training.batch_size=18"],
            r"training.workers: 9 needs 9 CPU, http\S+ has 8 and no auto",
        ),
        (["accelerator=gpu"], r"training.workers: 1 needs 1 GPU, \S+ has 0 and no autoscaler to add some; lower"),
        (
            ["finetuning.data=functions", "finetuning.training.workers=9", "finetuning.training.batch_size=72"],
            r"finetuning.training.workers: 9 needs 9 CPU, .*; lower finetuning.training.workers",
        ),
        (["evaluation.sandbox.nodes=required"], r"needs 1 sandbox, .* set evaluation.sandbox.nodes: auto"),
        (["training.stepz=3"], r"did you mean training.steps\?"),
        (["tracking.uri=http://me:secret@mlflow"], r"tracking.uri holds a password"),
        (["run_dir=s3://b/r?secret_key=x"], r"run_dir holds a password"),
        (["serving.source=https://me:secret@models/m"], r"serving.source holds a password"),
        ([f"tokenizer.pretrained=https://hub/m?token={HUB_TOKEN}"], r"tokenizer.pretrained holds a key, .* HF_TOKEN"),
        ([f"corpus.sources=[https://{HUB_TOKEN}@hub/data]"], r"corpus.sources holds a key"),
        (["run_dir=nfs4://b/r"], r"run_dir 'nfs4://b/r': give a path"),
    ],
)
def test_what_the_config_asks_for(
    dashboard: tuple[Dashboard, str], project: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        preflight(asked(project, dashboard[1], *overrides))


def test_an_autoscaler_may_bring_what_is_missing(dashboard: tuple[Dashboard, str], project: Path) -> None:
    dashboard[0].kinds = {"ab": "head-group"}
    ready = preflight(asked(project, dashboard[1], "accelerator=gpu", stage="pretrain"))
    assert ready.notes[0].endswith("has 0: waits for its autoscaler to add some")
    assert not has_autoscaler({})


def test_nodes_that_share_nothing_are_told_of(dashboard: tuple[Dashboard, str], project: Path) -> None:
    dashboard[0].resources *= 2
    assert "must be a file system that all of them share" in preflight(asked(project, dashboard[1])).notes[0]


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        (
            "ray",
            "2.9.0",
            r"runs Ray 2.9.0 and codelm needs Ray <2.61,>=2.60; make its machines from cluster/Dockerfile",
        ),
        ("python", "3.9.1", r"runs Python 3.9.1 and codelm needs Python <3.13,>=3.11"),
    ],
)
def test_versions(dashboard: tuple[Dashboard, str], project: Path, attribute: str, value: str, said: str) -> None:
    setattr(dashboard[0], attribute, value)
    with pytest.raises(UserError, match=said):
        preflight(asked(project, dashboard[1]))


def test_what_does_not_travel(dashboard: tuple[Dashboard, str], project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not in the working directory"):
        preflight(Asked("corpus", tmp_path / "experiment.yaml", (), dashboard[1], None, project))
    (project / ".gitignore").write_text("data/\nmine.*\n")
    with pytest.raises(UserError, match=r"CONFIG: mine.yaml exists here but"):
        preflight(asked(project, dashboard[1]))
    (project / ".gitignore").write_text("/data/*\n")
    (project / "data").mkdir()
    (project / "data" / "a.py").touch()
    with pytest.raises(UserError, match=r"corpus.sources: data exists here but"):
        preflight(asked(project, dashboard[1], "corpus.sources=[data]"))
    (project / "serve" / "__init__.py").unlink()
    (project / "serve").rmdir()
    with pytest.raises(UserError, match="has no serve/"):
        preflight(asked(project, dashboard[1]))


def test_an_address_that_does_not_answer(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    command = ["codelm", "submit", "corpus", str(project / "mine.yaml"), "--address", address]
    monkeypatch.setattr("sys.argv", [*command, "--working-dir", str(project)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert f"--address {address} does not answer" in capsys.readouterr().err


def test_what_answers_is_something_else(dashboard: tuple[Dashboard, str], project: Path) -> None:
    dashboard[0].answer = lambda path: {"hello": "world"}  # type: ignore[method-assign]
    with pytest.raises(UserError, match="is not a Ray dashboard"):
        preflight(asked(project, dashboard[1]))
    with pytest.raises(UserError, match="'evil' is not a stage"):
        preflight(asked(project, dashboard[1], stage="evil"))


def test_addresses() -> None:
    assert normalised("head:8265/") == "http://head:8265"
    assert normalised("https://head") == "https://head"
    for wrong in ("ray://head:10001", "http://", "http://head:port"):
        with pytest.raises(UserError, match="http://head:8265"):
            normalised(wrong)


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from a file\n")
    assert find_token({"RAY_AUTH_TOKEN": "stated", "RAY_AUTH_TOKEN_PATH": str(path)}) == "stated"
    assert find_token({"RAY_AUTH_TOKEN_PATH": str(path)}) == "from a file"
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH: cannot read"):
        find_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})


def test_passwords() -> None:
    assert has_password("https://me:x@host/p")
    assert has_password("s3://b/k?region=x&SECRET_KEY=y")
    assert not has_password("s3://b/k?region=x")
    assert not has_password("https://me@host")
    assert not has_password("C:/a:b@c")
