"""The training loop. It knows an engine and two callables, `report` and `save`, and nothing of clusters."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from codelm.config import Training
from codelm.errors import UserError
from codelm.training.checkpoint import Progress
from codelm.training.curve import Point
from codelm.training.data import PackedData, Samples, spread
from codelm.training.engine import Engine, gather
from codelm.training.order import Integers, seed_of_step, share_of_step
from codelm.training.schedule import learning_rate

Report = Callable[[int, dict[str, float]], None]
Save = Callable[[Progress], None]


class TrainingData(Protocol):
    """What is trained on: packed, or a stream."""

    @property
    def info(self) -> dict[str, Any]:
        """What the pack stage writes beside the sequences."""

    def samples(self, seed: int) -> Samples:
        """In the order of the seed."""


class Diverged(UserError):
    """The loss or the gradient is no finite number.

    Attributes:
        step: the optimizer step.
        samples: what its samples are known by; where the loss tells, those of the micro-batches concerned.
    """

    def __init__(self, text: str, step: int, samples: list[int]) -> None:
        super().__init__(text)
        self.step, self.samples = step, samples


@dataclass(frozen=True)
class _Step:
    """A step whose loss nobody has looked at yet: this worker's losses, still on the device."""

    losses: Tensor
    rate: float
    norm: float
    numbers: Integers


