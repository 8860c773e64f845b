"""Directories of killed judges go with the next cell; those in use, of others or too young to tell stay."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from codelm.sandbox.mountpoint import PREFIX, STALE_SECONDS, mountpoint

WAITING = """
import time
from codelm.sandbox.cell import Cell
from codelm.sandbox.tasks import Limits
with Cell(Limits(), frozenset(("namespaces",))):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def age(path: Path) -> None:
    old = time.time() - STALE_SECONDS - 1
    os.utime(path, (old, old))


def test_what_a_killed_judge_has_left_goes_with_the_next(tmp_path: Path) -> None:
    asked = [sys.executable, "-c", WAITING]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as judge:
        assert judge.stdout is not None
        assert judge.stdout.readline() == b"ready\n"
        (left,) = tmp_path.iterdir()
        age(left)
        with mountpoint():
            assert left.exists(), "its judge lives"
        judge.send_signal(signal.SIGKILL)
    with mountpoint() as mine:
        assert os.listdir(tmp_path) == [os.path.basename(mine)]
    assert os.listdir(tmp_path) == []


def test_young_ones_links_and_other_names_stay(tmp_path: Path) -> None:
    young, other = tmp_path / f"{PREFIX}young", tmp_path / "other"
    young.mkdir()
    other.mkdir()
    age(other)
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(other)
    with mountpoint():
        pass
    assert {path.name for path in tmp_path.iterdir()} == {young.name, other.name, link.name}


def test_what_a_program_left_in_it_goes_too(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}left"
    (left / "inner").mkdir(parents=True)
    (left / "inner" / "file").write_text("a")
    age(left)
    with mountpoint():
        assert not left.exists()
