"""The tokenizer stage: the training split of the corpus -> a byte-level BPE tokenizer."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle

from codelm.config import Experiment
from codelm.console import progress, say
from codelm.corpus.shards import Document, read_documents, shard_paths
from codelm.corpus.split import check_both_sides, is_held_out
from codelm.modeling.source import check_source
from codelm.on_ray.progress import board
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.tasks import cpus_of_a_task, gather, use_threads
from codelm.run_dir import RunDir
from codelm.tokenization import bpe

MOST_THREADS = 8
"""Counting words scales with threads, merging pairs does not."""
POST_EVERY = 50
"""Documents between two posts of progress."""


def run(context: Context) -> Outcome:
    """Train the tokenizer in one task, write it to the context's workspace, and measure it with one task a shard."""
    experiment = context.experiment
    manifest = context.run_dir.manifest("corpus")
    documents = manifest.metrics["files_kept"] if manifest is not None else 0
    cpus = min(cpus_of_a_task(), MOST_THREADS)
    task: Any = _train.options(num_cpus=cpus)
    with board("tokenizer", "files", documents) as posts:
        reference = task.remote(context.run_dir, context.input("corpus"), context.workspace, experiment, cpus, posts)
        [(vocab_size, trained_on)] = gather([reference])
    held_out = _held_out(context)
    check_both_sides(trained_on, held_out.files, experiment.data.validation_fraction)
    metrics = {
        "vocab_size": vocab_size,
        "bytes_per_token": round(held_out.size / held_out.tokens, 4),
        "held_out_files": held_out.files,
    }
    say(
        "tokenizer",
        f"{metrics['vocab_size']:,} entries, {metrics['bytes_per_token']:.2f} bytes a token "
        f"on {metrics['held_out_files']:,} held-out files",
    )
    return Outcome(metrics=metrics)


@dataclass(frozen=True)
class HeldOut:
    """Held-out files: their number, their bytes, and the tokens that they become."""

    files: int
    size: int
    tokens: int


def _held_out(context: Context) -> HeldOut:
    """What the tokenizer makes of the held-out files of all shards."""
    experiment = context.experiment
    paths = shard_paths(context.run_dir.fs, context.input("corpus"))
    tokenizer = f"{context.workspace}/{bpe.TOKENIZER_FILE}"
    done = 0
    with progress("tokenizer", "shards", len(paths)) as advance:

        def finished(_place: int) -> None:
            nonlocal done
            done += 1
            advance(done, "measured")

        parts = gather([_measure.remote(context.run_dir, path, tokenizer, experiment) for path in paths], finished)
    return HeldOut(
        sum(part.files for part in parts), sum(part.size for part in parts), sum(part.tokens for part in parts)
    )


@ray.remote
def _train(
    run_dir: RunDir, corpus: str, workspace: str, experiment: Experiment, threads: int, posts: "ActorHandle[Any]"
) -> tuple[int, int]:
    """Write the tokenizer; the size of its vocabulary, and how many documents it was trained on."""
    use_threads(threads)
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for path in shard_paths(run_dir.fs, corpus):
            for document in _side(run_dir, path, experiment, held_out=False):
                read += 1
                if read % POST_EVERY == 0:
                    posts.post.remote(read, "counted")
                yield document.content

    settings = experiment.tokenizer
    if settings.pretrained is not None:
        tokenizer = bpe.pretrained(settings.pretrained)
        deque(texts(), maxlen=0)  # to count them
    else:
        tokenizer = bpe.train(texts(), settings.vocab_size, settings.min_frequency)
    for name, text in bpe.files(tokenizer).items():
        with run_dir.fs.open_output_stream(f"{workspace}/{name}") as out:
            out.write(text.encode())
    return tokenizer.get_vocab_size(), read


@ray.remote
def _measure(run_dir: RunDir, shard: str, tokenizer: str, experiment: Experiment) -> HeldOut:
    """What a tokenizer's file makes of the held-out files of one shard."""
    use_threads(1)
    with run_dir.fs.open_input_stream(tokenizer) as source:
        plain = bpe.plain(source.read().decode())
    files = size = tokens = 0
    for document in _side(run_dir, shard, experiment, held_out=True):
        files += 1
        size += len(document.content.encode())
        tokens += len(bpe.encode_plain(plain, [document.content])[0])
    return HeldOut(files, size, tokens)


def _side(run_dir: RunDir, shard: str, experiment: Experiment, held_out: bool) -> Iterator[Document]:
    """The documents of a shard that are held out, or the others."""
    for document in read_documents(run_dir.fs, shard):
        if is_held_out(experiment.seed, document.cluster, experiment.data.validation_fraction) is held_out:
            yield document


def check(experiment: Experiment) -> None:
    """Refuse a pretrained tokenizer that is not there."""
    if experiment.tokenizer.pretrained is not None:
        check_source("tokenizer.pretrained", experiment.tokenizer.pretrained)


STAGE = Stage(
    name="tokenizer",
    inputs=("corpus",),
    config=lambda experiment: {
        "tokenizer": experiment.tokenizer.model_dump(mode="json"),
        "data": {"validation_fraction": experiment.data.validation_fraction},
        "seed": experiment.seed,
    },
    run=run,
    check=check,
)
