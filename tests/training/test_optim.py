import math

import pytest
import torch
from torch import nn
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from codelm.config import Model, Training
from codelm.modeling.build import build_model, model_config
from codelm.training.optim import build_optimizer, decayed_names, learning_rate, set_learning_rate

SMALL = {"hidden_size": 32, "layers": 1, "heads": 4, "kv_heads": 2, "intermediate_size": 48, "max_positions": 16}
BLOCK = "model.layers.0"
DECAYED = {
    "llama": {
        *(f"{BLOCK}.self_attn.{name}_proj.weight" for name in "qkvo"),
        *(f"{BLOCK}.mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
    },
    "gpt2": {f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
}
DECAYED["gpt_bigcode"] = DECAYED["gpt2"]


@pytest.mark.parametrize("architecture", DECAYED)
def test_weight_decay_applies_to_matrices_and_never_to_norms_biases_or_embeddings(architecture: str) -> None:
    model = build_model(model_config(Model(architecture=architecture, **SMALL), 300), seed=0)
    assert decayed_names(model) == DECAYED[architecture]
    if architecture != "llama":
        assert {"transformer.h.0.ln_1.weight", "transformer.wte.weight", "transformer.wpe.weight"} <= set(
            dict(model.named_parameters())
        )


def test_an_untied_output_layer_is_a_matrix_like_others() -> None:
    model = build_model(model_config(Model(architecture="llama", tie_embeddings=False, **SMALL), 300), seed=0)
    assert decayed_names(model) == DECAYED["llama"] | {"lm_head.weight"}


def test_every_parameter_is_in_one_group() -> None:
    model = build_model(model_config(Model(architecture="gpt2", **SMALL), 300), seed=0)
    optimizer = build_optimizer(model, Training(weight_decay=0.3), "cpu")
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_updates_are_those_of_adamw_written_by_hand() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with decoupled decay scaled by the learning rate."""
    layer = nn.Linear(3, 2, bias=False).double()
    training = Training(learning_rate=0.1, beta1=0.8, beta2=0.9, weight_decay=0.05, epsilon=1e-6)
    optimizer = build_optimizer(layer, training, "cpu")
    weight, first, second = layer.weight.detach().clone(), torch.zeros(2, 3), torch.zeros(2, 3)
    generator = torch.Generator().manual_seed(1)
    for step in range(1, 6):
        rate = 0.1 / step
        gradient = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        layer.weight.grad = gradient.clone()
        set_learning_rate(optimizer, rate)
        optimizer.step()
        weight = weight - rate * 0.05 * weight
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        weight = weight - rate * (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-6)
        torch.testing.assert_close(layer.weight.detach(), weight)


@pytest.mark.parametrize(("steps", "warmup", "low"), [(100, 10, 0.1), (57, 0, 0.0), (30, 29, 0.5)])
def test_the_schedule_is_that_of_transformers(steps: int, warmup: int, low: float) -> None:
    training = Training(steps=steps, warmup_steps=warmup, learning_rate=3e-3, min_learning_rate_share=low)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-3)
    theirs = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, steps, min_lr_rate=low).lr_lambdas[0]
    for step in range(1, steps + 1):
        assert math.isclose(learning_rate(training, step), 3e-3 * theirs(step), rel_tol=1e-12)


def test_the_schedule_peaks_after_warm_up_and_ends_at_the_minimum() -> None:
    training = Training(steps=100, warmup_steps=10, learning_rate=1e-3, min_learning_rate_share=0.1)
    rates = [learning_rate(training, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(1e-4)  # never 0: no step is wasted
    assert max(rates) == rates[9] == 1e-3
    assert rates[-1] == pytest.approx(1e-4)
