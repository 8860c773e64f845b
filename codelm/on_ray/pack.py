"""The pack stage: corpus and tokenizer -> sequences of tokens for training and validation.

Tasks encode the shards; each deals its documents out by their place in the shuffled order, other tasks sort and pack
what belongs together, and the driver writes the parts one after the other. How many parts there are depends on the
corpus alone, so that the result does not depend on the cluster.
"""

from dataclasses import asdict
from typing import Any

import ray
from numpy.typing import NDArray

from codelm.config import Experiment
from codelm.console import progress, say
from codelm.corpus.shards import read_documents, shard_paths
from codelm.corpus.split import check_both_sides, is_held_out
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.tasks import gather, use_threads
from codelm.records import END_OF_TEXT, FIM_PAD
from codelm.run_dir import RunDir
from codelm.tokenization import best_fit, bpe
from codelm.tokenization.encoding import Counts, Encoder, Run
from codelm.tokenization.fim import FimRates
from codelm.tokenization.packing import INFO_FILE, TOKENS_FILE, PackedInfo, PackedWriter, info_text
from codelm.tokenization.runs import by_key_range, in_order, join_repositories

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
    totals = {split: sum((count[split] for count in counts), Counts()) for split in SPLITS}
    train, held_out = (totals[split].documents for split in SPLITS)
    check_both_sides(train, held_out, context.experiment.data.validation_fraction)
    metrics = {}
    for number, split in enumerate(SPLITS):
        if split == "train" and context.experiment.data.streaming:
            continue
        first = 1 + number * parts
        packed = [
            _pack.remote(context.experiment, tokenizer_json, *(output[first + part] for output in outputs))
            for part in range(parts)
        ]
        info = _write(context, split, packed, tokenizer_json, totals[split])
        say(
            "pack",
            f"{split}: {info.sequences:,} sequences of {info.sequence_length} tokens, {info.fill:.2%} filled",
        )
        metrics[split] = asdict(info)
    return Outcome(metrics=metrics)


@ray.remote
def _encode(run_dir: RunDir, path: str, tokenizer_json: str, experiment: Experiment, parts: int) -> list[Any]:
    """What was counted for each split, and then for each split its documents in parts."""
    use_threads(1)
    tokenizer, data = bpe.plain(tokenizer_json), experiment.data
    documents: dict[str, list[Any]] = {split: [] for split in SPLITS}
    streamed = Counts()
    for document in read_documents(run_dir.fs, path):
        held_out = is_held_out(experiment.seed, document.cluster, data.validation_fraction)
        if data.streaming and not held_out:
            streamed.documents += 1
            continue
        documents[SPLITS[held_out]].append(document)
    counts, dealt = {}, []
    for split in SPLITS:
        # Losses of models trained with and without fill-in-the-middle are to compare: the validation split has none.
        fills = split == "train" and data.fim_rate > 0
        rates = FimRates(data.fim_rate, data.fim_spm_rate, experiment.seed) if fills else None
        encoder = Encoder(tokenizer, data.sequence_length, experiment.seed, rates, data.repo_level)
        dealt += by_key_range(encoder.encode(documents[split]), parts)
        counts[split] = encoder.counts
    counts["train"] += streamed
    return [counts, *dealt]


@ray.remote
def _pack(experiment: Experiment, tokenizer_json: str, *runs: Run) -> NDArray[Any]:
    """The tokens of one part: whole sequences, or a stretch of the stream."""
    tokenizer, data = bpe.plain(tokenizer_json), experiment.data
    whole = in_order(runs)
    if data.repo_level:
        whole = join_repositories(whole, bpe.token_id(tokenizer, END_OF_TEXT), data.sequence_length)
    if data.packing == "concatenate":
        return whole.tokens
    return best_fit.pack(whole.tokens, whole.lengths, data.sequence_length, bpe.token_id(tokenizer, FIM_PAD))


def _write(context: Context, split: str, packed: list[Any], tokenizer_json: str, counts: Counts) -> PackedInfo:
    """Write one split's parts as they come."""
    fs, directory = context.run_dir.fs, f"{context.workspace}/{split}"
    tokenizer = bpe.plain(tokenizer_json)
    fs.create_dir(directory)
    with fs.open_output_stream(f"{directory}/{TOKENS_FILE}") as out:
        writer = PackedWriter(
            out,
            context.experiment.data.sequence_length,
            tokenizer.get_vocab_size(),
            bpe.token_id(tokenizer, END_OF_TEXT),
            bpe.token_id(tokenizer, FIM_PAD),
        )
        for reference in packed:
            writer.write(ray.get(reference))
    info = writer.finish(split, counts)
    with fs.open_output_stream(f"{directory}/{INFO_FILE}") as out:
        out.write(info_text(info).encode())
    return info


STAGE = Stage(
    name="pack",
    inputs=("corpus", "tokenizer"),
    config=lambda experiment: {
        "data": experiment.data.model_dump(mode="json", exclude={"isolate_documents"}),
        "seed": experiment.seed,
    },
    run=run,
)
