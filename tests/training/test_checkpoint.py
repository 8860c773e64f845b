from pathlib import Path

import pyarrow.fs as pafs
import pytest
import torch

from codelm.training.checkpoint import (
    Progress,
    checkpoints,
    damage,
    latest_whole,
    open_state,
    read_progress,
    step_name,
    write_part,
)
from codelm.training.curve import Point
from codelm.training.state import WEIGHT, Piece

LOCAL = pafs.LocalFileSystem()
CURVE = [Point(0, validation_loss=0.1 + 0.2), Point(1, 1 / 3, 1e-3), Point(2, 2 / 3, 2e-3, 0.7)]
PROGRESS = Progress(2, 8, "ab" * 32, CURVE, [(1, 1), (2, 2)])
WHOLE = torch.arange(10, dtype=torch.float32)


def write(directory: Path, workers: int = 2) -> Path:
    """A checkpoint of one tensor, which the workers share."""
    for rank in range(workers):
        begin, end = 10 * rank // workers, 10 * (rank + 1) // workers
        pieces = [Piece("w", WEIGHT, begin, WHOLE[begin:end]), Piece("w", "step", 0, torch.ones(1))]
        write_part(LOCAL, str(directory), rank, workers, pieces, PROGRESS)
    return directory


def test_progress_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    assert read_progress(write(tmp_path / "step")) == PROGRESS


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_part_of_the_state_is_put_together(tmp_path: Path, workers: int) -> None:
    state = open_state(write(tmp_path / "step", workers))
    for start in range(10):
        for end in range(start + 1, 11):
            assert torch.equal(state.read("w", WEIGHT, start, end - start), WHOLE[start:end])
    assert state.read("w", "step", 0, 1).tolist() == [1.0]
    with pytest.raises(KeyError, match="lacks weight of w from element 10 to 11"):
        state.read("w", WEIGHT, 8, 3)
    with pytest.raises(KeyError, match="lacks exp_avg of w"):
        state.read("w", "exp_avg", 0, 1)


def test_files_of_a_larger_group_that_was_lost_have_no_part(tmp_path: Path) -> None:
    write(tmp_path / "step", workers=3)
    write(tmp_path / "step", workers=1)
    assert damage(LOCAL, str(tmp_path / "step"), thorough=True) is None
    assert torch.equal(open_state(tmp_path / "step").read("w", WEIGHT, 0, 10), WHOLE)


def test_a_checkpoint_that_is_being_written_again_is_not_whole(tmp_path: Path) -> None:
    path = str(write(tmp_path / "step", workers=2))
    write_part(LOCAL, path, 0, 3, [Piece("w", WEIGHT, 0, WHOLE[:3])], PROGRESS)
    assert damage(LOCAL, path, thorough=False) == "seal-1.json is of another group of workers"


@pytest.mark.parametrize("name", ["seal-0.json", "seal-1.json", "state-1-0.safetensors", "curve.jsonl"])
@pytest.mark.parametrize("kind", ["missing", "cut short", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    path = write(tmp_path / "step") / name
    content = path.read_bytes()
    path.unlink()
    if kind != "missing":
        path.write_bytes(content[:-1] if kind == "cut short" else b"")
    problem = damage(LOCAL, str(tmp_path / "step"), thorough=False)
    assert problem is not None
    assert problem.startswith(name)


def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path: Path) -> None:
    path = write(tmp_path / "step") / "state-0-0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert damage(LOCAL, str(tmp_path / "step"), thorough=False) is None
    assert damage(LOCAL, str(tmp_path / "step"), thorough=True) == (
        "state-0-0.safetensors does not have the content that was written (SHA-256)"
    )


def test_the_latest_whole_one_is_found_over_all_attempts(tmp_path: Path) -> None:
    root, told = tmp_path / "checkpoints", list[str]()
    assert latest_whole(LOCAL, str(root), told.append) is None
    old = write(root / "attempt-2" / step_name(20))
    wanted = write(root / "attempt-1" / step_name(100))
    broken = write(root / "attempt-2" / step_name(120))
    (broken / "seal-1.json").unlink()
    (root / "attempt-2" / "checkpoint_manager_snapshot.json").write_text("{")
    (root / ".validate_storage_marker").touch()
    assert checkpoints(LOCAL, str(root)) == [str(broken), str(wanted), str(old)]
    assert latest_whole(LOCAL, str(root), told.append) == str(wanted)
    assert told == [
        "checkpoint step-000000120 is not whole (seal-1.json is missing): the one before it is used",
    ]
