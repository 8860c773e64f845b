"""Which weights of a training are kept."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from codelm.on_ray import best_weights


class Told:
    """Stands where the engine does; only its rank is asked for."""

    rank = 0


def test_the_lowest_loss_is_kept_and_one_that_is_no_number_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(best_weights, "write_weights", lambda *given: written.append(given[3]))
    (tmp_path / "best").mkdir()
    best = best_weights.BestWeights(LocalFileSystem(), str(tmp_path), None, frozenset())
    engine: Any = Told()
    for step, loss in enumerate((3.0, 2.0, math.nan, 2.5, 2.0, math.inf)):
        best.offer(engine, step, loss)
    assert best.found == {"step": 4, "validation_loss": 2.0}  # an equal one again: a training may be repeating itself
    assert json.loads((tmp_path / "best" / "best.json").read_text()) == best.found
    assert len(written) == 3
    again = best_weights.BestWeights(LocalFileSystem(), str(tmp_path), None, frozenset())
    assert again.found == best.found
