"""Forks one process a program from a warm interpreter, watches it from outside, and ends all that came of it.

It never sees a test that a program must not see: in checked mode those stay in the referee, its parent.
"""

import gc
import json
import os
import re
import resource
import secrets
import select
import shutil
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

from codelm.sandbox import landlock, linux, namespaces, program, seccomp

WARM_MODULES = (
    "bisect",
    "cmath",
    "collections",
    "copy",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "typing",
)
"""What HumanEval's prompts and common completions import: loaded once here, not in every child."""

ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
"""Memory addresses in messages differ from run to run; equal runs must give equal verdicts."""
CPU_CLOCK_SCHED = 2
"""The kind bits of a process's CPU clock id, `(~pid << 3) | 2` (linux/posix-timers.h)."""
REQUEST = struct.Struct(">I")


class Zygote:
    """Runs programs one after another.

    Attributes:
        layers: those in use, of `layers.ALL`.
        scratch: the writable directory, emptied after every program.
    """

    def __init__(self, layers: frozenset[str], scratch: str, control: socket.socket) -> None:
        self._own_pids = "namespaces" in layers
        self._scratch = scratch
        self._control = control
        self._self = os.pidfd_open(os.getpid()) if self._own_pids else -1
        ruleset = None
        if "landlock" in layers:
            ruleset = landlock.ruleset([*namespaces.readable_paths(), *namespaces.DEVICES], [scratch, "/dev/null"])
        self._fences = program.Fences(ruleset, seccomp.prepare() if "seccomp" in layers else None)

    def serve(self) -> None:
        """Answer requests until the referee is gone."""
        linux.die_with_parent()
        # Nobody of this user may read this process's memory; orphans of a program come here, where they end.
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        for name in WARM_MODULES:
            __import__(name)
        program.prepare_environment(self._scratch)
        # What is warm stays as it is: a collection in a child would touch, and so copy, all of its pages.
        gc.collect()
        gc.freeze()
        sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]
        with suppress(EOFError):
            while True:
                request, descriptors = receive_request(self._control)
                answer = self._run(request, descriptors)
                answer["worn"] = not self._wipe()
                send_answer(self._control, answer)
                if answer["worn"]:
                    return

    def _run(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        limits, checked = request["limits"], request["entry_point"] is not None
        token = secrets.token_hex(16)
        reader, writer = (-1, descriptors[0]) if checked else os.pipe()
        output = None if checked or not descriptors else descriptors[0]
        started = time.monotonic()
        if self._own_pids:
            linux.unshare(linux.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            # Whatever happens, the child must not return from here and go on as a zygote.
            try:
                program.become_untrusted(writer, output, limits, self._fences)
                if checked:
                    program.serve(request["source"], request["entry_point"])
                program.obey(request["source"], token)
            finally:
                os._exit(program.BROKEN)
        for descriptor in {writer, *descriptors}:
            os.close(descriptor)
        if self._own_pids:
            linux.setns(self._self, linux.CLONE_NEWPID)
        timed_out = self._watch(pid, limits, checked)
        report = b"" if checked else read_now(reader)
        status, usage = self._end(pid)
        if checked:
            self._control.recv(1)  # the referee has finished too
        return {
            "timed_out": timed_out,
            "status": status,
            "report": known(report, token),
            "seconds": round(time.monotonic() - started, 4),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 4),
            "memory_bytes": usage.ru_maxrss << 10,
        }

    def _watch(self, pid: int, limits: dict[str, Any], checked: bool) -> bool:
        """Wait until the child has ended, is no longer needed, or is out of time; whether it was the last.

        The child is not reaped here, so its pid cannot be taken by another process.
        """
        descriptor = os.pidfd_open(pid)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if checked:
            ended.register(self._control, select.POLLIN)
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

    def _end(self, pid: int) -> tuple[int, resource.struct_rusage]:
        """Kill the child and all that came of it; its wait status and what it used."""
        if self._own_pids:
            # The first process of a pid namespace: the kernel ends all others with it.
            kill_quietly(pid)
            return os.wait4(pid, 0)[1:]
        return kill_descendants(pid)

    def _wipe(self) -> bool:
        """Empty the scratch directory; False if that fails, so that this cell must not be used again."""
        # Not permitted where it is root's, and then no program could have changed it.
        with suppress(PermissionError):
            os.chmod(self._scratch, 0o777 if self._own_pids else 0o700)
        try:
            for entry in list(os.scandir(self._scratch)):
                if entry.is_dir(follow_symlinks=False):
                    remove(entry.path)
                else:
                    os.unlink(entry.path)
        except (OSError, RecursionError):
            return False
        return True


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; that of its children is bounded by the wall limit alone."""
    try:
        return time.clock_gettime((~pid << 3) | CPU_CLOCK_SCHED)
    except OSError:  # it has ended
        return 0.0


def read_now(reader: int) -> bytes:
    """What has been written so far; later writes of descendants do not count."""
    os.set_blocking(reader, False)
    try:
        return os.read(reader, 4096)
    except BlockingIOError:
        return b""
    finally:
        os.close(reader)


def known(report: bytes, token: str) -> list[str] | None:
    """`[kind, result]` if it came with the token."""
    head, _, text = report.partition(b" ")
    if head != token.encode():
        return None
    kind, result = json.loads(text)
    return [kind, ADDRESS.sub("0x", result)]


def kill_descendants(pid: int) -> tuple[int, resource.struct_rusage]:
    """Without a pid namespace: kill the child, its group, and orphans until no child is left.

    A daemon that left the process group comes back as an orphan of this subreaper.
    """
    kill_quietly(-pid)
    kill_quietly(pid)
    status, usage = os.wait4(pid, 0)[1:]
    while True:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, usage
        if reaped == 0:
            with open(f"/proc/self/task/{os.getpid()}/children") as listing:
                for child in listing.read().split():
                    kill_quietly(int(child))
            time.sleep(0.001)


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


def send_request(control: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    """Ask a zygote to run a program; the descriptors are the program's channel or output."""
    text = json.dumps(request).encode()
    socket.send_fds(control, [REQUEST.pack(len(text))], descriptors)
    control.sendall(text)


def receive_request(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next request; EOFError when the referee is gone."""
    header, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
    if len(header) < REQUEST.size:
        raise EOFError("the referee is gone")
    (length,) = REQUEST.unpack(header)
    return json.loads(program.receive_exactly(control, length)), descriptors


def send_answer(control: socket.socket, answer: dict[str, Any]) -> None:
    """Tell the referee how a program ended."""
    text = json.dumps(answer).encode()
    control.sendall(REQUEST.pack(len(text)) + text)


def receive_answer(control: socket.socket) -> dict[str, Any]:
    """The zygote's answer; EOFError when it is gone."""
    (length,) = REQUEST.unpack(program.receive_exactly(control, REQUEST.size))
    answer: dict[str, Any] = json.loads(program.receive_exactly(control, length))
    return answer
