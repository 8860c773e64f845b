"""Packed sequences, read through the page cache, and the order in which they are trained on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codelm.training.order import Integers, SampleOrder


class Samples(Protocol):
    """The endless sequence of training samples; all workers ask for the same steps in the same order."""

    @property
    def length(self) -> int:
        """Tokens in a sample."""

    def take(self, cursor: int, batch: int, mine: Integers) -> Tensor:
        """Some of a step's samples: `mine`, out of cursor, ..., cursor + batch - 1, in any shape.

        Returns:
            int64 of shape (*mine.shape, length).
        """

    def numbers(self, cursor: int, batch: int) -> Integers:
        """What the samples of the step are known by, int64 of shape (batch,); after `take` of that step."""

    def position(self) -> list[int]:
        """What `seek` needs, beside the cursor, to go on after the last step that was taken."""

    def seek(self, position: list[int]) -> None:
        """Go on where `position` was told, on any number of workers."""


@dataclass(frozen=True)
class PackedData:
    """Sequences of one length, all of them full: no padding.

    Attributes:
        tokens: token ids of shape (sequences, sequence_length), memory-mapped.
        info: what the pack stage wrote beside them (`info.json`).
    """

    tokens: NDArray[Any]
    info: dict[str, Any]

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, sequences: NDArray[np.int64]) -> Tensor:
        """The sequences of the given numbers: int64 of shape (*sequences.shape, sequence_length)."""
        return torch.from_numpy(self.tokens[sequences].astype(np.int64))

    def samples(self, seed: int) -> "PackedSamples":
        """The sequences in the seeded order, again and again."""
        return PackedSamples(self, SampleOrder(len(self), seed))


@dataclass(frozen=True)
class PackedSamples:
    """See `Samples`. They are known by their numbers in the split."""

    data: PackedData
    order: SampleOrder

    @property
    def length(self) -> int:
        """Tokens in a sample."""
        return int(self.data.tokens.shape[1])

    def take(self, cursor: int, batch: int, mine: Integers) -> Tensor:
        """See `Samples`."""
        return self.data.batch(self.order.at(mine))

    def numbers(self, cursor: int, batch: int) -> Integers:
        """See `Samples`."""
        return self.order.at(np.arange(cursor, cursor + batch, dtype=np.int64))

    def position(self) -> list[int]:
        """See `Samples`; the cursor tells all."""
        return []

    def seek(self, position: list[int]) -> None:
        """See `Samples`."""


def open_packed(directory: Path) -> PackedData:
    """Open a split of the packed stage: `tokens.bin` and `info.json`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: the file does not have the size that `info.json` states, or holds no sequence.
    """
    info = json.loads((directory / "info.json").read_text())
    path, dtype = directory / "tokens.bin", np.dtype(info["dtype"]).newbyteorder("<")
    shape = (info["sequences"], info["sequence_length"])
    wanted, size = shape[0] * shape[1] * dtype.itemsize, path.stat().st_size
    if not wanted or size != wanted:
        raise ValueError(f"{path} has {size} bytes, and its info.json tells of {shape[0]} x {shape[1]} {dtype}")
    return PackedData(np.memmap(path, dtype=dtype, mode="r", shape=shape), info)


def spread(available: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` sequence numbers, evenly spread: `spread(10, 4) -> [0, 2, 5, 7]`.

    Packed sequences follow the order of the documents, so the first few would stem from a file or two.
    """
    count = min(available, wanted)
    return np.arange(count, dtype=np.int64) * available // count
