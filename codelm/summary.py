"""What a finished stage, and a finished pipeline, tell the person at the terminal. Read from manifests alone."""

import io
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from codelm.config import Experiment
from codelm.run_dir import DIRECTORIES, Manifest, RunDir
from codelm.tracking import shown_uri, tracking_uri

Row = tuple[str, str]

NOT_NEXT = ("examples", "finetune", "sweep")
"""What follows pretraining only where one wants it."""

WIDTH = 110
"""Columns of the summary; completions are wrapped to it."""


def summarise(experiment: Experiment, manifests: Mapping[str, Manifest], arguments: str) -> str:
    """The table at the end of `codelm pipeline`: what came out, where it is, what to try next.

    Args:
        experiment: the whole config.
        manifests: of each stage, by its name.
        arguments: config file and overrides, as they were typed.
    """
    run_dir = RunDir(experiment.run_dir)
    table = _table(f"{experiment.name}: finished")
    for name, manifest in manifests.items():
        for index, (label, value) in enumerate(_rows(manifest)):
            table.add_row(name if index == 0 else "", label, Text(value))
        table.add_section()
    seconds = sum(manifest.facts["seconds"] for manifest in manifests.values())
    table.add_row("time", "all stages", f"{seconds:.0f} s, of which {_shares(manifests)}")
    table.add_row("where", "everything", run_dir.uri)
    table.add_row("", "model", run_dir.path(DIRECTORIES[experiment.model_stage]))
    table.add_row("", "MLflow", shown_uri(tracking_uri(experiment, run_dir)))
    steps = "\n".join(f"  {why}:\n    {command}" for command, why in _next_commands(experiment, run_dir, arguments))
    return f"{_render(table)}\nNext, try\n{steps}"


def stage_result(manifest: Manifest) -> str:
    """The rows of one stage."""
    table = _table(f"{manifest.stage}, {manifest.facts['seconds']:.0f} s")
    for label, value in _rows(manifest):
        table.add_row("", label, Text(value))
    return _render(table)


def next_step(stage: str, arguments: str) -> str:
    """The command that follows a stage."""
    names = list(DIRECTORIES)
    following = [name for name in names[names.index(stage) + 1 :] if name not in NOT_NEXT or stage in NOT_NEXT]
    return f"next: {_program('codelm')} {following[0] if following else 'serve'} {arguments}"


def _next_commands(experiment: Experiment, run_dir: RunDir, arguments: str) -> Iterator[Row]:
    codelm, mlflow = _program("codelm"), _program("mlflow")
    yield f"{codelm} serve {arguments}", "the model as an HTTP endpoint"
    yield (
        f"{mlflow} ui --backend-store-uri {shown_uri(tracking_uri(experiment, run_dir))}",
        "the loss curve and all figures",
    )
    changes = f"--set run_dir={experiment.run_dir}-longer --set training.steps={experiment.training.steps * 10}"
    yield f"{codelm} pipeline {arguments} {changes}", "ten times the training, in a run directory of its own"


def _program(name: str) -> str:
    """What to type for a program of this environment: its name where it is on the PATH, else its place."""
    place = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(place):
        return name
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)


def _rows(manifest: Manifest) -> list[Row]:
    return list(ROWS[manifest.stage](manifest))


def _corpus(manifest: Manifest) -> Iterator[Row]:
    m = manifest.metrics
    yield "files in", f"{m['files_in']:,} ({m['bytes_in'] / 1e6:.1f} MB)"
    yield "files kept", f"{m['files_kept']:,} ({m['bytes_kept'] / 1e6:.1f} MB)"
    for reason, files in sorted(m["dropped"].items(), key=lambda item: -item[1]):
        yield f"dropped, {reason}", f"{files:,}"


def _tokenizer(manifest: Manifest) -> Iterator[Row]:
    m = manifest.metrics
    yield "vocabulary", f"{m['vocab_size']:,}"
    yield "bytes per token", f"{m['bytes_per_token']:.2f} on {m['held_out_files']:,} held-out files"


def _pack(manifest: Manifest) -> Iterator[Row]:
    for split, m in manifest.metrics.items():
        yield (
            f"{split} sequences",
            f"{m['sequences']:,} x {m['sequence_length']:,} = {m['tokens']:,} tokens of {m['documents']:,} files",
        )


