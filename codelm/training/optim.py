"""Which parameters are decayed, and the optimizer that updates them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from codelm.config import Training
from codelm.training.muon import MuonAdamW

FUSED_ON = ("cpu", "cuda")
"""Where torch has a fused AdamW: one pass over the parameters. It needs no compiler."""

ADAFACTOR_EPSILON = 1e-15
"""torch squares it: 1e-30, as in the paper. torch's own default, 1e-7, exceeds the squares of common gradients."""


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


def hidden_matrices(model: nn.Module) -> set[str]:
    """Names of the parameters that Muon is for: the decayed ones without the output layer.

    An output layer of its own maps to tokens, as an embedding does from them, and is AdamW's (Jordan 2024).
    """
    outputs = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    weight = getattr(outputs, "weight", None)
    return {name for name in decayed_names(model) if model.get_parameter(name) is not weight}


def build_optimizer(model: nn.Module, training: Training, device_type: str) -> torch.optim.Optimizer:
    """The optimizer that `training.optimizer` names, over what is trained, in groups with and without weight decay.

    - `adamw`: Loshchilov and Hutter 2019, decay scaled by the learning rate; fused where torch has that.
    - `adafactor`: Shazeer and Stern 2018, without momentum, as torch has it: updates are relative to each
      parameter's root mean square (1e-3 at least), and clipped at 1.
    - `muon`: see `codelm.training.muon`.
    """
    decayed = decayed_names(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = hidden_matrices(model) if training.optimizer == "muon" else set()
    parts = [
        (matrices, training.weight_decay, True),
        (decayed - matrices, training.weight_decay, False),
        (trained.keys() - decayed, 0.0, False),
    ]
    groups = [
        {
            "params": [parameter for name, parameter in trained.items() if name in names],
            "weight_decay": decay,
            "muon": muon,
        }
        for names, decay, muon in parts
        if names & trained.keys()
    ]
    rate, betas, fused = training.learning_rate, (training.beta1, training.beta2), device_type in FUSED_ON
    if training.optimizer == "muon":
        return MuonAdamW(groups, rate, betas, training.epsilon, fused)
    for group in groups:
        del group["muon"]
    if training.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=rate, eps=(ADAFACTOR_EPSILON, 1e-3))
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=training.epsilon, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def make_state(optimizer: torch.optim.Optimizer, flat: Sequence[Tensor] = ()) -> None:
    """Let an optimizer that has not stepped yet make its state, to be overwritten; the weights stay.

    Args:
        optimizer: with its own parameters; their gradients are gone afterwards.
        flat: tensors that DeepSpeed puts in their place while it steps; the state is theirs then, and AdamW's.
    """
    if flat:
        for tensor in flat:
            step = torch.zeros((), dtype=torch.float32, device=tensor.device)
            moments = {kind: torch.zeros_like(tensor) for kind in ("exp_avg", "exp_avg_sq")}
            optimizer.state[tensor] = {"step": step, **moments}
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
