"""Trials that go on from each other's checkpoints, for population-based training.

What Tune keeps and passes on is a pointer: whose checkpoints to go on from. The checkpoints stay where Ray Train writes
them.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from ray import tune

from codelm.on_ray import pretrain
from codelm.on_ray.sweep_order import NOTE, RECORD, Order
from codelm.run_dir import read_json, write_whole
from codelm.tracking import TrackedRun

POINTER = "pointer.json"
TRIES = 3
"""Checkpoints are deleted while others are written: so often the last one is looked for."""


def report(point: dict[str, Any], order: Order, name: str) -> None:
    """Report to Tune; where trials go on from each other, with a word of where this one's checkpoints are."""
    if not order.shares_checkpoints:
        tune.report(point)
        return
    with tempfile.TemporaryDirectory(prefix="codelm-pointer-") as directory:
        (Path(directory) / POINTER).write_text(json.dumps({"trial": name, "step": point["step"]}))
        tune.report(point, checkpoint=tune.Checkpoint.from_directory(directory))


def adopted(order: Order, name: str, config: dict[str, Any], run: TrackedRun) -> str | None:
    """The checkpoint of another trial that this one was told to go on from; None where it goes on from its own.

    What the trial had itself until then is deleted, a result as well: it is another model from here on.

    Args:
        order: the sweep's.
        name: the trial's.
        config: its values from here on; they become points of its MLflow run, whose parameters cannot change.
        run: that run.
    """
    given = tune.get_checkpoint()
    if given is None:
        return None
    with given.as_directory() as local:
        pointer = json.loads((Path(local) / POINTER).read_text())
    return adopt(order, name, pointer, config, run)


def adopt(order: Order, name: str, pointer: dict[str, Any], config: dict[str, Any], run: TrackedRun) -> str | None:
    """See `adopted`.

    Args:
        order, name, config, run: as there.
        pointer: the name of a trial, this one maybe, and the step that it had come to.
    """
    fs, directory = order.run_dir.fs, order.directory(name)
    copy = f"{directory}/adopted"
    note = read_json(fs, f"{directory}/{NOTE}") or {}
    if pointer["trial"] == name or note.get("adopted") == pointer:
        # It may have been interrupted before it had a checkpoint of its own.
        return copy if "adopted" in note else None
    if not _copied(fs, f"{order.directory(pointer['trial'])}/{pretrain.CHECKPOINTS}", pointer["step"], copy):
        return None
    for info in fs.get_file_info(pafs.FileSelector(directory)):
        if info.type == pafs.FileType.Directory and info.path != copy:
            fs.delete_dir(info.path)
        elif info.base_name == RECORD:
            fs.delete_file(info.path)
    write_whole(fs, f"{directory}/{NOTE}", json.dumps({**note, "adopted": pointer}))
    numbers = {key: float(value) for key, value in config.items() if isinstance(value, int | float)}
    run.log_metrics(numbers, pointer["step"])
    return copy


def _copied(fs: pafs.FileSystem, root: str, step: int, target: str) -> bool:
    """Copy a checkpoint of a trial that may be at work, and delete it meanwhile; whether there is one.

    It is that of the step, or else the last whole one: the trial has gone on, and keeps its last ones alone.
    """
    from codelm.training.checkpoint import checkpoints, damage, latest_whole, step_name

    for last in reversed(range(TRIES)):
        try:
            of_step = (path for path in checkpoints(fs, root) if path.endswith(f"/{step_name(step)}"))
            found = next((path for path in of_step if damage(fs, path, thorough=True) is None), None)
            found = found or latest_whole(fs, root, lambda problem: None)
            if found is not None:
                if fs.get_file_info(target).type != pafs.FileType.NotFound:
                    fs.delete_dir(target)
                fs.create_dir(target, recursive=True)
                pafs.copy_files(found, target, source_filesystem=fs, destination_filesystem=fs)
            return found is not None
        except FileNotFoundError:
            if not last:
                raise
    return False
