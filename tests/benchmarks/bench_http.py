"""What HTTP and Ray Serve cost beside the engine alone; and people who type, at a model of 30 million parameters.

    python -m tests.benchmarks.bench_http [layers|typists] [--preset codelm-110m] [--tokens 64]

`layers`: the same engine with the same random weights, once called directly and once through `codelm serve`'s
application, each in a process of its own, measured in turn: time to the first token of one stream, and tokens/s of 32.
`typists`: 16 of them send a growing prefix each 300 ms, for 24 tokens, and end the request before. An answer that
has not come by then counts as never.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from codelm import config
from codelm.bench_serve import Load, bench, percentiles
from tests.benchmarks.bench_engines import make_model
from tests.serve.local import free_port

STREAMS = 32
PROMPT_TOKENS = 40
ROUNDS = 3
TYPISTS, PERIOD_SECONDS, KEYS = 16, 0.3, 60


def words(target: Path) -> None:
    """Give a model of random weights a tokenizer whose every token is a word, so that all of its output is text."""
    size = json.loads((target / "config.json").read_text())["vocab_size"]
    tokenizer = Tokenizer(WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(target / "tokenizer.json"))


def prompts(seed: int, tokens: int = PROMPT_TOKENS) -> Iterator[str]:
    """Texts of so many tokens that begin unlike each other."""
    source = random.Random(seed)
    while True:
        yield " ".join(f"w{source.randrange(10, 300)}" for _ in range(tokens))


class Alone:
    """The engine in a process of its own, called directly."""

    def __init__(self, model: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.bench_http", "--alone", model]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def measure(self, streams: int, tokens: int, seed: int) -> tuple[float, float]:
        """Seconds to the first token, and tokens a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([streams, tokens, seed]) + "\n")
        self._process.stdin.flush()
        first, rate = self._answer()
        return first, rate

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("["):
                return json.loads(line)
        raise RuntimeError("the engine's process has ended")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve_alone(model: str) -> None:
    """The process of `Alone`."""
    from codelm.inference.engine import Options, Request, load_engine

    engine = load_engine("openvino", model, options=Options(max_batch=STREAMS, threads=2))
    print("[]", flush=True)
    for line in sys.stdin:
        streams, tokens, seed = json.loads(line)
        source = prompts(seed)
        begun, first, number = time.perf_counter(), 0.0, 0
        for _ in range(streams):
            engine.add(Request(next(source), tokens, temperature=0))
        while engine.busy():
            number += sum(len(delta.token_ids) for _, delta in engine.step())
            first = first or (time.perf_counter() - begun if number else 0.0)
        print(json.dumps([first, number / (time.perf_counter() - begun)]), flush=True)


def experiment(model: str, port: int) -> config.Experiment:
    """A config that serves the model."""
    serving = {"source": model, "port": port, "engine": "openvino", "max_ongoing_requests": STREAMS}
    tree = {"name": "bench", "run_dir": tempfile.mkdtemp(), "corpus": {"sources": ["."]}, "serving": serving}
    return config.parse(tree, "bench")


