"""What grows in the driver with the size of the work, at the largest size that two cores allow; for docs/scale.md.

    python -m tests.benchmarks.bench_limits rows [MILLIONS]        the corpus' row a file: bytes, and ordering's peak
    python -m tests.benchmarks.bench_limits objects BLOCKS PARTS   what an object of a task costs the driver
    python -m tests.benchmarks.bench_limits verdicts [THOUSANDS]   samples read and verdicts kept, without judging

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


def main() -> None:
    {"rows": report_rows, "objects": report_objects, "verdicts": report_verdicts}[sys.argv[1]](*map(int, sys.argv[2:]))


if __name__ == "__main__":
    main()
