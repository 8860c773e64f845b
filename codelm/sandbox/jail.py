"""The referee's side of the jail: start one process in it, talk to it, and learn how it ended."""

import json
import os
import re
import select
import socket
from contextlib import suppress

from codelm.sandbox import endings, program, wire
from codelm.sandbox.acts import Act, BrokenJailError, Ended, rlimits
from codelm.sandbox.patience import COMMAND_WALL_FACTOR, WALL_FACTOR

MAX_OUTPUT_BYTES = 1 << 16
"""What is kept of a program's output; the rest is read and thrown away, so that a flood does not block it."""
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
"""Memory addresses in messages differ from run to run; equal runs must give equal endings."""
MAX_REPORT_BYTES = 4096
TAIL_BYTES = 64
SAID = (endings.PASSED, endings.FAILED, endings.OUT_OF_MEMORY, endings.SYNTAX_ERROR)
"""Kinds that a process may report of itself."""


class Process:
    """One process in the jail: `channel` is its line to us; `finish` must be called once.

    Args:
        control: the zygote.
        act: what to run.
        stdin: what standard input holds; None for nothing.
        capture: which of its outputs come back: "stdout", "stderr", or "both" in one.
        output_bytes: what is kept of each output.
    """

    def __init__(
        self,
        control: socket.socket,
        act: Act,
        *,
        stdin: bytes | None = None,
        capture: tuple[str, ...] = (),
        output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> None:
        self._control, self._act, self._room = control, act, output_bytes
        self._token = os.urandom(16).hex()
        self._confined = False
        self._readers: dict[int, bytearray] = {}
        self._tails: dict[int, bytes] = {}
        self.channel, theirs = socket.socketpair()
        given = {"channel": theirs.detach()}
        if stdin is not None:
            given["stdin"] = _file(stdin)
        for name in capture:
            reader, given[name] = os.pipe()
            self._readers[reader] = bytearray()
            self._tails[reader] = b""
        message = {
            "act": act.act,
            "source": act.source,
            "entry_point": act.entry_point,
            "command": act.command,
            "file": act.file,
            "keep": act.keep,
            "token": self._token,
            "cpu_seconds": act.limits["cpu_seconds"],
            "wall_seconds": act.limits["cpu_seconds"]
            * (COMMAND_WALL_FACTOR if act.act == program.COMMAND else WALL_FACTOR),
            "rlimits": rlimits(act),
            "descriptors": list(given),
        }
        wire.send(control, message, tuple(given.values()))
        for descriptor in given.values():
            os.close(descriptor)

    def confined(self) -> None:
        """Wait until the process is in its fences.

        Raises:
            EOFError: it is gone; `finish` tells more.
        """
        self._confined = program.receive_exactly(self.channel, 1) == program.CONFINED

    def finish(self, said: tuple[str, str] | None = None) -> Ended:
        """Wait until the process is over, if it is not to be ended now, and say how it ended.

        Args:
            said: kind and result of what was asked of the program's functions, which is over.

        Raises:
            BrokenJailError: the jail could not be set up round it.
            EOFError: the zygote is gone.
        """
        if self._act.act == program.FUNCTIONS:
            self._control.sendall(b".")
            answer, _ = wire.receive(self._control)
            # Not before: it would wake a process that is to be killed, to find that out for itself.
            self.channel.close()
        else:
            self._drain()
            answer, _ = wire.receive(self._control)
            report = self._report()
            self._confined = report[:1] == program.CONFINED
            said = known(report[1:], self._token)
        if answer["broken"] or not self._confined:
            raise BrokenJailError(answer["broken"] or f"the process ended with {answer['status']:#x} before its start")
        if said is not None and said[0] == program.STATUS:
            answer["status"], said = int(said[1]), None
        kind, result = endings.ending(
            answer,
            said,
            cpu_limit=self._act.limits["cpu_seconds"],
            exit_is_end=self._act.act in (program.SCRIPT, program.COMMAND),
        )
        outputs = [*map(bytes, self._readers.values()), b"", b""]
        return Ended(
            kind,
            ADDRESS.sub("0x", result),
            answer["seconds"],
            answer["cpu_seconds"],
            answer["memory_bytes"],
            answer["worn"],
            stdout=outputs[0][: self._room],
            stderr=outputs[1][: self._room],
            tail=next(iter(self._tails.values()), b""),
            truncated=any(len(output) > self._room for output in outputs),
        )

    def _drain(self) -> None:
        """Read output until the process is over, and keep the beginning."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        for reader in self._readers:
            poll.register(reader, select.POLLIN)
        over = not self._readers
        while not over:
            ready = [descriptor for descriptor, _ in poll.poll()]
            more = False
            for reader in set(ready) & set(self._readers):
                part = os.read(reader, 1 << 16)
                kept = self._readers[reader]
                # One byte over the room tells that there was more.
                kept += part[: max(0, self._room + 1 - len(kept))]
                self._tails[reader] = (self._tails[reader] + part)[-TAIL_BYTES:]
                more = more or bool(part)
                if not part:
                    poll.unregister(reader)
            over = self._control.fileno() in ready and not more
        for reader in self._readers:
            os.close(reader)

    def _report(self) -> bytes:
        """What it said on its channel; later writes of descendants do not count."""
        said = b""
        with suppress(BlockingIOError, ConnectionResetError):
            said = self.channel.recv(MAX_REPORT_BYTES, socket.MSG_DONTWAIT)
            if said == program.CONFINED:
                said += self.channel.recv(MAX_REPORT_BYTES, socket.MSG_DONTWAIT)
        self.channel.close()
        return said


def wipe(control: socket.socket) -> None:
    """Empty the scratch directory.

    Raises:
        BrokenJailError: that failed.
    """
    wire.send(control, {"act": program.WIPE, "descriptors": [], "keep": False})
    answer, _ = wire.receive(control)
    if answer["worn"]:
        raise BrokenJailError("the scratch directory cannot be emptied")


def _file(content: bytes) -> int:
    """A file in memory, at its beginning."""
    descriptor = os.memfd_create("stdin")
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def known(report: bytes, token: str) -> tuple[str, str] | None:
    """`(kind, result)` of the first line that was said, if it came with the token.

    Processes that a program forked may say more, and one that has found the token anything.
    """
    head, _, text = report.partition(b"\n")[0].partition(b" ")
    if head != token.encode():
        return None
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    match said:
        case [str(kind), str(result)] if kind in SAID or (kind == program.STATUS and result.isdecimal()):
            return kind, result
    return endings.FAILED, "failed: a malformed report"
