"""The loss curve: one JSON line a step, and a picture."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """One step of training. Losses are means in nats a token.

    Attributes:
        step: optimizer steps done; 0 is before the first.
        train_loss: of the step's batch, before the update; None at step 0.
        learning_rate: of the step; None at step 0.
        validation_loss: after the step, at the steps where it was measured.
    """

    step: int
    train_loss: float | None = None
    learning_rate: float | None = None
    validation_loss: float | None = None


def to_lines(curve: Iterable[Point]) -> str:
    """The curve as JSON lines."""
    return "".join(json.dumps(asdict(point)) + "\n" for point in curve)


def from_lines(text: str) -> list[Point]:
    """Read back what `to_lines` wrote; floats are equal to the last bit."""
    return [Point(**json.loads(line)) for line in text.splitlines()]


def validations(curve: Iterable[Point]) -> list[tuple[int, float]]:
    """(step, validation loss) where it was measured."""
    return [(point.step, point.validation_loss) for point in curve if point.validation_loss is not None]


def draw(curve: Sequence[Point], unigram_entropy: float, path: Path) -> None:
    """Draw the curve as a PNG; equal curves make equal files.

    Args:
        curve: the points.
        unigram_entropy: the validation split's, in nats a token: what a model that knows nothing but the
            tokens' frequencies would reach.
        path: the file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats a token)")
    trained = [(point.step, point.train_loss) for point in curve if point.train_loss is not None]
    axes.plot(*zip(*trained, strict=True), linewidth=0.8, alpha=0.7, label="training")
    axes.plot(*zip(*validations(curve), strict=True), marker="o", markersize=4, label="validation")
    axes.axhline(unigram_entropy, linestyle="--", linewidth=0.8, color="gray", label="unigram entropy")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
