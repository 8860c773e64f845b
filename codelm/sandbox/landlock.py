"""Landlock: a process gives up files, TCP, abstract sockets and signals outside itself, for good.

Standard library only. Constants are from linux/landlock.h.
"""

import ctypes
import os
import stat
from collections.abc import Iterable

from codelm.sandbox.linux import (
    SYS_LANDLOCK_ADD_RULE,
    SYS_LANDLOCK_CREATE_RULESET,
    SYS_LANDLOCK_RESTRICT_SELF,
    syscall,
)

CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
FS_EXECUTE, FS_WRITE_FILE, FS_READ_FILE, FS_READ_DIR = 1, 2, 4, 8
FS_TRUNCATE, FS_IOCTL_DEV = 1 << 14, 1 << 15
FS_BITS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many file access rights each ABI knows; later ones as many as 5."""
NET_TCP = 3
"""Bind and connect; since ABI 4."""
SCOPES = 3
"""Abstract UNIX sockets and signals; since ABI 6."""
READ = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR
ON_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV
"""The rights that a rule for a file, not a directory, may name."""


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The kernel's Landlock ABI; 0 where it has none."""
    try:
        return syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, CREATE_RULESET_VERSION, what="landlock ABI")
    except OSError:
        return 0


def ruleset(readable: Iterable[str], writable: Iterable[str]) -> int:
    """A ruleset that leaves nothing but these paths; the descriptor serves any number of `restrict`.

    Args:
        readable: files and directories to read and execute; those that do not exist are passed over.
        writable: directories to do everything in, and device files to write.

    Raises:
        OSError: the kernel has no Landlock.
    """
    version = abi()
    if not version:
        raise OSError("the kernel has no Landlock")
    everything = (1 << FS_BITS_BY_ABI.get(version, 16)) - 1
    attributes = _RulesetAttr(everything, NET_TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    # An older kernel takes the larger structure as long as what it does not know is zero.
    made = syscall(
        SYS_LANDLOCK_CREATE_RULESET, attributes, ctypes.sizeof(attributes), 0, what="landlock_create_ruleset"
    )
    for paths, rights in ((readable, READ), (writable, everything)):
        for path in paths:
            _allow(made, path, rights & everything)
    return made


def _allow(made: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= ON_FILES
        rule = _PathBeneathAttr(rights, place)
        syscall(SYS_LANDLOCK_ADD_RULE, made, RULE_PATH_BENEATH, rule, 0, what="landlock_add_rule")
    finally:
        os.close(place)


def restrict(made: int) -> None:
    """Confine this process to a ruleset; needs no_new_privs.

    Raises:
        OSError: the kernel refused.
    """
    syscall(SYS_LANDLOCK_RESTRICT_SELF, made, 0, what="landlock_restrict_self")
