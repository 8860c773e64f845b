"""The benchmarks by name: what their records are, where those come from, and what their programs may use."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from codelm.config import Evaluation
from codelm.config.evaluation import BenchmarkName, MbppPrompt, PromptStyle
from codelm.console import say
from codelm.errors import UserError
from codelm.evaluation.benchmarks import apps, expected, humaneval, infilling, mbpp, multipl_e, plus, user
from codelm.evaluation.benchmarks.reading import KEY, Hub, read
from codelm.records import Problem
from codelm.sandbox import toolchains
from codelm.sandbox.tasks import Limits

OWN_PROBLEMS = Path(__file__).parents[1] / "data" / "problems.jsonl"
"""The problems that the package carries; `user` has their schema."""
FEW_PROBLEMS = 500
"""The own solutions of so many problems are all judged, in seconds; of a larger benchmark those of the chosen ones."""


@dataclass(frozen=True)
class Asked:
    """What the problems depend on besides their records."""

    mbpp_prompt: MbppPrompt
    require: str
    seed: int


@dataclass(frozen=True)
class Benchmark:
    """How one benchmark is read.

    Attributes:
        model: what a record has to be.
        problems: makes problems of records.
        hubs: its data sets on the Hugging Face hub.
        packaged: the source where none is named, if not the hub.
        cpu_seconds: what its own evaluator allows a program; all tests together where it times each.
    """

    model: type[BaseModel]
    problems: Callable[[Any, Asked], list[Problem]]
    hubs: tuple[Hub, ...] = ()
    packaged: str | None = None
    cpu_seconds: float = 3.0


def _humaneval_plus(records: Sequence[plus.HumanEvalPlus], asked: Asked) -> list[Problem]:
    with expected.Reference(asked.require) as reference:
        return plus.humaneval_problems(records, reference)


def _mbpp_plus(records: Sequence[plus.MbppPlus], asked: Asked) -> list[Problem]:
    with expected.Reference(asked.require) as reference:
        return plus.mbpp_problems(records, asked.mbpp_prompt, reference)


HUMANEVAL = Benchmark(
    humaneval.HumanEval,
    lambda records, _: humaneval.problems(records),
    (Hub("openai/openai_humaneval"),),
    packaged=humaneval.PACKAGED,
)
BENCHMARKS: dict[BenchmarkName, Benchmark] = {
    "humaneval": HUMANEVAL,
    "humaneval+": Benchmark(plus.HumanEvalPlus, _humaneval_plus, (plus.HUMANEVAL_HUB,), cpu_seconds=60.0),
    "humaneval-single-line": replace(
        HUMANEVAL, problems=lambda records, _: list(infilling.single_line(humaneval.problems(records)))
    ),
    "humaneval-random-span": replace(
        HUMANEVAL,
        problems=lambda records, asked: list(infilling.random_span(humaneval.problems(records), asked.seed)),
    ),
    "infilling": Benchmark(infilling.Infilling, lambda records, _: infilling.problems(records)),
    "mbpp": Benchmark(
        mbpp.Mbpp, lambda records, asked: mbpp.problems(records, asked.mbpp_prompt), (mbpp.HUB, mbpp.EXAMPLES_HUB)
    ),
    "mbpp-sanitized": Benchmark(
        mbpp.Mbpp,
        lambda records, asked: mbpp.problems(records, asked.mbpp_prompt),
        (mbpp.SANITIZED_HUB, mbpp.SANITIZED_EXAMPLES_HUB),
    ),
    "mbpp+": Benchmark(plus.MbppPlus, _mbpp_plus, (plus.MBPP_HUB,), cpu_seconds=60.0),
    "apps": Benchmark(apps.Apps, lambda records, _: apps.problems(records), (apps.HUB,), cpu_seconds=11.0),
    "multipl-e": Benchmark(
        multipl_e.MultiplE, lambda records, _: multipl_e.problems(records), multipl_e.HUBS, cpu_seconds=15.0
    ),
    "codelm": Benchmark(user.UserProblem, lambda records, _: user.problems(records), packaged=str(OWN_PROBLEMS)),
    "jsonl": Benchmark(user.UserProblem, lambda records, _: user.problems(records)),
}


def load(
    name: BenchmarkName,
    source: str | None = None,
    *,
    prompt: PromptStyle = "unstripped",
    mbpp_prompt: MbppPrompt = "docstring",
    languages: Collection[str] | None = None,
    difficulties: Collection[str] | None = None,
    seed: int = 0,
    require: str = "full",
) -> list[Problem]:
    """The problems of a benchmark, in its own order; task ids are unique.

    Args:
        name: the benchmark, which says the format of its records.
        source: a file (.jsonl, .jsonl.gz, .json, .parquet), a directory of a data set, or the name of one on the
            Hugging Face hub. Null takes what a package carries, or else the benchmark's own data set on the hub.
        prompt: "stripped" takes white space from both ends of the prompts that the model sees, which changes scores.
        mbpp_prompt: for MBPP.
        languages: those wanted; null for all. Those whose toolchain is missing are left out, and that is said.
        difficulties: those wanted; null for all.
        seed: of what is drawn to make the benchmark: the spans of `humaneval-random-span`.
        require: layers of the sandbox, for benchmarks whose expected values are computed in it.

    Raises:
        UserError: the source cannot be read, a record is not what the format asks for, or nothing is left.
    """
    benchmark = BENCHMARKS[name]
    if source is None and benchmark.packaged is None and not benchmark.hubs:
        raise UserError(f"{KEY}: {name} has no problems of its own; give a file")
    records = read(source or benchmark.packaged, benchmark.model, benchmark.hubs)
    problems = benchmark.problems(records, Asked(mbpp_prompt, require, seed))
    _refuse_twins(problems)
    _refuse_no_text(problems)
    kept = [
        problem
        for problem in problems
        if (languages is None or problem.language in languages)
        and (difficulties is None or problem.difficulty in difficulties)
    ]
    if not kept:
        raise UserError(_nothing_left(problems, languages, difficulties))
    return [stripped(problem) if prompt == "stripped" else problem for problem in _runnable(kept)]


def limits(name: BenchmarkName, cpu_seconds: float | None, memory_mb: int) -> Limits:
    """What each program may use; without `cpu_seconds`, what the benchmark's own evaluator allows."""
    return Limits(cpu_seconds=cpu_seconds or BENCHMARKS[name].cpu_seconds, memory_bytes=memory_mb << 20)


