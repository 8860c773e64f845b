"""Checkpoints that several workers write into one directory, and whether one is whole.

Each worker ends its part with a seal that lists its files with their sizes and SHA-256. A directory is a checkpoint if
every worker's seal is there and true, whatever was killed or damaged while it was written or since.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from codelm.run_dir import sha256_of
from codelm.training.curve import Point, from_lines, to_lines
from codelm.training.state import Piece, StateReader, serialised

CURVE = "curve.jsonl"
STATE = "progress.json"


@dataclass
class Progress:
    """How far training has come; a checkpoint holds this beside the engine's state.

    Attributes:
        step: optimizer steps done.
        cursor: samples consumed by all workers together.
        samples: running hash of the numbers of these samples, in order: equal hashes, equal samples.
        curve: one point for each step up to `step`, and one for step 0.
        workers: (first step, workers): who did the steps.
        position: where a stream of samples was (`codelm.training.data.Samples.position`).
    """

    step: int = 0
    cursor: int = 0
    samples: str = ""
    curve: list[Point] = field(default_factory=list)
    workers: list[tuple[int, int]] = field(default_factory=list)
    position: list[int] = field(default_factory=list)

    def consume(self, numbers: bytes) -> None:
        """Add samples to the running hash."""
        self.samples = hashlib.sha256(bytes.fromhex(self.samples) + numbers).hexdigest()

    def copied(self) -> "Progress":
        """The same, which later steps do not change."""
        return Progress(self.step, self.cursor, self.samples, list(self.curve), list(self.workers), list(self.position))


def write_part(
    fs: pafs.FileSystem, path: str, rank: int, workers: int, pieces: Sequence[Piece], progress: Progress
) -> None:
    """Write one worker's part of a checkpoint; rank 0 adds the progress.

    Args:
        fs, path: the checkpoint's directory.
        rank, workers: of the worker, and of the group that writes together.
        pieces: the worker's part of the engine's state.
        progress: how far training has come.
    """
    fs.create_dir(path, recursive=True)
    seal = f"{path}/seal-{rank}.json"
    if fs.get_file_info(seal).type != pafs.FileType.NotFound:  # of an earlier group that was lost in between
        fs.delete_file(seal)
    files = {}
    for name, content in _files(rank, pieces, progress):
        with fs.open_output_stream(f"{path}/{name}") as out:
            out.write(content)
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with fs.open_output_stream(seal) as out:
        out.write(json.dumps({"workers": workers, "files": files}).encode())


def _files(rank: int, pieces: Sequence[Piece], progress: Progress) -> Iterator[tuple[str, bytes]]:
    yield from serialised(pieces, rank)
    if rank == 0:
        yield CURVE, to_lines(progress.curve).encode()
        yield STATE, json.dumps({key: value for key, value in asdict(progress).items() if key != "curve"}).encode()


def read_progress(directory: Path) -> Progress:
    """Read back how far training had come."""
    values = json.loads((directory / STATE).read_text())
    values["workers"] = [(first, workers) for first, workers in values["workers"]]
    return Progress(**values, curve=from_lines((directory / CURVE).read_text()))


def open_state(directory: Path) -> StateReader:
    """The state of the engine in a whole checkpoint."""
    seals = _seals(pafs.LocalFileSystem(), str(directory))
    names = sorted(name for seal in seals for name in seal["files"] if name.endswith(".safetensors"))
    return StateReader(directory / name for name in names)


def _seals(fs: pafs.FileSystem, path: str) -> list[dict[str, Any]]:
    """The seals of all workers of the group that wrote a checkpoint.

    Raises:
        ValueError: one is missing or damaged.
    """
    seals: list[dict[str, Any]] = []
    while not seals or len(seals) < seals[0]["workers"]:
        name = f"seal-{len(seals)}.json"
        try:
            with fs.open_input_stream(f"{path}/{name}") as source:
                seals.append(json.loads(source.read()))
        except FileNotFoundError as error:
            raise ValueError(f"{name} is missing") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} is damaged") from error
        if seals[-1]["workers"] != seals[0]["workers"]:
            raise ValueError(f"{name} is of another group of workers")
    return seals


def damage(fs: pafs.FileSystem, path: str, thorough: bool) -> str | None:
    """What is wrong with a checkpoint; None if it is whole.

    Args:
        fs, path: its directory.
        thorough: read all of it and compare checksums, rather than compare sizes alone.
    """
    try:
        seals = _seals(fs, path)
    except ValueError as error:
        return str(error)
    for seal in seals:
        for name, entry in seal["files"].items():
            found = fs.get_file_info(f"{path}/{name}")
            if found.type != pafs.FileType.File:
                return f"{name} is missing"
            if found.size != entry["bytes"]:
                return f"{name} has {found.size:,} of {entry['bytes']:,} bytes"
            if thorough and sha256_of(fs, f"{path}/{name}") != entry["sha256"]:
                return f"{name} does not have the content that was written (SHA-256)"
    return None


def checkpoints(fs: pafs.FileSystem, root: str) -> list[str]:
    """All checkpoints in `<root>/<attempt>/step-<number>`, whole or not, the highest step first."""
    attempts = fs.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    found = [
        info.path
        for attempt in attempts
        if attempt.type == pafs.FileType.Directory
        for info in fs.get_file_info(pafs.FileSelector(attempt.path))
        if info.base_name.startswith("step-")
    ]
    return sorted(found, key=lambda path: (path.rpartition("/")[2], path), reverse=True)


def latest_whole(fs: pafs.FileSystem, root: str, tell: Callable[[str], None]) -> str | None:
    """The checkpoint to go on from: the whole one with the highest step, read and compared; or None.

    Args:
        fs, root: as for `checkpoints`.
        tell: called with a sentence for each one that is left out.
    """
    for path in checkpoints(fs, root):
        problem = damage(fs, path, thorough=True)
        if problem is None:
            return path
        tell(f"checkpoint {path.rpartition('/')[2]} is not whole ({problem}): the one before it is used")
    return None


def step_name(step: int) -> str:
    """The name of a checkpoint's directory; names sort as steps do."""
    return f"step-{step:09d}"
