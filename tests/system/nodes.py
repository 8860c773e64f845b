"""Ray nodes as processes of this machine: each with its own address, its own directory and its own resources."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.system.machines import Machine

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 300
HERE = "127.0.0.1"


def free_ports(count: int, host: str = HERE) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind((host, 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def shell(directory: Path) -> dict[str, str]:
    """A shell with the virtual environment activated, outside any cluster, with a token for a new one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    token = directory / "token"
    token.write_text(secrets.token_hex(32))
    return {
        **kept,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def _address(on: str | Machine) -> str:
    return on.address if isinstance(on, Machine) else on


@dataclass
class Nodes:
    """A cluster of `ray start`, a process group a node, ended by `close`.

    Attributes:
        directory: for logs and Ray's files; short, since sockets are made in it.
        environment: of all nodes.
    """

    directory: Path
    environment: dict[str, str]
    head: str = ""
    dashboard: str = ""
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    commands: dict[str, tuple[list[str], dict[str, str]]] = field(default_factory=dict)

    def start_head(self, *options: str, on: str | Machine = HERE, cpus: int = 2) -> None:
        """Start the head, at an address of this machine or on one of its own, and wait until its dashboard answers."""
        port, dashboard = 6379, 8265
        if not isinstance(on, Machine):  # its ports may be taken
            port, dashboard, client = free_ports(3)
            options = (*options, f"--ray-client-server-port={client}")
        host = _address(on)
        self.head, self.dashboard = f"{host}:{port}", f"http://{host}:{dashboard}"
        head = ["--head", f"--port={port}", f"--dashboard-host={host}", f"--dashboard-port={dashboard}"]
        self._start(on, [*head, *options], cpus)
        self.wait(1)

    def start_worker(self, on: str | Machine, *options: str, cpus: int = 2) -> None:
        """Start one more node."""
        self._start(on, [f"--address={self.head}", *options], cpus)

    def _start(self, on: str | Machine, options: list[str], cpus: int) -> None:
        host, environment = _address(on), self.environment
        command = ["ray", "start", "--block", "--disable-usage-stats", f"--num-cpus={cpus}", *options]
        command.append(f"--object-store-memory={128 * 2**20}")
        if host != HERE:
            command.append(f"--node-ip-address={host}")
        if isinstance(on, Machine):
            command, environment = [*on.prefix, *command], environment | on.environment
        else:
            # The agent's port has a fixed default, which another cluster of this machine may hold.
            (agent,) = free_ports(1, host)
            command.append(f"--dashboard-agent-listen-port={agent}")
        self.commands[host] = command, environment
        self._run(host)

    def _run(self, host: str) -> None:
        command, environment = self.commands[host]
        with (self.directory / f"{host}.log").open("wb") as log:
            self.processes[host] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def ask(self, path: str) -> Any:
        """What the dashboard answers to `GET /api/PATH`."""
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        response = httpx.get(f"{self.dashboard}/api/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=20)
        return response.raise_for_status().json()

    def alive(self) -> list[str]:
        """Addresses of the nodes that are there."""
        rows = self.ask("v0/nodes?detail=1")["data"]["result"]["result"]
        return [row["node_ip"] for row in rows if row["state"] == "ALIVE"]

    def wait(self, count: int) -> None:
        """Wait until so many nodes are there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if len(self.alive()) >= count:
                    return
            except httpx.HTTPError:
                pass
            for host, process in list(self.processes.items()):
                log = (self.directory / f"{host}.log").read_text()
                if process.poll() is not None and "timed out during startup" in log:
                    self._run(host)  # Ray gives its own processes 30 s, which a busy machine may not keep
                else:
                    assert process.poll() is None, log
            assert time.monotonic() < deadline, json.dumps(sorted(self.processes))
            time.sleep(0.5)

    def kill(self, host: str) -> None:
        """End a node as a power cut does."""
        process = self.processes.pop(host)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End all nodes."""
        for host in list(self.processes):
            self.kill(host)
