"""The trusted process between the judge and the jail: it holds the tests and never runs the program.

Started by `judge.py` as a program of its own: it makes the cell, forks the zygote into it, and reads one request
a line. In checked mode the tests run here; `candidate` calls into the jail, and plain values alone come back.
"""

import builtins
import json
import os
import random
import select
import signal
import socket
import sys
from types import CodeType, FrameType
from typing import Any, NoReturn

from codelm.sandbox import cgroup, codec, layers, linux, namespaces, program, verdicts, zygote

MAX_OUTPUT_BYTES = 1 << 16
"""What is kept of a program's output; the rest is read and thrown away, so that a flood does not block it."""
EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}
"""What a candidate may raise in its tests; anything else arrives as a RuntimeError."""


class Ended(BaseException):
    """The program is over before its tests are. Not an Exception: a test must not take it for an answer."""

    def __init__(self, kind: str = "", result: str = "") -> None:
        super().__init__(result)
        self.kind, self.result = kind, result


class Candidate:
    """Calls the function under test, in the jail."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def load(self) -> None:
        """Wait until the program is defined; raises Ended if it can't be."""
        answer = self._hear()
        if answer[0] != "ready":
            raise Ended(answer[2], answer[3])

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function; its value, or its exception if that is a builtin one."""
        try:
            program.send(self._channel, (arguments, keywords))
        except OSError as error:
            raise Ended from error
        answer = self._hear()
        if answer[0] == "value":
            return answer[1]
        if answer[2] == verdicts.OUT_OF_MEMORY:
            raise Ended(answer[2], answer[3])
        raise EXCEPTIONS.get(answer[1], RuntimeError)(answer[3].removeprefix("failed: "))

    def _hear(self) -> tuple[Any, ...]:
        try:
            answer = program.receive(self._channel)
        except EOFError as error:
            raise Ended from error
        except codec.CodecError as error:
            raise Ended(verdicts.FAILED, f"failed: {error}") from error
        shapes = {"ready": 2, "value": 2, "raised": 4}
        if not isinstance(answer, tuple) or not answer or shapes.get(answer[0]) != len(answer):
            raise Ended(verdicts.FAILED, "failed: a malformed answer of the program")
        if answer[0] == "raised":
            allowed = (verdicts.FAILED, verdicts.OUT_OF_MEMORY, verdicts.SYNTAX_ERROR)
            if answer[2] not in allowed or not all(isinstance(part, str) for part in answer):
                raise Ended(verdicts.FAILED, "failed: a malformed answer of the program")
        return answer


def main() -> None:
    """Answer requests on standard input until it is closed; the arguments are one JSON object."""
    setting = json.loads(sys.argv[1])
    used = frozenset(setting["layers"])
    linux.die_with_parent()
    for group in setting["cgroups"]:
        cgroup.join(group)
    scratch = setting["scratch"]
    if layers.NAMESPACES in used:
        namespaces.enter(scratch, setting["scratch_bytes"])
        scratch = namespaces.SCRATCH
    # Changing the user ended the first request for this.
    linux.die_with_parent()
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        zygote.Zygote(used, scratch, theirs).serve()
        os._exit(0)
    theirs.close()
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    answers = os.fdopen(os.dup(1), "w")
    # What tests print must not look like an answer.
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = check(request, ours) if request["test"] is not None else run(request, ours)
        print(json.dumps(answer), file=answers, flush=True)
        if answer["worn"]:
            return


def run(request: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    """Run a program that holds its own tests; its output comes back if that is asked for."""
    asked = {"source": request["source"], "limits": request["limits"], "entry_point": None}
    output = b""
    if request["output"]:
        reader, writer = os.pipe()
        zygote.send_request(control, asked, [writer])
        os.close(writer)
        output = drain(reader, control)
    else:
        zygote.send_request(control, asked, [])
    answer = zygote.receive_answer(control)
    answer["cpu_used_up"] = answer["cpu_seconds"] >= request["limits"]["cpu_seconds"]
    kind, result = verdicts.ending(answer, answer["report"])
    return answer | {"kind": kind, "result": result, "output": output.decode(errors="replace")}


def drain(reader: int, control: socket.socket) -> bytes:
    """Read output until the program is over, and keep the beginning."""
    kept = b""
    while True:
        ready = select.select([reader, control.fileno()], [], [])[0]
        if reader in ready:
            part = os.read(reader, 1 << 16)
            kept += part[: MAX_OUTPUT_BYTES - len(kept)]
            if part:
                continue
        os.close(reader)
        return kept


def check(request: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    """Run a problem's tests here against the program's function in the jail."""
    limits = request["limits"]
    ours, theirs = socket.socketpair()
    asked = {"source": request["source"], "limits": limits, "entry_point": request["entry_point"]}
    zygote.send_request(control, asked, [theirs.fileno()])
    theirs.close()
    candidate = Candidate(ours)

    def time_is_up(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Ended(verdicts.TIMED_OUT, "timed out")

    # The zygote ends the program; this ends tests that do not end with it.
    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, limits["wall_seconds"] + 1.0)
    reported: list[str] | None
    try:
        reported = attempt(request, candidate)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ours.close()
    control.sendall(b".")
    answer = zygote.receive_answer(control)
    answer["cpu_used_up"] = answer["cpu_seconds"] >= limits["cpu_seconds"]
    if reported is not None and reported[0] == verdicts.PASSED:
        kind, result = reported
    else:
        kind, result = verdicts.ending(answer, reported)
    return answer | {"kind": kind, "result": zygote.ADDRESS.sub("0x", result), "output": ""}


def helpers(prompt: str) -> CodeType:
    """A prompt's code; one that ends at its function's first line has no body yet."""
    try:
        return compile(prompt, "<prompt>", "exec")
    except SyntaxError:
        return compile(f"{prompt}\n    pass", "<prompt>", "exec")


def attempt(request: dict[str, Any], candidate: Candidate) -> list[str] | None:
    """`[kind, result]` of the tests; None if the program ended of itself before they did."""
    random.seed(0)
    names: dict[str, Any] = {}
    try:
        candidate.load()
        # The prompt is the benchmark's own: its imports and helpers serve the tests.
        exec(helpers(request["prompt"]), names)
        names[request["entry_point"]] = candidate
        exec(compile(request["test"], "<test>", "exec"), names)
        names["check"](candidate)
    except Ended as ended:
        return [ended.kind, ended.result] if ended.kind else None
    except BaseException as error:  # noqa: BLE001  (values of an untrusted program make tests raise anything)
        return list(program.describe(error))
    return [verdicts.PASSED, "passed"]