class Loop:
    """Trains an engine; every worker runs one.

    Args:
        engine: this worker's.
        train, valid: the two splits.
        training: the recipe.
        seed: of the order of the samples.
        report: called with a step and its metrics every `log_every` steps, and at each validation.
        save: called every `checkpoint_every` steps and at the end, with all that a checkpoint must hold
            beside the engine's own state.
    """

    def __init__(
        self,
        engine: Engine,
        train: TrainingData,
        valid: PackedData,
        training: Training,
        seed: int,
        report: Report,
        save: Save,
    ) -> None:
        self._engine, self._valid, self._training = engine, valid, training
        self._samples, self._seed = train.samples(seed), seed
        self._report, self._save = report, save
        self._pending: list[_Step] = []
        self._seconds, self._tokens = 0.0, 0
        self._all_seconds = self._save_seconds = 0.0
        self._last_save: float | None = None
        self.first_step_at: float | None = None

    def run(self, progress: Progress) -> None:
        """Train from where `progress` stands to the last step, and keep it up to date.

        Raises:
            Diverged: the loss or the gradient is not a finite number; no checkpoint of that step is written.
        """
        training = self._training
        began = time.perf_counter()
        self._samples.seek(progress.position)
        if not progress.workers or progress.workers[-1][1] != self._engine.workers:
            progress.workers.append((progress.step + 1, self._engine.workers))
        if not progress.curve:
            loss = self.validation_loss()
            progress.curve.append(Point(step=0, validation_loss=loss))
            self._report(0, {"validation_loss": loss, "validation_perplexity": perplexity(loss)})
        while progress.step < training.steps:
            started = time.perf_counter()
            step = progress.step + 1
            self._pending.append(self._one_step(progress.cursor, step))
            progress.consume(self._pending[-1].numbers.astype("<i8").tobytes())
            progress.step, progress.cursor = step, progress.cursor + training.batch_size
            progress.position = self._samples.position()
            validates, saves, logs = (
                step % every == 0 or step == training.steps
                for every in (training.validate_every, training.checkpoint_every, training.log_every)
            )
            if not (validates or saves or logs):
                self._seconds += time.perf_counter() - started
                continue
            metrics = self._settle(progress)
            self._seconds += time.perf_counter() - started
            metrics["tokens_per_second"] = self.tokens_per_second
            metrics["tokens"] = progress.cursor * self._samples.length
            if validates:
                loss = self.validation_loss()
                metrics |= {"validation_loss": loss, "validation_perplexity": perplexity(loss)}
                progress.curve[-1] = replace(progress.curve[-1], validation_loss=loss)
            if self._last_save is not None:
                metrics["checkpoint_seconds"], self._last_save = self._last_save, None
            if validates or logs:
                self._report(step, metrics)
            if saves:
                saving = time.perf_counter()
                self._save(progress)
                self._last_save = time.perf_counter() - saving
                self._save_seconds += self._last_save
            self._all_seconds = time.perf_counter() - began

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all workers a second of training here, without validation and checkpoints."""
        return self._tokens / self._seconds if self._seconds else 0.0

    @property
    def checkpoint_wait_share(self) -> float:
        """The share of the time here that the steps waited for checkpoints."""
        return self._save_seconds / self._all_seconds if self._all_seconds else 0.0

    def _one_step(self, cursor: int, step: int) -> _Step:
        """One optimizer step."""
        engine, training = self._engine, self._training
        shares = share_of_step(cursor, training.batch_size, training.micro_batch_size, engine.rank, engine.workers)
        torch.manual_seed(seed_of_step(self._seed, step, engine.rank))  # for dropout, the same after a restart
        losses = []
        for number, tokens in enumerate(self._samples.take(cursor, training.batch_size, shares), start=1):
            losses.append(engine.forward_backward(tokens, last=number == len(shares)))
        rate = learning_rate(training, step)
        norm = engine.step(rate)
        self._tokens += training.batch_size * self._samples.length
        self.first_step_at = self.first_step_at or time.time()
        return _Step(torch.stack(losses), rate, norm, self._samples.numbers(cursor, training.batch_size))

    def _settle(self, progress: Progress) -> dict[str, float]:
        """Bring the steps since the last time into the curve; the metrics of the latest one."""
        steps, self._pending = self._pending, []
        first = progress.step - len(steps) + 1
        losses = gather(torch.cat([step.losses for step in steps])).view(self._engine.workers, len(steps), -1)
        for number, step in enumerate(steps):
            here = losses[:, number]
            if not (bool(here.isfinite().all()) and math.isfinite(step.norm)):
                raise self._diverged(first + number, step, here)
            progress.curve.append(Point(first + number, float(here.mean()), step.rate))
        last = progress.curve[-1]
        assert last.train_loss is not None, "of a step"
        return {"train_loss": last.train_loss, "learning_rate": steps[-1].rate, "gradient_norm": steps[-1].norm}

    def _diverged(self, number: int, step: _Step, losses: Tensor) -> Diverged:
        """The error for a step: losses of shape (workers, micro-batches)."""
        rows = step.numbers.reshape(losses.shape[1], losses.shape[0], -1).transpose(1, 0, 2)
        bad = ~losses.isfinite().numpy()
        samples = sorted(set((rows[bad] if bad.any() else rows).reshape(-1).tolist()))
        what = f"training loss is {float(losses.mean())}" if bad.any() else f"norm of the gradient is {step.norm}"
        return Diverged(
            f"the {what} at step {number}; lower training.learning_rate (here {self._training.learning_rate:g}) or "
            "raise training.warmup_steps",
            number,
            samples,
        )

    def validation_loss(self) -> float:
        """The mean loss in nats a token over sequences spread evenly over the validation split.

        The workers share the sequences. Where these do not divide evenly, the last one is computed more
        than once and counted once, for with ZeRO 3 all workers must run the same number of passes.
        """
        engine, micro_batch = self._engine, self._training.micro_batch_size
        chosen = spread(len(self._valid), self._training.validation_sequences)
        passes = math.ceil(len(chosen) / (engine.workers * micro_batch))
        places = share_of_step(0, passes * engine.workers * micro_batch, micro_batch, engine.rank, engine.workers)
        rows = chosen[np.minimum(places, len(chosen) - 1)]
        sums = torch.cat([engine.sums(self._valid.batch(row)) for row in rows])
        parts = gather(sums.flatten()).view(engine.workers, passes, micro_batch, 2)
        nats, tokens = parts.transpose(0, 1).reshape(-1, 2)[: len(chosen)].sum(dim=0)
        return float(nats / tokens)


def perplexity(loss: float) -> float:
    """e to the loss, or infinity beyond what a float holds."""
    return math.exp(loss) if loss < 700 else math.inf
