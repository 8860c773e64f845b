"""Weights as a training leaves them behind: the last ones, or those with the lowest validation loss so far."""

import json
from typing import Any

import pyarrow.fs as pafs
import torch.distributed as dist
from safetensors.torch import save_file

from codelm.on_ray.assignment import BEST
from codelm.run_dir import read_json, staged, write_whole
from codelm.training.engine import Engine

NOTE = "best.json"


def write_weights(engine: Engine, config: Any, fs: pafs.FileSystem, target: str, names: frozenset[str] | None) -> None:
    """Write the weights, consolidated, and the Hugging Face config of the model. All workers call it.

    Args:
        engine: this worker's.
        config: of the model.
        fs, target: the directory to write in.
        names: the parameters to write; None for all.
    """
    weights = engine.weights()
    if engine.rank == 0:
        chosen = {name: weight for name, weight in weights.items() if names is None or name in names}
        with staged(fs, target) as directory:
            save_file(chosen, directory / "weights.safetensors")
            config.save_pretrained(directory)
    dist.barrier()


class BestWeights:
    """Keeps the weights with the lowest validation loss, whatever is interrupted and done again.

    A note with step and loss is written after the weights. Where an interrupted training is gone on with, equal
    losses write equal weights again, so that the result is that of an uninterrupted one.

    Args:
        fs, workspace: where the directory `best` is.
        config: of the model.
        names: the parameters that are trained; the others are where they came from.
    """

    def __init__(self, fs: pafs.FileSystem, workspace: str, config: Any, names: frozenset[str]) -> None:
        self._fs, self._directory, self._config, self._names = fs, f"{workspace}/{BEST}", config, names
        self.found = read_json(fs, f"{self._directory}/{NOTE}")

    def offer(self, engine: Engine, step: int, loss: float) -> None:
        """Keep the weights of this step if none before had a lower loss. All workers call it, with equal values."""
        if self.found is not None and not loss <= self.found["validation_loss"]:  # which NaN is not
            return
        write_weights(engine, self._config, self._fs, self._directory, self._names)
        self.found = {"step": step, "validation_loss": loss}
        if engine.rank == 0:
            write_whole(self._fs, f"{self._directory}/{NOTE}", json.dumps(self.found))
