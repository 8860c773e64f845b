"""Seconds from `codelm pretrain` to the first step, in parts: `python -m tests.benchmarks.bench_start [ENGINE]`.

Two workers on CPUs and a model of 0.1 million parameters, so that nothing but the start takes time. Beside it, in the
same run, what Ray takes by itself: its own `ray.init`, and Ray Train's `TorchTrainer` with two workers that do nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from codelm import config
from codelm.run_dir import Manifest, RunDir
from tests.training.packed import write_packed

RAY_ALONE = """
import time
began = time.time()
import ray
ray.init(address="local", num_cpus=2, include_dashboard=True, logging_level="ERROR", log_to_driver=False)
ready = time.time()
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
def nothing(config):
    import time
    return time.time()
reached = TorchTrainer(nothing, scaling_config=ScalingConfig(num_workers=2)).fit().return_value
print(began, ready, reached, time.time())
"""


def experiment(root: Path, engine: str, length: int = 64, **sections: dict[str, Any]) -> Path:
    """The config, changed by `sections`, with what the stage reads in its run directory."""
    tree: dict[str, Any] = {
        "name": "start",
        "run_dir": str(root / "run"),
        "accelerator": "cpu",
        "cluster": {"num_cpus": 2},
        "corpus": {"sources": [str(root)]},
        "tokenizer": {"vocab_size": 512},
        "data": {"sequence_length": length},
        "model": {"hidden_size": 64, "layers": 2, "heads": 4, "intermediate_size": 128, "max_positions": 64},
        "training": {"engine": engine, "workers": 2, "steps": 4, "batch_size": 8, "micro_batch_size": 4},
    }
    tree["training"] |= {"warmup_steps": 1, "log_every": 1, "validation_sequences": 4}
    for name, keys in sections.items():
        tree[name] = {**tree[name], **keys}
    run_dir = RunDir(str(root / "run"))
    write_packed(Path(run_dir.workspace("packed")), length=length)
    run_dir.publish("packed", Manifest("pack", {}, {}))
    run_dir.workspace("tokenizer")
    run_dir.publish("tokenizer", Manifest("tokenizer", {}, {}))
    path = root / "experiment.yaml"
    path.write_text(config.to_yaml(config.parse(tree, "the benchmark's")))
    return path


def main(engine: str) -> None:
    """Print the parts of both."""
    alone = subprocess.run([sys.executable, "-c", RAY_ALONE], capture_output=True, text=True, check=True)
    began, ready, reached, ended = map(float, alone.stdout.split()[-4:])
    print(
        f"Ray alone:   import and ray.init {ready - began:5.1f}, workers reached {reached - ready:5.1f}, "
        f"end {ended - reached:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        path = experiment(Path(name), engine)
        command = [str(Path(sys.executable).with_name("codelm")), "pretrain", str(path)]
        started = time.time()
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            assert process.stderr is not None
            lines = [(time.time() - started, line) for line in process.stderr]
        total = time.time() - started
        assert process.returncode == 0, "".join(line for _, line in lines)
        manifest = json.loads((Path(name) / "run" / "pretrain" / "manifest.json").read_text())
    up = next(seconds for seconds, line in lines if "dashboard" in line or "ray  started" in line)
    parts = manifest["facts"]["start_seconds"]
    first = up + sum(parts.values())
    print(
        f"codelm:      command to ray.init's end {up:5.1f}, then " + ", ".join(f"{k} {v:.1f}" for k, v in parts.items())
    )
    print(f"first step after {first:.1f} s of {total:.1f} s in all")
    print(
        f"beyond Ray's own start of workers: {first - (reached - began):.1f} s; "
        f"beyond ray.init alone: {first - (ready - began):.1f} s"
    )


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main(sys.argv[1] if len(sys.argv) > 1 else "deepspeed")
