"""MinHash signatures and the bands of locality-sensitive hashing."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from codelm.corpus.shingles import U64, mix, random_odd

SIGNATURE_SEED = 1
INTEGRATION_STEPS = 1000
"""Midpoint rule; on (0, 1) its error here is below 10^-6, far less than the gap between good choices."""


@lru_cache(maxsize=16)
def bands_and_rows(threshold: float, permutations: int) -> tuple[int, int]:
    """How to cut a signature so that pairs at the threshold are about as often caught as not.

    Two sets of similarity s share a band with probability p(s) = 1 - (1 - s^rows)^bands. The choice
    minimises half the integral of p below the threshold (false positives) plus half the integral of 1 - p
    above it (false negatives), as datasketch's and BigCode's `optimal_param` do: (0.7, 256) -> (25, 10).
    """

    def error(bands: int, rows: int) -> float:
        missed = _mean(lambda s: (1 - s**rows) ** bands, threshold, 1)
        false = _mean(lambda s: 1 - (1 - s**rows) ** bands, 0, threshold)
        return 0.5 * false * threshold + 0.5 * missed * (1 - threshold)

    choices = [(b, r) for b in range(1, permutations + 1) for r in range(1, permutations // b + 1)]
    return min(choices, key=lambda choice: error(*choice))


def _mean(function: Callable[[NDArray[np.floating]], NDArray[np.floating]], start: float, end: float) -> float:
    middles = start + (np.arange(INTEGRATION_STEPS) + 0.5) * ((end - start) / INTEGRATION_STEPS)
    return float(function(middles).mean())


def signatures(hashes: U64, offsets: NDArray[np.uint64], permutations: int) -> NDArray[np.uint32]:
    """MinHash signatures of sets of hashes, a row each; repetitions in a set change nothing.

    The share of equal places in two rows estimates the Jaccard similarity of their sets, with a standard
    deviation of at most 1 / (2 * sqrt(permutations)).

    Args:
        hashes: the sets' elements, one set after the other.
        offsets: set i is `hashes[offsets[i]:offsets[i + 1]]`; none is empty.
        permutations: the length of a signature.
    """
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, permutations, SIGNATURE_SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(offsets) - 1, permutations)


def band_hashes(signature_rows: NDArray[np.uint32], bands: int, rows: int) -> U64:
    """A 64-bit hash of each band of each signature: shape (signatures, bands). The band's number counts."""
    cut = signature_rows[:, : bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    combined: U64 = (mix(cut) * random_odd(rows, stream=3)).sum(axis=2, dtype=np.uint64)
    return mix(combined + random_odd(bands, stream=4))
