"""The similarity of two texts, by its definition."""

import numpy as np

from codelm.corpus.shingles import U64, shingle_sets


def shingle_set(text: bytes, words: int) -> U64:
    """The sorted set of a text's shingles."""
    return shingle_sets([text], words)[0]


def jaccard(a: U64, b: U64) -> float:
    """|A and B| / |A or B| of two sorted sets; 0 for two empty ones. `[1, 2, 3], [2, 3, 4] -> 0.5`."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    either = len(a) + len(b) - common
    return common / either if either else 0.0
