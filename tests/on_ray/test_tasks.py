import os
from typing import Any

import pytest
import ray

from codelm.errors import UserError
from codelm.on_ray.tasks import cpus_of_a_task, gather, use_threads


@ray.remote
def _square(number: int) -> int:
    return number * number


@ray.remote
def _fail(error: Exception) -> None:
    raise error


def test_results_come_in_the_order_asked_for_and_each_end_is_told(ray_cluster: None) -> None:
    ended: list[int] = []
    assert gather([_square.remote(number) for number in range(20)], ended.append) == [n * n for n in range(20)]
    assert sorted(ended) == list(range(20))
    assert gather([]) == []


def test_a_users_mistake_comes_as_it_was_raised(ray_cluster: None) -> None:
    with pytest.raises(UserError) as caught:
        gather([_square.remote(1), _fail.remote(UserError("set a higher limit"))])
    assert type(caught.value) is UserError
    assert str(caught.value) == "set a higher limit"


def test_other_errors_keep_their_origin(ray_cluster: None) -> None:
    with pytest.raises(ZeroDivisionError, match="_fail"):
        gather([_fail.remote(ZeroDivisionError("one by none"))])


@pytest.mark.parametrize(("machines", "cpus"), [([4], 4), ([0, 8], 8), ([0, 64, 4, 4], 4), ([16, 16, 0], 16)])
def test_a_task_asks_for_no_more_than_is_left_when_a_machine_is_lost(
    monkeypatch: pytest.MonkeyPatch, machines: list[int], cpus: int
) -> None:
    """One that asked for the largest machine's CPUs would wait for ever when that machine is lost."""
    nodes = [{"Alive": True, "Resources": {"CPU": float(count)} if count else {}} for count in machines]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 128.0}}])
    assert cpus_of_a_task() == cpus


@pytest.mark.parametrize(("count", "parallel"), [(1, "false"), (3, "true")])
def test_threads_are_what_the_libraries_read(monkeypatch: Any, count: int, parallel: str) -> None:
    monkeypatch.setenv("RAYON_NUM_THREADS", "")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "")
    use_threads(count)
    assert (os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"]) == (str(count), parallel)
