"""Forks one process a program from a warm interpreter, watches it from outside, and ends all that came of it.

It never sees a test that a program must not see: in checked mode those stay in the referee, its parent.
"""

import gc
import os
import resource
import select
import site
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from codelm.sandbox import landlock, linux, namespaces, program, seccomp, wire
from codelm.sandbox.scratch import Scratch
from codelm.sandbox.watch import cpu_seconds, kill_descendants, kill_quietly, seconds_left

WARM_MODULES = (
    "bisect",
    "collections",
    "copy",
    "datetime",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "re",
    "string",
    "typing",
)
"""What programs import most: loaded once here, not in every child. Each library that is mapped makes every fork
slower, so that those which few need are not here."""

OWN_DESCRIPTORS = 16
"""Where those begin that a zygote keeps."""


class Zygote:
    """Runs programs one after another.

    Args:
        layers: those in use, of `layers.ALL`.
        scratch: the writable directory, emptied after every program.
        control: the referee's side.
        paths: what programs may read besides what Python needs.
        environment: variables of programs besides the usual.
    """

    def __init__(
        self,
        layers: frozenset[str],
        scratch: str,
        control: socket.socket,
        paths: Sequence[str],
        environment: dict[str, str],
    ) -> None:
        # The places that a program's descriptors take have to be free of ours.
        self._control = socket.socket(fileno=_moved(control.detach(), OWN_DESCRIPTORS))
        self._nowhere = _moved(os.open(os.devnull, os.O_RDWR), OWN_DESCRIPTORS + 1)
        for place in (0, 1, program.CHANNEL):
            os.dup2(self._nowhere, place, inheritable=False)
        self._own_pids = "namespaces" in layers
        self._scratch = scratch
        self._cleaned = Scratch(scratch, own=self._own_pids)
        self._environment = environment
        self._self = os.pidfd_open(os.getpid()) if self._own_pids else -1
        self._ruleset: int | None = None
        if "landlock" in layers:
            readable = [*namespaces.readable_paths(), *paths, *namespaces.DEVICES]
            self._ruleset = landlock.ruleset(readable, [scratch, "/dev/null"])
        self._filter = seccomp.prepare() if "seccomp" in layers else None

    def serve(self) -> None:
        """Answer requests until the referee is gone."""
        linux.die_with_parent()
        # Nobody of this user may read this process's memory; orphans of a program come here, where they end.
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        self._warm_up()
        self._confine()
        self._serve()

    def _warm_up(self) -> None:
        """Do once what each program would have to do."""
        for name in WARM_MODULES:
            __import__(name)
        # As any interpreter that is started with its site module: programs call `exit()`.
        site.setquit()
        site.sethelper()
        # The first compilation in a process makes some hundred types: 2 ms that no child need spend again.
        exec(compile("def f(x: int) -> int:\n    return x\n", "<warm>", "exec"), {})
        program.rehearse()
        program.prepare_environment(self._scratch, self._environment)
        # What is warm stays as it is: a collection in a child would touch, and so copy, all of its pages.
        gc.collect()
        gc.freeze()
        sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]

    def _confine(self) -> None:
        """Go behind those fences that let a zygote do its work: its programs are born there."""
        linux.no_new_privileges()
        if self._own_pids and self._ruleset is not None:
            # Without a pid namespace, a fence of its own must keep each program from signalling this process.
            landlock.restrict(self._ruleset)
            self._ruleset = None
        if self._filter is not None:
            seccomp.install(self._filter)

    def _serve(self) -> None:
        with suppress(EOFError):
            wire.send(self._control, {"ready": True})
            while True:
                request, descriptors = wire.receive(self._control)
                try:
                    given = dict(zip(request["descriptors"], descriptors, strict=True))
                    answer = {} if request["act"] == program.WIPE else self._run(request, given)
                except OSError as error:
                    answer = {"broken": str(error)}
                answer["worn"] = not (request["keep"] or self._cleaned.wipe())
                wire.send(self._control, answer)
                if answer["worn"]:
                    return

    def _run(self, request: dict[str, Any], descriptors: dict[str, int]) -> dict[str, Any]:
        checked = request["act"] == program.FUNCTIONS
        ended = select.poll()
        if checked:
            ended.register(self._control, select.POLLIN)
        first_look = max(5, min(request["wall_seconds"], request["cpu_seconds"]) * 1000 / 4)
        started = time.monotonic()
        try:
            if self._own_pids:
                linux.unshare(linux.CLONE_NEWPID)
            pid = os.fork()
            if pid == 0:
                self._become(request, descriptors)
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        # While the child lives, each page of memory that is touched here is copied: so as little as possible is done.
        watched = os.pidfd_open(pid)
        ended.register(watched, select.POLLIN)
        timed_out = not ended.poll(first_look) and self._watch(pid, ended, request, started)
        status, usage = self._end(pid)
        os.close(watched)
        if self._own_pids:
            linux.setns(self._self, linux.CLONE_NEWPID)
        if checked:
            self._control.recv(1)  # the referee has finished too
        return {
            "broken": None,
            "timed_out": timed_out,
            "status": status,
            "seconds": time.monotonic() - started,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "memory_bytes": usage.ru_maxrss << 10,
        }

    def _become(self, request: dict[str, Any], descriptors: dict[str, int]) -> NoReturn:
        """In the child: give up all rights and run the program."""
        # Whatever happens, the child must not return from here and go on as a zygote.
        try:
            program.become_untrusted(descriptors, self._nowhere, request["rlimits"], self._ruleset)
            act, source = request["act"], request["source"]
            if act == program.FUNCTIONS:
                program.serve(source, request["entry_point"])
            if act == program.COMMAND:
                program.start(request["command"], request["file"], source, request["token"])
            names = {"__name__": "__main__"} if act == program.SCRIPT else {}
            program.obey(source, request["token"], names, may_exit=act == program.SCRIPT)
        finally:
            os._exit(program.BROKEN)

    def _watch(self, pid: int, ended: select.poll, request: dict[str, Any], started: float) -> bool:
        """Wait until the child has ended, is no longer needed, or is out of time; whether it was the last.

        The child is not reaped here, so its pid cannot be taken by another process.
        """
        while True:
            left = seconds_left(
                time.monotonic() - started, cpu_seconds(pid), request["wall_seconds"], request["cpu_seconds"]
            )
            if left <= 0:
                return not ended.poll(0)
            # A program with several threads spends CPU time faster than the clock runs.
            if ended.poll(max(5, left * 1000 / 4)):
                return False

    def _end(self, pid: int) -> tuple[int, resource.struct_rusage]:
        """Kill the child and all that came of it; its wait status and what it used."""
        if self._own_pids:
            # The first process of a pid namespace: the kernel ends all others with it.
            kill_quietly(pid)
            return os.wait4(pid, 0)[1:]
        return kill_descendants(pid)


def _moved(descriptor: int, place: int) -> int:
    """A descriptor at another place."""
    os.dup2(descriptor, place, inheritable=False)
    os.close(descriptor)
    return place
