"""What training waits for checkpoints: `python -m tests.benchmarks.bench_checkpoints [ENGINE]`.

`codelm pretrain` with two workers on a model of about 5 million parameters: 24 steps of 4,096 tokens with a checkpoint
(weights and both moments, 60 MB) every 6, which is much more often than anybody wants.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.bench_start import experiment

MODEL = {"hidden_size": 256, "layers": 6, "heads": 4, "intermediate_size": 704, "max_positions": 512}
TRAINING = {"steps": 24, "checkpoint_every": 6, "validate_every": 24, "batch_size": 8, "micro_batch_size": 4}


def main(engine: str) -> None:
    """Print the share of the time, and the seconds of each checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        path = experiment(Path(name), engine, 512, model=MODEL, training=TRAINING)
        subprocess.run([str(Path(sys.executable).with_name("codelm")), "pretrain", str(path)], check=True)
        manifest = json.loads((Path(name) / "run" / "pretrain" / "manifest.json").read_text())
    facts = manifest["facts"]
    print(f"{manifest['metrics']['parameters']:,} parameters, {engine}, {facts['tokens_per_second']:,.0f} tokens/s")
    print(f"waited {facts['checkpoint_wait_share']:.3%} of the time for checkpoints; start: {facts['start_seconds']}")


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main(sys.argv[1] if len(sys.argv) > 1 else "deepspeed")
