"""How long a process may go on, and its end with all that came of it. Standard library only."""

import os
import resource
import signal
import time
from contextlib import suppress

from codelm.sandbox.patience import LEAST_SHARE

CPU_CLOCK_SCHED = 2
"""The kind bits of a process's CPU clock id, `(~pid << 3) | 2` (linux/posix-timers.h)."""


def seconds_left(wall: float, cpu: float, wall_limit: float, cpu_limit: float) -> float:
    """How long a program may go on at least, if it gets a whole core; not above 0 if it is out of time.

    Its CPU limit ends it, or its wall limit if it waits; not if it is kept waiting by other work.

    Args:
        wall: seconds since its start.
        cpu: seconds that it has used.
        wall_limit: seconds after which it is ended if it waits.
        cpu_limit: seconds that it may use.
    """
    waits = cpu < LEAST_SHARE * wall
    return min(wall_limit - wall, cpu_limit - cpu) if waits or wall < wall_limit else cpu_limit - cpu


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; that of its children is bounded by the wall limit alone."""
    try:
        return time.clock_gettime((~pid << 3) | CPU_CLOCK_SCHED)
    except OSError:  # it has ended
        return 0.0


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
