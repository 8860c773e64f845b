"""Runs a problem's tests in the referee, against a function that lives in the jail."""

import builtins
import random
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, NoReturn

from codelm.sandbox import codec, endings, program
from codelm.sandbox.acts import Act, Ended
from codelm.sandbox.jail import Process
from codelm.sandbox.patience import LEAST_SHARE

EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}
"""What a candidate may raise in its tests; anything else arrives as a RuntimeError."""
GRACE_SECONDS = 1.0
"""After the last wall limit: the zygote ends the program; this ends tests that do not end with it."""
ALLOWED = (endings.FAILED, endings.OUT_OF_MEMORY, endings.SYNTAX_ERROR)
"""Kinds of failure that a program may say of itself."""


class Over(BaseException):
    """The program is over before its tests are. Not an Exception: a test must not take it for an answer."""

    def __init__(self, kind: str = "", result: str = "") -> None:
        super().__init__(result)
        self.kind, self.result = kind, result


class Candidate:
    """Calls the function under test, in the jail."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def load(self) -> None:
        """Wait until the program is defined; raises Over if it can't be."""
        kind, said = self._hear(program.READY)
        if kind == program.RAISED:
            raise Over(*said[1:])

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function; its value, or its exception if that is a builtin one."""
        try:
            program.ask(self._channel, arguments, keywords)
        except OSError as error:
            raise Over from error
        kind, said = self._hear(program.VALUE)
        if kind == program.VALUE:
            return said
        name, ended, text = said
        if ended == endings.OUT_OF_MEMORY:
            raise Over(ended, text)
        raise EXCEPTIONS.get(name, RuntimeError)(text.removeprefix("failed: "))

    def _hear(self, wanted: bytes) -> tuple[bytes, Any]:
        """What the program says: this kind of answer and its value, or RAISED and three texts."""
        try:
            kind, said = program.heard(self._channel)
        except EOFError as error:
            raise Over from error
        except codec.CodecError as error:
            raise Over(endings.FAILED, f"failed: {error}") from error
        if kind == program.RAISED:
            match said:
                case (str(), str(ended), str()) if ended in ALLOWED:
                    return kind, said
        elif kind == wanted:
            return kind, said
        raise Over(endings.FAILED, "failed: a malformed answer of the program")


def check(control: socket.socket, source: str, limits: Mapping[str, Any], test: Mapping[str, str]) -> Ended:
    """Run a problem's tests here against the program's function in the jail.

    Args:
        control: the zygote.
        source: the program.
        limits: as in `tasks.Limits`.
        test: as in `tasks.Check`.
    """
    process = Process(control, Act(program.FUNCTIONS, limits, source, test["entry_point"]))
    with alarm(limits["cpu_seconds"]):
        said = attempt(process, test)
    return process.finish(said)


def attempt(process: Process, test: Mapping[str, str]) -> tuple[str, str] | None:
    """Kind and result of the tests; None if the program ended of itself before they did."""
    random.seed(0)
    names: dict[str, Any] = {}
    candidate = Candidate(process.channel)
    try:
        process.confined()
        candidate.load()
        # The prompt is the benchmark's own: its imports and helpers serve the tests.
        exec(helpers(test["prompt"]), names)
        names[test["entry_point"]] = candidate
        exec(compiled(test["text"]), names)
        names["check"](candidate)
    except EOFError:
        return None
    except Over as over:
        return (over.kind, over.result) if over.kind else None
    except BaseException as error:  # noqa: BLE001  (values of an untrusted program make tests raise anything)
        return program.describe(error)
    return endings.PASSED, "passed"


@contextmanager
def alarm(cpu_seconds: float) -> Iterator[None]:
    """Raise Over in what runs here once a program with that limit must have ended."""

    def time_is_up(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Over(endings.TIMED_OUT, "timed out")

    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, cpu_seconds / LEAST_SHARE + GRACE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@lru_cache(maxsize=256)
def helpers(prompt: str) -> CodeType:
    """A prompt's code; one that ends at its function's first line has no body yet."""
    try:
        return compile(prompt, "<prompt>", "exec")
    except SyntaxError:
        return compile(f"{prompt}\n    pass", "<prompt>", "exec")


@lru_cache(maxsize=256)
def compiled(text: str) -> CodeType:
    """A test's code: the same for all samples of a problem."""
    return compile(text, "<test>", "exec")
