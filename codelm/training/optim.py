"""The optimizer's recipe: parameter groups, AdamW, the learning rate of a step."""

import math

import torch
from torch import nn

from codelm.config import Training

FUSED_ON = ("cpu", "cuda")
"""Where torch has a fused AdamW: one pass over the parameters. It needs no compiler."""


def decayed_names(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay applies to: matrices, but no embeddings.

    Norms and biases are vectors; embeddings are known by their module's type. So the result does not
    depend on what an architecture calls its norms: a pattern `LayerNorm.weight` misses GPT-2's
    `ln_1.weight`. An output layer tied to the embedding is the embedding.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {
        name for name, parameter in model.named_parameters() if parameter.ndim >= 2 and id(parameter) not in embeddings
    }


def build_optimizer(model: nn.Module, training: Training, device_type: str) -> torch.optim.AdamW:
    """AdamW over two groups of parameters, with and without weight decay."""
    decayed = decayed_names(model)
    parameters = dict(model.named_parameters())
    groups = [
        {"params": [parameters[name] for name in parameters if name in decayed], "weight_decay": training.weight_decay},
        {"params": [parameters[name] for name in parameters if name not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=training.learning_rate,
        betas=(training.beta1, training.beta2),
        eps=training.epsilon,
        fused=device_type in FUSED_ON,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def learning_rate(training: Training, step: int) -> float:
    """The learning rate of an optimizer step: linear warm-up, then a cosine down to the minimum share.

    Args:
        training: the recipe.
        step: 1 for the first step; the peak is at `warmup_steps`, the minimum at `steps`.
    """
    if step < training.warmup_steps:
        return training.learning_rate * step / training.warmup_steps
    done = (step - training.warmup_steps) / (training.steps - training.warmup_steps)
    low = training.min_learning_rate_share
    return training.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))
