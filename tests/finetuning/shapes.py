"""Tiny models of each architecture, and examples for them, as bytes."""

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from codelm.config import Model
from codelm.finetuning.example import Example
from codelm.finetuning.packing import SplitInfo, encode, packed
from codelm.modeling.build import build_model, model_config
from codelm.tokenization import bpe
from codelm.training.data import PackedData

ARCHITECTURES = ("gpt_neo", "gpt2", "gpt_bigcode", "llama")
LENGTH = 64
EOS = bpe.END_OF_TEXT_ID


def tokenizer() -> Tokenizer:
    """Bytes and the special tokens: nothing to train."""
    return bpe.plain(bpe.files(bpe.train([], 263, 2))[bpe.TOKENIZER_FILE])


VOCABULARY = tokenizer().get_vocab_size()


def tiny(architecture: Any, seed: int = 0) -> PreTrainedModel:
    shape = Model(
        architecture=architecture,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        intermediate_size=64,
        max_positions=LENGTH,
    )
    return build_model(model_config(shape, VOCABULARY), seed)


EXAMPLES = [
    Example("a", "Q: add\nA:\n", "a + b", "a"),
    Example("b", "Q: double it\nA:\n", "2 * x", "b"),
    Example("c", "Q: none\nA:\n", "None", "c"),
    Example("d", "Q: two\nA:\n", "2", "d"),
]


def data(examples: list[Example] = EXAMPLES, length: int = LENGTH) -> tuple[PackedData, SplitInfo]:
    encoded = encode(examples, tokenizer(), EOS, length, "drop")
    assert not encoded.dropped
    tokens, info = packed(encoded.pieces, length, EOS, VOCABULARY)
    return PackedData(tokens, {"sequence_length": length}), info


def rows(examples: list[Example] = EXAMPLES, length: int = LENGTH) -> torch.Tensor:
    split, _ = data(examples, length)
    return split.batch(np.arange(len(split)))
