"""A cell stays on one core, which the kernel chooses again every so often."""

import os
import time
from collections.abc import Iterator

import pytest

from codelm.sandbox import affinity, layers, toolchains
from codelm.sandbox.cell import Cell
from codelm.sandbox.tasks import Limits, Program

ALLOWED = os.sched_getaffinity(0)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    os.sched_setaffinity(0, ALLOWED)


def test_it_stays_and_is_then_free_for_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    core = affinity.OneCore((0,))
    core.settle()
    assert len(os.sched_getaffinity(0)) == 1
    core.settle()
    assert len(os.sched_getaffinity(0)) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + affinity.STAY_SECONDS + 0.001)
    core.settle()
    assert os.sched_getaffinity(0) == ALLOWED


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core is all there is")
def test_python_programs_are_born_on_one_core() -> None:
    source = "import os\nassert len(os.sched_getaffinity(0)) == 1"
    with Cell(Limits(), layers.FULL) as cell:
        assert cell.judge(Program("a", 0, source)).result == "passed"


@pytest.mark.skipif("javascript" in toolchains.missing(), reason="no Node.js here")
def test_those_of_other_languages_on_any() -> None:
    """Their runtimes have threads that work at the same time."""
    source = f"require('assert').equal(require('os').availableParallelism(), {len(ALLOWED)});"
    with Cell(Limits(), layers.FULL, "javascript") as cell:
        assert cell.judge(Program("a", 0, source, language="javascript")).result == "passed"
