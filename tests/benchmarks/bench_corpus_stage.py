"""The corpus stage from sources to published Parquet, and CodeParrot's steps on a sample of the same files.

    python -m tests.benchmarks.bench_corpus_stage DIRECTORY [PRESET ...]

For each preset (`codeparrot` and `codelm` unless named) one run of the stage through `run_stage`, on a cluster of
this machine's cores, and with MLflow's tables made before. Ray's start is left out, and with it that of its workers and
of Ray Data's actors, which it makes when they are first needed, and what these import: a corpus of the standard library
has been made on the same cluster. MB are 10^6 bytes of source files. Two rates per core: by the clock, MB / (seconds *
cores), which other work on the machine lowers; and by CPU time of the driver, of all workers and of Ray's own processes
together, which it lowers less. What other work took of the cores meanwhile is told. Then where the time of the cores
went: in tasks by name, and what is left, which is the driver, Ray, and waiting.

The peer: `bench_corpus.codeparrots_steps`, one process, on a sample, by CPU time.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
import ray
from mlflow.tracking import MlflowClient

from codelm import config
from codelm.config import Cluster, Corpus, Experiment
from codelm.corpus.annotate import Annotator
from codelm.corpus.sources import STDLIB
from codelm.on_ray.cluster import connected
from codelm.on_ray.corpus import STAGE
from codelm.on_ray.stage import run_stage
from codelm.run_dir import Manifest, RunDir
from tests.benchmarks.bench_corpus import codeparrots_steps, files_of, rate, sample

SAMPLE_MEGABYTES = 10


def experiment_of(directory: str, preset: str, run_dir: Path) -> Experiment:
    run_dir.mkdir(parents=True)
    path = run_dir / "experiment.yaml"
    path.write_text(f"name: bench\nrun_dir: {run_dir}\ncorpus:\n  sources: [{directory}]\n  preset: {preset}\n")
    return config.load(path, [])


def task_seconds(since: float) -> dict[str, float]:
    """Seconds that workers spent since a moment: in tasks by name, and on their arguments and results."""
    time.sleep(2)  # events come every second
    seconds: dict[str, float] = defaultdict(float)
    for event in ray.timeline():
        of_worker = event["cat"].startswith("task:") and "Actor" not in event["cat"]
        if of_worker and event["cat"] != "task:execute" and event["ts"] / 1e6 >= since:
            seconds[event["cat"].removeprefix("task:").removeprefix(":")] += event["dur"] / 1e6
    return seconds


def cpu_seconds() -> dict[int, float]:
    """CPU seconds so far, with those of children that have ended, of this process and each that comes from it."""
    seconds = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds[process.pid] = sum(process.cpu_times()[:4])
    return seconds


def busy_seconds() -> float:
    """Seconds so far in which a core of this machine was at work, for anyone."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def run(directory: str, preset: str, run_dir: Path, database: Path) -> tuple[Manifest, float, float, float, float]:
    """The manifest; seconds by the clock, of CPU time, and of that of others; and when it began."""
    experiment = experiment_of(directory, preset, run_dir)
    shutil.copy(database, run_dir / "mlflow.db")
    before, busy, began, start = cpu_seconds(), busy_seconds(), time.time(), time.perf_counter()
    manifest = run_stage(STAGE, experiment, RunDir(experiment.run_dir))
    seconds = time.perf_counter() - start
    used = sum(spent - before.get(process, 0) for process, spent in cpu_seconds().items())
    return manifest, seconds, used, max(busy_seconds() - busy - used, 0), began


def main() -> None:
    directory, presets = str(Path(sys.argv[1]).absolute()), sys.argv[2:] or ["codeparrot", "codelm"]
    cores = os.cpu_count() or 1
    reader = Annotator(Corpus(sources=(directory,)), 0)
    splits = sample(directory, SAMPLE_MEGABYTES)
    size = sum(split.size for split in splits) / 1e6
    theirs = rate(lambda: codeparrots_steps(files_of(splits, reader)), size)
    print(f"CodeParrot's steps, {size:.0f} MB: {theirs:.2f} MB/s per core", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        database = Path(scratch, "mlflow.db")
        MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()
        for preset in presets:
            with connected(Cluster(num_cpus=cores, object_store_mb=1000)):
                run(STDLIB, preset, Path(scratch, f"{preset}-before"), database)
                manifest, seconds, used, others, began = run(directory, preset, Path(scratch, preset), database)
                tasks = task_seconds(began)
            megabytes = manifest.metrics["bytes_in"] / 1e6
            by_clock, by_cpu = megabytes / seconds / cores, megabytes / used
            print(
                f"\n{preset}: {manifest.metrics['files_in']:,} files, {megabytes:.0f} MB, "
                f"{manifest.metrics['files_kept']:,} kept\n"
                f"  {seconds:.1f} s on {cores} cores: {by_clock:.2f} MB/s per core, {by_clock / theirs:.1f} x theirs\n"
                f"  {used:.1f} s of CPU time: {by_cpu:.2f} MB/s per core, {by_cpu / theirs:.1f} x theirs\n"
                f"  {others:.1f} s of the cores went to other work"
            )
            for name, spent in sorted(tasks.items(), key=lambda item: -item[1]):
                print(f"  {spent:7.1f} s {spent / seconds / cores:6.1%}  {name}")
            idle = seconds * cores - sum(tasks.values())
            print(f"  {idle:7.1f} s {idle / seconds / cores:6.1%}  not in tasks")
            print(f"  phases, seconds: {manifest.facts['phases']}", flush=True)


if __name__ == "__main__":
    main()
