"""Hugging Face models from the config: shape, parameter count, initial weights.

The shapes are those that every inference engine loads: plain GPT-2 without CodeParrot's
`scale_attn_by_inverse_layer_idx` and `reorder_and_upcast_attn`, which vLLM refuses, GPTBigCode with
multi-query attention (SantaCoder), and Llama with grouped-query attention.
"""

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTBigCodeConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from codelm.config import Model
from codelm.records import END_OF_TEXT, SPECIAL_TOKENS

INITIAL_STD = 0.02
"""GPT-2's (Radford et al. 2019), kept by Llama and GPTBigCode."""

RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "c_proj.weight")
"""The layers whose output is added to the residual stream, in the three architectures."""


def model_config(model: Model, vocab_size: int) -> PretrainedConfig:
    """The Hugging Face config of a model.

    Dropout is 0: a model that sees its data about once does not overfit.

    Args:
        model: the shape.
        vocab_size: tokens in the vocabulary, special tokens included.
    """
    end = SPECIAL_TOKENS.index(END_OF_TEXT)
    tokens: dict[str, Any] = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if model.architecture == "llama":
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=model.hidden_size,
            intermediate_size=model.intermediate_size,
            num_hidden_layers=model.layers,
            num_attention_heads=model.heads,
            num_key_value_heads=model.kv_heads,
            max_position_embeddings=model.max_positions,
            tie_word_embeddings=model.tie_embeddings,
            **tokens,
        )
    config_class = {"gpt2": GPT2Config, "gpt_bigcode": GPTBigCodeConfig}[model.architecture]
    return config_class(
        vocab_size=vocab_size,
        n_embd=model.hidden_size,
        n_inner=model.intermediate_size,
        n_layer=model.layers,
        n_head=model.heads,
        n_positions=model.max_positions,
        tie_word_embeddings=model.tie_embeddings,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **tokens,
    )


def count_parameters(config: PretrainedConfig) -> int:
    """Parameters of the model, tied ones counted once. Allocates nothing."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def build_model(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """A model with initial weights that depend only on its shape and the seed, in float32 on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # Transformers draws initial weights too; `initialise` replaces them.
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    initialise(model, config.num_hidden_layers, seed)
    return model


@torch.no_grad()
def initialise(model: nn.Module, layers: int, seed: int) -> None:
    """Draw the initial weights, in the order of `named_parameters`, from one generator.

    Matrices are normal with deviation 0.02; those that write to the residual stream have it divided by
    sqrt(2 x layers), so that the stream's variance does not grow with depth (GPT-2, section 2.3). Biases
    are 0 and the weights of norms 1.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim < 2:
            parameter.fill_(1.0)
        else:
            std = INITIAL_STD / (2 * layers) ** 0.5 if name.endswith(RESIDUAL_OUTPUTS) else INITIAL_STD
            parameter.normal_(0.0, std, generator=generator)
