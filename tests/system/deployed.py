"""The service as an operator runs it: `python -m tests.system.deployed`, about two minutes.

`serve deploy` of serve/config.yaml, with a tiny model and autoscaling, on a cluster of its own; then, while clients
stream from it all the time: more clients than one replica is for, another model by `user_config`, fewer clients, and
the end of the application while an answer is on its way. No answer may fail, be cut, or be other than one of the two
models'; there have to be two replicas, and one again.
"""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from codelm.modeling.quiet import quiet_transformers
from tests.inference.tiny import make_tiny_model
from tests.system.nodes import BIN, HERE, Nodes, free_ports, shell
from tests.system.quickstart import ROOT
from tests.system.serving_nodes import until

CLIENTS, TOKENS, POSITIONS = 8, 200, 8192
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 2,
    "downscale_delay_s": 4,
}
PATIENCE_SECONDS = 240.0


@dataclass
class Clients:
    """Threads that stream the same completion again and again."""

    url: str
    texts: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    wanted: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)

    def want(self, number: int) -> None:
        """Have so many ask from now on; those that are too many end what they have begun."""
        self.wanted = number
        for index in range(len(self._threads), number):
            self._threads.append(threading.Thread(target=self._ask_on, args=(index,), daemon=True))
            self._threads[-1].start()

    def join(self) -> None:
        """End all of them."""
        self.want(0)
        for thread in self._threads:
            thread.join()

    def _ask_on(self, index: int) -> None:
        while index < self.wanted:
            try:
                self.texts[stream(self.url, TOKENS)] += 1
            except (httpx.HTTPError, ValueError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")


def stream(url: str, tokens: int, begun: Callable[[], None] = lambda: None) -> str:
    """One streamed completion.

    Raises:
        httpx.HTTPError: it is refused, or cut by the connection.
        ValueError: it ends without a word that it has ended, or has not all its tokens.
    """
    body = {"prompt": "def add(a, b):\n", "max_tokens": tokens, "temperature": 0, "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as response:
        response.raise_for_status()
        events = []
        for line in response.iter_lines():
            if line:
                events.append(line.removeprefix("data: "))
                begun()
    if events[-1] != "[DONE]":
        raise ValueError(f"the stream ends with {events[-1]}")
    made: list[dict[str, Any]] = [json.loads(event) for event in events[:-1]]
    used = made[-1]["usage"]["completion_tokens"]
    reason = made[-2]["choices"][0]["finish_reason"]
    if reason == "length" and used != tokens:
        raise ValueError(f"{used} tokens of {tokens}")
    return "".join(event["choices"][0]["text"] for event in made[:-1])


@dataclass(frozen=True)
class Deployed:
    """What `serve deploy` is given, and the cluster's answers."""

    nodes: Nodes
    file: Path
    port: int

    def deploy(self, source: Path, *, begun_with: Path) -> None:
        """Run `serve deploy` with the file of this project, with this model by `user_config`."""
        tree = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
        tree["http_options"] = {"host": HERE, "port": self.port}
        (application,) = tree["applications"]
        application["args"] |= {"source": str(begun_with), "model": "tiny", "cache_mb": 64, "max_ongoing_requests": 4}
        (deployment,) = application["deployments"]
        del deployment["num_replicas"]
        deployment |= {"autoscaling_config": AUTOSCALING, "user_config": {"source": str(source)}}
        self._deploy(tree)

    def end(self) -> None:
        """Run `serve deploy` with a file without an application."""
        self._deploy({"http_options": {"host": HERE, "port": self.port}, "applications": []})

    def _deploy(self, tree: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(tree))
        command = [str(BIN / "serve"), "deploy", "--address", self.nodes.dashboard, str(self.file)]
        subprocess.run(command, cwd=ROOT, env=self.nodes.environment, check=True, capture_output=True)

    def replicas(self) -> int:
        """How many there are, once none of them is starting or stopping; until then -1."""
        applications = self.nodes.ask("serve/applications/")["applications"]
        states: list[str] = [
            replica["state"]
            for application in applications.values()
            for deployment in application["deployments"].values()
            for replica in deployment["replicas"]
        ]
        return len(states) if set(states) <= {"RUNNING"} else -1

    def served(self) -> int:
        """The positions of the model that is served."""
        response = httpx.get(f"http://{HERE}:{self.port}/v1/models").raise_for_status()
        return int(response.json()["data"][0]["max_model_len"])


def healthy(url: str) -> bool:
    """Whether the model is loaded."""
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def timed(what: str, look: Callable[[], bool]) -> None:
    """Wait until something holds, and say how long that took."""
    began = time.monotonic()
    until(look, PATIENCE_SECONDS)
    print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)


def run(directory: Path) -> None:
    """Deploy, change, and end it."""
    first_model, second_model = (
        make_tiny_model(directory / "first", "llama", POSITIONS),
        make_tiny_model(directory / "second", "gpt2", POSITIONS // 2),
    )
    environment = shell(directory) | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    nodes = Nodes(directory, environment)
    (port,) = free_ports(1)
    url = f"http://{HERE}:{port}"
    deployed, clients = Deployed(nodes, directory / "config.yaml", port), Clients(url)
    try:
        nodes.start_head(f"--temp-dir={directory / 'ray'}", cpus=4)
        deployed.deploy(first_model, begun_with=first_model)
        timed("from `serve deploy` to an answer", lambda: healthy(url))
        first = stream(url, TOKENS)
        clients.want(CLIENTS)
        timed(f"{CLIENTS} clients: two replicas", lambda: deployed.replicas() == 2)
        deployed.deploy(second_model, begun_with=first_model)
        timed("another model by user_config", lambda: deployed.served() == POSITIONS // 2)
        time.sleep(5)  # the other replica's, too
        clients.texts.clear()
        second = stream(url, TOKENS)
        time.sleep(5)
        assert set(clients.texts) == {second} != {first}, clients.texts
        clients.want(1)
        timed("one client: one replica", lambda: deployed.replicas() == 1)
        clients.join()
        begun = threading.Event()
        answers: list[str] = []
        last = threading.Thread(target=lambda: answers.append(stream(url, POSITIONS // 2 - 100, begun.set)))
        last.start()
        begun.wait(60)
        deployed.end()
        ended_before = not last.is_alive()
        last.join()
        timed("no application: the answer on its way has ended, no replica", lambda: deployed.replicas() == 0)
    finally:
        clients.want(0)
        nodes.close()
    assert not clients.failed, clients.failed[:5]
    assert answers, "the answer on its way was cut"
    assert not ended_before, "the last answer had ended before the application"
    print(f"no answer failed or was cut; the last one has {len(answers[0]):,} characters")


def main() -> None:
    """Run it in a directory of its own."""
    os.chdir(ROOT)
    quiet_transformers()
    with tempfile.TemporaryDirectory(prefix="deployed-", dir="/var/tmp") as name:
        run(Path(name))


if __name__ == "__main__":
    main()
