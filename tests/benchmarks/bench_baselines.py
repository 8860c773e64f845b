"""What a trained model knows beside compressors and n-grams: `python -m tests.benchmarks.bench_baselines RUN_DIR [MB]`.

Bits per byte on the validation files of a finished run: of gzip and xz on each file alone, of xz on all of them after
as much of the training files as its window holds, of a byte n-gram model with Witten-Bell smoothing (Bell, Cleary and
Witten 1990) counted on the training files, and of the exported model. MB limits what the n-gram model is counted on.
Then what the model makes of the beginnings of some validation files.
"""

import gzip
import lzma
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codelm.corpus.shards import read_documents, shard_paths
from codelm.corpus.split import is_held_out
from codelm.inference.complete_command import complete
from codelm.inference.engine import Request
from codelm.run_dir import RunDir
from codelm.training.data import open_packed
from codelm.training.validation import validation_loss

LONGEST = 7
"""Bytes of context: with the byte that follows they fill 64 bits, so that counts are exact."""

XZ_WINDOW = 64 << 20

SAMPLES, PROMPT_BYTES, SHOWN = 4, 1200, 300

Words = NDArray[np.uint64]


def texts(run: RunDir) -> tuple[list[bytes], list[bytes]]:
    """The training and the validation files of a run."""
    pack = run.manifest("packed")
    assert pack is not None, "a finished run"
    fraction, seed = pack.config["data"]["validation_fraction"], pack.config["seed"]
    sides: tuple[list[bytes], list[bytes]] = [], []
    for path in shard_paths(run.fs, run.path("corpus")):
        for document in read_documents(run.fs, path):
            sides[is_held_out(seed, document.cluster, fraction)].append(document.content.encode())
    return sides


def contexts(stream: bytes, order: int) -> tuple[Words, Words]:
    """For each byte from place `LONGEST` on: the `order` bytes before it, and these with it, as numbers."""
    values = np.frombuffer(stream, np.uint8).astype(np.uint64)
    count = len(values) - LONGEST
    before = np.zeros(count, np.uint64)
    for back in range(order, 0, -1):
        before = before << np.uint64(8) | values[LONGEST - back : LONGEST - back + count]
    return before, before << np.uint64(8) | values[LONGEST:]


class Counts:
    """How often each number is there."""

    def __init__(self, numbers: Words) -> None:
        self.known, self.times = np.unique(numbers, return_counts=True)

    def of(self, numbers: Words) -> NDArray[np.float64]:
        """How often these are there."""
        if not len(self.known):
            return np.zeros(len(numbers))
        places = np.searchsorted(self.known, numbers).clip(max=len(self.known) - 1)
        return np.where(self.known[places] == numbers, self.times[places], 0).astype(np.float64)


def ngram_bits(train: bytes, valid: bytes, order: int) -> list[float]:
    """Bits a byte of `valid`, for models of 0, 1, ..., `order` bytes of context."""
    share = np.full(len(valid) - LONGEST, 1 / 256)
    bits = []
    for length in range(order + 1):
        before, whole = contexts(train, length)
        pairs = Counts(whole)
        seen, kinds = Counts(before), Counts(pairs.known >> np.uint64(8))
        asked, wanted = contexts(valid, length)
        followers = kinds.of(asked)
        total = seen.of(asked) + followers
        mixed = (pairs.of(wanted) + followers * share) / np.maximum(total, 1)
        share = np.where(total > 0, mixed, share)
        bits.append(float(-np.log2(share).mean()))
    return bits


def rows(run: RunDir, limit: int) -> Iterator[tuple[str, float]]:
    """Name and bits a byte of each."""
    train, valid = texts(run)
    size = sum(map(len, valid))
    yield "gzip -9, each file alone", 8 * sum(len(gzip.compress(text, 9, mtime=0)) for text in valid) / size
    yield "xz -9, each file alone", 8 * sum(len(lzma.compress(text, preset=9)) for text in valid) / size
    before = b"\n".join(train)[-XZ_WINDOW + size :]
    compressed: Callable[[bytes], int] = lambda text: len(lzma.compress(text, preset=9))  # noqa: E731
    gained = compressed(before + b"\n".join(valid)) - compressed(before)
    yield f"xz -9, after {len(before) / 1e6:.0f} MB of training files", 8 * gained / size
    counted = b"\n".join(train)[: limit << 20]
    for order, bits in enumerate(ngram_bits(counted, b"\n".join(valid), LONGEST)):
        if order in (2, 4, 5, 6, 7):
            yield f"{order + 1}-gram of bytes, {len(counted) / 1e6:.0f} MB counted", bits
    packed = Path(run.path("packed", "valid"))
    info = open_packed(packed).info
    assert (info["documents"], info["bytes"]) == (len(valid), size), "the same files"
    pretrain = run.manifest("pretrain")
    assert pretrain is not None
    measured = validation_loss(run.path("model"), packed, 4, isolate=pretrain.config["isolate_documents"])
    yield f"the model ({measured.loss:.3f} nats a token)", measured.bits_per_byte


def samples(run: RunDir) -> Iterator[tuple[str, str]]:
    """The beginning of some validation files, up to the first line after `PROMPT_BYTES`, and how the model goes on."""
    _, valid = texts(run)
    long_enough = [text.decode() for text in valid if len(text) > 4 * PROMPT_BYTES]
    for text in long_enough[:: max(1, len(long_enough) // SAMPLES)][:SAMPLES]:
        prompt = text[: text.index("\n", PROMPT_BYTES) + 1] if "\n" in text[PROMPT_BYTES:] else text[:PROMPT_BYTES]
        request = Request(prompt=prompt, max_new_tokens=64, temperature=0.2, top_p=0.95)
        yield prompt, "".join(complete(Path(run.root), request))


if __name__ == "__main__":
    started = time.monotonic()
    finished = RunDir(sys.argv[1])
    for name, bits in rows(finished, int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 20):
        print(f"{name:48s} {bits:6.3f} bits per byte  ({math.log2(256) / bits:5.2f} x smaller)", flush=True)
    for prompt, completion in samples(finished):
        print(
            f"--- {len(prompt)} characters of a validation file, that end\n{prompt[-SHOWN:]}--- the model\n{completion}"
        )
    print(f"--- {time.monotonic() - started:.0f} s")
