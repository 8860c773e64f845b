"""Checkpoints that several workers write into one directory, and whether one is complete.

Each worker ends its part with a seal that lists its files and their sizes. A directory is a checkpoint if
every worker's seal is there and true, whatever was killed while it was being written or copied.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.fs as pafs

from codelm.training.curve import Point, from_lines, to_lines

CURVE = "curve.jsonl"
STATE = "progress.json"


@dataclass
class Progress:
    """How far training has come; a checkpoint holds this beside the engine's state.

    Attributes:
        step: optimizer steps done.
        cursor: samples consumed by all workers together.
        curve: one point for each step up to `step`, and one for step 0.
    """

    step: int = 0
    cursor: int = 0
    curve: list[Point] = field(default_factory=list)


def write_progress(directory: Path, progress: Progress) -> None:
    """Write what a checkpoint holds beside the engine's state."""
    (directory / CURVE).write_text(to_lines(progress.curve))
    (directory / STATE).write_text(json.dumps({"step": progress.step, "cursor": progress.cursor}))


def read_progress(directory: Path) -> Progress:
    """Read back what `write_progress` wrote."""
    return Progress(**json.loads((directory / STATE).read_text()), curve=from_lines((directory / CURVE).read_text()))


def seal(directory: Path, rank: int, workers: int) -> None:
    """Add one worker's seal to its part of a checkpoint, after everything else is in it."""
    files = {
        path.relative_to(directory).as_posix(): path.stat().st_size for path in directory.rglob("*") if path.is_file()
    }
    (directory / f"seal-{rank}.json").write_text(json.dumps({"workers": workers, "files": files}))


def is_complete(fs: pafs.FileSystem, path: str, workers: int) -> bool:
    """Whether the parts of all workers are there, whole, and of a group of so many workers."""
    for rank in range(workers):
        try:
            with fs.open_input_stream(f"{path}/seal-{rank}.json") as source:
                content = json.loads(source.read())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        found = fs.get_file_info([f"{path}/{name}" for name in content["files"]])
        if content["workers"] != workers or [info.size for info in found] != list(content["files"].values()):
            return False
    return True


def latest_complete(fs: pafs.FileSystem, root: str, workers: int) -> str | None:
    """The complete checkpoint with the highest step in `<root>/<attempt>/step-<number>`, or None."""
    attempts = fs.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    found = [
        info.path
        for attempt in attempts
        if attempt.type == pafs.FileType.Directory
        for info in fs.get_file_info(pafs.FileSelector(attempt.path))
        if info.base_name.startswith("step-")
    ]
    for path in sorted(found, key=lambda path: path.rpartition("/")[2], reverse=True):
        if is_complete(fs, path, workers):
            return path
    return None


def step_name(step: int) -> str:
    """The name of a checkpoint's directory; names sort as steps do."""
    return f"step-{step:09d}"
