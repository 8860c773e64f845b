"""Seconds until a trial that was stopped early has freed its CPU: `python -m tests.benchmarks.bench_trial_release`.

A sweep of the pretraining of a tiny model with four trials at the same time, of which ASHA stops most. No other trial
waits for a CPU, so the cluster's free ones grow by one for each trial that has ended.
"""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray

from codelm import config
from codelm.config.sweep import Sweep
from codelm.on_ray import pipeline, sweep_search
from codelm.on_ray.cluster import connected
from codelm.tokenization import bpe
from tests.benchmarks.bench_start import experiment

TRIALS = 4
POLL_SECONDS = 0.05
BOUND_SECONDS = 5.0
TRAINING = {"workers": 1, "steps": 400, "validate_every": 20, "log_every": 20, "micro_batch_size": 8}
RATES = [3e-3, *(factor * 1e-7 for factor in range(1, TRIALS))]
SWEEP = {
    "space": {"training.learning_rate": {"grid": RATES}},
    "trials": 1,
    "grace_share": 0.05,
    "reduction": 4,
}


def main() -> None:
    """Print how long each stopped trial held its CPU after the decision."""
    stopped: list[float] = []
    free: list[tuple[float, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            free.append((time.monotonic(), ray.available_resources().get("CPU", 0.0)))

    class Timed(sweep_search.Narrator):
        """Takes the time of each decision."""

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            stopped.append(time.monotonic())
            super().on_trial_complete(iteration, trials, trial, **info)

    sweep_search.Narrator = Timed  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as name:
        path = experiment(Path(name), "torch", training=TRAINING)
        for file, text in bpe.files(bpe.train([], 263, 2)).items():  # the best model is exported with it
            (Path(name) / "run" / "tokenizer" / file).write_text(text)
        overrides = [f"cluster.num_cpus={TRIALS}"]
        made = config.load(path, overrides).model_copy(update={"sweep": Sweep.model_validate(SWEEP)})
        with connected(made.cluster):
            watcher = threading.Thread(target=watch)
            watcher.start()
            manifest = pipeline.run(made, ["sweep"])["sweep"]
            time.sleep(BOUND_SECONDS)
            over.set()
            watcher.join()
    early = manifest.metrics["states"].get("stopped", 0)
    assert early, "no trial was stopped early"
    held = [cpus for at, cpus in free if at < stopped[0]][-1]
    assert held < 1, f"{held} CPUs were free before any trial was stopped"
    # Those that ran to their end had freed their CPU before; all decisions before the first of these are counted.
    waits = [
        next((at for at, cpus in free if at >= decided and cpus >= number), float("inf")) - decided
        for number, decided in enumerate(stopped[:early], start=1)
    ]
    print(f"{early} of {TRIALS} trials stopped early, {manifest.metrics['share_of_steps']:.0%} of all steps")
    print(f"seconds to free a CPU: {', '.join(f'{wait:.2f}' for wait in waits)}; longest {max(waits):.2f}")
    assert max(waits) < BOUND_SECONDS


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
