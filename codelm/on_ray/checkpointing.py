"""Checkpoints of a training on Ray Train: written beside the steps, found and checked when it goes on."""

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import ray.train
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode

from codelm.training.checkpoint import Progress, latest_whole, open_state, read_progress, step_name, write_part
from codelm.training.curve import validations
from codelm.training.engine import Engine, snapshot


class Saver:
    """Writes checkpoints while the training goes on: a step waits for the copy of the state in memory alone.

    Args:
        engine: this worker's.
        before: called, in the thread that writes, before a checkpoint is written.
    """

    def __init__(self, engine: Engine, before: Callable[[], None]) -> None:
        self._engine, self._before = engine, before
        self._written = threading.Event()
        self._written.set()

    def save(self, progress: Progress) -> None:
        """Begin to write a checkpoint together with the other workers, after the one before is in storage."""
        self.wait()
        self._written.clear()
        engine, done, pieces = self._engine, progress.copied(), snapshot(self._engine)
        name = step_name(progress.step)
        storage = ray.train.get_context().get_storage()
        target = Checkpoint(f"{storage.experiment_fs_path}/{name}", filesystem=storage.storage_filesystem)

        def write(checkpoint: Checkpoint, directory: str) -> Checkpoint:
            try:
                self._before()
                write_part(checkpoint.filesystem, checkpoint.path, engine.rank, engine.workers, pieces, done)
            finally:
                pieces.clear()
                self._written.set()
            return checkpoint

        measured = validations(done.curve)
        ray.train.report(
            {"step": done.step, **({"validation_loss": measured[-1][1]} if measured else {})},
            checkpoint=target,
            checkpoint_dir_name=name,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=False,  # it is written where it stays
            checkpoint_upload_fn=write,
        )

    def wait(self) -> None:
        """Until this worker's part of the last checkpoint is in storage."""
        self._written.wait()


def restore(engine: Engine, fs: pafs.FileSystem, root: str, start: str | None, tell: Callable[[str], None]) -> Progress:
    """Go on from the last whole checkpoint, by whichever number of workers it was written. All workers call it.

    Args:
        engine: this worker's.
        fs, root: where the attempts have their checkpoints.
        start: a checkpoint to begin with where there is none.
        tell: called on rank 0 with a sentence for each checkpoint that is not whole.
    """
    found = [latest_whole(fs, root, tell) or start] if engine.rank == 0 else [None]
    dist.broadcast_object_list(found, src=0)
    if found[0] is None:
        return Progress()
    with Checkpoint(found[0], filesystem=fs).as_directory() as name:
        engine.load(open_state(Path(name)))
        progress = read_progress(Path(name))
        dist.barrier()  # workers on one machine share a downloaded copy, and the first to leave deletes it
    return progress
