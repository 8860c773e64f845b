"""Stage `examples`: prompts and solutions, encoded for the model that is fine-tuned, in two splits."""

import json
from collections import Counter
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray

from codelm.config import Experiment
from codelm.config.finetuning import Finetuning
from codelm.console import say
from codelm.corpus import decontamination
from codelm.corpus.shards import read_documents, shard_paths
from codelm.corpus.split import is_held_out
from codelm.errors import UserError
from codelm.finetuning.example import Example, limited
from codelm.finetuning.functions import functions, is_test_file
from codelm.finetuning.reading import read_apps, read_pairs
from codelm.modeling.source import check_source
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.tasks import gather, use_threads
from codelm.run_dir import DIRECTORIES, RunDir, digest_of

NAME = "examples"
SPLITS = ("train", "valid")
NAMED = 3
"""Of the examples that are left out, so many are named on the terminal; all are in `dropped.jsonl`."""
Dropped = tuple[str, str]


def settings(experiment: Experiment) -> Finetuning:
    """The section `finetuning`.

    Raises:
        UserError: the config has none.
    """
    if experiment.finetuning is None:
        raise UserError("the config has no section `finetuning`; finetuning.data=functions is the least it needs")
    return experiment.finetuning


def base_model(experiment: Experiment, run_dir: RunDir) -> str:
    """Where the model is that is fine-tuned: the config's, or this run's own."""
    stated = settings(experiment).model
    if stated is None:
        return str(run_dir.local_copy(DIRECTORIES["export"]))
    directory = Path(stated).expanduser()
    return str(directory) if directory.is_dir() else stated


def inputs(experiment: Experiment) -> tuple[str, ...]:
    """The stages that are read: the corpus for functions, the exported model where none is named."""
    section = settings(experiment)
    return (*(["corpus"] if section.data == "functions" else []), *(["export"] if section.model is None else []))


def check(experiment: Experiment) -> None:
    """Refuse data that cannot be read, and a model that is not there."""
    section = settings(experiment)
    if section.model is not None:
        check_source("finetuning.model", section.model)
    if section.data == "jsonl" and section.source is None:
        raise UserError("finetuning.source: null; name the file of the lines with `prompt` and `completion`")
    if section.data == "functions":
        decontamination.load(section.functions.decontaminate)
    elif section.source is not None:
        read(section)


@lru_cache(maxsize=1)
def read(section: Finetuning) -> tuple[Example, ...]:
    """The examples of a file or data set."""
    if section.data == "apps":
        return tuple(read_apps(section.source, section.difficulties))
    return tuple(read_pairs(section.source or ""))


def run(context: Context) -> Outcome:
    """Read, split, encode and pack; leave word of everything that was left out."""
    # It loads torch, which takes seconds that the check of the other stages need not wait for.
    from codelm.finetuning.base import check_positions, load_tokenizer, read_config
    from codelm.finetuning.packing import INFO_FILE, TOKENS_FILE, encode, packed

    experiment, section, fs = context.experiment, settings(context.experiment), context.run_dir.fs
    source = base_model(experiment, context.run_dir)
    check_positions(read_config(source), source, section.sequence_length)
    tokenizer, eos_id = load_tokenizer(source)
    dropped: list[Dropped] = []
    if section.data == "functions":
        examples, dropped = _functions(context, section)
    else:
        examples = list(read(section))
    found = len(examples) + len(dropped)
    kept, over = limited(_distinct(examples, dropped), section.solutions, experiment.seed)
    dropped += [(example.id, "over_the_limit") for example in over]
    metrics: dict[str, Any] = {}
    cut: list[str] = []
    for split in SPLITS:
        side = [
            example
            for example in kept
            if is_held_out(experiment.seed, example.group, section.validation_fraction) == (split == "valid")
        ]
        encoded = encode(side, tokenizer, eos_id, section.sequence_length, section.long)
        dropped += encoded.dropped
        cut += encoded.cut
        if not encoded.pieces:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in Counter(r for _, r in dropped).items())
            raise UserError(
                f"finetuning: no example is left for the {split} split, of {found:,} in the data"
                f"{f' (dropped: {reasons})' if reasons else ''}; raise finetuning.sequence_length, change "
                "finetuning.validation_fraction, or name more data"
            )
        tokens, info = packed(encoded.pieces, section.sequence_length, eos_id, tokenizer.get_vocab_size())
        fs.create_dir(f"{context.workspace}/{split}")
        for name, content in ((TOKENS_FILE, tokens.tobytes()), (INFO_FILE, info.text().encode())):
            with fs.open_output_stream(f"{context.workspace}/{split}/{name}") as out:
                out.write(content)
        metrics[split] = asdict(info)
        say(NAME, f"{split}: {info.examples:,} examples in {info.sequences:,} sequences of {info.sequence_length}")
    _tell(dropped, cut)
    with fs.open_output_stream(f"{context.workspace}/dropped.jsonl") as out:
        for name, reason in sorted([*dropped, *((name, "prompt_cut") for name in cut)]):
            out.write((json.dumps({"id": name, "reason": reason}) + "\n").encode())
    counts = Counter(reason for _, reason in dropped)
    examples_kept = sum(metrics[split]["examples"] for split in SPLITS)
    assert found == examples_kept + sum(counts.values()), "every example has one fate"
    return Outcome(
        {**metrics, "found": found, "examples": examples_kept, "dropped": dict(sorted(counts.items())), "cut": len(cut)}
    )


