"""The service at twice its capacity, with clients that leave and bodies that are wrong; it has to come out whole.

    python -m tests.benchmarks.soak [--seconds 600] [--replicas 2] [--kill]

A tiny model behind `codelm serve`'s application. Clients, twice as many as it lets in, send good requests (whose
greedy answers are compared with the first), leave in the middle, send malformed JSON, wrong types and oversize
prompts. Every answer must be right or have an error in OpenAI's form; afterwards no slot may be taken, and the
replicas' memory at the end must be that after the first fifth, within a tenth. `--kill` ends one replica by SIGKILL
half-way: others go on, and it comes back.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from codelm import config
from tests.inference.tiny import make_tiny_model
from tests.serve.local import free_port

ONGOING, QUEUED = 8, 8
GROWTH = 1.10
NOTICED_SECONDS = 5.0
"""After a kill: Serve looks every two seconds, and until then sends requests to who is gone."""
PROMPTS = [f"def f{number}(a, b):\n    return" for number in range(8)]


def body(rng: random.Random) -> tuple[str, dict[str, Any] | bytes]:
    """A kind of request, and its body."""
    kind = rng.choices(("good", "stream", "leave", "json", "type", "long", "middle"), (6, 4, 3, 1, 1, 1, 2))[0]
    good = {"prompt": rng.choice(PROMPTS), "max_tokens": 24, "temperature": 0}
    if kind == "json":
        return kind, rng.choice((b"{", b"", b"[]", b'{"prompt": "\\ud800"}', b"\xff\xfe", b'{"prompt": ' + b"[" * 5000))
    if kind == "type":
        wrong: dict[str, Any] = rng.choice(
            ({"n": 0}, {"temperature": "x"}, {"prompt": {}}, {"logprobs": 99}, {"stop": 3})
        )
        return kind, {**good, **wrong}
    if kind == "long":
        return kind, {**good, "prompt": "x = 1\n" * 5000}
    if kind == "middle":
        return kind, {**good, "suffix": "\n    return total\n"}
    return kind, {**good, "stream": kind != "good", **({"max_tokens": 150} if kind == "leave" else {})}


class Soak:
    """Counts what comes back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.killed: float | None = None
        """When a replica was."""
        self._known: dict[str, str] = {}

    async def client(self, seed: int, until: float) -> None:
        """One client, request after request."""
        rng = random.Random(seed)
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            while time.monotonic() < until:
                kind, content = body(rng)
                try:
                    await self._ask(http, kind, content, rng)
                except httpx.TransportError as error:
                    self._failed(f"transport: {type(error).__name__}", str(error))

    async def _ask(
        self, http: httpx.AsyncClient, kind: str, content: dict[str, Any] | bytes, rng: random.Random
    ) -> None:
        raw = content if isinstance(content, bytes) else orjson.dumps(content)
        headers = {"Content-Type": "application/json"}
        async with http.stream("POST", "/v1/completions", content=raw, headers=headers) as response:
            if kind == "leave" and response.status_code == 200:
                lines = response.aiter_lines()
                for _ in range(rng.randrange(1, 6)):
                    await anext(lines, None)
                self.answers["left"] += 1
                return
            answer = (await response.aread()).decode()
        self.answers[f"{kind}: {response.status_code}"] += 1
        if response.status_code == 200:
            self._check(kind, raw, answer)
            return
        try:
            told = orjson.loads(answer)
            assert told["error"]["message"]
            assert told["detail"]
            assert response.status_code != 500
        except (ValueError, KeyError, AssertionError):
            self._failed(f"{kind}: {response.status_code}", answer)
        if response.status_code in (429, 503):
            await asyncio.sleep(float(response.headers["Retry-After"]) * rng.random())

    def _failed(self, kind: str, answer: str) -> None:
        """Count what came to nothing: what a killed replica was at, or what is wrong."""
        if self.killed is not None and time.monotonic() - self.killed < NOTICED_SECONDS:
            self.answers["lost with the replica"] += 1
        else:
            self.wrong.append(f"{kind} {answer[:200]}")

    def _check(self, kind: str, raw: bytes, answer: str) -> None:
        if kind == "stream":
            events = [line.removeprefix("data: ") for line in answer.split("\n\n") if line]
            if events[-1] != "[DONE]" or any("error" in orjson.loads(event) for event in events[:-1]):
                self.wrong.append(f"{kind}: {answer[-200:]}")
                return
            text = "".join(orjson.loads(event)["choices"][0]["text"] for event in events[:-1])
            key = raw.replace(b'"stream":true', b"").decode()
        else:
            text = orjson.loads(answer)["choices"][0]["text"]
            key = raw.replace(b'"stream":false', b"").decode()
        if self._known.setdefault(key, text) != text:
            self.wrong.append(f"{kind}: {text!r} is not {self._known[key]!r}")


def replicas() -> list[psutil.Process]:
    """The processes that serve."""
    found = []
    for process in psutil.process_iter():
        try:
            if "ServeReplica:soak:" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def soak(url: str, seconds: float, clients: int, kill: bool) -> tuple[Soak, list[float]]:
    """Run the clients; the memory of the replicas in MiB, ten times."""
    run, until = Soak(url), time.monotonic() + seconds
    tasks = [asyncio.create_task(run.client(seed, until)) for seed in range(clients)]
    memory = []
    for turn in range(10):
        await asyncio.sleep(seconds / 10)
        memory.append(sum(process.memory_info().rss for process in replicas()) / 2**20)
        if kill and turn == 4:
            replicas()[0].kill()
            run.killed = time.monotonic()
    await asyncio.gather(*tasks)
    return run, memory


def main() -> None:
    """Run and judge; exit status 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    from codelm.on_ray.cluster import connected
    from codelm.on_ray.endpoint import served

    model = make_tiny_model(Path(tempfile.mkdtemp()) / "model", positions=1024)
    serving = {
        "source": str(model),
        "port": free_port(),
        "engine": asked.engine,
        "replicas": asked.replicas,
        "max_ongoing_requests": ONGOING,
        "max_queued_requests": QUEUED,
        "cache_mb": 64,
    }
    tree = {"name": "soak", "run_dir": tempfile.mkdtemp(), "corpus": {"sources": ["."]}, "serving": serving}
    tree["cluster"] = {"num_cpus": asked.replicas + 1, "object_store_mb": 128}
    experiment = config.parse(tree, "soak")
    clients = 2 * (ONGOING + QUEUED) * asked.replicas
    with connected(experiment.cluster), served(experiment, "soak") as url:
        run, memory = asyncio.run(soak(url, asked.seconds, clients, asked.kill))
        deadline = time.monotonic() + 20
        while (taken := httpx.get(f"{url}/health").json()["active"]) and time.monotonic() < deadline:
            time.sleep(0.2)
    print(f"{clients} clients, {asked.seconds:.0f} s, {asked.replicas} replicas that take {ONGOING} + {QUEUED} each")
    for kind, number in sorted(run.answers.items()):
        print(f"  {kind:<28} {number:>8,}")
    print(f"memory of the replicas, MiB: {', '.join(f'{value:.0f}' for value in memory)}")
    print(f"slots taken afterwards: {taken}; wrong answers: {len(run.wrong)}")
    for line in run.wrong[:10]:
        print(f"  {line}")
    flat = asked.kill or memory[-1] <= GROWTH * memory[1]
    sys.exit(0 if not run.wrong and not taken and flat else 1)


if __name__ == "__main__":
    main()
