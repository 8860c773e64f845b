"""The workers of stage `evaluate`, which generates between judging and judging."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from typing import Any

from codelm.config import Experiment
from codelm.evaluation.generation import Job
from codelm.evaluation.judging import Rules
from codelm.evaluation.parts import Parts
from codelm.on_ray.judging import Judgement, Judges, Shared, judge_all, judges_when_needed, share, tell_forgeable
from codelm.on_ray.placement import places
from codelm.on_ray.sampling import cluster_gpus, generators, lines
from codelm.records import Problem, Sample
from codelm.run_dir import RunDir


class Workers:
    """The workers of the stage, started when there is work that an interrupted run has not left done.

    On CPUs the same ones generate and judge. Where there are GPUs, or nodes that are for sandboxes, judges are others,
    and neither outlives its part of the stage.
    """

    def __init__(self, experiment: Experiment, run_dir: RunDir, rules: Rules, problems: Sequence[Problem]) -> None:
        self._experiment, self._run_dir, self._rules = experiment, run_dir, rules
        self._problems = {problem.task_id: problem for problem in problems}
        self._nodes = experiment.evaluation.sandbox.nodes
        self._apart = cluster_gpus(experiment) > 0 or places(self._nodes).apart
        self._stack = ExitStack()

    def __enter__(self) -> "Workers":
        tell_forgeable(self._problems.values())
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def judge(self, samples: Sequence[Sample], parts: Parts, name: str) -> Judgement:
        """The verdicts of samples."""
        if not self._apart:
            return judge_all(samples, self._problems, lambda: self._both, parts, name)
        with judges_when_needed(self._shared, self._rules, len(samples), self._nodes) as pool:
            return judge_all(samples, self._problems, pool, parts, name)

    def generate(self, jobs: Sequence[Job], shares: Sequence[Sequence[int]]) -> Iterator[tuple[int, str]]:
        """The samples of jobs, as lines with their places."""
        if not self._apart:
            yield from lines(self._generators, self._shared, jobs, shares)
            return
        with self._started() as actors:
            yield from lines(actors, self._shared, jobs, shares)

    def _started(self) -> AbstractContextManager[list[Any]]:
        return generators(self._rules, self._run_dir, self._experiment)

    @cached_property
    def _shared(self) -> Shared:
        return share(self._problems)

    @cached_property
    def _generators(self) -> list[Any]:
        return self._stack.enter_context(self._started())

    @cached_property
    def _both(self) -> Judges:
        return Judges(self._generators, self._shared)
