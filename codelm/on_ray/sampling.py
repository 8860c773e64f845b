"""Generates samples over the cluster: an actor with the model for each GPU, or CPU, which gets one unit at a time.

Workers import this module, so that it does without MLflow.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import ray

from codelm.config import Experiment
from codelm.config.engines import Precision
from codelm.evaluation.generation import Job, complete
from codelm.evaluation.judging import Rules
from codelm.evaluation.samples import sample_record
from codelm.inference.engine import Engine, Options, load_engine
from codelm.on_ray.judging import Judge, Shared, cluster_cpus, end
from codelm.on_ray.tasks import answer
from codelm.run_dir import DIRECTORIES, RunDir

SEND_SECONDS = 0.5
"""Finished samples of so long travel together."""
RETRIES = 3
"""Times that a unit is made again when its worker dies."""

Lines = list[tuple[int, str]]
"""Samples as lines, with their places."""


class Generator(Judge):
    """Holds the model on one worker; on a CPU it judges too, since starting another process takes seconds."""

    def __init__(self, rules: Rules, run_dir: RunDir, experiment: Experiment, device: str) -> None:
        super().__init__(rules)
        self._run_dir, self._device = run_dir, device
        self._directory = DIRECTORIES[experiment.model_stage]
        self._evaluation, self._seed = experiment.evaluation, experiment.seed

    @cached_property
    def _engine(self) -> Engine:
        model = self._run_dir.local_copy(self._directory)
        # In fp32, and forgetting prompts between units: samples depend neither on the machine nor on the worker.
        precision: Precision = "fp32" if self._device == "cpu" else "auto"
        options = Options(max_batch=self._evaluation.batch_size, precision=precision, remember=False)
        return load_engine(self._evaluation.engine, model, self._device, options=options)

    def load(self) -> None:
        """Answer once the model is loaded."""
        assert self._engine

    def complete(self, shared: Shared, unit: Sequence[tuple[int, Job]]) -> Iterator[Lines]:
        """The samples of jobs as they are finished."""
        places, jobs = [place for place, _ in unit], [job for _, job in unit]
        finished: Lines = []
        sent = time.monotonic()
        for number, sample in complete(self._engine, jobs, self.problems(shared), self._evaluation, self._seed):
            finished.append((places[number], json.dumps(sample_record(sample))))
            if time.monotonic() - sent > SEND_SECONDS:
                yield finished
                finished, sent = [], time.monotonic()
        yield finished


def lines(
    actors: Sequence[Any], shared: Shared, jobs: Sequence[Job], units: Sequence[Sequence[int]]
) -> Iterator[tuple[int, str]]:
    """Give units of jobs to generators as they become free; their samples, as lines, as they are finished.

    Those that find no room on the cluster get none.

    Args:
        actors: of `generators`.
        shared: problems, of `share`.
        jobs: of the run.
        units: places of jobs that belong together.
    """
    left = list(reversed(units))
    starting = {actor.load.remote(): actor for actor in actors[: len(units)]}
    streams: dict[Any, Any] = {}
    while left or streams:
        ready: Any
        (ready,), _ = ray.wait([*streams, *(starting if left else ())], num_returns=1)
        if ready in starting:
            actor = starting.pop(ready)
            answer(ready)
        else:
            reference = next(ready, None)
            if reference is not None:
                yield from answer(reference)
                continue
            actor = streams.pop(ready)
        if left:
            unit = [(place, jobs[place]) for place in left.pop()]
            streams[actor.complete.options(num_returns="streaming").remote(shared, unit)] = actor


def cluster_gpus(experiment: Experiment) -> int:
    """The GPUs to generate on: the cluster's, unless the config says otherwise."""
    return int(ray.cluster_resources().get("GPU", 0)) if experiment.accelerator in ("auto", "gpu") else 0


@contextmanager
def generators(rules: Rules, run_dir: RunDir, experiment: Experiment) -> Iterator[list[Any]]:
    """A `Generator` for each GPU of the cluster, or else CPU.

    One that dies, with its machine or alone, is started again, and its unit made again.
    """
    gpus = cluster_gpus(experiment)
    # One CPU means one thread: sums of floats would come out differently with more.
    options: dict[str, Any] = {
        "num_cpus": 1,
        "num_gpus": int(gpus > 0),
        "max_restarts": -1,
        "max_task_retries": RETRIES,
    }
    actor: Any = ray.remote(**options)(Generator)
    device = "cuda" if gpus else "cpu"
    actors = [actor.remote(rules, run_dir, experiment, device) for _ in range(gpus or cluster_cpus())]
    try:
        yield actors
    finally:
        end(actors)
