"""The model that is fine-tuned, its tokenizer, and the adapters on it."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from codelm.config.finetuning import Lora
from codelm.errors import UserError
from codelm.modeling.build import attention
from codelm.modeling.quiet import quiet_transformers
from codelm.modeling.source import check_source
from codelm.tokenization import bpe

KEY = "finetuning.model"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load_tokenizer(source: str) -> tuple[Any, int]:
    """The tokenizer of a model, reading special tokens in texts as plain text, and its end of text.

    Args:
        source: a directory, or a name on the Hugging Face hub.

    Raises:
        UserError: there is none, or it has no end of text, and a model would never learn to stop.
    """
    check_source(KEY, source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(f"{KEY}: cannot load the tokenizer of {source!r}: {str(error).splitlines()[0]}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"{KEY}: the tokenizer of {source!r} names no end of text (eos_token)")
    return bpe.plain(tokenizer.backend_tokenizer.to_str()), int(tokenizer.eos_token_id)


def load_base(source: str, sequence_length: int, lora: Lora | None, seed: int) -> PreTrainedModel:
    """The model to train, in float32 on the CPU; with adapters, these alone are trained.

    Raises:
        UserError: there is no such model, it has fewer positions than a sequence, or no layer that adapters are for.
    """
    quiet_transformers()
    check_source(KEY, source)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"{KEY}: cannot load {source!r}: {str(error).splitlines()[0]}") from error
    if (implementation := attention(model.config)) is not None:
        model.set_attn_implementation(implementation)
    check_positions(model.config, source, sequence_length)
    return model if lora is None else adapted(model, lora, seed)


def check_positions(config: Any, source: str, sequence_length: int) -> None:
    """Raise UserError where a sequence is longer than the model's context."""
    if config.max_position_embeddings < sequence_length:
        raise UserError(
            f"finetuning.sequence_length: {sequence_length} is longer than the {config.max_position_embeddings} "
            f"positions of {source!r}; lower it"
        )


def read_config(source: str) -> Any:
    """The config of a model, without its weights.

    Raises:
        UserError: there is none.
    """
    check_source(KEY, source)
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(f"{KEY}: cannot load {source!r}: {str(error).splitlines()[0]}") from error


def adapted(model: PreTrainedModel, lora: Lora, seed: int) -> PreTrainedModel:
    """The model with adapters in it, drawn by the seed; nothing else is trained.

    Raises:
        UserError: it has no such layers.
    """
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(_peft_config(lora, model), model)
        except ValueError as error:
            raise UserError(f"finetuning.lora.modules: {lora.modules!r}: {str(error).splitlines()[0]}") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora_" in name
    return model


def export(source: str, trained: Path, lora: Lora | None, precision: str, target: Path) -> None:
    """Write the fine-tuned model as a plain Hugging Face directory, adapters merged into the weights.

    Args:
        source: the model that was fine-tuned.
        trained: a directory with `weights.safetensors`, of the parameters that were trained.
        lora: as the model was trained with.
        precision: `bf16` or `fp32`, to write the weights in.
        target: a directory.

    Raises:
        ValueError: the weights are not those of the model.
    """
    model = load_base(source, 0, None, 0)
    weights = load_file(trained / "weights.safetensors")
    if lora is not None:
        from peft import get_peft_model

        wrapped: Any = get_peft_model(model, _peft_config(lora, model))
        _fill(wrapped.base_model.model, weights, {name for name, _ in wrapped.named_parameters() if "lora_" in name})
        model = wrapped.merge_and_unload()
    else:
        _fill(model, weights, {name for name, _ in model.named_parameters()})
    tokenizer = AutoTokenizer.from_pretrained(source)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = (
        tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    )
    torch.nn.Module.to(model, DTYPES[precision])
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _peft_config(lora: Lora, model: PreTrainedModel) -> Any:
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.modules if isinstance(lora.modules, str) else list(lora.modules),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's are transposed
        task_type="CAUSAL_LM",
    )


@torch.no_grad()
def _fill(model: torch.nn.Module, weights: dict[str, torch.Tensor], wanted: set[str]) -> None:
    parameters = dict(model.named_parameters())
    if len(weights) != len(wanted) or any(
        name not in parameters or parameters[name].shape != weight.shape for name, weight in weights.items()
    ):
        raise ValueError("weights.safetensors does not hold the trained parameters of the model")
    for name, weight in weights.items():
        parameters[name].copy_(weight)
