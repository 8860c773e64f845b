"""Documents as one stream of tokens, cut into sequences of equal length.

`tokens.bin` holds the sequences one after the other, little-endian; `info.json` says how to read it. After
each document comes the end-of-text token; a document may run over into the next sequence.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codelm.corpus.hashing import order_key
from codelm.corpus.shards import Document
from codelm.errors import UserError
from codelm.tokenization.bpe import encode_plain

TOKENS_FILE = "tokens.bin"
INFO_FILE = "info.json"
LARGEST_UINT16_VOCABULARY = 1 << 16
ENCODED_TOGETHER = 32
"""Documents in one call of `tokenizers`; a quarter faster than one by one."""


@dataclass(frozen=True)
class PackedInfo:
    """What `info.json` says.

    Attributes:
        dtype: of the tokens: "uint16" up to 65,536 entries of the vocabulary, else "uint32".
        sequence_length: tokens in a sequence.
        sequences: how many there are.
        tokens: sequences * sequence_length.
        documents: documents in the stream.
        bytes: the documents' text in UTF-8, in bytes.
        dropped_tail_tokens: tokens at the end of the stream that filled no sequence and were not written.
        vocab_size: entries of the vocabulary.
        eos_id: the token after each document.
        unigram_entropy: nats a token: the cross-entropy of the written tokens under their own frequencies,
            -sum(p * ln p); a model that knows no context can do no better.
    """

    dtype: str
    sequence_length: int
    sequences: int
    tokens: int
    documents: int
    bytes: int
    dropped_tail_tokens: int
    vocab_size: int
    eos_id: int
    unigram_entropy: float


def read_info(directory: Path) -> PackedInfo:
    """Read `info.json` of a local directory with a packed split."""
    return PackedInfo(**json.loads((directory / INFO_FILE).read_text()))


def info_text(info: PackedInfo) -> str:
    """The text of `info.json`."""
    return json.dumps(asdict(info), indent=2) + "\n"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The little-endian type that holds every id of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= LARGEST_UINT16_VOCABULARY else "<u4")


@dataclass(frozen=True)
class Run:
    """Encoded documents, one after the other, each with its end-of-text token.

    Attributes:
        keys: for each document, what its place in the stream is sorted by.
        lengths: tokens of each document, end-of-text included.
        text_bytes: bytes of each document's text in UTF-8.
        tokens: of all documents.
    """

    keys: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    text_bytes: NDArray[np.int64]
    tokens: NDArray[Any]


def encode(documents: Iterable[Document], tokenizer: Tokenizer, eos_id: int, seed: int) -> Run:
    """Encode documents, each followed by end-of-text.

    Args:
        documents: in any order.
        tokenizer: of `bpe.plain`.
        eos_id: the end-of-text token.
        seed: decides the documents' places in the stream, with their ids.
    """
    dtype = token_dtype(tokenizer.get_vocab_size())
    keys, lengths, text_bytes, pieces = [], [], [], [np.empty(0, dtype)]
    remaining = iter(documents)
    while batch := list(islice(remaining, ENCODED_TOGETHER)):
        for document, ids in zip(batch, encode_plain(tokenizer, [item.content for item in batch]), strict=True):
            keys.append(order_key(seed, "order", document.id))
            lengths.append(len(ids) + 1)
            text_bytes.append(len(document.content.encode()))
            pieces.append(np.array([*ids, eos_id], dtype))
    return Run(
        np.array(keys, np.uint64), np.array(lengths, np.int64), np.array(text_bytes, np.int64), np.concatenate(pieces)
    )


def select(run: Run, documents: NDArray[np.int64]) -> Run:
    """The documents at these places of a run, in this order."""
    ends = np.cumsum(run.lengths)
    pieces = [run.tokens[ends[place] - run.lengths[place] : ends[place]] for place in documents]
    tokens = np.concatenate([run.tokens[:0], *pieces])
    return Run(run.keys[documents], run.lengths[documents], run.text_bytes[documents], tokens)


def by_key_range(run: Run, parts: int) -> list[Run]:
    """Cut the range of the keys into equal parts and deal the documents out: the parts follow each other."""
    part = [int(key) * parts >> 64 for key in run.keys]
    return [select(run, np.flatnonzero(np.array(part, np.int64) == number)) for number in range(parts)]


def in_order(runs: Sequence[Run]) -> Run:
    """All documents of some runs, sorted by key."""
    joined = Run(
        np.concatenate([run.keys for run in runs]),
        np.concatenate([run.lengths for run in runs]),
        np.concatenate([run.text_bytes for run in runs]),
        np.concatenate([run.tokens for run in runs]),
    )
    return select(joined, np.argsort(joined.keys, kind="stable"))


class PackedWriter:
    """Writes a stream of tokens as whole sequences."""

    def __init__(self, out: BinaryIO, sequence_length: int, vocab_size: int, eos_id: int) -> None:
        self._out = out
        self._sequence_length, self._vocab_size, self._eos_id = sequence_length, vocab_size, eos_id
        self._dtype = token_dtype(vocab_size)
        self._rest = np.empty(0, self._dtype)
        self._counts = np.zeros(vocab_size, np.int64)
        self._sequences = self._documents = self._bytes = 0

    def write(self, run: Run) -> None:
        """Go on with the documents of a run, in their order."""
        stream = np.concatenate([self._rest, run.tokens])
        sequences = len(stream) // self._sequence_length
        whole = stream[: sequences * self._sequence_length]
        self._rest = stream[len(whole) :]
        self._out.write(whole.tobytes())
        self._counts += np.bincount(whole, minlength=self._vocab_size)
        self._sequences += sequences
        self._documents += len(run.lengths)
        self._bytes += int(run.text_bytes.sum())

    def finish(self, split: str) -> PackedInfo:
        """What was written.

        Raises:
            UserError: the stream filled not even one sequence; `split` names it.
        """
        if not self._sequences:
            raise UserError(
                f"data.sequence_length: the {split} split has {len(self._rest):,} tokens, fewer than one sequence of "
                f"{self._sequence_length}; lower it, change data.validation_fraction, or add files to corpus.sources"
            )
        shares = self._counts[self._counts > 0] / self._counts.sum()
        return PackedInfo(
            dtype=self._dtype.name,
            sequence_length=self._sequence_length,
            sequences=self._sequences,
            tokens=self._sequences * self._sequence_length,
            documents=self._documents,
            bytes=self._bytes,
            dropped_tail_tokens=len(self._rest),
            vocab_size=self._vocab_size,
            eos_id=self._eos_id,
            unigram_entropy=round(float((shares * np.log(1 / shares)).sum()), 6),
        )
