"""Small packed data with something to learn: the next token follows from the last one, most of the time."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codelm import config
from codelm.config import Experiment

PADDING = 4
"""None of it is there: all sequences are full."""


def tiny_experiment(name: str, root: Path, recipe: Mapping[str, Any]) -> Experiment:
    """An experiment for such data, on CPUs, in `root/run`."""
    tree = {
        "name": name,
        "run_dir": str(root / "run"),
        "accelerator": "cpu",
        "corpus": {"sources": [str(root)]},
        "tokenizer": {"vocab_size": 512},
        "data": {"sequence_length": 64},
        "model": {"hidden_size": 64, "layers": 2, "heads": 4, "intermediate_size": 128, "max_positions": 64},
        "training": dict(recipe),
    }
    return config.parse(tree, "the test's")


def write_packed(root: Path, vocab_size: int = 512, length: int = 64, train: int = 96, valid: int = 11) -> Path:
    """Write `root/{train,valid}` in the form of the pack stage; returns `root`."""
    generator = np.random.default_rng(7)
    for split, sequences in (("train", train), ("valid", valid)):
        tokens = np.zeros((sequences, length), dtype="<u2")
        tokens[:, 0] = generator.integers(0, vocab_size, sequences)
        for place in range(1, length):
            follows = (5 * tokens[:, place - 1].astype(np.int64) + 3) % vocab_size
            other = generator.integers(0, vocab_size, sequences)
            tokens[:, place] = np.where(generator.random(sequences) < 0.9, follows, other)
        tokens[tokens == PADDING] = PADDING + 1
        directory = root / split
        directory.mkdir(parents=True)
        tokens.tofile(directory / "tokens.bin")
        counts = np.bincount(tokens.reshape(-1), minlength=vocab_size) / tokens.size
        seen = counts[counts > 0]
        info = {
            "dtype": "uint16",
            "sequence_length": length,
            "sequences": sequences,
            "tokens": tokens.size,
            "documents": sequences,
            "bytes": tokens.size,
            "padding_tokens": 0,
            "dropped_tail_tokens": 0,
            "joints": int((tokens[:, :-1] == 0).sum()),
            "vocab_size": vocab_size,
            "eos_id": 0,
            "pad_id": PADDING,
            "unigram_entropy": float(-(seen * np.log(seen)).sum()),
        }
        (directory / "info.json").write_text(json.dumps(info))
    return root
