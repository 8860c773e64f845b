"""Judges samples over the cluster: an actor a CPU, each with a warm cell, and programs that travel in batches.

Workers import this module: it does without MLflow and torch, which take seconds.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayActorError

from codelm.console import progress, say
from codelm.evaluation.judging import Rules, judge, verdict_line
from codelm.evaluation.parts import Parts
from codelm.evaluation.programs import forgeable
from codelm.evaluation.samples import distinct
from codelm.on_ray.placement import places
from codelm.on_ray.starting import Starting
from codelm.on_ray.tasks import answer
from codelm.records import Problem, Sample
from codelm.sandbox import probe
from codelm.sandbox.judge import Court

MOST_TOGETHER = 64
"""Programs of one call: at 3 ms each, the 2 ms of a call are then 1 %."""
BATCHES_LEFT = 8
"""The rest is cut into so many batches a worker, so that all of them end at about the same time."""
MOST_BYTES = 4 << 20
"""Of completions of one call."""
IN_FLIGHT = 2
"""Calls given to a worker: it has the next when it ends one."""
RETRIES = 3
"""Times that work is done again when its worker dies."""
NEVER_AGAIN = {"max_task_retries": 0}
"""Options of a call that fails when its worker dies. Ray would make it again when there is room for that worker, while
others have nothing to do."""
CLOSE_SECONDS = 5.0
"""For cells to end, before their actors are killed."""

Batch = list[tuple[int, Sample]]
"""Samples with their places."""
Shared = list[Any]
"""A reference to the problems by their task ids: in a list, so that it travels with each call and is not fetched."""


class Judge:
    """Judges on one worker."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._court: Court | None = None
        self._problems: dict[str, Problem] = {}

    def problems(self, shared: Shared) -> dict[str, Problem]:
        """By their task ids; fetched once."""
        if not self._problems:
            (reference,) = shared
            self._problems = answer(reference)
        return self._problems

    def ready(self) -> frozenset[str]:
        """The layers of the sandbox that hold on this machine.

        Raises:
            UserError: one that is required is missing.
        """
        return probe.required(self._rules.require)

    def judge(self, shared: Shared, batch: Batch) -> list[tuple[int, str]]:
        """The verdicts of samples, as lines, with their places."""
        if self._court is None:
            self._court = Court(self._rules.limits, self._rules.require)
        problems = self.problems(shared)
        verdicts = (judge(self._court, problems, self._rules, sample) for _, sample in batch)
        return [(place, verdict_line(verdict)) for (place, _), verdict in zip(batch, verdicts, strict=True)]

    def close(self) -> None:
        """End the cells; their directories would outlive a process that is killed."""
        if self._court is not None:
            self._court.__exit__(None, None, None)


