"""Where a job writes."""

from pathlib import Path

import pytest

from codelm import config
from codelm.config import Experiment
from codelm.on_ray.job import at_a_lasting_place


def experiment(run_dir: str) -> Experiment:
    return config.parse({"name": "n", "run_dir": run_dir, "corpus": {"sources": ["stdlib"]}}, "x.yaml")


@pytest.mark.parametrize("run_dir", ["/data/run", "s3://bucket/run"])
def test_a_full_address_is_kept(run_dir: str) -> None:
    assert at_a_lasting_place(experiment(run_dir)).run_dir == run_dir


def test_a_relative_one_outlives_the_uploaded_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert at_a_lasting_place(experiment("runs/a")).run_dir == str(Path.home() / "codelm" / "runs" / "a")
    assert "run_dir 'runs/a' is relative" in capsys.readouterr().err
