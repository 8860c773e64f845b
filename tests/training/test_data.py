from pathlib import Path

import numpy as np
import pytest
import torch

from codelm.training.data import open_packed, spread
from tests.training.packed import write_packed


def test_batches_are_the_rows_of_the_file(tmp_path: Path) -> None:
    data = open_packed(write_packed(tmp_path, length=16, train=9) / "train")
    raw = np.fromfile(tmp_path / "train" / "tokens.bin", dtype="<u2").reshape(9, 16)
    batch = data.batch(np.array([4, 0, 4]))
    assert batch.dtype == torch.int64
    assert batch.tolist() == raw[[4, 0, 4]].tolist()
    assert len(data) == 9


def test_a_file_of_another_size_than_stated_is_refused(tmp_path: Path) -> None:
    path = write_packed(tmp_path) / "train" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"tokens.bin has .* bytes, and its info.json tells of 96 x 64 uint16"):
        open_packed(tmp_path / "train")


def test_validation_sequences_are_spread_evenly() -> None:
    assert spread(10, 4).tolist() == [0, 2, 5, 7]
    assert spread(3, 64).tolist() == [0, 1, 2]
    assert set(np.diff(spread(1688, 64))) <= {26, 27}
