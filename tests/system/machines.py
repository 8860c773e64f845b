"""Machines on this one: each has its own network address and loopback, its own disk of a set size, and its own
processes, which all end at once when it loses its power. Made of namespaces, for which one has to be root.
"""

import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

DISK_BYTES = 2 << 30
SPARE_BYTES = 64 << 10
"""That a full disk still has room for: less than anything that is worth writing."""


@dataclass(frozen=True)
class Machine:
    """One of them.

    Attributes:
        address: its own.
        disk: where this machine finds its `/tmp`, which holds its home directory too.
        prefix: put before a command, to run it there.
    """

    address: str
    disk: Path
    prefix: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """What differs from this machine's."""
        return {"HOME": "/tmp/home", "TMPDIR": "/tmp"}

    def fill(self) -> None:
        """Leave no room on its disk."""
        free = os.statvfs(self.disk).f_bavail * os.statvfs(self.disk).f_frsize
        with (self.disk / "ballast").open("wb") as out:
            os.posix_fallocate(out.fileno(), 0, max(1, free - SPARE_BYTES))

    def empty(self) -> None:
        """Take away what `fill` has written."""
        (self.disk / "ballast").unlink()


class Network:
    """A bridge of this machine with others behind it. `close` takes all of it away."""

    def __init__(self, directory: Path) -> None:
        """Make the bridge.

        Args:
            directory: for disks; not below /tmp, which is another one on each machine.
        """
        self._directory = directory
        self._name = f"sv{secrets.token_hex(2)}"
        self._net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self._machines: list[tuple[str, Path]] = []
        _ip("link", "add", self._name, "type", "bridge")
        _ip("addr", "add", f"{self.here}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    @property
    def here(self) -> str:
        """The address of this machine, as the others see it."""
        return f"{self._net}.1"

    def machine(self, number: int) -> Machine:
        """A new one; its address ends with the number, from 2 to 254."""
        name, address = f"{self._name}n{number}", f"{self._net}.{number}"
        disk = self._directory / f"disk{number}"
        disk.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=1777", "tmpfs", str(disk))
        (disk / "home").mkdir()
        _ip("netns", "add", name)
        self._machines.append((name, disk))
        _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", f"{name}h", "master", self._name, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        _ip("-n", name, "route", "add", "default", "via", self.here)
        # `ip netns exec` would hide /sys/fs/cgroup, which the sandbox uses.
        enter = ("nsenter", f"--net=/run/netns/{name}")
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        mounts = f'mount --bind {disk} /tmp && mount -t tmpfs tmpfs /dev/shm && exec "$@"'
        return Machine(address, disk, (*enter, *apart, "sh", "-c", mounts, "-"))

    def close(self) -> None:
        """Remove all; their processes must have ended."""
        for name, disk in self._machines:
            _ip("netns", "delete", name)
            _run("umount", "--lazy", str(disk))
        _ip("link", "delete", self._name)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
