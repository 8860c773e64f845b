"""Runs programs in the jail as a whole, for what they print or return: by themselves, or case by case."""

import re
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from codelm.sandbox import compare, endings, languages, program
from codelm.sandbox.acts import Act, Ended
from codelm.sandbox.candidate import Candidate, Over, alarm
from codelm.sandbox.jail import MAX_OUTPUT_BYTES, Process, wipe
from codelm.sandbox.patience import COMPILE_CPU_SECONDS, PYTHON

COMPILE_MEMORY_BYTES = 1 << 30
COMPILE_FILE_BYTES = 64 << 20
UNREACHABLE = "unreachable statement"
TELLING = re.compile(r"error|exception|assertion|terminate called", re.IGNORECASE)
"""In the line of a message that says what went wrong."""


class Subject(NamedTuple):
    """A program with its language's toolchain.

    Attributes:
        commands: of `languages.Installed`.
        limits: as in `tasks.Limits`.
    """

    language: str
    source: str
    commands: dict[str, str]
    limits: dict[str, Any]


def run(control: socket.socket, subject: Subject, token: str, *, output: bool) -> Ended:
    """Run a program that holds its own tests, if any.

    Args:
        control: the zygote.
        subject: the program.
        token: what a program in another language must print at its end; empty if its exit status is enough.
        output: whether what it prints comes back; it is then a main program, and no test.
    """
    capture = ("both",) if output else ()
    if subject.language == PYTHON:
        wanted = Act(program.SCRIPT if output else program.TESTS, subject.limits, subject.source)
        return Process(control, wanted, capture=capture).finish()
    whole = (
        subject if not token else subject._replace(source=languages.with_end(subject.language, subject.source, token))
    )
    failed, act = _prepared(control, whole, keep=False)
    if failed is not None and UNREACHABLE in failed.result:
        # By Java's rules, after a loop without an end: it can't pass, but that is no mistake of the program's.
        failed, act = _prepared(control, subject, keep=False)
    if failed is not None:
        return failed
    ended = _explained(subject, Process(control, act, capture=capture or ("stdout", "stderr")).finish())
    if token and ended.kind == endings.PASSED and token.encode() not in ended.stdout + ended.tail:
        return ended._replace(kind=endings.FAILED, result="failed: exited before its tests had ended")
    return ended


def run_cases(control: socket.socket, subject: Subject, test: Mapping[str, Any]) -> tuple[Ended, int]:
    """Run a program on each of its inputs; how it all ended, and how many outputs were right.

    The first case that fails gives kind and result. CPU time is the sum, memory the maximum.

    Args:
        control: the zygote.
        subject: the program.
        test: as in `tasks.Cases`.
    """
    failed, act = _prepared(control, subject, keep=True)
    if failed is not None:
        return failed, 0
    passed, total = 0, len(test["inputs"])
    first: Ended | None = None
    seconds, cpu_seconds, memory_bytes, worn = 0.0, 0.0, 0, False
    equal = compare.equal_wrapped if test["wrapped"] else compare.equal_value
    for number, (given, expected) in enumerate(zip(test["inputs"], test["outputs"], strict=True), start=1):
        left = min(test["seconds_each"], subject.limits["cpu_seconds"] - cpu_seconds)
        if left <= 0 or worn:
            ended = Ended(endings.TIMED_OUT, "timed out", 0, 0, 0, worn)
        else:
            limits = {**act.limits, "cpu_seconds": left}
            now = act._replace(limits=limits)
            if test["function"] is None:
                ended = _explained(subject, _printed(control, now, given, expected))
            else:
                ended = _called(control, now, test["function"], given, partial(equal, expected=expected))
        seconds, cpu_seconds = seconds + ended.seconds, cpu_seconds + ended.cpu_seconds
        memory_bytes, worn = max(memory_bytes, ended.memory_bytes), ended.worn
        if ended.kind == endings.PASSED:
            passed += 1
        elif first is None:
            words = ended.result.removeprefix("failed: ")
            result = f"failed: case {number} of {total}: {words}" if ended.kind != endings.TIMED_OUT else "timed out"
            first = ended._replace(result=result)
    if act.keep:
        wipe(control)
    end = first or Ended(endings.PASSED, "passed", 0, 0, 0, worn)
    return end._replace(seconds=seconds, cpu_seconds=cpu_seconds, memory_bytes=memory_bytes, worn=worn), passed


