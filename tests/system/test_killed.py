"""SIGKILL in the middle of each stage: the rerun ends with what an uninterrupted run makes, file by file."""

import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from codelm import config
from codelm.config import Experiment
from codelm.on_ray import pipeline
from codelm.run_dir import DIRECTORIES, MANIFEST, WORK, RunDir

PATIENCE_SECONDS = 120

Start = Callable[[Experiment, Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Sixty real files: a package of the standard library, with two near-copies."""
    directory = tmp_path / "source"
    directory.mkdir()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py"))[:60]:
        (directory / path.name).write_bytes(path.read_bytes())
    for path in sorted(directory.glob("c*.py"))[:2]:
        (directory / f"copy_of_{path.name}").write_bytes(path.read_bytes() + b"\n# the end\n")
    return directory


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the pipeline of an experiment, with its config in a file; what still runs after the test is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def pipeline(experiment: Experiment, path: Path) -> "subprocess.Popen[bytes]":
        path.write_text(config.to_yaml(experiment))
        program = Path(sys.executable).parent / "codelm"
        with (path.parent / "driver.log").open("ab") as log:
            started.append(subprocess.Popen([program, "pipeline", path], stdout=log, stderr=log))
        return started[-1]

    yield pipeline
    for process in started:
        process.kill()
        process.wait()


def is_at_work(run_dir: RunDir, stage: str) -> bool:
    """Whether the stage has begun: training is given time to write its first checkpoint."""
    if stage == "pretrain":
        return any(Path(run_dir.path(WORK)).rglob("checkpoints/*/step-*/*"))
    return Path(run_dir.path(WORK, f"{DIRECTORIES[stage]}.json")).exists()


def kill_in(start: Start, stage: str, experiment: Experiment, path: Path, pause: float) -> None:
    """Start the pipeline, wait until the stage is at work and a little longer, and kill the driver."""
    run_dir = RunDir(experiment.run_dir)
    driver = start(experiment, path)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_at_work(run_dir, stage):
        assert driver.poll() is None, (path.parent / "driver.log").read_text()
        assert time.monotonic() < deadline, f"{stage} did not begin"
        time.sleep(0.02)
    time.sleep(pause)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()


def verdicts(experiment: Experiment, directory: str, name: str) -> list[dict[str, Any]]:
    """What was judged, without the CPU time and memory that it took."""
    lines = Path(RunDir(experiment.run_dir).path(directory, name)).read_text().splitlines()
    return [omit(json.loads(line), ["cpu_seconds", "memory_bytes"]) for line in lines]


def omit(record: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


@pytest.mark.timeout(900)
def test_killed_in_each_stage(
    ray_cluster: None, make_experiment: Callable[..., Experiment], source: Path, start: Start, tmp_path: Path
) -> None:
    address = ray.get_runtime_context().gcs_address
    common = [f"cluster.address={address}", "training.workers=2", "evaluation.problems=2"]
    whole = make_experiment([*common, f"run_dir={tmp_path}/whole", "serving.port=8123"])
    assert start(whole, tmp_path / "whole.yaml").wait() == 0, (tmp_path / "driver.log").read_text()

    killed = make_experiment([*common, f"run_dir={tmp_path}/killed", "serving.port=8123"])
    moments = random.Random(0)
    unfinished = []
    for stage in pipeline.wanted(killed):
        kill_in(start, stage, killed, tmp_path / "killed.yaml", pause=moments.uniform(0.0, 0.5))
        if not (tmp_path / "killed" / DIRECTORIES[stage] / MANIFEST).exists():
            unfinished.append(stage)
    assert start(killed, tmp_path / "killed.yaml").wait() == 0, (tmp_path / "driver.log").read_text()

    # A short stage may have ended within its pause; most are cut short.
    assert len(unfinished) >= 5, unfinished
    assert "pretrain" in unfinished
    for stage in pipeline.wanted(killed):
        directory = DIRECTORIES[stage]
        first, second = RunDir(whole.run_dir).manifest(directory), RunDir(killed.run_dir).manifest(directory)
        assert first is not None
        assert second is not None
        measured = [name for name in first.files if name.endswith("results.jsonl")]
        assert measured == (["canonical_results.jsonl", "samples.jsonl_results.jsonl"] if stage == "evaluate" else [])
        for name in measured:
            assert verdicts(whole, directory, name) == verdicts(killed, directory, name)
        measured += ["report.html"] if stage == "evaluate" else []
        assert omit(second.files, measured) == omit(first.files, measured), stage
        assert second.metrics == first.metrics, stage
