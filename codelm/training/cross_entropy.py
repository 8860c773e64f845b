"""Cross-entropy whose gradient takes the place of the logits, a few rows at a time in the cache.

torch's own reads and writes tensors of the size of the logits seven times, one of them in float32 where the logits are
bf16: on a CPU with a vocabulary of 8,192 that was an eighth of a step.
"""

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""The label of a place that is left out; its loss is 0."""

ROWS_BYTES = 1 << 20
"""Logits, in float32, that are worked on at once."""


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each place, in nats.

    Where a gradient is wanted the logits are overwritten: nothing else may use them, and backward runs once.

    Args:
        logits: of shape (places, vocabulary).
        labels: int64 of shape (places,); `IGNORED` leaves one out.

    Returns:
        float32 of shape (places,).
    """
    losses: Tensor = _TokenLosses.apply(logits, labels)
    return losses


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, logits: Tensor, labels: Tensor) -> Tensor:
        wants_gradient = context.needs_input_grad[0]
        losses = torch.empty(len(labels), dtype=torch.float32, device=logits.device)
        known = labels != IGNORED
        targets = labels.masked_fill(~known, 0).unsqueeze(1)
        step = max(1, ROWS_BYTES // (4 * logits.shape[1])) if logits.device.type == "cpu" else len(labels)
        for start in range(0, len(labels), step):
            rows = slice(start, start + step)
            here = logits[rows]
            part = here.float() if wants_gradient else here.to(torch.float32, copy=True)
            peak = part.amax(dim=1, keepdim=True)
            picked = part.gather(1, targets[rows]) - peak
            total = part.sub_(peak).exp_().sum(dim=1, keepdim=True)
            losses[rows] = (total.log() - picked).squeeze(1).masked_fill(~known[rows], 0.0)
            if wants_gradient:
                scale = known[rows].unsqueeze(1)
                part.mul_(scale / total).scatter_add_(1, targets[rows], -scale.to(part.dtype))
                if part is not here:
                    here.copy_(part)
        if wants_gradient:
            context.save_for_backward(logits)
        return losses

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        [softmax_less_target] = context.saved_tensors
        return softmax_less_target.mul_(gradients[0].unsqueeze(1)), None
