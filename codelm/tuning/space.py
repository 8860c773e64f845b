"""A search space over the config: checked against it, and put into it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from codelm.config import Experiment, Training, nearest, parse, valid_keys
from codelm.config.sweep import Dimension, Sweep
from codelm.errors import UserError

PARTS = {
    "finetune": ("finetuning.training", "finetuning.lora", "finetuning.epochs", "seed"),
    "pretrain": ("training", "model", "seed"),
}
"""What a trial reads of the config beyond its inputs: other keys would change nothing, or the inputs."""

SECTIONS = {"finetune": "finetuning.training", "pretrain": "training"}
"""Where the recipe of a trial stands."""


def overridden(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment with other values of some keys, checked as a whole.

    Args:
        experiment: the whole config.
        overrides: dotted keys -> values.

    Raises:
        UserError: there is no such key, or the value is wrong.
    """
    tree = experiment.model_dump(mode="json")
    for key, value in overrides.items():
        *sections, last = key.split(".")
        part = tree
        for section in sections:
            if part.get(section) is None:
                part[section] = {}
            part = part[section]
        part[last] = value
    shown = ", ".join(f"{key}={value}" for key, value in overrides.items())
    return parse(tree, f"with {shown}" if shown else "of the sweep")


def target_of(experiment: Experiment, sweep: Sweep) -> str:
    """`finetune` or `pretrain`: what a trial is.

    Raises:
        UserError: fine-tuning is asked for, and the config has none.
    """
    if sweep.target == "finetune" and experiment.finetuning is None:
        raise UserError("sweep.target: finetune, but the config has no section `finetuning`")
    return sweep.target or ("pretrain" if experiment.finetuning is None else "finetune")


def recipe_of(experiment: Experiment, target: str) -> Training:
    """The recipe of one trial, without its values."""
    if target == "pretrain":
        return experiment.training
    assert experiment.finetuning is not None, "by the target"
    return experiment.finetuning.training


def check_space(experiment: Experiment, sweep: Sweep, idle: Collection[str] = ()) -> None:
    """Refuse a space before anything starts: unknown keys, keys that no trial reads, values that are wrong.

    Args:
        experiment: the whole config.
        sweep: its section.
        idle: keys of a recipe that change no result.

    Raises:
        UserError: all that is wrong, a line each.
    """
    target = target_of(experiment, sweep)
    problems = list(_problems(experiment, sweep, target, idle))
    problems += _metric_problems(experiment, sweep)
    if target == "pretrain" or (experiment.finetuning is not None and experiment.finetuning.epochs is None):
        problems += stopping_problems(sweep, target, recipe_of(experiment, target))
    grids = [key for key, one in sweep.space.items() if one.kind == "grid"]
    if sweep.search == "optuna" and grids:
        problems.append(f"sweep.space: {grids[0]} is a grid, and Optuna draws; give it as a choice, or search: random")
    if sweep.scheduler == "pbt" and grids:
        problems.append(f"sweep.space: {grids[0]} is a grid, and pbt changes keys on the way; give it as a choice")
    if sweep.scheduler == "pbt" and sweep.search == "optuna":
        problems.append("sweep.scheduler: pbt changes keys itself; set sweep.search: random")
    if problems:
        raise UserError("\n".join(problems))


def stopping_problems(sweep: Sweep, target: str, recipe: Training) -> list[str]:
    """Why the scheduler would have nothing to decide by: no validation before the last step.

    Args:
        sweep: the section.
        target: as `target_of` tells.
        recipe: with the steps that a trial takes.
    """
    if sweep.scheduler == "none" or recipe.validate_every < recipe.steps:
        return []
    key = SECTIONS[target]
    return [
        f"sweep.scheduler: {sweep.scheduler} decides at validations; {key}.validate_every = {recipe.validate_every} "
        f"leaves none before the last of {recipe.steps} steps; set it to "
        f"{max(1, int(recipe.steps * sweep.grace_share))}, or sweep.scheduler: none"
    ]


def _problems(experiment: Experiment, sweep: Sweep, target: str, idle: Collection[str]) -> Iterator[str]:
    valid, recipe = valid_keys(), SECTIONS[target]
    epochs = experiment.finetuning.epochs if target == "finetune" and experiment.finetuning is not None else None
    for key, dimension in sweep.space.items():
        if key not in valid:
            yield f"sweep.space: {key} is no key of the config; {nearest(key)}"
        elif not any(key == part or key.startswith(f"{part}.") for part in PARTS[target]):
            yield (
                f"sweep.space: {key} does not change what a trial of {target} does; it reads {', '.join(PARTS[target])}"
            )
        elif key in {f"{recipe}.{name}" for name in idle}:
            yield f"sweep.space: {key} changes how a trial runs and not what comes of it; set it outside of the space"
        elif key == f"{recipe}.steps" and (epochs is not None or "finetuning.epochs" in sweep.space):
            yield f"sweep.space: {key} changes nothing, since finetuning.epochs sets the steps; search that"
        else:
            yield from _wrong_values(experiment, key, dimension)


def _wrong_values(experiment: Experiment, key: str, dimension: Dimension) -> Iterator[str]:
    tried = dimension.values
    if dimension.kind in ("uniform", "loguniform"):
        low, high = dimension.values
        tried = (low, low + (high - low) * 0.37, high)  # one within, that is no whole number where only those are valid
    for value in tried:
        try:
            overridden(experiment, {key: value})
        except UserError as error:
            yield f"sweep.space: {key} = {value!r}: {str(error).splitlines()[-1].strip()}"
            return


def _metric_problems(experiment: Experiment, sweep: Sweep) -> list[str]:
    reported = metrics_of(experiment)
    if sweep.metric in reported:
        return []
    return [f"sweep.metric: no trial reports {sweep.metric!r}; what they report is {', '.join(reported)}"]


def metrics_of(experiment: Experiment) -> list[str]:
    """What a trial can be judged by; pass@k for the k of `evaluation.k`."""
    return ["validation_loss", *(f"pass@{k}" for k in experiment.evaluation.k)]


def points(sweep: Sweep) -> int:
    """How many trials the sweep comes to: draws, times the points of the grids."""
    count = sweep.trials
    for dimension in sweep.space.values():
        if dimension.kind == "grid":
            count *= len(dimension.values)
    return count
