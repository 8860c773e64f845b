"""Blocks of the key/value cache: who holds them, and which prefix of which text each full one stands for.

A block holds the keys and values of a fixed number of tokens. Blocks are shared: a text whose beginning is known
takes the blocks that hold it, as vLLM does (Kwon et al. 2023, arXiv:2309.06180).
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

Key = bytes
"""Of a full block: a hash of its tokens and of all before them. Cryptographic: nobody can meet another's by intent."""


def keys_of(tokens: Sequence[int], block_size: int, before: Sequence[Key] = ()) -> list[Key]:
    """The keys of a text's full blocks; those already known, `before`, are not computed again."""
    keys = list(before)
    for start in range(len(keys) * block_size, len(tokens) // block_size * block_size, block_size):
        parent = keys[-1] if keys else b""
        block = np.array(tokens[start : start + block_size], np.int64).tobytes()
        keys.append(blake2b(parent + block, digest_size=32).digest())
    return keys


class Pool:
    """The blocks. Those that nobody holds are free; a free one keeps its prefix until it is taken for another."""

    def __init__(self, blocks: Iterable[int], remember: bool) -> None:
        """Make a pool.

        Args:
            blocks: their numbers.
            remember: whether a prefix outlives the last request that holds it.
        """
        self._remember = remember
        self._holders = dict.fromkeys(blocks, 0)
        self._free = dict.fromkeys(self._holders)
        """In the order in which they are taken: least recently used first."""
        self._block_of: dict[Key, int] = {}
        self._key_of: dict[int, Key] = {}

    @property
    def size(self) -> int:
        """All blocks."""
        return len(self._holders)

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def known(self, keys: Sequence[Key]) -> list[int]:
        """The blocks of the longest known beginning."""
        blocks = []
        for key in keys:
            block = self._block_of.get(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def take(self, shared: Sequence[int], number: int) -> list[int] | None:
        """Hold `shared` blocks and so many fresh ones; None, and nothing held, if there are too few."""
        revived = sum(block in self._free for block in shared)
        if number > len(self._free) - revived:
            return None
        for block in shared:
            self._holders[block] += 1
            self._free.pop(block, None)
        fresh = []
        for _ in range(number):
            block = next(iter(self._free))
            del self._free[block]
            self._forget(block)
            self._holders[block] = 1
            fresh.append(block)
        return [*shared, *fresh]

    def publish(self, block: int, key: Key) -> None:
        """Say what a held block, now full, stands for. The first to say so is the one that others will share."""
        if key not in self._block_of:
            self._block_of[key], self._key_of[block] = block, key

    def release(self, blocks: Sequence[int]) -> None:
        """Hold blocks no longer. The end of a text is forgotten before its beginning."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None
                if not self._remember:
                    self._forget(block)

    def _forget(self, block: int) -> None:
        key = self._key_of.pop(block, None)
        if key is not None:
            del self._block_of[key]
