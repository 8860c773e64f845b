"""The card of a fine-tuned model."""

import json
from typing import Any


def card(name: str, source: str, config: dict[str, Any], metrics: dict[str, Any], data: dict[str, Any]) -> str:
    """The text of README.md.

    Args:
        name: the experiment's.
        source: the model that was fine-tuned.
        config: the section `finetuning`.
        metrics: of the training.
        data: of the examples.
    """
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [code]", "---"]
    trained = "low-rank adapters, merged into the weights" if config["lora"] else "all weights"
    lines = [
        *front,
        f"# {name}",
        "",
        f"`{source}`, fine-tuned by codelm ({trained}) on {data['examples']:,} prompts with solutions "
        f"({config['data']}). The loss was on the tokens of the solutions and the end of text after them.",
        "",
        f"Validation loss {metrics['initial_validation_loss']:.3f} before, {metrics['validation_loss']:.3f} after step "
        f"{metrics['best_step']:,} of {metrics['steps']:,}, the lowest, in nats a token of the held-out solutions.",
    ]
    for title, record in (("Figures", metrics), ("Examples", data), ("Recipe", config)):
        lines += ["", f"## {title}", "", "```json", json.dumps(record, indent=2, sort_keys=True), "```"]
    return "\n".join([*lines, ""])
