"""Examples as sequences: encoded, those too long dropped or cut by the rule, packed by best fit, and counted."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codelm.finetuning.example import Example
from codelm.tokenization.best_fit import pack
from codelm.tokenization.bpe import encode_plain

TOKENS_FILE = "tokens.bin"
INFO_FILE = "info.json"
DTYPE = np.dtype("<i4")
Long = Literal["drop", "cut_prompt"]
Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Encoded:
    """Examples as tokens, prompts as complements (`codelm.finetuning.objective`).

    Attributes:
        pieces: one array an example, with its end of text.
        dropped: (id, reason) of those that were left out.
        cut: ids of those whose prompt lost its beginning.
    """

    pieces: list[Tokens]
    dropped: list[tuple[str, str]]
    cut: list[str]


@dataclass(frozen=True)
class SplitInfo:
    """What `info.json` says of a split.

    Attributes:
        dtype: of the tokens.
        sequence_length, sequences: tokens in a sequence, and how many there are.
        tokens: sequences * sequence_length.
        examples: in them.
        prompt_tokens: that are read.
        learnt_tokens: of solutions, with their ends of text.
        padding_tokens: at the ends of sequences.
        eos_id: the end of text.
        vocab_size: entries of the tokenizer.
        unigram_entropy: of the learnt tokens under their own frequencies, in nats.
    """

    dtype: str
    sequence_length: int
    sequences: int
    tokens: int
    examples: int
    prompt_tokens: int
    learnt_tokens: int
    padding_tokens: int
    eos_id: int
    vocab_size: int
    unigram_entropy: float

    def text(self) -> str:
        """The text of `info.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"


def encode(examples: Sequence[Example], tokenizer: Tokenizer, eos_id: int, length: int, long: Long) -> Encoded:
    """Encode examples; each is at most a sequence long, and no solution is cut.

    Args:
        examples: in the order wanted.
        tokenizer: of `codelm.tokenization.bpe.plain`.
        eos_id: the end of text.
        length: tokens in a sequence.
        long: what becomes of an example that is longer (`finetuning.long`).
    """
    prompts = encode_plain(tokenizer, [example.prompt for example in examples])
    solutions = encode_plain(tokenizer, [example.completion for example in examples])
    result = Encoded([], [], [])
    for example, prompt, solution in zip(examples, prompts, solutions, strict=True):
        learnt = [*solution, eos_id]
        room = length - len(learnt)
        kept = prompt
        if not example.completion.strip():
            result.dropped.append((example.id, "empty_solution"))
            continue
        if len(prompt) > room:
            if room < 1 or long == "drop" or 2 * room < length:
                result.dropped.append((example.id, "too_long"))
                continue
            kept = prompt[len(prompt) - room :]
            result.cut.append(example.id)
        piece = np.array([*(~number for number in kept), *learnt], DTYPE)
        result.pieces.append(piece)
    return result


def packed(pieces: Sequence[Tokens], length: int, eos_id: int, vocab_size: int) -> tuple[Tokens, SplitInfo]:
    """Whole examples in sequences, and what is counted of them.

    Returns:
        Tokens of shape (sequences, length), what is left of each filled with complements of the end of text.
    """
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    flat: NDArray[Any] = pack(np.concatenate(pieces), lengths, length, ~eos_id).astype(DTYPE)
    learnt = flat[flat >= 0]
    shares = np.bincount(learnt) / len(learnt)
    shares = shares[shares > 0]
    read = int(lengths.sum()) - len(learnt)
    info = SplitInfo(
        dtype=DTYPE.name,
        sequence_length=length,
        sequences=len(flat) // length,
        tokens=len(flat),
        examples=len(pieces),
        prompt_tokens=read,
        learnt_tokens=len(learnt),
        padding_tokens=len(flat) - int(lengths.sum()),
        eos_id=eos_id,
        vocab_size=vocab_size,
        unigram_entropy=round(float(-(shares * np.log(shares)).sum()), 6),
    )
    return flat.reshape(-1, length), info
