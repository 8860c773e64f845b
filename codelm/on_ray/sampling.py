"""Generates samples over the cluster: an actor with the model for each GPU, or CPU, which gets one unit at a time.

Workers import this module, so that it does without MLflow.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayActorError

from codelm.config import Experiment
from codelm.config.engines import Precision
from codelm.evaluation.generation import Job, complete
from codelm.evaluation.judging import Rules
from codelm.evaluation.samples import sample_record
from codelm.inference.engine import Engine, Options, load_engine
from codelm.on_ray.judging import NEVER_AGAIN, RETRIES, Judge, Shared, cluster_cpus, count_loss, end
from codelm.on_ray.starting import Starting
from codelm.on_ray.tasks import answer
from codelm.run_dir import DIRECTORIES, RunDir

SEND_SECONDS = 0.5
"""Finished samples of so long travel together."""
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

    Those that find no room on the cluster get none; of a worker that dies, others get the unit.

    Args:
        actors: of `generators`.
        shared: problems, of `share`.
        jobs: of the run.
        units: places of jobs that belong together.
    """
    left = list(reversed(units))
    starting = Starting(actors[: len(units)], lambda actor: actor.load.remote())
    free: list[Any] = []
    streams: dict[Any, tuple[Any, Sequence[int]]] = {}
    losses: Counter[int] = Counter()
    known: set[int] = set()
    while left or streams:
        while left and free:
            actor, unit = free.pop(), left.pop()
            call = actor.complete.options(num_returns="streaming", **NEVER_AGAIN)
            streams[call.remote(shared, [(place, jobs[place]) for place in unit])] = actor, unit
        ready: Any = starting.wait(list(streams)) if left else ray.wait(list(streams), num_returns=1)[0][0]
        if ready in starting:
            answered = starting.welcome(ready)
            free += [answered[0]] if answered else []
            continue
        reference = next(ready, None)
        if reference is None:
            free.append(streams.pop(ready)[0])
            continue
        try:
            made = answer(reference)
        except RayActorError as error:
            actor, unit = streams.pop(ready)
            count_loss(losses, unit, error)
            left.append(unit)
            starting.lost(actor)
            continue
        yield from ((place, line) for place, line in made if place not in known)
        known.update(place for place, _ in made)


def cluster_gpus(experiment: Experiment) -> int:
    """The GPUs to generate on: the cluster's, unless the config says otherwise."""
    return int(ray.cluster_resources().get("GPU", 0)) if experiment.accelerator in ("auto", "gpu") else 0


@contextmanager
def generators(rules: Rules, run_dir: RunDir, experiment: Experiment) -> Iterator[list[Any]]:
    """A `Generator` for each GPU of the cluster, or else CPU.

    The unit of one that dies, with its machine or alone, the others get; it is started again when there is room.
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
