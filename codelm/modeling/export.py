"""A trained model as a plain Hugging Face directory, which loads without codelm."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from codelm.modeling.quiet import quiet_transformers

SPLIT_NAMES = {"train": "Training", "valid": "Validation"}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def export(pretrain: Path, tokenizer: Path, precision: str, target: Path) -> None:
    """Write model, generation config and tokenizer.

    Args:
        pretrain: the published stage, with `weights.safetensors` and `config.json`.
        tokenizer: the tokenizer's directory.
        precision: `bf16` or `fp32`, that which the model was trained and validated in.
        target: an empty directory.

    Raises:
        ValueError: the weights are not those of the config, or the tokenizer does not fit it.
    """
    quiet_transformers()
    config = AutoConfig.from_pretrained(pretrain)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    weights = load_file(pretrain / "weights.safetensors")
    parameters = dict(model.named_parameters())
    if {name: tensor.shape for name, tensor in weights.items()} != {
        name: parameter.shape for name, parameter in parameters.items()
    }:
        raise ValueError(f"{pretrain / 'weights.safetensors'} does not hold the parameters of its config.json")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    if len(loaded) > config.vocab_size:
        raise ValueError(f"the tokenizer has {len(loaded)} tokens, the model {config.vocab_size}")
    loaded.model_max_length = config.max_position_embeddings
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.to(DTYPES[precision]).save_pretrained(target)
    loaded.save_pretrained(target)


def model_card(name: str, made: dict[str, dict[str, Any]], parameters: int, curve: str | None) -> str:
    """The model's README.md: what it is, the data, the recipe, the loss curve, the results, and all that by stages.

    Args:
        name: the experiment's.
        made: for each stage that led to the model, in order, its `config` and its `metrics`.
        parameters: how many the model has.
        curve: the file with the picture of the loss, beside the card.
    """
    results = made["pretrain"]["metrics"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [code]",
        "---",
        f"# {name}",
        "",
        f"A code-completion model with {parameters:,} parameters, trained from scratch by codelm "
        f"on {results['tokens']:,} tokens.",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        'complete = pipeline("text-generation", "path/to/this/directory")',
        'print(complete("def fibonacci(n):\\n", max_new_tokens=32)[0]["generated_text"])',
        "```",
        "",
        *_data(made),
        *_recipe(made["pretrain"]["config"], results),
        "## Results",
        "",
        "| | |",
        "|---|---:|",
        f"| validation loss, nats a token | {results['validation_loss']:.4f} |",
        f"| perplexity | {math.exp(results['validation_loss']):,.2f} |",
        f"| loss of a model that knows only how frequent each token is | {results['unigram_entropy']:.4f} |",
        "",
        *([f"![Training and validation loss by step]({curve})", ""] if curve else []),
        "The figures and the config of each stage follow.",
    ]
    for stage, record in made.items():
        lines += ["", f"## {stage}"]
        for title in ("metrics", "config"):
            if record[title]:
                text = json.dumps(record[title], indent=2, sort_keys=True)
                lines += ["", f"{title.capitalize()}:", "", "```json", text, "```"]
    return "\n".join([*lines, ""])


def _data(made: dict[str, dict[str, Any]]) -> list[str]:
    """What the model was trained on, as far as there are figures."""
    corpus, packed = (made.get(stage, {}).get("metrics") for stage in ("corpus", "pack"))
    lines = ["## Data", ""]
    if corpus:
        lines.append(
            f"{corpus['files_kept']:,} source files ({corpus['bytes_kept'] / 1e6:,.1f} MB) of {corpus['files_in']:,} "
            "that were read, without near-duplicates."
        )
    for split, side in (packed or {}).items():
        lines.append(
            f"{SPLIT_NAMES[split]} split: {side['documents']:,} files, {side['tokens']:,} tokens in "
            f"{side['sequences']:,} sequences of {side['sequence_length']:,}."
        )
    return [*lines, ""] if len(lines) > 2 else []


def _recipe(config: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """How it was trained, in a table."""
    training = config.get("training", {})
    keys = ("optimizer", "learning_rate", "schedule", "warmup_steps", "weight_decay", "batch_size", "max_gradient_norm")
    rows = {key.replace("_", " "): training[key] for key in keys if key in training}
    rows |= {"steps": f"{results['steps']:,}", "tokens": f"{results['tokens']:,}"} if "steps" in results else {}
    return ["## Recipe", "", "| | |", "|---|---:|", *(f"| {key} | {value} |" for key, value in rows.items()), ""]
