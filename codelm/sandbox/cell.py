"""One jail with its referee: started once, it judges many programs one after another."""

import json
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from os import killpg
from pathlib import Path
from types import TracebackType
from typing import Any

from codelm.errors import UserError
from codelm.sandbox import cgroup, layers, verdicts, wire
from codelm.sandbox.mountpoint import mountpoint
from codelm.sandbox.patience import COMMAND_WALL_FACTOR, COMPILE_CPU_SECONDS, PYTHON
from codelm.sandbox.tasks import Limits, Program
from codelm.sandbox.toolchains import Installed, installed

ANSWER_MARGIN_SECONDS = 10.0
"""On top of the wall limit, before a cell that does not answer is given up; also the time it has to start."""

CELL_BYTES = 64 << 20
"""Memory of the referee and the zygote, on top of the program's, in the cell's cgroup; they use about 40 MB."""
CELL_PROCESSES = 8
ENDED_SUPERVISOR = "failed: it ended its supervisor"
ROOT = Path(__file__).parents[2]
START = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    "from codelm.sandbox.seeding import import_seeded; import_seeded()\n"
    "from codelm.sandbox.referee import main; main()"
)


class BrokenCellError(Exception):
    """The cell could not set its jail up round a program: no verdict on that, and no more of the cell."""


class Cell:
    """A jail that is warm: enter it as a context, then `judge`.

    Attributes:
        alive: whether it can take another program.
    """

    def __init__(self, limits: Limits, used: frozenset[str], language: str = PYTHON) -> None:
        """Nothing is started yet.

        Args:
            limits: for every program.
            used: layers, of `layers.ALL`.
            language: of every program.

        Raises:
            UserError: the language's toolchain is not on this machine.
        """
        self.alive = False
        self._limits, self._used = limits, used
        self._tools: Installed = installed(language)
        self._oom_kills = 0

    def __enter__(self) -> "Cell":
        """Start the referee and its zygote.

        Raises:
            UserError: a layer does not come up.
        """
        with ExitStack() as stack:
            self._groups: list[str] = []
            self._memory: cgroup.Memory | None = None
            if layers.CGROUP in self._used:
                limits = self._limits
                tools = self._tools
                tree = cgroup.groups(
                    limits.memory_bytes + CELL_BYTES + tools.spare_bytes,
                    limits.processes + CELL_PROCESSES + tools.spare_processes,
                )
                try:
                    self._groups = stack.enter_context(tree)
                    self._memory = stack.enter_context(cgroup.Memory(self._groups))
                except OSError as error:
                    raise UserError(f"the sandbox cannot start: {error}") from error
            self._start(stack.enter_context(mountpoint()))
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
            "limits": asdict(self._limits),
            "language": self._tools.language,
            "paths": self._tools.paths,
            "commands": self._tools.commands,
            "environment": self._tools.environment,
        }
        # The interpreter below a virtual environment: without its packages, which hold benchmarks' solutions.
        python = getattr(sys, "_base_executable", sys.executable)
        self._process = subprocess.Popen(
            [python, "-s", "-S", "-P", "-B", "-c", START, json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A fixed hash seed: the order of a set must not change a verdict. All symbols bound at the start: else each
            # child would look up anew what it is the first to call.
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"},
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
            output: whether what it prints comes back; it is then a main program, and no test.

        Raises:
            BrokenCellError: it was never in its jail.
        """
        assert item.language == self._tools.language
        started = time.monotonic()
        test = None if item.test is None else vars(item.test)
        answer = self._ask({"source": item.source, "test": test, "output": output}, self._patience(item))
        if answer is None:
            self.alive = False
            seconds = round(time.monotonic() - started, 4)
            return verdicts.Judged(item.task_id, item.index, False, ENDED_SUPERVISOR, seconds, verdicts.CRASHED)
        if answer["worn"]:
            self.alive = False
        if answer["broken"]:
            raise BrokenCellError(answer["broken"])
        kind, result = answer["kind"], answer["result"]
        if self._ran_out_of_memory() and kind in (verdicts.CRASHED, verdicts.FAILED, verdicts.SYNTAX_ERROR):
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
            answer["cases"],
            answer["passed_cases"],
        )

    def _patience(self, item: Program) -> float:
        """Wall seconds after which a cell that does not answer is given up."""
        compiling = 0.0 if item.language == PYTHON else COMMAND_WALL_FACTOR * COMPILE_CPU_SECONDS
        return self._limits.patience_seconds + compiling + ANSWER_MARGIN_SECONDS

    def _ran_out_of_memory(self) -> bool:
        before, self._oom_kills = self._oom_kills, self._memory.oom_kills() if self._memory else 0
        return self._oom_kills > before

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(wire.pack(request))
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._read(patience)

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
