"""What the terminal shows: one line an event, a progress bar on long work.

Everything goes to standard error, so that a command's result can be piped from standard output.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0
"""Between two plain progress lines when the output is not a terminal."""

Advance = Callable[[int, str], None]
"""`advance(done, note)`: the work done so far, in units, and a short text beside the bar."""

Watcher = Callable[[str, str, int, int | None], None]
"""`watch(stage, unit, done, total)`: told of the same progress as the terminal."""
watchers: list[Watcher] = []


def console() -> Console:
    """A console on the standard error of this moment (tests and pagers replace it)."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(stage: str, text: str) -> None:
    """Print one line for one event of a stage."""
    console().print(f"[bold cyan]{stage:>9}[/]  ", end="")
    console().print(text, markup=False, emoji=False)


@contextmanager
def progress(stage: str, unit: str, total: int | None = None) -> Iterator[Advance]:
    """Show progress on long work: a bar on a terminal, a line every ten seconds elsewhere.

    Args:
        stage: the stage whose work this is.
        unit: what is counted, in the plural ("files", "steps").
        total: how many units there are, or None where nobody knows yet.
    """
    out = console()
    if not out.is_terminal:
        yield _watched(_plain_lines(stage, unit, total), stage, unit, total)
        return
    bar = Progress(
        TextColumn("[bold cyan]{task.description:>9}[/] "),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=out,
        transient=True,
    )
    with bar:
        task = bar.add_task(stage, total=total, unit=unit, note="")
        yield _watched(lambda done, note: bar.update(task, completed=done, note=note), stage, unit, total)


def _watched(advance: Advance, stage: str, unit: str, total: int | None) -> Advance:
    def advance_and_tell(done: int, note: str) -> None:
        advance(done, note)
        for watch in watchers:
            watch(stage, unit, done, total)

    return advance_and_tell


def _plain_lines(stage: str, unit: str, total: int | None) -> Advance:
    began: tuple[float, int] | None = None
    printed = (time.monotonic(), 0)

    def advance(done: int, note: str) -> None:
        nonlocal began, printed
        now = time.monotonic()
        if began is None and done:
            # The rate counts from the first units on: what came before is start-up.
            began = (now, done)
        if done == printed[1] or now - printed[0] < LINE_EVERY_SECONDS:
            return
        printed = (now, done)
        of_total = f" of {total:,}" if total else ""
        left = ""
        if total and began and done > began[1]:
            left = f", about {(now - began[0]) / (done - began[1]) * (total - done):.0f} s left"
        say(stage, f"{done:,}{of_total} {unit}{left}{'  ' + note if note else ''}")

    return advance
