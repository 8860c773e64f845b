from pathlib import Path

import pyarrow.fs as pafs
import pytest

from codelm.training.checkpoint import (
    Progress,
    is_complete,
    latest_complete,
    read_progress,
    seal,
    step_name,
    write_progress,
)
from codelm.training.curve import Point

LOCAL = pafs.LocalFileSystem()
PROGRESS = Progress(2, 8, [Point(0, validation_loss=0.1 + 0.2), Point(1, 1 / 3, 1e-3), Point(2, 2 / 3, 2e-3, 0.7)])


def write(directory: Path, workers: int = 2) -> Path:
    """A checkpoint of two workers, as the storage merges it."""
    directory.mkdir(parents=True)
    for rank in range(workers):
        part = directory.parent / f"part-{rank}"
        (part / "deepspeed").mkdir(parents=True, exist_ok=True)
        (part / "deepspeed" / f"optimizer-{rank}.pt").write_bytes(b"x" * (100 + rank))
        if rank == 0:
            write_progress(part, PROGRESS)
        seal(part, rank, workers)
        pafs.copy_files(str(part), str(directory))
        pafs.LocalFileSystem().delete_dir(str(part))
    return directory


def test_progress_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    assert read_progress(write(tmp_path / "step")) == PROGRESS


def test_a_whole_checkpoint_is_complete(tmp_path: Path) -> None:
    assert is_complete(LOCAL, str(write(tmp_path / "step")), workers=2)


@pytest.mark.parametrize("name", ["seal-0.json", "seal-1.json", "deepspeed/optimizer-1.pt", "curve.jsonl"])
@pytest.mark.parametrize("damage", ["missing", "cut short", "empty"])
def test_a_checkpoint_with_a_damaged_file_is_not(tmp_path: Path, name: str, damage: str) -> None:
    path = write(tmp_path / "step") / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "cut short" else b"")
    assert not is_complete(LOCAL, str(tmp_path / "step"), workers=2)


def test_a_checkpoint_of_another_number_of_workers_is_not(tmp_path: Path) -> None:
    write(tmp_path / "step")
    assert not is_complete(LOCAL, str(tmp_path / "step"), workers=1)
    assert not is_complete(LOCAL, str(tmp_path / "step"), workers=4)


def test_the_latest_complete_one_is_found_over_all_attempts(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    assert latest_complete(LOCAL, str(root), workers=2) is None
    write(root / "attempt-2" / step_name(20))
    wanted = write(root / "attempt-1" / step_name(100))
    broken = write(root / "attempt-2" / step_name(120))
    (broken / "seal-1.json").unlink()
    (root / "attempt-2" / "checkpoint_manager_snapshot.json").write_text("{")
    (root / ".validate_storage_marker").touch()
    assert latest_complete(LOCAL, str(root), workers=2) == str(wanted)