def layers(preset: str, tokens: int) -> None:
    """Measure and print."""
    from codelm.on_ray.cluster import connected
    from codelm.on_ray.endpoint import served

    model = Path(tempfile.mkdtemp()) / "model"
    parameters = make_model(preset, model)
    words(model)
    asked = experiment(str(model), free_port())
    alone = Alone(str(model))
    rates: dict[str, list[float]] = {"engine": [], "http": []}
    firsts: dict[str, list[float]] = {"engine": [], "http": []}
    with connected(asked.cluster), served(asked, "bench") as url:
        load = Load(f"{url}/v1", "bench", tokens)
        for turn in range(ROUNDS + 1):
            for number in range(8):
                firsts["engine"].append(alone.measure(1, 2, 1000 * turn + number)[0] * 1000)
            rates["engine"].append(alone.measure(STREAMS, tokens, turn)[1])
            single = Load(load.url, load.model, 2)
            (one,) = bench(single, [1], 8, prompts(500 + turn))
            firsts["http"].append(one.first_token_ms[0])
            (many,) = bench(load, [STREAMS], 1, prompts(700 + turn))
            rates["http"].append(many.tokens_per_second)
            if not turn:  # to warm up
                rates, firsts = {"engine": [], "http": []}, {"engine": [], "http": []}
            else:
                print(
                    f"round {turn}: engine {rates['engine'][-1]:.0f} tokens/s, http {rates['http'][-1]:.0f}", flush=True
                )
    alone.close()
    added = statistics.median(firsts["http"]) - statistics.median(firsts["engine"])
    cost = 1 - max(rates["http"]) / max(rates["engine"])
    print(f"{preset}, {parameters:,} parameters, {STREAMS} streams, {tokens} tokens each")
    print(f"time to first token: engine {statistics.median(firsts['engine']):.1f} ms, over HTTP {added:+.1f} ms")
    print(
        f"throughput: engine {max(rates['engine']):.0f}, over HTTP {max(rates['http']):.0f} tokens/s: {cost:.1%} less"
    )


async def type_away(url: str, seed: int, latencies: list[float], firsts: list[float]) -> None:
    """One typist: a request each period, the one before ended."""
    rng = random.Random(seed)
    text = next(prompts(seed, 60))
    await asyncio.sleep(rng.random() * PERIOD_SECONDS)

    async def ask(session: aiohttp.ClientSession, prompt: str) -> None:
        begun, first = time.perf_counter(), 0.0
        body = {"model": "bench", "prompt": prompt, "max_tokens": 24, "temperature": 0, "stream": True}
        async with session.post(f"{url}/v1/completions", json=body) as response:
            async for line in response.content:
                first = first or time.perf_counter() - begun
                if line.startswith(b"data: [DONE]"):
                    latencies.append(time.perf_counter() - begun)
                    firsts.append(first)

    async with aiohttp.ClientSession() as session:
        for _ in range(KEYS):
            text += f" w{rng.randrange(10, 300)}"
            task = asyncio.create_task(ask(session, text))
            await asyncio.sleep(PERIOD_SECONDS)
            if not task.done():
                task.cancel()
                latencies.append(float("inf"))
                firsts.append(float("inf"))


def typists(preset: str) -> None:
    """Measure and print."""
    from codelm.on_ray.cluster import connected
    from codelm.on_ray.endpoint import served

    model = Path(tempfile.mkdtemp()) / "model"
    parameters = make_model(preset, model)
    words(model)
    asked = experiment(str(model), free_port())
    latencies: list[float] = []
    firsts: list[float] = []

    async def all_of_them(url: str) -> None:
        await asyncio.gather(*(type_away(url, seed, latencies, firsts) for seed in range(TYPISTS)))

    with connected(asked.cluster), served(asked, "bench") as url:
        bench(Load(f"{url}/v1", "bench", 8), [4], 2, prompts(1))
        asyncio.run(all_of_them(url))
    finished = sorted(latencies)
    never = sum(latency == float("inf") for latency in latencies)
    at = finished[int(0.95 * len(finished))]
    known = percentiles([latency * 1000 for latency in latencies if latency < float("inf")])
    print(f"{preset}, {parameters:,} parameters: {TYPISTS} typists, {len(latencies)} requests, {never} ended before")
    print(f"24 tokens: p95 of all {at * 1000:.0f} ms; p50/p90/p95/p99 of the finished {[round(v) for v in known]} ms")
    told = sorted(firsts)
    print(f"first token: p50 {told[len(told) // 2] * 1000:.0f} ms, p95 {told[int(0.95 * len(told))] * 1000:.0f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("layers", "typists"), default="layers")
    parser.add_argument("--preset")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        serve_alone(asked.alone)
    elif asked.what == "layers":
        layers(asked.preset or "codelm-110m", asked.tokens)
    else:
        typists(asked.preset or "codelm-30m")


if __name__ == "__main__":
    main()
