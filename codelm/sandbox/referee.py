"""The trusted process between the judge and the jail: it holds the tests and never runs the program.

Started by `cell.py` as a program of its own: it makes the cell, forks the zygote into it, and reads one request
after another. In checked mode the tests run here; `candidate` calls into the jail, and plain values alone come back.
"""

import json
import os
import socket
import sys
from typing import Any, BinaryIO

from codelm.sandbox import candidate, casework, layers, linux, namespaces, wire, zygote
from codelm.sandbox.acts import BrokenJailError
from codelm.sandbox.affinity import OneCore
from codelm.sandbox.patience import PYTHON


def main() -> None:
    """Answer requests on standard input until it is closed; the arguments are one JSON object."""
    setting = json.loads(sys.argv[1])
    control, zygote_pid = _make_cell(setting)
    core = OneCore((0, zygote_pid)) if setting["language"] == PYTHON else None
    answers = os.fdopen(os.dup(1), "wb")
    # What tests print must not look like an answer.
    os.dup2(2, 1)
    _say(answers, {"ready": True})
    while True:
        request = wire.read(sys.stdin.buffer)
        if request is None:
            return
        try:
            if core is not None:
                core.settle()
            answer = judge(request, control, setting)
        except EOFError:
            return  # the zygote is gone
        except Exception as error:  # noqa: BLE001  (a fault of ours must not be taken for the program's)
            answer = {"broken": repr(error), "worn": True}
        _say(answers, answer)
        if answer["worn"]:
            return


def _make_cell(setting: dict[str, Any]) -> tuple[socket.socket, int]:
    """Put this process into a cell, and a zygote with it; the line to that, and its process id."""
    used = frozenset(setting["layers"])
    linux.die_with_parent()
    for group in setting["cgroups"]:
        linux.join(group)
    scratch = setting["scratch"]
    if layers.NAMESPACES in used:
        namespaces.enter(scratch, setting["scratch_bytes"], setting["paths"])
        scratch = namespaces.SCRATCH
    # Changing the user ended the first request for this.
    linux.die_with_parent()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        zygote.Zygote(used, scratch, theirs, setting["paths"], setting["environment"]).serve()
        os._exit(0)
    theirs.close()
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    wire.receive(ours)  # the zygote is ready, or said on standard error why not
    return ours, pid


def _say(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def judge(request: dict[str, Any], control: socket.socket, setting: dict[str, Any]) -> dict[str, Any]:
    """Judge one program.

    Args:
        request: "source", "test" (None, or as `tasks.Check` or `tasks.Cases`) and "output".
        control: the zygote.
        setting: the cell's.
    """
    test, limits = request["test"], setting["limits"]
    cases = passed = 0
    try:
        if test is not None and "text" in test:
            ended = candidate.check(control, request["source"], limits, test)
        else:
            subject = casework.Subject(setting["language"], request["source"], setting["commands"], limits)
            if test is None:
                token = "" if request["output"] else os.urandom(16).hex()
                ended = casework.run(control, subject, token, output=request["output"])
            else:
                ended, passed = casework.run_cases(control, subject, test)
                cases = len(test["inputs"])
    except BrokenJailError as error:
        return {"broken": str(error), "worn": True}
    return {
        "broken": None,
        "kind": ended.kind,
        "result": ended.result,
        "seconds": round(ended.seconds, 4),
        "cpu_seconds": round(ended.cpu_seconds, 4),
        "memory_bytes": ended.memory_bytes,
        "worn": ended.worn,
        "output": ended.stdout.decode(errors="replace") if request["output"] else "",
        "cases": cases,
        "passed_cases": passed,
    }