class Judges:
    """The judges of a cluster; those that find no room on it get no work."""

    def __init__(self, actors: Sequence[Any], shared: Shared) -> None:
        self._shared = shared
        self._starting = Starting(actors, lambda actor: actor.ready.remote())
        self._ready: list[Any] = []
        self._layers: frozenset[str] | None = None

    def layers(self) -> frozenset[str]:
        """The layers of the sandbox that hold where judging has begun."""
        while self._layers is None:
            self._welcome(self._starting.wait())
        return self._layers

    def verdicts(self, samples: Sequence[Sample], todo: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Judge the samples of some places; their lines as they come, in any order."""
        left = deque(todo)
        calls: dict[Any, tuple[Any, Batch]] = {}
        losses: Counter[int] = Counter()
        while left or calls:
            busy = Counter(actor for actor, _ in calls.values())
            for actor in self._ready:
                for _ in range(IN_FLIGHT - busy[actor]):
                    if left:
                        batch = self._batch(samples, left)
                        calls[actor.judge.options(**NEVER_AGAIN).remote(self._shared, batch)] = actor, batch
            done = self._starting.wait(list(calls))
            if done in self._starting:
                self._welcome(done)
                continue
            actor, batch = calls.pop(done)
            try:
                lines = answer(done)
            except RayActorError as error:
                self._lost(actor)
                places = [place for place, _ in batch]
                count_loss(losses, places, error)
                left.extendleft(reversed(places))
            else:
                yield from lines

    def _lost(self, actor: Any) -> None:
        """An actor has died; Ray starts it again where and when there is room."""
        if actor in self._ready:
            self._ready.remove(actor)
            self._starting.lost(actor)

    def _welcome(self, reference: Any) -> None:
        """An actor has found room on the cluster, or is lost."""
        answered = self._starting.welcome(reference)
        if answered is None:
            return
        actor, here = answered
        if self._layers is not None and here != self._layers:
            say("judge", f"machines differ: one has the layers {', '.join(sorted(here))} of the sandbox alone")
        self._layers = here if self._layers is None else self._layers & here
        self._ready.append(actor)

    def _batch(self, samples: Sequence[Sample], left: deque[int]) -> Batch:
        size = min(MOST_TOGETHER, math.ceil(len(left) / (BATCHES_LEFT * len(self._ready))))
        batch: Batch = []
        held = 0
        while left and len(batch) < size and held < MOST_BYTES:
            place = left.popleft()
            batch.append((place, samples[place]))
            held += len(batch[-1][1].completion)
        return batch


def count_loss(losses: Counter[int], places: Sequence[int], error: Exception) -> None:
    """Count that work was lost with its worker; where some of it was too often, it is what kills: raise the error."""
    losses.update(places)
    if max(losses[place] for place in places) > RETRIES:
        raise error


def cluster_cpus() -> int:
    """The CPUs of the cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def share(problems: Mapping[str, Problem]) -> Shared:
    """Put problems where all workers can read them; keep what is returned as long as they live."""
    return [ray.put(dict(problems))]


def tell_forgeable(problems: Iterable[Problem]) -> None:
    """Say of how many problems a program could forge its success; once for all samples of them."""
    count = sum(map(forgeable, problems))
    if count:
        say("judge", f"{count:,} problems have tests that run within the program's reach: it could forge them")


@contextmanager
def judges(shared: Shared, rules: Rules, most: int, nodes: str = "auto") -> Iterator[Judges]:
    """One judge for each CPU of the cluster, or where some nodes are for sandboxes, for each program they take.

    What a judge has that dies, with its machine or alone, the others get; it is started again when there is room.

    Args:
        shared: problems, of `share`.
        rules: for all programs.
        most: judges at most.
        nodes: `evaluation.sandbox.nodes`.

    Raises:
        UserError: no node is for sandboxes and one is required; or, when they answer, a required layer of the
            sandbox is missing on a machine.
    """
    room = places(nodes)
    actor: Any = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **room.options)(Judge)
    actors = [actor.remote(rules) for _ in range(max(1, min(room.count, most)))]
    try:
        yield Judges(actors, shared)
    finally:
        end(actors)


@contextmanager
def judges_when_needed(shared: Shared, rules: Rules, most: int, nodes: str = "auto") -> Iterator[Callable[[], Judges]]:
    """As `judges`, which are started by the first call."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(judges(shared, rules, most, nodes)))


def end(actors: Sequence[Any]) -> None:
    """Let workers go."""
    ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=CLOSE_SECONDS)
    for actor in actors:
        ray.kill(actor)


@dataclass(frozen=True)
class Judgement:
    """What came out.

    Attributes:
        lines: the verdict of each sample, of `verdict_line`.
        distinct: how many programs had to run.
        layers: of the sandbox, that held.
    """

    lines: list[str]
    distinct: int
    layers: list[str]


def judge_all(
    samples: Sequence[Sample], problems: Mapping[str, Problem], pool: Callable[[], Judges], parts: Parts, name: str
) -> Judgement:
    """Judge samples, with progress on the terminal; a program that comes several times runs once.

    Args:
        samples: to judge.
        problems: by their task ids.
        pool: gives the judges; not called where `parts` has all verdicts.
        parts: keeps verdicts as they come.
        name: of this work in `parts`.
    """
    if not samples:
        return Judgement([], 0, [])
    first, same_as = distinct(samples, problems)
    if len(first) < len(samples):
        say("judge", f"{len(samples) - len(first):,} of {len(samples):,} samples repeat a program: it runs once")

    def probe_layers(_todo: Sequence[int]) -> Iterator[tuple[int, str]]:
        yield 0, json.dumps(sorted(pool().layers()))

    def run(todo: Sequence[int]) -> Iterator[tuple[int, str]]:
        numbers = {first[number]: number for number in todo}
        for place, line in pool().verdicts(samples, list(numbers)):
            yield numbers[place], line

    layers = parts.make(f"{name}-layers", 1, probe_layers, lambda done: None)
    with progress("judge", "programs", len(first)) as advance:
        lines = parts.make(name, len(first), run, lambda done: advance(done, ""))
    return Judgement([lines[number] for number in same_as], len(first), json.loads(layers[0]))
