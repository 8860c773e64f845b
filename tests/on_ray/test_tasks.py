import os
from typing import Any

import pytest
import ray

from codelm.errors import UserError
from codelm.on_ray.tasks import gather, largest_node_cpus, use_threads


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


def test_the_largest_machine_is_the_only_one(ray_cluster: None) -> None:
    assert largest_node_cpus() == 4


@pytest.mark.parametrize(("count", "parallel"), [(1, "false"), (3, "true")])
def test_threads_are_what_the_libraries_read(monkeypatch: Any, count: int, parallel: str) -> None:
    monkeypatch.setenv("RAYON_NUM_THREADS", "")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "")
    use_threads(count)
    assert (os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"]) == (str(count), parallel)
