"""The engine on DeepSpeed: ZeRO stages 0 to 3, on what DeepSpeed runs on."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel

from codelm.config import Training
from codelm.training.engine import accumulation
from codelm.training.objective import Objective
from codelm.training.optim import build_optimizer, make_state, set_learning_rate
from codelm.training.precision import Precision
from codelm.training.state import WEIGHT, Piece, StateReader, tensor_pieces

FLAT_WEIGHTS = ("single_partition_of_fp32_groups", "fp32_groups_flat_partition", "fp32_partitioned_groups_flat")
"""What ZeRO 1 and 2, bf16 without ZeRO, and ZeRO 3 call this worker's float32 weights, flattened by groups."""


class DeepSpeedEngine:
    """The optimizer is torch's AdamW, spread over the workers by ZeRO: nothing has to be compiled."""

    def __init__(
        self,
        model: PreTrainedModel,
        training: Training,
        precision: Precision,
        device: torch.device,
        objective: Objective,
    ) -> None:
        self.device, self._objective = device, objective
        optimizer = build_optimizer(nn.Module.to(model, device), training, device.type)
        self._training = training
        self.rank, self.workers = dist.get_rank(), dist.get_world_size()
        self._engine = _initialise(model, optimizer, settings(training, precision, self.workers), device)
        self._optimizer = self._engine.optimizer
        if training.compile:
            self._engine.compile()

    def forward_backward(self, tokens: Tensor, last: bool) -> Tensor:
        """See `Engine`. DeepSpeed divides by the micro-batches of a step and counts them for itself."""
        loss = self._objective.loss(self._engine, tokens.to(self.device))
        self._engine.backward(loss)
        if not last:
            self._engine.step()
        return loss.detach()

    def step(self, learning_rate: float) -> float:
        """See `Engine`."""
        set_learning_rate(self._optimizer, learning_rate)
        norm = None
        if self._clips_itself:
            norm = nn.utils.clip_grad_norm_(self._engine.module.parameters(), self._training.max_gradient_norm)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    @torch.no_grad()
    def sums(self, tokens: Tensor) -> Tensor:
        """See `Engine`."""
        self._engine.eval()
        sums = self._objective.sums(self._engine, tokens.to(self.device))
        self._engine.train()
        return sums

    def pieces(self) -> list[Piece]:
        """See `Engine`. Without ZeRO and in float32 all workers hold the same, and rank 0 gives it."""
        return list(self._pieces()) if self._flat or self.rank == 0 else []

    def load(self, state: StateReader) -> None:
        """See `Engine`."""
        make_state(self._optimizer.optimizer if self._flat else self._optimizer, self._flat)
        state.load(self._pieces())
        if self._flat:
            state.load(self._working_copies())
            if resident := getattr(self._optimizer, "persistent_parameters", None):
                # ZeRO 3 keeps small parameters whole on all workers.
                resident[0].partition(resident)
                resident[0].all_gather(resident)

    def _pieces(self) -> Iterator[Piece]:
        """The float32 weights and the optimizer's state that are here."""
        for name, parameter in self._trained():
            if not self._flat:
                yield from tensor_pieces(name, parameter, self._optimizer.state[parameter], 0, slice(None))
                continue
            place = self._place(parameter)
            if place is not None:
                group, start, here = place
                state = self._optimizer.optimizer.state[self._flat[group]]
                yield from tensor_pieces(name, self._flat[group], state, start, here)

    def _place(self, parameter: Any) -> tuple[int, int, slice] | None:
        """Where a parameter's elements are in the flat weights here; None where another worker has them all.

        Returns:
            The group, the first element's place in the parameter, and the places in the group.
        """
        if hasattr(parameter, "ds_tensor"):
            group, offset, count = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
            start = self.rank * count  # the parts are of equal size; the last ones are filled up
            here = min(count, parameter.ds_numel - start)
            return (group, start, slice(offset, offset + here)) if here > 0 else None
        mapping = parameter._hp_mapping
        if mapping is None:
            return None
        address = mapping.hp_fragment_address
        place = slice(address.start, address.start + address.numel)
        return mapping.param_group_index, mapping.lp_fragment_address.start, place

    def _working_copies(self) -> Iterator[Piece]:
        """The weights that are computed with, which DeepSpeed derives from those in float32 at each step."""
        for name, parameter in self._trained():
            if hasattr(parameter, "ds_tensor"):
                start = self.rank * parameter.ds_tensor.numel()
                count = min(parameter.ds_tensor.numel(), parameter.ds_numel - start)
                if count > 0:
                    yield Piece(name, WEIGHT, start, parameter.ds_tensor.data[:count])
            else:
                yield Piece(name, WEIGHT, 0, parameter.detach().view(-1))

    def _trained(self) -> Iterator[tuple[str, Any]]:
        """What is trained, with what DeepSpeed has put on the parameters."""
        return ((name, value) for name, value in self._engine.module.named_parameters() if value.requires_grad)

    @property
    def _flat(self) -> list[Tensor]:
        """This worker's float32 weights, flattened by groups; none where DeepSpeed leaves the parameters alone."""
        return next((getattr(self._optimizer, name) for name in FLAT_WEIGHTS if hasattr(self._optimizer, name)), [])

    def weights(self) -> dict[str, Tensor]:
        """See `Engine`. ZeRO 3 puts each parameter together in turn, so no device holds all of them."""
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {}
        for name, parameter in self._engine.module.named_parameters():
            full = safe_get_full_fp32_param(parameter)
            weights[name] = (parameter if full is None else full).detach().float().cpu().clone()
        return weights

    @property
    def _clips_itself(self) -> bool:
        """DeepSpeed without ZeRO and in float32 clips the gradient but does not tell its norm."""
        return self._training.zero_stage == 0 and not self._engine.bfloat16_enabled()


def settings(training: Training, precision: Precision, workers: int) -> dict[str, Any]:
    """DeepSpeed's config (https://www.deepspeed.ai/docs/config-json/) of a recipe."""
    clips_itself = training.zero_stage == 0 and precision == "fp32"
    zero: dict[str, Any] = {"stage": training.zero_stage}
    if training.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": accumulation(training, workers),
        "gradient_clipping": 0.0 if clips_itself else training.max_gradient_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's own has to be compiled
        "bf16": {"enabled": precision == "bf16"},
        "steps_per_print": None,
    }


def _initialise(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any], device: torch.device
) -> Any:
    os.environ["DS_ACCELERATOR"] = device.type  # read at import; a CPU run on a machine with a GPU needs it
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On CPUs DeepSpeed otherwise compiles a shared-memory all-reduce with g++ at start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine
