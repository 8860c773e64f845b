"""Content ids, and random choices that are functions of them.

A choice made by `coin` depends on the seed, on what is decided and on the content alone: not on the order
of the files, the number of workers, or how often a task was tried.
"""

import hashlib

ID_BYTES = 16
"""128 bits: among 10^12 documents two share an id by chance with probability 10^24 / 2^129 < 2 * 10^-15."""


def content_id(text: bytes) -> str:
    """The id of a document: 32 hex digits of the BLAKE2b hash of its text in UTF-8."""
    return hashlib.blake2b(text, digest_size=ID_BYTES).hexdigest()


def order_key(seed: int, purpose: str, key: str) -> int:
    """A uniform 64-bit integer that depends on the arguments alone; sorting by it shuffles."""
    digest = hashlib.blake2b(f"{seed}:{purpose}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def coin(seed: int, purpose: str, key: str) -> float:
    """A uniform number in [0, 1) that depends on the arguments alone (53 bits, a double's precision)."""
    return (order_key(seed, purpose, key) >> 11) / 2**53
