"""The few Linux calls that Python 3.11 lacks, by ctypes, for x86_64 and aarch64. Standard library only."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
"""linux/prctl.h."""

CAPABILITY_VERSION_3 = 0x20080522
"""linux/capability.h."""

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
"""linux/sched.h."""

SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
"""asm-generic/unistd.h; since 5.x the numbers are the same for every architecture."""

SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
"""asm/unistd_64.h and asm-generic/unistd.h."""

_libc = ctypes.CDLL(None, use_errno=True)


def machine() -> str:
    """The architecture, as the kernel names it."""
    return os.uname().machine


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: "int | bytes | ctypes.Array | ctypes.Structure | None", what: str) -> int:
    """Make a system call.

    Raises:
        OSError: it failed; `what` names it.
    """
    passed = [
        ctypes.c_long(item)
        if isinstance(item, int)
        else ctypes.byref(item)
        if isinstance(item, (ctypes.Structure, ctypes.Array))
        else item
        for item in arguments
    ]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed), what)


def prctl(option: int, value: int, pointer: "ctypes.Structure | None" = None) -> None:
    """Set an attribute of this process.

    Raises:
        OSError: the kernel refused.
    """
    third = ctypes.byref(pointer) if pointer is not None else ctypes.c_ulong(0)
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), third, zero, zero), f"prctl({option})")


def current_cpu() -> int:
    """The core that this thread runs on."""
    return _checked(_libc.sched_getcpu(), "sched_getcpu")


def die_with_parent() -> None:
    """Have this process killed when its parent ends."""
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace of a kind that a pidfd's process is in.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.setns(descriptor, kind), f"setns({kind:#x})")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2).

    Raises:
        OSError: the kernel refused.
    """
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    _checked(result, f"mount {source} on {target}")


def detach(target: str) -> None:
    """Take a mount out of the tree at once (umount2 with MNT_DETACH of linux/fs.h).

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.umount2(target.encode(), 2), f"umount {target}")


_CAPABILITIES = ((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
"""Of this process: none."""
_capset = _libc.capset
"""Looked up here, once, and not in every child."""


def drop_capabilities() -> None:
    """Give up every capability, and with no_new_privs all means to regain one.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_capset(*_CAPABILITIES), "capset")


def no_new_privileges() -> None:
    """Have nothing that this process executes gain rights."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def join(group: str) -> None:
    """Move this process into a cgroup."""
    with open(f"{group}/cgroup.procs", "w") as members:
        members.write(str(os.getpid()))
