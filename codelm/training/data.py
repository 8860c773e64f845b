"""Packed sequences, read through the page cache."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
        """The sequences of the given numbers: int64 of shape (len(sequences), sequence_length)."""
        return torch.from_numpy(self.tokens[sequences].astype(np.int64))


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