def _refuse_twins(problems: Sequence[Problem]) -> None:
    twins = [task_id for task_id, count in Counter(problem.task_id for problem in problems).items() if count > 1]
    if twins:
        raise UserError(f"{KEY}: task id {twins[0]!r} is there more than once (so are {len(twins) - 1} others)")


def _refuse_no_text(problems: Sequence[Problem]) -> None:
    """Of what the model is to see; programs and tests may hold anything."""
    for problem in problems:
        try:
            (problem.prompt + (problem.suffix or "")).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{KEY}: {problem.task_id}: its prompt is no Unicode text: {error.reason}") from error


def _nothing_left(
    problems: Sequence[Problem], languages: Collection[str] | None, difficulties: Collection[str] | None
) -> str:
    have_languages = sorted({problem.language for problem in problems})
    have_difficulties = sorted({str(problem.difficulty) for problem in problems})
    return (
        f"evaluation.languages = {languages and list(languages)} and evaluation.difficulties = "
        f"{difficulties and list(difficulties)} leave none of {len(problems)} problems, which are in "
        f"{', '.join(have_languages)} and of difficulty {', '.join(have_difficulties)}"
    )


def _runnable(problems: list[Problem]) -> list[Problem]:
    """The problems whose language's toolchain this machine has; the others are counted on the terminal.

    Raises:
        UserError: none is left.
    """
    if all(problem.language == "python" for problem in problems):
        return problems
    found = toolchains.found()
    missing = Counter(problem.language for problem in problems if problem.language not in found)
    for language, count in missing.items():
        say("evaluate", f"left out {count} problem{'s' * (count > 1)}: {toolchains.missing()[language]}")
    kept = [problem for problem in problems if problem.language in found]
    if not kept:
        raise UserError(f"no problem is left: the toolchains of {', '.join(missing)} are missing on this machine")
    return kept


def stripped(problem: Problem) -> Problem:
    """A problem without white space at both ends of its prompt, as bigcode-evaluation-harness has it by default.

    Where the prompt begins the program, its canonical solutions begin with what is lost at the prompt's end.
    """
    short = problem.prompt.strip()
    lost = problem.prompt[len(problem.prompt.rstrip()) :] if problem.preamble is None else ""
    return replace(
        problem, prompt=short, canonical_solutions=tuple(lost + text for text in problem.canonical_solutions)
    )


def label(evaluation: Evaluation) -> str:
    """What a result is called: figures with other prompts or ends are another result. `humaneval-stripped-stop`"""
    shown = f"-{evaluation.mbpp_prompt}" if evaluation.benchmark.startswith("mbpp") else ""
    ends = "-stop" if evaluation.truncation == "stop" else ""
    return f"{evaluation.benchmark}{shown}-{evaluation.prompt}{ends}"