def _pretrain(manifest: Manifest) -> Iterator[Row]:
    m, facts = manifest.metrics, manifest.facts
    before, after = m["initial_validation_loss"], m["validation_loss"]
    yield "model", f"{m['parameters']:,} parameters, {facts['precision']}, {facts['workers']} x {facts['device']}"
    yield "trained", f"{m['steps']:,} steps, {m['tokens']:,} tokens, {facts['tokens_per_second']:,.0f} tokens/s"
    yield "validation loss", f"{before:.3f} -> {after:.3f} nats per token (unigram entropy {m['unigram_entropy']:.3f})"
    yield "perplexity", f"{math.exp(before):,.0f} -> {math.exp(after):,.1f}"


def _export(manifest: Manifest) -> Iterator[Row]:
    yield "Hugging Face files", ", ".join(sorted(manifest.files))


def _examples(manifest: Manifest) -> Iterator[Row]:
    m = manifest.metrics
    yield "examples", f"{m['examples']:,} of {m['found']:,} found"
    for reason, count in sorted(m["dropped"].items(), key=lambda item: -item[1]):
        yield f"dropped, {reason}", f"{count:,}"
    if m["cut"]:
        yield "prompts cut", f"{m['cut']:,} lost their beginning"
    for split in ("train", "valid"):
        s = m[split]
        yield (
            f"{split} sequences",
            f"{s['sequences']:,} x {s['sequence_length']:,}, with {s['learnt_tokens']:,} tokens to learn and "
            f"{s['prompt_tokens']:,} to read, of {s['examples']:,} examples",
        )


def _finetune(manifest: Manifest) -> Iterator[Row]:
    m, facts = manifest.metrics, manifest.facts
    yield "model", f"{m['parameters']:,} parameters, {facts['precision']}, {facts['workers']} x {facts['device']}"
    yield "trained", f"{m['steps']:,} steps, {m['epochs']:.2f} epochs, {facts['tokens_per_second']:,.0f} tokens/s"
    yield (
        "validation loss",
        f"{m['initial_validation_loss']:.3f} -> {m['validation_loss']:.3f} nats per token of solutions, after step "
        f"{m['best_step']:,}, the best ({m['final_validation_loss']:.3f} after the last)",
    )


def _sweep(manifest: Manifest) -> Iterator[Row]:
    m = manifest.metrics
    ended = ", ".join(f"{count:,} {state}" for state, count in m["states"].items())
    yield "trials", f"{m['trials']:,}: {ended}"
    yield "steps", f"{m['steps']:,} of {m['full_steps']:,} that all trials would take ({m['share_of_steps']:.0%})"
    yield "best", ", ".join(f"{key}={value}" for key, value in m["best_overrides"].items())
    yield m["metric"], f"{m['best']:.4f}, from {m['worst']:.4f} of the worst trial that ended"


def _evaluate(manifest: Manifest) -> Iterator[Row]:
    m = manifest.metrics
    for name, figure in m["pass_at_k"].items():
        best = f", best at temperature {figure['temperature']:g}" if "temperature" in figure else ""
        yield (
            name,
            f"{figure['value']:.1%}, 95% confidence {figure['low']:.1%} to {figure['high']:.1%} "
            f"({m['problems']} problems x {m['samples']} samples{best})",
        )
    for key, label in (("test_case_average", "test cases passed"), ("exact_match", "exact matches")):
        if key in m:
            yield label, f"{m[key]['value']:.1%}, 95% confidence {m[key]['low']:.1%} to {m[key]['high']:.1%}"
    if "verdicts" in m:
        yield "samples", ", ".join(f"{count:,} {kind}" for kind, count in m["verdicts"].items())
    if "forgeable_problems" in m:
        yield "tests within reach", f"of the programs of {m['forgeable_problems']} problems: they could forge success"
    yield "canonical solutions", f"{m['canonical_passed']} of {m['canonical_total']} pass"


def _endpoint(manifest: Manifest) -> Iterator[Row]:
    yield "asked", repr(manifest.metrics["prompt"])
    yield "answered", repr(manifest.metrics["completion"])


ROWS: dict[str, Callable[[Manifest], Iterator[Row]]] = {
    "corpus": _corpus,
    "tokenizer": _tokenizer,
    "pack": _pack,
    "pretrain": _pretrain,
    "export": _export,
    "examples": _examples,
    "finetune": _finetune,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "endpoint": _endpoint,
}


def _shares(manifests: Mapping[str, Manifest]) -> str:
    return ", ".join(f"{name} {manifest.facts['seconds']:.0f}" for name, manifest in manifests.items())


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
    for style in ("bold cyan", "", ""):
        table.add_column(style=style, overflow="fold")
    return table


def _render(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=WIDTH).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())
