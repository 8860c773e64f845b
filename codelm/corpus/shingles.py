"""Word shingles of many texts at once, as 64-bit hashes, without a Python loop over words.

A word is a longest run of ASCII letters, digits, underscores and non-ASCII characters. A shingle is a run
of consecutive words; a text of fewer words has none, and is never taken for a near-duplicate (one signature
for all short texts would make them all alike).

A word of up to eight bytes is hashed as a 64-bit number, by a bijection: no two of them have the same hash. A longer
one is hashed eight bytes after eight. Shingles of different words have one hash by chance with probability of about
2^-64; with 10^5 shingles in two texts that moves a similarity with probability below 10^-9.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: SplitMix64's increment (Steele, Lea, Flood 2014)."""
IS_WORD = bytes(code >= 128 or chr(code).isalnum() or code == ord("_") for code in range(256))
"""For `bytes.translate`: 1 for the bytes of words."""
SEPARATOR = b"\n"
PIECE_BYTES = 1 << 18
"""Texts are taken together up to this size, so that the arrays stay in the cache."""
FIRST_BYTES = np.array([2 ** (8 * count) - 1 for count in range(9)], np.uint64)
"""For 0, 1, ... 8 bytes of a little-endian number, which bits they are."""
LONG_WORD = 64
"""Bytes from which a word is hashed on its own; one in 10,000 is as long."""


def mix(values: U64) -> U64:
    """SplitMix64's finalizer: a bijection after which every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def random_odd(count: int, stream: int) -> U64:
    """The first odd numbers of a SplitMix64 stream: fixed constants, the same everywhere."""
    steps = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(stream) << np.uint64(32))
    return mix(steps * np.uint64(GOLDEN)) | np.uint64(1)


def shingles(texts: Sequence[bytes], words: int) -> tuple[U64, NDArray[np.uint64]]:
    """The shingles of each text, in order and with repetitions.

    Args:
        texts: in UTF-8.
        words: words in a shingle.

    Returns:
        All hashes one after the other, and offsets: text i has `hashes[offsets[i]:offsets[i + 1]]`.
    """
    parts, counts = [], []
    for piece in _pieces(texts):
        hashes, piece_counts = _shingle_piece(piece, words)
        parts.append(hashes)
        counts.append(piece_counts)
    offsets = np.zeros(len(texts) + 1, dtype=np.uint64)
    if texts:
        np.cumsum(np.concatenate(counts), out=offsets[1:])
    return np.concatenate(parts) if parts else np.empty(0, np.uint64), offsets


def shingle_sets(texts: Sequence[bytes], words: int) -> tuple[U64, NDArray[np.int64]]:
    """The sorted set of each text's shingles.

    Args:
        texts: in UTF-8.
        words: words in a shingle.

    Returns:
        All hashes one after the other, and offsets: text i has `hashes[offsets[i]:offsets[i + 1]]`.
    """
    parts, sizes = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    for piece in _pieces(texts):
        hashes, counts = _shingle_piece(piece, words)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        for start, end in pairwise(offsets.tolist()):
            hashes[start:end].sort()
        is_new = np.ones(len(hashes), bool)
        is_new[1:] = hashes[1:] != hashes[:-1]
        is_new[offsets[:-1][counts > 0]] = True
        parts.append(hashes[is_new])
        sizes.append(np.diff(np.concatenate([[0], np.cumsum(is_new)])[offsets]))
    return np.concatenate(parts), np.cumsum(np.concatenate(sizes))


def _pieces(texts: Sequence[bytes]) -> list[Sequence[bytes]]:
    pieces, start, held = [], 0, 0
    for row, text in enumerate(texts):
        if held and held + len(text) > PIECE_BYTES:
            pieces.append(texts[start:row])
            start, held = row, 0
        held += len(text)
    if start < len(texts):
        pieces.append(texts[start:])
    return pieces


def _shingle_piece(texts: Sequence[bytes], words: int) -> tuple[U64, NDArray[np.int64]]:
    """Hashes of the shingles of texts taken together, and how many each text has."""
    hashes, starts = _word_hashes(SEPARATOR.join(texts))
    text_ends = np.cumsum([len(text) + 1 for text in texts])
    ends = np.searchsorted(starts, text_ends)
    begins = np.concatenate([[0], ends[:-1]])
    counts = np.maximum(ends - begins - (words - 1), 0)
    if not counts.any():
        return np.empty(0, np.uint64), counts
    at_most = len(hashes) - words + 1
    combined = np.zeros(at_most, np.uint64)
    for place, factor in enumerate(random_odd(words, stream=2)):
        combined += hashes[place : place + at_most] * factor
    inside = np.ones(len(hashes), bool)
    for back in range(1, words):
        last = ends - back
        inside[last[last >= begins]] = False
    return mix(combined[inside[:at_most]]), counts


def _word_hashes(text: bytes) -> tuple[U64, NDArray[np.intp]]:
    """Hashes of the words of a text, and where they start."""
    data = text + SEPARATOR * 9  # the last word ends inside, and eight bytes can be read from every byte of it
    is_word = np.frombuffer(data.translate(IS_WORD), np.uint8)
    bounds = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    if is_word[0]:
        bounds = np.concatenate([[0], bounds])
    starts, lengths = bounds[::2], bounds[1::2] - bounds[::2]
    eight_from: U64 = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    hashes = mix(_first_bytes(eight_from[starts], lengths))
    longer = np.flatnonzero(lengths > 8)
    at = 8
    while len(longer) and at < LONG_WORD:
        rest = lengths[longer] - at
        hashes[longer] = mix(hashes[longer] ^ _first_bytes(eight_from[starts[longer] + at], rest))
        longer = longer[rest > 8]
        at += 8
    for word in longer.tolist():
        whole = data[starts[word] : starts[word] + lengths[word]]
        hashes[word] = int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "little")
    return hashes, starts


def _first_bytes(eight: U64, count: NDArray[np.intp]) -> U64:
    """Of eight bytes each the first ones, the others made zero; all eight where more are asked for."""
    return eight & FIRST_BYTES[np.minimum(count, 8)]
