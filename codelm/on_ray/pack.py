"""The pack stage: corpus and tokenizer -> sequences of tokens for training and validation.

Tasks encode the shards; each deals its documents out by their place in the shuffled order, other tasks sort
what belongs together, and the driver writes the parts one after the other.
"""

from dataclasses import asdict
from typing import Any

import ray

from codelm.config import Experiment
from codelm.console import progress, say
from codelm.corpus.shards import read_documents, shard_paths
from codelm.corpus.split import check_both_sides, is_held_out
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.tasks import gather, use_threads
from codelm.run_dir import RunDir
from codelm.tokenization import bpe
from codelm.tokenization.packing import (
    INFO_FILE,
    TOKENS_FILE,
    PackedInfo,
    PackedWriter,
    Run,
    by_key_range,
    encode,
    in_order,
    info_text,
)

SPLITS = ("train", "valid")
PART_BYTES = 64 << 20
"""Text whose tokens one sorting task, and then the driver, holds at once."""


def run(context: Context) -> Outcome:
    """Encode the corpus and write both splits in the context's workspace."""
    fs = context.run_dir.fs
    with fs.open_input_stream(f"{context.input('tokenizer')}/{bpe.TOKENIZER_FILE}") as source:
        tokenizer_json = source.read().decode()
    corpus = context.run_dir.manifest("corpus")
    text_bytes = corpus.metrics["bytes_kept"] if corpus is not None else 0
    parts = 1 + text_bytes // PART_BYTES
    paths = shard_paths(fs, context.input("corpus"))
    task: Any = _encode.options(num_returns=1 + len(SPLITS) * parts)
    outputs = [task.remote(context.run_dir, path, tokenizer_json, context.experiment, parts) for path in paths]
    with progress("pack", "shards", len(paths)) as advance:
        ended = 0

        def finished(place: int) -> None:
            nonlocal ended
            ended += 1
            advance(ended, "encoded")

        counts = gather([output[0] for output in outputs], finished)
    train, held_out = (sum(count[split] for count in counts) for split in SPLITS)
    check_both_sides(train, held_out, context.experiment.data.validation_fraction)
    metrics = {}
    for number, split in enumerate(SPLITS):
        first = 1 + number * parts
        ordered = [_in_order.remote(*(output[first + part] for output in outputs)) for part in range(parts)]
        info = _write(context, split, ordered, tokenizer_json)
        say("pack", f"{split}: {info.sequences:,} sequences of {info.sequence_length} tokens")
        metrics[split] = asdict(info)
    return Outcome(metrics=metrics)


@ray.remote
def _encode(run_dir: RunDir, path: str, tokenizer_json: str, experiment: Experiment, parts: int) -> list[Any]:
    """How many documents each split has, and then for each split its documents in parts."""
    use_threads(1)
    tokenizer = bpe.plain(tokenizer_json)
    documents: dict[str, list[Any]] = {split: [] for split in SPLITS}
    for document in read_documents(run_dir.fs, path):
        held_out = is_held_out(experiment.seed, document.cluster, experiment.data.validation_fraction)
        documents[SPLITS[held_out]].append(document)
    runs = [encode(documents[split], tokenizer, bpe.END_OF_TEXT_ID, experiment.seed) for split in SPLITS]
    counts = {split: len(documents[split]) for split in SPLITS}
    return [counts, *(part for whole in runs for part in by_key_range(whole, parts))]


@ray.remote
def _in_order(*runs: Run) -> Run:
    return in_order(runs)


def _write(context: Context, split: str, ordered: list[Any], tokenizer_json: str) -> PackedInfo:
    """Write one split's parts as they come."""
    fs, directory = context.run_dir.fs, f"{context.workspace}/{split}"
    tokenizer = bpe.plain(tokenizer_json)
    fs.create_dir(directory)
    with fs.open_output_stream(f"{directory}/{TOKENS_FILE}") as out:
        writer = PackedWriter(
            out,
            context.experiment.data.sequence_length,
            tokenizer.get_vocab_size(),
            bpe.END_OF_TEXT_ID,
        )
        for reference in ordered:
            writer.write(ray.get(reference))
    info = writer.finish(split)
    with fs.open_output_stream(f"{directory}/{INFO_FILE}") as out:
        out.write(info_text(info).encode())
    return info


STAGE = Stage(
    name="pack",
    inputs=("corpus", "tokenizer"),
    config=lambda experiment: {"data": experiment.data.model_dump(mode="json"), "seed": experiment.seed},
    run=run,
)
