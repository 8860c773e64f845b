"""A trained model as a plain Hugging Face directory, which loads without codelm."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

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


def model_card(name: str, made: dict[str, dict[str, Any]], parameters: int) -> str:
    """The model's README.md.

    Args:
        name: the experiment's.
        made: for each stage that led to the model, in order, its `config` and its `metrics`.
        parameters: how many the model has.
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
        "Validation loss is in nats a token. A model that knows nothing but how frequent each token is would "
        f"have {results['unigram_entropy']:.3f}; this one has {results['validation_loss']:.3f}.",
    ]
    for stage, record in made.items():
        lines += ["", f"## {stage}"]
        for title in ("metrics", "config"):
            if record[title]:
                text = json.dumps(record[title], indent=2, sort_keys=True)
                lines += ["", f"{title.capitalize()}:", "", "```json", text, "```"]
    return "\n".join([*lines, ""])