def _distinct(examples: list[Example], dropped: list[Dropped]) -> list[Example]:
    """The examples without those whose prompt and completion are those of an earlier one, by id."""
    kept: dict[str, Example] = {}
    for example in sorted(examples, key=lambda example: example.id):
        key = digest_of([" ".join(example.prompt.split()), " ".join(example.completion.split())])
        if key in kept:
            dropped.append((example.id, "duplicate"))
        else:
            kept[key] = example
    return list(kept.values())


def _tell(dropped: list[Dropped], cut: list[str]) -> None:
    by_reason: dict[str, list[str]] = {}
    for name, reason in dropped:
        by_reason.setdefault(reason, []).append(name)
    for reason, names in sorted(by_reason.items()):
        say(NAME, f"dropped, {reason}: {len(names):,} ({_named(names)})")
    if cut:
        say(NAME, f"prompts that lost their beginning: {len(cut):,} ({_named(cut)})")


def _named(names: list[str]) -> str:
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _functions(context: Context, section: Finetuning) -> tuple[list[Example], list[Dropped]]:
    paths = shard_paths(context.run_dir.fs, context.input("corpus"))
    tasks = [_functions_of_shard.remote(context.run_dir, path, section) for path in paths]
    parts: list[Any] = gather(tasks)
    return [item for examples, _ in parts for item in examples], [item for _, dropped in parts for item in dropped]


@ray.remote
def _functions_of_shard(run_dir: RunDir, path: str, section: Finetuning) -> tuple[list[Example], list[Dropped]]:
    use_threads(1)
    benchmarks = decontamination.load(section.functions.decontaminate)
    examples: list[Example] = []
    dropped: list[Dropped] = []
    for document in read_documents(run_dir.fs, path):
        where = f"{document.repo or ''}:{document.path or document.id}"
        found = functions(document.content, section.functions)
        for number, function in enumerate(found or ()):
            name = f"{where}:{function.line}:{function.name}:{document.id[:8]}:{number}"
            if is_test_file(document.path or ""):
                dropped.append((name, "test"))
            elif function.dropped is not None:
                dropped.append((name, function.dropped))
            else:
                examples.append(Example(name, function.prompt, function.completion, document.cluster))
    matches = benchmarks.search([example.prompt + example.completion for example in examples])
    dropped += [(example.id, "benchmark") for example, match in zip(examples, matches, strict=True) if match]
    return [example for example, match in zip(examples, matches, strict=True) if match is None], dropped


DECIDES = ("data", "source", "difficulties", "solutions", "functions", "sequence_length", "long", "validation_fraction")
"""Keys of the section that the examples depend on; `model` by its tokenizer."""

STAGE = Stage(
    name=NAME,
    inputs=inputs,
    config=lambda experiment: {
        "finetuning": settings(experiment).model_dump(mode="json", include={*DECIDES, "model"}),
        "seed": experiment.seed,
    },
    run=run,
    check=check,
)
