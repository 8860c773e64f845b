"""Reads an experiment from YAML and overrides, and explains what is wrong with it."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from codelm.config.experiment import Experiment
from codelm.errors import UserError


def load(path: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment from YAML, apply `key=value` overrides, and check all of it.

    Raises:
        UserError: the file is missing or not YAML, or any key or value is wrong; all errors at once.
    """
    overrides = list(overrides)
    try:
        tree = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise UserError(f"no config file {str(path)!r}; ray_jobs/configs/ holds examples") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read config {str(path)!r}: {error}") from error
    if not isinstance(tree, DictConfig):
        raise UserError(f"config {str(path)!r} is not a mapping of keys to values; ray_jobs/configs/ holds examples")
    malformed = [item for item in overrides if "=" not in item or item.startswith("=")]
    if malformed:
        raise UserError(f"override {malformed[0]!r} is not of the form key=value, such as training.steps=100")
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(tree, OmegaConf.from_dotlist(overrides)), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot apply overrides {overrides} to {str(path)!r}: {reason}") from error
    return parse(merged, str(path))


def parse(tree: Any, origin: str) -> Experiment:
    """Check a tree of plain values and return the experiment.

    Args:
        tree: nested dicts, as YAML gives them.
        origin: what to call the tree in errors; the file's path.

    Raises:
        UserError: any key or value is wrong; all errors at once.
    """
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        lines = [line for detail in error.errors() for line in _explain(detail)]
        count = f"{len(lines)} errors" if len(lines) > 1 else "1 error"
        raise UserError("\n".join([f"{count} in config {origin}:", *(f"  {line}" for line in lines)])) from error


def _explain(detail: ErrorDetails) -> list[str]:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return [f"{key}: unknown key; {nearest(key)}"]
    if detail["type"] == "missing":
        return [f"{key}: missing; it has no default"]
    if detail["type"] == "value_error" and not key:
        return str(detail["ctx"]["error"]).splitlines()
    return [f"{key}: {detail['input']!r} is wrong: {detail['msg']}"]


def nearest(key: str) -> str:
    """What to write for a key that there is not: the valid one that is most like it, or how to find it.

    A name of its section counts before others, and initials are understood: `training.lr`.
    """
    section, _, last = key.rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in valid_keys() if name.rpartition(".")[0] == section}
    initials = [name for own, name in siblings.items() if last == "".join(word[:1] for word in own.split("_"))]
    like = [siblings[own] for own in difflib.get_close_matches(last, siblings, n=1)]
    near = initials or like or difflib.get_close_matches(key, valid_keys(), n=1)
    return f"did you mean {near[0]}?" if near else "`codelm show-config` lists the valid keys"


def valid_keys(model: type[BaseModel] = Experiment, prefix: str = "") -> list[str]:
    """Every dotted key of the config, sections included."""
    keys = []
    for name, info in model.model_fields.items():
        keys.append(f"{prefix}{name}")
        for kind in (info.annotation, *get_args(info.annotation)):  # a section, or a section that may be null
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys.extend(valid_keys(kind, f"{prefix}{name}."))
    return keys


def to_yaml(experiment: Experiment) -> str:
    """The whole config, defaults included, as YAML that `load` reads back to an equal experiment."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
