"""The layers of the jail, and what is asked of them. Standard library only."""

from collections.abc import Iterable

NAMESPACES, LANDLOCK, SECCOMP, CGROUP = "namespaces", "landlock", "seccomp", "cgroup"
ALL = (NAMESPACES, LANDLOCK, SECCOMP, CGROUP)
FULL = frozenset((NAMESPACES, LANDLOCK, SECCOMP))
"""What `require: full` needs. cgroups are added where they are delegated; without them the memory of a whole
process tree is bounded by the limits of its processes and their number alone."""

MEANING = {
    NAMESPACES: "user, mount, pid, network, IPC and UTS namespaces of its own, and a private read-only root",
    LANDLOCK: "files, TCP, abstract sockets and signals refused by the kernel's Landlock",
    SECCOMP: "system calls that no program under test needs end it",
    CGROUP: "memory and number of processes bounded for the whole tree",
}


def missing(have: Iterable[str]) -> list[str]:
    """The layers of `FULL` that are lacking, in the order of `ALL`."""
    lacking = FULL - set(have)
    return [name for name in ALL if name in lacking]