def _prepared(control: socket.socket, subject: Subject, *, keep: bool) -> tuple[Ended | None, Act]:
    """How compiling failed, or None; and the act that runs the program."""
    language, source, limits = subject.language, subject.source, subject.limits
    if language == PYTHON:
        return None, Act(program.SCRIPT, limits, source)
    kind, file = languages.OTHERS[language], languages.file_name(language, source)
    spared = {
        **limits,
        # And the process that waits for it.
        "processes": limits["processes"] + kind.spare_processes + 1,
        "memory_bytes": limits["memory_bytes"] + kind.spare_bytes,
    }
    places = {"commands": subject.commands, "file": file, "memory_bytes": limits["memory_bytes"]}
    command = tuple(languages.filled(kind.run, **places))
    act = Act(program.COMMAND, spared, source, command=command, file=file, keep=keep, data_limit=not kind.address_space)
    if not kind.compile:
        return None, act
    compiling = act._replace(
        command=tuple(languages.filled(kind.compile, **places)),
        keep=True,
        limits={
            **spared,
            "cpu_seconds": COMPILE_CPU_SECONDS,
            "memory_bytes": COMPILE_MEMORY_BYTES + kind.spare_bytes,
            "file_bytes": COMPILE_FILE_BYTES,
        },
    )
    compiled = Process(control, compiling, capture=("stdout", "stderr")).finish()
    if compiled.kind != endings.PASSED:
        if compiled.kind == endings.FAILED:
            said = _telling((compiled.stderr or compiled.stdout).decode(errors="replace"))
            result = f"failed: {said}"[: program.MAX_RESULT_CHARACTERS]
            compiled = compiled._replace(kind=endings.SYNTAX_ERROR, result=result)
        wipe(control)
        return compiled, act
    return None, act._replace(source=None)


def _printed(control: socket.socket, act: Act, given: str, expected: str) -> Ended:
    process = Process(
        control,
        act,
        stdin=given.encode("utf-8", "surrogatepass"),
        capture=("stdout",) if act.act == program.SCRIPT else ("stdout", "stderr"),
        output_bytes=MAX_OUTPUT_BYTES + 2 * len(expected.encode("utf-8", "surrogatepass")),
    )
    ended = process.finish()
    if ended.kind != endings.PASSED:
        return ended
    if ended.truncated:
        return ended._replace(kind=endings.FAILED, result="failed: it printed far more than it should")
    if not compare.equal_output(ended.stdout.decode(errors="replace"), expected):
        return ended._replace(kind=endings.FAILED, result="failed: wrong output")
    return ended


def _called(
    control: socket.socket, act: Act, function: str, given: tuple[Any, ...], right: Callable[[Any], bool]
) -> Ended:
    process = Process(control, act._replace(act=program.FUNCTIONS, entry_point=function))
    said: tuple[str, str] | None
    candidate = Candidate(process.channel)
    try:
        with alarm(act.limits["cpu_seconds"]):
            process.confined()
            candidate.load()
            got = candidate(*given)
            said = (endings.PASSED, "passed") if right(got) else (endings.FAILED, "failed: wrong value")
    except EOFError:
        said = None
    except Over as over:
        said = (over.kind, over.result) if over.kind else None
    except Exception as error:  # noqa: BLE001  (a candidate raises anything)
        said = program.describe(error)
    return process.finish(said)


def _explained(subject: Subject, ended: Ended) -> Ended:
    """With the line that tells why a program in another language failed."""
    if subject.language == PYTHON or ended.kind not in (endings.FAILED, endings.CRASHED):
        return ended
    said, kind = ended.stderr.decode(errors="replace"), languages.OTHERS[subject.language]
    if any(sign in said for sign in kind.out_of_memory):
        return ended._replace(kind=endings.OUT_OF_MEMORY, result="failed: out of memory")
    if any(sign in said for sign in kind.syntax):
        ended = ended._replace(kind=endings.SYNTAX_ERROR)
    elif any(sign in said for sign in kind.failure):
        ended = ended._replace(kind=endings.FAILED)
    telling = _telling(said)
    return ended._replace(result=f"{ended.result}: {telling}"[: program.MAX_RESULT_CHARACTERS]) if telling else ended


def _telling(said: str) -> str:
    """The first line of messages that names an error, or else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if TELLING.search(line)), lines[-1] if lines else "")
