"""Judges untrusted programs: the only place in codelm that starts them.

What contains a program, as far as the kernel has it (`codelm sandbox probe` attacks each layer to find out):

- a pid namespace of its own, in a cell of user, mount, network, IPC and UTS namespaces: no other process to see or
  signal, no network device, a private root with the interpreter's standard library read-only, no /proc, and one
  small tmpfs to write to, emptied after each program;
- Landlock, a seccomp filter, no capabilities and no way to regain them, another user than root;
- limits on CPU time, address space, files, descriptors and processes, and cgroup limits for the tree where they
  are delegated;
- an empty environment, nothing on standard input, output that goes nowhere or is cut.

A program whose tests are in it (`Program.test` is None) can still forge "passed", as everywhere: they share an
interpreter. With a `Check`, the tests run in a trusted process and see plain values alone.

It is not a virtual machine: a hole in the kernel is a hole here too.
"""

from collections.abc import Iterator, Sequence

from codelm.sandbox import probe
from codelm.sandbox.cell import Cell, Check, Limits, Program
from codelm.sandbox.verdicts import Judged

__all__ = ["Check", "Judged", "Limits", "Program", "judge", "judge_all"]


def judge(program: Program, limits: Limits, require: str = "full") -> Judged:
    """Run one program to its verdict."""
    return judge_all([program], limits, require)[0]


def judge_all(programs: Sequence[Program], limits: Limits, require: str = "full") -> list[Judged]:
    """Run programs one after another and return their verdicts in the same order.

    A program that ends its cell has failed; the next gets a new one.

    Args:
        programs: to judge.
        limits: for each of them.
        require: "full" refuses to run without every layer of `layers.FULL`; "any" takes what there is.

    Raises:
        UserError: a layer that is required is missing.
    """
    used = probe.required(require)
    verdicts: list[Judged] = []
    while len(verdicts) < len(programs):
        verdicts.extend(_judge_while_the_cell_lives(programs[len(verdicts) :], limits, used))
    return verdicts


def _judge_while_the_cell_lives(programs: Sequence[Program], limits: Limits, used: frozenset[str]) -> Iterator[Judged]:
    with Cell(limits, used) as cell:
        for program in programs:
            yield cell.judge(program)
            if not cell.alive:
                return
