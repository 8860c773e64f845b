"""The engine on plain torch: one process, or several with replicated weights (DDP) or sharded ones (FSDP2)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from codelm.config import Training
from codelm.training.engine import accumulation
from codelm.training.objective import Objective
from codelm.training.optim import build_optimizer, make_state, set_learning_rate
from codelm.training.precision import Precision
from codelm.training.state import Piece, StateReader, tensor_pieces


class TorchEngine:
    """Float32 weights; bf16 by autocast, so that the optimizer's weights are float32 in either."""

    def __init__(
        self,
        model: PreTrainedModel,
        training: Training,
        precision: Precision,
        device: torch.device,
        objective: Objective,
    ) -> None:
        self.device, self._objective = device, objective
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.workers = dist.get_world_size() if dist.is_initialized() else 1
        self._training = training
        self._accumulation = accumulation(training, self.workers)
        self._bf16 = precision == "bf16"
        self._sharded = training.fsdp and self.workers > 1
        self._model: nn.Module = nn.Module.to(model, device).train()
        if self._sharded:
            _shard(model, device)
        self._optimizer = build_optimizer(self._model, training, device.type)
        self._replica: nn.Module = self._model
        if self.workers > 1 and not self._sharded:
            self._replica = DistributedDataParallel(self._model, gradient_as_bucket_view=True)
        if training.compile:
            self._replica.compile()

    def forward_backward(self, tokens: Tensor, last: bool) -> Tensor:
        """See `Engine`."""
        exchange: AbstractContextManager[None] = nullcontext()
        if isinstance(self._replica, DistributedDataParallel) and not last:
            exchange = self._replica.no_sync()
        if self._sharded:
            self._model.set_requires_gradient_sync(last)  # type: ignore[operator]  # `fully_shard` adds it
        with exchange:
            with self._autocast():
                loss = self._objective.loss(self._replica, tokens.to(self.device))
            (loss / self._accumulation).backward()
        return loss.detach()

    def step(self, learning_rate: float) -> float:
        """See `Engine`."""
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._training.max_gradient_norm)
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=self.workers == 1 or self._sharded)
        return float(_whole(norm))

    @torch.no_grad()
    def sums(self, tokens: Tensor) -> Tensor:
        """See `Engine`."""
        self._model.eval()
        with self._autocast():
            sums = self._objective.sums(self._model, tokens.to(self.device))
        self._model.train()
        return sums

    def pieces(self) -> list[Piece]:
        """See `Engine`. Replicated weights are the same on all workers, and rank 0 gives them."""
        return list(self._pieces()) if self._sharded or self.rank == 0 else []

    def load(self, state: StateReader) -> None:
        """See `Engine`."""
        make_state(self._optimizer)
        state.load(self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        for name, parameter in self._model.named_parameters():
            if not parameter.requires_grad:
                continue
            state = {kind: _local(value)[0] for kind, value in self._optimizer.state[parameter].items()}
            values, start = _local(parameter.detach())
            if values.numel():
                yield from tensor_pieces(name, values, state, start, slice(None))

    def weights(self) -> dict[str, Tensor]:
        """See `Engine`."""
        named = self._model.named_parameters()
        return {name: _whole(parameter.detach()).float().cpu().clone() for name, parameter in named}

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)


def _shard(model: PreTrainedModel, device: torch.device) -> None:
    """Spread the parameters over all workers, each layer gathered when it computes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    layers = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _local(tensor: Any) -> tuple[Tensor, int]:
    """This worker's part of a tensor, and the place of its first element in the flattened whole.

    FSDP2 cuts the first dimension, so that a part is one run of elements.
    """
    if not hasattr(tensor, "to_local"):
        return tensor, 0
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    rows = offset[0] if offset else 0
    return tensor.to_local(), rows * (tensor.numel() // max(1, tensor.shape[0] if tensor.ndim else 1))


def _whole(tensor: Any) -> Tensor:
    """A tensor put together from the parts of all workers, which all have to call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
