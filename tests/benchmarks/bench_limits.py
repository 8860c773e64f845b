"""What grows in the driver with the size of the work, at the largest size that two cores allow; for docs/scale.md.

    python -m tests.benchmarks.bench_limits rows [MILLIONS]        the corpus' row a file: bytes, and ordering's peak
    python -m tests.benchmarks.bench_limits wide [THOUSANDS]       a column of over 2 GiB through the driver's steps
    python -m tests.benchmarks.bench_limits objects BLOCKS PARTS   what an object of a task costs the driver
    python -m tests.benchmarks.bench_limits verdicts [THOUSANDS]   samples read and verdicts kept, without judging
    python -m tests.benchmarks.bench_limits requests [SECONDS]     CPU time that a request takes of proxy and replica
    python -m tests.benchmarks.bench_limits words [MEGABYTES]      the tokenizer's training: CPU time and memory

Peaks are of the process's resident memory (`VmHWM`), beyond what it had before the work.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from codelm.corpus.blocks import FILES
from codelm.corpus.hashing import order_key


def resident() -> int:
    return psutil.Process().memory_info().rss


def peak() -> int:
    """Bytes that this process has had resident at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def report_rows(millions: int = 1) -> None:
    """Rows as those of a corpus of packages: half of them dropped with a reason."""
    from codelm.on_ray.corpus_reading import _ordered

    count = millions * 1_000_000
    rng = np.random.default_rng(0)
    before, began = resident(), time.perf_counter()
    parts = []
    for first in range(0, count, 100_000):
        numbers = range(first, first + 100_000)
        ids = [f"{order_key(0, 'id', str(n)):016x}{n:016x}" for n in numbers]
        kept = rng.random(len(ids)) < 0.5
        columns = {
            "source": pa.array(["s3://bucket/packages/part-*.tar.gz"] * len(ids)),
            "path": pa.array(
                [f"package-{n // 40}-1.2.{n % 7}.tar.gz/package/module_{n % 40}/file_{n}.py" for n in numbers]
            ),
            "size": pa.array(rng.integers(100, 20_000, len(ids))),
            "stamp": pa.array([f"{identifier}:1700000000" for identifier in ids]),
            "repo": pa.array([f"package-{n // 40}" for n in numbers]),
            "sha256": pa.array([identifier * 2 for identifier in ids]),
            "id": pa.array(ids),
            "text_bytes": pa.array(rng.integers(100, 20_000, len(ids))),
            "language": pa.array(["python"] * len(ids)),
            "reason": pa.array([None if keep else "config_or_test" for keep in kept], pa.string()),
            "block": pa.array([f"{first:032x}"] * len(ids)),
            "offset": pa.array(rng.integers(0, 1 << 27, len(ids))),
            "length": pa.array(rng.integers(100, 20_000, len(ids))),
        }
        fields = [field for field in FILES if field.name != "bands"]
        empty = {field.name: pa.nulls(len(ids), field.type) for field in fields}
        parts.append(pa.table({**empty, **columns}, schema=pa.schema(fields)))
    table = pa.concat_tables(parts)
    held = resident() - before
    ordered = _ordered(table)
    print(f"{count:,} rows: {table.nbytes / count:.0f} bytes a row in Arrow, {held / count:.0f} resident,", end=" ")
    print(f"{(peak() - before) / count:.0f} at the peak of ordering, {time.perf_counter() - began:.0f} s")
    assert len(ordered) == count


