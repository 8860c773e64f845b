"""What an engine's state is on disk: pieces of named tensors, which any number of workers can put together again.

Each worker writes the elements that it holds, in the place that they have in the whole, flattened tensor; a worker of
another group, or of another engine, reads the places that it needs, whoever wrote them. So a checkpoint depends on
neither the number of workers nor on how an engine spreads the model over them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

WEIGHT = "weight"
"""The kind of the parameter itself, in float32; other kinds are what the optimizer calls its state."""

FILE_BYTES = 512 << 20
"""State in one file, about: what is held twice while it is written."""


@dataclass(frozen=True)
class Piece:
    """Elements of a tensor that one worker holds.

    Attributes:
        name: the parameter's.
        kind: `WEIGHT`, or the key of the optimizer's state.
        start: the place of the first element in the flattened tensor.
        values: the elements, of shape (count,): a view of the engine's own, so that copying into it changes the engine.
    """

    name: str
    kind: str
    start: int
    values: Tensor

    def copied(self) -> "Piece":
        """The same on the CPU, which later steps do not change."""
        return Piece(self.name, self.kind, self.start, self.values.detach().to("cpu", copy=True))


def tensor_pieces(name: str, values: Tensor, state: dict[str, Any], start: int, place: slice) -> Iterator[Piece]:
    """A parameter and what an optimizer keeps for it.

    Args:
        name: the parameter's.
        values: the elements that the optimizer updates, in any shape, contiguous.
        state: the optimizer's for them: tensors of as many elements, and others (such as `step`), which are for all.
        start: the place of the parameter's first element here in the whole parameter.
        place: which of the elements, flattened, are the parameter's.
    """
    yield Piece(name, WEIGHT, start, values.detach().view(-1)[place])
    for kind, tensor in sorted(state.items()):
        if not isinstance(tensor, Tensor):
            continue
        if tensor.numel() == values.numel() > 1:
            yield Piece(name, kind, start, tensor.view(-1)[place])
        else:
            yield Piece(name, kind, 0, tensor.view(-1))


def serialised(pieces: Sequence[Piece], rank: int) -> Iterator[tuple[str, bytes]]:
    """The files of one worker's pieces: (name, content), about `FILE_BYTES` each. There is one at least."""
    for number, part in enumerate(_parts(pieces)):
        named = {f"{piece.name}|{piece.kind}|{piece.start}": piece.values for piece in part}
        yield f"state-{rank}-{number}.safetensors", save(named)


def _parts(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    part: list[Piece] = []
    held = 0
    for piece in pieces:
        size = piece.values.numel() * piece.values.element_size()
        if part and held + size > FILE_BYTES:
            yield part
            part, held = [], 0
        part.append(piece)
        held += size
    yield part


class StateReader:
    """The pieces in some files, by where they belong.

    Args:
        files: of all workers that wrote the checkpoint.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: dict[tuple[str, str], list[tuple[int, int, Any, str]]] = {}
        for file in files:
            opened: Any = safe_open(file, framework="pt")  # its class has no annotations
            for key in opened.keys():  # noqa: SIM118 - it is no dict
                name, kind, start = key.split("|")
                [count] = opened.get_slice(key).get_shape()
                self._places.setdefault((name, kind), []).append((int(start), int(start) + count, opened, key))

    def read(self, name: str, kind: str, start: int, count: int) -> Tensor:
        """Elements of a tensor.

        Raises:
            KeyError: not all of them are there.
        """
        parts = []
        place, end = start, start + count
        for begin, stop, opened, key in sorted(self._places.get((name, kind), []), key=lambda entry: entry[:2]):
            if begin <= place < stop and place < end:
                parts.append(opened.get_slice(key)[place - begin : min(stop, end) - begin])
                place = min(stop, end)
        if place < end:
            raise KeyError(f"the checkpoint lacks {kind} of {name} from element {place} to {end}")
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def load(self, pieces: Iterable[Piece]) -> None:
        """Copy into the pieces what the files have for them."""
        with torch.no_grad():
            for piece in pieces:
                piece.values.copy_(self.read(piece.name, piece.kind, piece.start, piece.values.numel()))
