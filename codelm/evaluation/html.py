"""A page to browse problems, samples and failures: one file that asks nothing of a network.

What models write is hostile text: Jinja escapes all but what Pygments has escaped, and the page's own policy lets no
script run but its own, and nothing be fetched.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from codelm.evaluation.html_code import MOST_CHARACTERS, marked_up, styles, visible
from codelm.evaluation.html_tables import numeric, percent, tables
from codelm.records import Language, Problem, Sample
from codelm.sandbox.verdicts import KINDS

CODE_BYTES = 800_000
"""Of prompts and programs, marked up: with a row for each of some hundred problems the page stays below 1 MiB, up to
which MLflow keeps it."""
MOST_OF_RESULT = 300
MOST_PROGRAMS = 50
"""Distinct programs of a problem that are held in memory, beside the first of each kind of verdict."""


@dataclass(frozen=True)
class Run:
    """Judged samples under one name: of one temperature, say.

    Attributes:
        name: shown where there are several runs.
        judged: samples with their verdicts, as `judging.verdict_line` has them.
    """

    name: str
    judged: Iterable[tuple[Sample, Mapping[str, Any]]]


@dataclass
class _Program:
    """A distinct program of a problem: its first sample, and how many are alike."""

    run: str
    sample: Sample
    verdict: Mapping[str, Any]
    times: int = 1


@dataclass
class _Entry:
    """What the page shows of a problem."""

    problem: Problem
    samples: int = 0
    passed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    programs: dict[bytes, _Program | None] = field(default_factory=dict)
    """Distinct ones by a digest; None for those that are too many to hold."""

    def add(self, run: str, sample: Sample, verdict: Mapping[str, Any]) -> None:
        """One sample more."""
        self.samples += 1
        self.passed += verdict["passed"]
        text = f"{run}\0{sample.completion}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(text, digest_size=16).digest()
        known = self.programs.get(key)
        if known is not None:
            known.times += 1
        elif key not in self.programs:
            held = len(self.programs) < MOST_PROGRAMS or not self.kinds[verdict["kind"]]
            short = replace(sample, completion=sample.completion[: MOST_CHARACTERS + 1])
            self.programs[key] = _Program(run, short, verdict) if held else None
        self.kinds[verdict["kind"]] += 1

    def by_interest(self, kinds: Mapping[str, int]) -> list[_Program]:
        """The first program with each kind of verdict, the kinds that are rare in all first; then the others."""
        held = [one for one in self.programs.values() if one is not None]
        first: dict[str, _Program] = {}
        for one in held:
            first.setdefault(one.verdict["kind"], one)
        chosen = sorted(first.values(), key=lambda one: kinds[one.verdict["kind"]])
        return chosen + [one for one in held if first[one.verdict["kind"]] is not one]


def page(
    title: str, benchmark: str, problems: Sequence[Problem], runs: Sequence[Run], metrics: Mapping[str, Any]
) -> str:
    """The page of a run, as UTF-8 text without lone surrogates.

    Of each problem the first program with each kind of verdict is shown, rare kinds first, then the others in turn,
    problem by problem, until `CODE_BYTES` are used up.

    Args:
        title: of the page.
        benchmark: whose published results stand beside ours.
        problems: of the benchmark; those without samples are left out.
        runs: what was judged.
        metrics: of `report.figures`, or of a sweep with `by_temperature`; and `distinct_programs`.
    """
    entries = {problem.task_id: _Entry(problem) for problem in problems}
    kinds: Counter[str] = Counter()
    for run in runs:
        for sample, verdict in run.judged:
            entries[sample.task_id].add(run.name, sample, verdict)
            kinds[verdict["kind"]] += 1
    attempted = [entry for entry in entries.values() if entry.samples]
    rows, shown = _rows(attempted, kinds)
    total = sum(entry.samples for entry in attempted)
    script = files("codelm.evaluation").joinpath("page.js").read_text()
    found = list(tables(benchmark, metrics))
    return _template().render(
        title=title,
        total=total,
        distinct=metrics["distinct_programs"],
        scores=[(name, score) for name, score in metrics["pass_at_k"].items()],
        kinds=[
            {"kind": kind, "name": _css(kind), "count": kinds[kind], "share": kinds[kind] / total}
            for kind in KINDS
            if kinds[kind]
        ],
        tables=found,
        numeric={heading: numeric(head) for heading, head, _ in found},
        runs=[run.name for run in runs],
        problems=rows,
        rule=f"{shown:,} of {sum(len(entry.programs) for entry in attempted):,} distinct programs are shown: of each "
        "problem the first with each kind of verdict, rare kinds first, then the others in turn while there is room.",
        percent=percent,
        script=Markup(script),
        script_hash=Markup("sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        light=Markup(styles("default")),
        dark=Markup(styles("github-dark")),
    )


def _rows(entries: Sequence[_Entry], kinds: Mapping[str, int]) -> tuple[list[dict[str, Any]], int]:
    """What the template shows of each problem, and how many programs in all."""
    rows: list[dict[str, Any]] = [
        {
            "task_id": visible(entry.problem.task_id),
            "about": _about(entry.problem),
            "samples": entry.samples,
            "passed": entry.passed,
            "kinds": list(entry.kinds),
            "prompt": "",
            "shown": [],
            "left": len(entry.programs),
        }
        for entry in entries
    ]
    queues = [entry.by_interest(kinds) for entry in entries]
    room, shown = CODE_BYTES, 0
    for turn in range(max(map(len, queues), default=0)):
        for entry, row, queue in zip(entries, rows, queues, strict=True):
            if turn >= len(queue) or room <= 0:
                continue
            if turn == 0:
                row["prompt"] = marked_up(entry.problem.prompt, entry.problem.language)
                room -= len(row["prompt"])
            one = _shown(queue[turn], entry.problem.language)
            row["shown"].append(one)
            row["left"] -= 1
            room -= len(one["code"]) + 300
            shown += 1
    return rows, shown


def _shown(one: _Program, language: Language) -> dict[str, Any]:
    verdict = one.verdict
    cost = (
        f"{verdict['cpu_seconds']:.2f} s CPU, {verdict['memory_bytes'] >> 20} MiB" if "cpu_seconds" in verdict else ""
    )
    return {
        "kind": verdict["kind"],
        "css": _css(verdict["kind"]),
        "run": one.run,
        "index": one.sample.index,
        "times": one.times,
        "result": "" if verdict["result"] == verdict["kind"] else visible(verdict["result"])[:MOST_OF_RESULT],
        "cost": cost,
        "code": marked_up(one.sample.completion, language),
    }


def _about(problem: Problem) -> str:
    return ", ".join(part for part in (problem.entry_point, problem.difficulty, problem.language) if part)


def _css(kind: str) -> str:
    return kind.replace(" ", "-")


@lru_cache(maxsize=1)
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("codelm.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