def report_wide(thousands: int = 560) -> None:
    """Rows with paths of 4 kB: beyond 2 GiB Arrow's `string` ends, which 33 million sums of 64 bytes reach too."""
    from codelm.corpus.ledger import VERDICTS, decide
    from codelm.corpus.licences import assigned
    from codelm.on_ray.corpus_reading import _ordered

    fields = pa.schema([field for field in FILES if field.name != "bands"])
    parts = []
    for first in range(0, 1000 * thousands, 10_000):
        paths = [f"{number:0>4000}" for number in range(first, first + 10_000)]
        ids = [f"{order_key(0, 'id', path):016x}{0:016x}" for path in paths]
        empty = {field.name: pa.nulls(len(ids), field.type) for field in fields}
        columns = {"path": paths, "id": ids, "size": [1] * len(ids), "text_bytes": [1] * len(ids)}
        parts.append(pa.table({**empty, **columns}, schema=fields))
    ordered = assigned(_ordered(pa.concat_tables(parts)), permissive=False)
    removed = ordered["id"].combine_chunks()[: len(ordered) // 2]
    verdicts = {"id": removed, "cluster": removed, "witness": removed, "similarity": [1.0] * len(removed)}
    decisions = decide(ordered, pa.table(verdicts, schema=VERDICTS))
    assert len(decisions.kept) == len(ordered) - len(removed)
    assert decisions.dropped["path"][-1].as_py() == ordered["path"][len(removed) - 1].as_py()
    print(f"{len(ordered):,} rows, {ordered['path'].nbytes / 2**30:.2f} GiB of paths: ordered, decided")


def report_objects(blocks: int, parts: int) -> None:
    """As `deal_bands` does: a task for each block, whose results are a part for each partition."""
    import ray

    from codelm.config import Cluster
    from codelm.on_ray.cluster import connected

    with connected(Cluster(num_cpus=2, object_store_mb=512)):
        task = ray.remote(num_cpus=1)(lambda: [np.zeros(8)] * parts).options(num_returns=parts)
        ray.get(task.remote())
        before, began = resident(), time.perf_counter()
        held = [task.remote() for _ in range(blocks)]
        ray.wait([row[0] for row in held], num_returns=blocks, fetch_local=False)
        objects = blocks * parts
        print(f"{blocks:,} blocks x {parts:,} partitions = {objects:,} objects: ", end="")
        print(
            f"{(resident() - before) / objects:,.0f} bytes of the driver an object, {time.perf_counter() - began:.0f} s"
        )


def report_verdicts(thousands: int = 1000) -> None:
    """The driver's part of judging: samples read, equal programs found, verdict lines kept as they come."""
    from pyarrow.fs import LocalFileSystem

    from codelm.evaluation.benchmarks.humaneval import humaneval
    from codelm.evaluation.parts import Parts
    from codelm.evaluation.samples import distinct, open_samples

    problems = humaneval()
    count = thousands * 1000
    verdict = json.dumps(
        {"passed": False, "result": "failed: AssertionError", "kind": "failed", "cpu": 0.01, "mb": 12.0}
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "samples.jsonl"
        with path.open("w") as out:
            for number in range(count):
                problem = problems[number % len(problems)]
                text = f"{problem.canonical_solutions[0]}    # {number}\n"
                out.write(json.dumps({"task_id": problem.task_id, "completion": text}) + "\n")
        before, began = resident(), time.perf_counter()
        samples = open_samples(path, problems, "humaneval")
        first, _ = distinct(samples, {problem.task_id: problem for problem in problems})

        def work(todo: Sequence[int]) -> Iterator[tuple[int, str]]:
            yield from ((place, verdict) for place in todo)

        lines = Parts(LocalFileSystem(), f"{name}/work").make("verdicts", len(first), work, lambda done: None)
        assert len(lines) == count
        print(f"{count:,} samples: {(peak() - before) / count:,.0f} bytes a sample, ", end="")
        print(f"{(time.perf_counter() - began) / count * 1e6:.0f} microseconds each")


def report_requests(seconds: int = 20) -> None:
    """Requests for one token of a tiny model, by eight clients: what is left is the way there and back."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    from codelm import config
    from codelm.on_ray.cluster import connected
    from codelm.on_ray.endpoint import served
    from tests.inference.tiny import make_tiny_model
    from tests.serve.local import free_port

    with tempfile.TemporaryDirectory() as name:
        serving = {"source": str(make_tiny_model(Path(name) / "model", positions=1024)), "port": free_port()}
        tree = {"name": "limits", "run_dir": name, "corpus": {"sources": ["."]}, "serving": serving}
        experiment = config.parse(tree | {"cluster": {"num_cpus": 2, "object_store_mb": 128}}, "limits")
        body = {"model": "limits", "prompt": "def f(x):", "max_tokens": 1, "temperature": 0}
        with connected(experiment.cluster), served(experiment, "limits") as url:
            deadline = time.monotonic() + seconds

            def client(_number: int) -> int:
                done = 0
                with httpx.Client(timeout=60) as session:
                    while time.monotonic() < deadline:
                        session.post(f"{url}/v1/completions", json=body).raise_for_status()
                        done += 1
                return done

            before, began = serve_seconds(), time.perf_counter()
            with ThreadPoolExecutor(8) as pool:
                count = sum(pool.map(client, range(8)))
            took = time.perf_counter() - began
            spent = {part: value - before[part] for part, value in serve_seconds().items()}
    each = ", ".join(f"{part} {value / count * 1e3:.2f} ms" for part, value in spent.items())
    print(f"{count:,} requests in {took:.0f} s, {count / took:.0f} a second; CPU time of each: {each}")


def serve_seconds() -> dict[str, float]:
    """CPU seconds that Serve's proxy and replica have taken."""
    names = {"proxy": "ray::ProxyActor", "replica": "ray::ServeReplica"}
    processes = psutil.Process().children(recursive=True)
    return {
        part: sum(sum(one.cpu_times()[:2]) for one in processes if one.name().startswith(name[:15]))
        for part, name in names.items()
    }


def report_words(megabytes: int = 30) -> None:
    """The tokenizer's training on the standard library, which holds the distinct words of all texts."""
    import sysconfig

    from codelm.tokenization import bpe

    texts = [path.read_text(errors="replace") for path in Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")]
    for share in (4, 2, 1):
        part, size = [], 0
        for text in texts:
            size += len(text)
            part.append(text)
            if size > megabytes * 1e6 / share:
                break
        before, began = sum(psutil.Process().cpu_times()[:2]), time.perf_counter()
        held = resident()
        tokenizer = bpe.train(iter(part), 32768, 2)
        spent = sum(psutil.Process().cpu_times()[:2]) - before
        print(f"{size / 1e6:.0f} MB, {tokenizer.get_vocab_size():,} entries: {spent:.1f} s of CPU,", end=" ")
        print(f"{size / 1e6 / spent:.1f} MB a second of it, {time.perf_counter() - began:.1f} s,", end=" ")
        print(f"{(peak() - held) / 2**20:.0f} MiB at most")


def main() -> None:
    """One of the reports."""
    reports = {
        "rows": report_rows,
        "wide": report_wide,
        "objects": report_objects,
        "verdicts": report_verdicts,
        "requests": report_requests,
        "words": report_words,
    }
    reports[sys.argv[1]](*map(int, sys.argv[2:]))


if __name__ == "__main__":
    main()
