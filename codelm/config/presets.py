"""Published models, and codelm's own, as data: `codelm/config/models/NAME.yaml`, one file each.

A file says where it comes from (`source`), how many parameters the model has with its own vocabulary
(`parameters`), and what it sets in the sections of the config. `model.preset: NAME` takes the file's `model` and
`tokenizer`, which decide the shape; `training.preset: NAME` its `training` and `data`, the recipe, where one is
published. What the config says itself counts more.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

ModelPreset = Literal[
    "codelm-110m",
    "codelm-30m",
    "codelm-350m",
    "codelm-tiny",
    "codeparrot",
    "codeparrot-small",
    "gpt-neo-1.3b",
    "gpt-neo-125m",
    "santacoder",
]
RecipePreset = Literal["codeparrot", "codeparrot-small", "gpt-neo-125m", "santacoder"]


@cache
def read(name: str, kind: str = "models") -> dict[str, Any]:
    """The content of a preset's file in `codelm/config/KIND`; empty for a name that there is no file for."""
    file = files("codelm.config") / kind / f"{name}.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text()) if file.is_file() else {}
    return content


def filled(name: Any, section: str, given: Any) -> Any:
    """A section as it was given, completed from a preset.

    Args:
        name: the preset; anything but a text completes nothing.
        section: model, tokenizer, data or training.
        given: the section's keys; a value that is no mapping is left for the check of the types.
    """
    defaults = read(name).get(section, {}) if isinstance(name, str) else {}
    return {**defaults, **given} if isinstance(given, dict) else given
