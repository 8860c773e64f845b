"""A part of the corpus as sequences by itself, for training off a stream: the size of a row group of a shard."""

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray
from tokenizers import Tokenizer

from codelm.config import Data
from codelm.corpus.shards import Document
from codelm.corpus.split import is_held_out
from codelm.records import END_OF_TEXT, FIM_PAD
from codelm.tokenization import best_fit, bpe
from codelm.tokenization.encoding import Encoder
from codelm.tokenization.fim import FimRates
from codelm.tokenization.runs import in_order, join_repositories


def training_sequences(tokenizer: Tokenizer, documents: Iterable[Document], data: Data, seed: int) -> NDArray[Any]:
    """The training documents of a unit, encoded, cut to fill in the middle, and packed.

    As the pack stage does it, but for what that does over all documents: here a sequence holds documents of one unit,
    a repository is joined as far as it is in it, and `concatenate` drops the tail of each unit.

    Args:
        tokenizer: of `bpe.plain`.
        documents: of the unit; those that are held out are left out.
        data: the section of the config.
        seed: the experiment's.

    Returns:
        Shape (sequences, sequence_length).
    """
    rates = FimRates(data.fim_rate, data.fim_spm_rate, seed) if data.fim_rate > 0 else None
    encoder = Encoder(tokenizer, data.sequence_length, seed, rates, data.repo_level)
    fraction = data.validation_fraction
    whole = in_order([encoder.encode(d for d in documents if not is_held_out(seed, d.cluster, fraction))])
    if data.repo_level and len(whole.lengths):
        whole = join_repositories(whole, bpe.token_id(tokenizer, END_OF_TEXT), data.sequence_length)
    tokens = whole.tokens
    if data.packing == "best_fit":
        tokens = best_fit.pack(tokens, whole.lengths, data.sequence_length, bpe.token_id(tokenizer, FIM_PAD))
    return tokens[: len(tokens) // data.sequence_length * data.sequence_length].reshape(-1, data.sequence_length)
