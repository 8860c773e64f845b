"""The engine: everything about one optimizer step that depends on where and how the model is spread."""

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from codelm.config import Training
from codelm.training.objective import Objective
from codelm.training.precision import Precision
from codelm.training.state import Piece, StateReader


class Engine(Protocol):
    """A model in training on one worker out of several. Every worker calls every method, in the same order."""

    device: torch.device
    rank: int
    workers: int

    def forward_backward(self, tokens: Tensor, last: bool) -> Tensor:
        """Add the gradient of the loss of one micro-batch to the step's.

        Args:
            tokens: int64 of shape (sequences, length), on any device.
            last: whether this is the last micro-batch of the step, so that workers exchange gradients.

        Returns:
            The micro-batch's loss (`Objective.loss`): float32 scalar on the device.
        """

    def step(self, learning_rate: float) -> float:
        """Clip the gradient, update the weights, forget the gradient.

        Returns:
            The norm of the gradient of the whole batch before it was clipped.
        """

    def sums(self, tokens: Tensor) -> Tensor:
        """`Objective.sums`, without gradient: float32 of shape (sequences, 2)."""

    def pieces(self) -> list[Piece]:
        """This worker's part of the state, after one step at least; the parts of all workers are all of it."""

    def load(self, state: StateReader) -> None:
        """Take over a state that any engine with the same model and optimizer left, on any number of workers."""

    def weights(self) -> dict[str, Tensor]:
        """All weights in float32 on the CPU, by name, tied ones once; complete on rank 0."""


def make_engine(
    model: PreTrainedModel, training: Training, precision: Precision, device: torch.device, objective: Objective
) -> Engine:
    """The engine that `training.engine` names, over the workers of the default process group.

    Without a process group it is a single worker's.

    Args:
        model: equal on all workers; the engine takes it over.
        training: the recipe.
        precision: what to compute in; the weights that the optimizer updates are float32 in either.
        device: this worker's.
        objective: the loss.
    """
    if training.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if training.engine == "deepspeed":
        # DeepSpeed takes seconds to import and picks its accelerator by then.
        from codelm.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(model, training, precision, device, objective)
    from codelm.training.torch_engine import TorchEngine

    return TorchEngine(model, training, precision, device, objective)


def accumulation(training: Training, workers: int) -> int:
    """Micro-batches of one worker in one step."""
    return training.batch_size // (training.micro_batch_size * workers)


def gather(values: Tensor) -> Tensor:
    """The values of all workers: (n,) on each -> (workers, n), on the CPU in float64.

    Summed in the order of the ranks, they give the same result however many are gathered at a time; an
    all-reduce may add in an order that depends on the place in the buffer.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values.unsqueeze(0).cpu().double()
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values)
    return torch.stack(parts).cpu().double()


def snapshot(engine: Engine) -> list[Piece]:
    """A copy of this worker's part of the state on the CPU, which later steps do not change."""
    return [piece.copied() for piece in engine.pieces()]
