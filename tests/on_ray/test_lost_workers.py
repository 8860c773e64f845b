"""Work whose worker dies goes to the others, which do not wait until there is room to start that one again."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError

from codelm.errors import UserError
from codelm.evaluation.benchmarks.humaneval import humaneval
from codelm.evaluation.generation import Job
from codelm.evaluation.judging import Rules
from codelm.on_ray import starting
from codelm.on_ray.judging import RETRIES, Judge, Judges, end, share
from codelm.on_ray.sampling import lines
from codelm.records import Sample
from codelm.sandbox.judge import Limits

PROBLEMS = {problem.task_id: problem for problem in list(humaneval())[:20]}
DEATHS = RETRIES + 2
"""Of the first worker that is asked whether it is there: more than Ray alone tries."""
NO_ROOM_SECONDS = 60
"""That a worker takes to start again, as on a cluster that has lost a machine."""


class Mortal(Judge):
    """Dies with its first piece of work if it is the first of all to have one, or with each; starts slowly again."""

    def __init__(self, marks: Path, number: int, always: bool) -> None:
        super().__init__(Rules(Limits()))
        self._marks, self._always = marks, always
        if not self._first(f"started-{number}") and not always:
            time.sleep(NO_ROOM_SECONDS)

    def load(self) -> None:
        pass

    def judge(self, shared: Any, batch: Any) -> Any:
        self._die()
        return super().judge(shared, batch)

    def complete(self, shared: Any, unit: Any) -> Iterator[list[tuple[int, str]]]:
        yield [(unit[0][0], "first")]
        self._die()
        yield [(place, "rest") for place, _ in unit[1:]]

    def _die(self) -> None:
        if self._first("died") or self._always:
            os._exit(1)

    def _first(self, mark: str) -> bool:
        try:
            (self._marks / mark).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def mortals(marks: Path, always: bool = False) -> list[Any]:
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(Mortal)
    return [actor.remote(marks, number, always) for number in range(2)]


def test_others_judge_what_a_lost_worker_had(ray_cluster: None, tmp_path: Path) -> None:
    samples = [Sample(task_id, 0, problem.canonical_solutions[0]) for task_id, problem in PROBLEMS.items()]
    actors, began = mortals(tmp_path), time.monotonic()
    verdicts = dict(Judges(actors, share(PROBLEMS)).verdicts(samples, range(len(samples))))
    assert time.monotonic() - began < NO_ROOM_SECONDS / 2
    assert (tmp_path / "died").exists()
    assert sorted(verdicts) == list(range(len(samples)))
    assert all(json.loads(line)["passed"] for line in verdicts.values())
    end(actors)


def test_others_generate_what_a_lost_worker_had(ray_cluster: None, tmp_path: Path) -> None:
    jobs: list[Job] = [Job("HumanEval/0", number, (1,), 0.0) for number in range(6)]
    actors, began = mortals(tmp_path), time.monotonic()
    made = list(lines(actors, share(PROBLEMS), jobs, [[0, 1, 2], [3, 4], [5]]))
    assert time.monotonic() - began < NO_ROOM_SECONDS / 2
    assert (tmp_path / "died").exists()
    assert sorted(place for place, _ in made) == list(range(6))
    end(actors)


def test_work_that_kills_every_worker_is_given_up(ray_cluster: None, tmp_path: Path) -> None:
    actors = mortals(tmp_path, always=True)
    with pytest.raises(RayActorError):
        dict(Judges(actors, share(PROBLEMS)).verdicts([Sample("HumanEval/0", 0, "")], [0]))


class Unreachable(Mortal):
    """Cannot be asked whether it is there for a while, as when its machine is lost and Ray has not noticed yet."""

    def __init__(self, marks: Path) -> None:
        Judge.__init__(self, Rules(Limits()))
        self._marks, self._always = marks, False

    def ready(self) -> frozenset[str]:
        self._fail()
        return super().ready()

    def load(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if any(self._first(f"failed-{number}") for number in range(DEATHS)):
            os._exit(1)


@pytest.fixture
def unreachable(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(starting, "PATIENCE_SECONDS", 600.0)  # each death takes a start of the worker
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=RETRIES)(Unreachable)
    (tmp_path / "died").touch()  # none dies of its work
    actors = [actor.remote(tmp_path)]
    yield actors
    end(actors)


def test_a_judge_that_is_not_reached_is_asked_again(unreachable: list[Any]) -> None:
    assert len(dict(Judges(unreachable, share(PROBLEMS)).verdicts([Sample("HumanEval/0", 0, "")], [0]))) == 1


def test_workers_that_die_wherever_they_are_started_are_given_up(
    unreachable: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(UserError, match="disk is full or memory is short"):
        dict(Judges(unreachable, share(PROBLEMS)).verdicts([Sample("HumanEval/0", 0, "")], [0]))


def test_a_generator_that_is_not_reached_is_asked_again(unreachable: list[Any]) -> None:
    jobs: list[Job] = [Job("HumanEval/0", 0, (1,), 0.0)]
    assert [place for place, _ in lines(unreachable, share(PROBLEMS), jobs, [[0]])] == [0]
