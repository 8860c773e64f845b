"""What the referee asks of the jail, and what it learns: one process with its limits, and how that ended."""

import math
import resource
from collections.abc import Mapping
from typing import Any, NamedTuple


class BrokenJailError(Exception):
    """The jail could not be set up round a process: our error, and no verdict on the program."""


class Act(NamedTuple):
    """One process to run in the jail.

    Attributes:
        act: one of those in `program.py`.
        limits: as in `tasks.Limits`.
        source: the program's text; None if it is in the scratch directory already.
        entry_point: of `program.FUNCTIONS`.
        command, file: of `program.COMMAND`.
        keep: whether the scratch directory is left as it is, for the next process of the same program.
        data_limit: whether memory is limited by data pages, not address space.
    """

    act: str
    limits: Mapping[str, Any]
    source: str | None = None
    entry_point: str = ""
    command: tuple[str, ...] = ()
    file: str = ""
    keep: bool = False
    data_limit: bool = False


class Ended(NamedTuple):
    """How a process ended, what it used and what it printed.

    Attributes:
        worn: whether the cell must not be used again.
        tail: the last of standard output.
        truncated: whether the first or the second output was longer than what is kept of it.
    """

    kind: str
    result: str
    seconds: float
    cpu_seconds: float
    memory_bytes: int
    worn: bool
    stdout: bytes = b""
    stderr: bytes = b""
    tail: bytes = b""
    truncated: bool = False


def rlimits(act: Act) -> list[tuple[int, tuple[int, int]]]:
    """Resources and their soft and hard limits, for `setrlimit`."""
    limits, memory = act.limits, resource.RLIMIT_DATA if act.data_limit else resource.RLIMIT_AS
    # Whole seconds by the clock tick: a backstop behind the zygote's watch of the first process, and for the others
    # all there is. A second more, since what was used is known exactly in the end.
    cpu = math.ceil(limits["cpu_seconds"]) + 1
    both = (
        (memory, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
    )
    # At the soft limit SIGXCPU tells why it ended, at the hard one SIGKILL.
    return [(resource.RLIMIT_CPU, (cpu, cpu + 1)), *((which, (value, value)) for which, value in both)]
