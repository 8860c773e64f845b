"""Pushing to the hub, by huggingface_hub itself, to an HTTP server here that stands in for the hub."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from codelm.errors import UserError
from codelm.modeling.publishing import push_to_hub

PUSH = """
import sys
from pathlib import Path
from codelm.errors import exit_on_user_error
from codelm.modeling.publishing import push_to_hub
with exit_on_user_error():
    print(push_to_hub(Path(sys.argv[1]), "me/mine", public=False))
"""


class Hub(BaseHTTPRequestHandler):
    """The calls of the hub's API that an upload of small files makes; keeps what was asked."""

    asked: list[tuple[str, Any]]
    refuses: bool

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        self.asked.append((self.path, lines))
        address = f"http://{self.headers['Host']}/me/mine"
        if self.refuses:
            self._answer(403, {"error": "not yours"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": address, "name": "me/mine"})
        elif self.path.endswith("/preupload/main"):
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in lines[0]["files"]]
            self._answer(200, {"files": files})
        elif self.path.endswith("/commit/main"):
            self._answer(200, {"success": True, "commitOid": "c0ffee", "commitUrl": f"{address}/commit/c0ffee"})
        else:
            self._answer(200, {"message": ""})

    def do_GET(self) -> None:
        self._answer(200, {"id": "me/mine", "sha": "0" * 40, "siblings": [], "private": True})

    def _answer(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.asked, Hub.refuses = [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(hub: ThreadingHTTPServer, directory: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: huggingface_hub reads the hub's address when it is imported."""
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", PUSH, str(directory)],
        env=known | {"HF_ENDPOINT": address, "HF_HOME": str(directory.parent / "home")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_files_arrive_in_one_commit_and_manifests_do_not(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    directory = tmp_path / "run" / "model"
    directory.mkdir(parents=True)
    for name in ("README.md", "config.json", "manifest.json"):
        (directory / name).write_text(f"of {name}")
    done = push(hub, directory, HF_TOKEN="hf_test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/me/mine/commit/c0ffee")
    [made] = [lines[0] for path, lines in Hub.asked if path == "/api/repos/create"]
    assert made["visibility"] == "private"
    [commit] = [lines for path, lines in Hub.asked if path.endswith("/commit/main")]
    files = {line["value"]["path"]: line["value"]["content"] for line in commit if line["key"] == "file"}
    assert {name: base64.b64decode(content).decode() for name, content in files.items()} == {
        "README.md": "of README.md",
        "config.json": "of config.json",
    }
    Hub.refuses = True
    refused = push(hub, directory, HF_TOKEN="hf_test")
    assert refused.returncode == 2
    assert "refuses 'me/mine': not yours" in refused.stderr


def test_a_name_without_an_owner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'mine' is no name on the hub; give OWNER/NAME"):
        push_to_hub(tmp_path, "mine", public=False)
