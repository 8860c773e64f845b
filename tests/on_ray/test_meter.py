"""What a training says that it uses."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codelm.on_ray import meter
from codelm.on_ray.meter import Meter

LAYERS, WIDTH, LENGTH, PARAMETERS, WORKERS = 2, 64, 128, 100_000, 2
FLOPS = 6 * PARAMETERS + 12 * LAYERS * WIDTH * LENGTH


def made() -> Meter:
    engine: Any = SimpleNamespace(workers=WORKERS)
    experiment: Any = SimpleNamespace(cluster=SimpleNamespace(accelerator_type=None))
    shape = SimpleNamespace(num_hidden_layers=LAYERS, hidden_size=WIDTH)
    return Meter(engine, torch.device("cpu"), "fp32", PARAMETERS, shape, LENGTH, experiment)


def test_the_best_of_the_measured_peaks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first measurement beside other work, a right one later, and again one beside other work."""
    peaks = iter([1e9, 8e9, 2e9])
    monkeypatch.setattr(meter, "peak_flops", lambda *arguments: (next(peaks), "measured"))
    here, rate = made(), 2e9 / FLOPS
    assert "mfu" not in here.read({"validation_loss": 3.0})
    assert here.read({"tokens_per_second": rate})["mfu"] == pytest.approx(1.0)
    for _ in range(2):
        told = here.read({"tokens_per_second": rate, "validation_loss": 2.0})
        assert told["mfu"] == pytest.approx(2e9 / (8e9 * WORKERS))
    assert here.facts(rate)["mfu"] == pytest.approx(0.125)
    assert here.facts(rate)["peak_flops"] == "1.6e+10 measured"


def test_a_published_peak_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(meter, "peak_flops", lambda *arguments: asked.append(1) or (989e12, "published"))
    here = made()
    for _ in range(3):
        here.read({"tokens_per_second": 1e6, "validation_loss": 2.0})
    assert here.facts(1e6)["peak_flops"] == "1.98e+15 published"
    assert len(asked) == 1
