"""What came out of the trials of a sweep: the table, the best one, and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["finished", "stopped", "failed"]
WIDE = 100
"""Values that are so many times others are drawn on a logarithmic axis, however they were chosen."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        name: its id.
        overrides: the keys that it had other values of.
        state: `stopped` is early, by the scheduler.
        step, steps: how far it came, and how far it was to go.
        curve: (step, validation loss), in order.
        score: the sweep's metric; None where it has none.
        error: why it failed.
        mlflow_run: the id of its run.
    """

    name: str
    overrides: dict[str, Any]
    state: State
    step: int
    steps: int
    curve: tuple[tuple[int, float], ...] = ()
    score: float | None = None
    error: str | None = None
    mlflow_run: str | None = None

    @property
    def loss(self) -> float:
        """The lowest validation loss that it told; infinite where it told none."""
        return min((loss for _, loss in self.curve), default=math.inf)

    def line(self) -> str:
        """One line of `trials.jsonl`."""
        return json.dumps(asdict(self)) + "\n"


def is_better_low(metric: str) -> bool:
    """Whether lower values are better: losses are, shares of problems solved are not."""
    return metric.endswith("loss")


def best_of(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The best of the finished trials that have a score; None where there is none.

    Of equal ones, as of small models that solve no problem, the one with the lowest validation loss.
    """
    sign = 1 if is_better_low(metric) else -1
    scored = [
        trial
        for trial in trials
        if trial.state == "finished" and trial.score is not None and math.isfinite(trial.score)
    ]
    return min(scored, key=lambda trial: (sign * (trial.score or 0.0), trial.loss, trial.name), default=None)


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Best first; those without a score at the end."""
    sign = 1 if is_better_low(metric) else -1
    return sorted(trials, key=lambda trial: (trial.score is None, sign * (trial.score or 0.0), trial.loss, trial.name))


def table(trials: Sequence[Trial], metric: str) -> str:
    """The trials as a Markdown table, best first."""
    keys = sorted({key for trial in trials for key in trial.overrides})
    short = _short(keys)
    rows = [["trial", "state", "steps", metric, *short.values()]]
    for trial in ranked(trials, metric):
        score = "-" if trial.score is None else f"{trial.score:.4f}"
        state = trial.state if trial.error is None else f"{trial.state}: {trial.error.splitlines()[0][:80]}"
        values = [_shown(trial.overrides.get(key)) for key in keys]
        rows.append([trial.name, state, f"{trial.step:,} of {trial.steps:,}", score, *values])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _short(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, where that tells them apart."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return last if len(set(last.values())) == len(keys) else {key: key for key in keys}


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(trials: Sequence[Trial], metric: str, dimensions: Mapping[str, bool], path: Path) -> None:
    """Draw the curves of the trials, and each key against the metric, as a PNG.

    Args:
        trials: all of them.
        metric: the sweep's.
        dimensions: keys of the space -> whether on a logarithmic axis.
        path: the file to write.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * (1 + len(dimensions)), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(dimensions), squeeze=False)[0]
    order = ranked(trials, metric)
    colours = colormaps["viridis"].resampled(max(2, len(order)))
    for place, trial in enumerate(order):
        if trial.curve:
            ends = {"finished": "o", "stopped": "x", "failed": "v"}[trial.state]
            axes[0].plot(*zip(*trial.curve, strict=True), color=colours(place), linewidth=1, label=trial.name)
            axes[0].plot(*trial.curve[-1], color=colours(place), marker=ends, markersize=5)
    axes[0].set(xlabel="step", ylabel="validation loss (nats a token)", title="o finished, x stopped early")
    for axis, (key, logarithmic) in zip(axes[1:], dimensions.items(), strict=True):
        scored = [(place, trial) for place, trial in enumerate(order) if trial.score is not None]
        numbers: list[Any] = []
        for place, trial in scored:
            mark = "o" if trial.state == "finished" else "x"
            value = trial.overrides.get(key)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            numbers += [value] if number else []
            axis.plot(value if number else str(value), trial.score, color=colours(place), marker=mark)
        if logarithmic or (numbers and min(numbers) > 0 and max(numbers) > WIDE * min(numbers)):
            axis.set_xscale("log")
        axis.set(xlabel=key, ylabel=metric)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})


@dataclass(frozen=True)
class Totals:
    """How much work a sweep did.

    Attributes:
        steps: of all trials.
        full_steps: that they would have taken if none had been stopped.
        states: how many trials ended in which state.
    """

    steps: int
    full_steps: int
    states: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the full steps, those that were taken."""
        return self.steps / self.full_steps if self.full_steps else 0.0


def totals(trials: Sequence[Trial]) -> Totals:
    """Steps and states of all trials."""
    states: dict[str, int] = {}
    for trial in trials:
        states[trial.state] = states.get(trial.state, 0) + 1
    return Totals(
        sum(trial.step for trial in trials), sum(trial.steps for trial in trials), dict(sorted(states.items()))
    )
