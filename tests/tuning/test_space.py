from typing import Any

import pytest

from codelm import config
from codelm.config import Experiment
from codelm.errors import UserError
from codelm.tuning.space import check_space, overridden, points, target_of

RATE = "finetuning.training.learning_rate"


def experiment(space: dict[str, Any], finetuning: dict[str, Any] | None = None, **sweep: Any) -> Experiment:
    tree = {
        "name": "x",
        "run_dir": "/nowhere",
        "corpus": {"sources": ["stdlib"]},
        "finetuning": {"data": "functions", **(finetuning or {})},
        "sweep": {"space": space, **sweep},
    }
    return config.parse(tree, "the test's")


def checked(space: dict[str, Any], finetuning: dict[str, Any] | None = None, **sweep: Any) -> None:
    made = experiment(space, finetuning, **sweep)
    assert made.sweep is not None
    check_space(made, made.sweep, {"workers"})


def test_spaces_that_are_right() -> None:
    checked({RATE: {"loguniform": [1e-5, 1e-4]}})
    checked({RATE: {"uniform": [1e-5, 1e-4]}, "seed": {"grid": [1, 2, 3]}}, scheduler="none")
    checked({"finetuning.training.batch_size": {"choice": [8, 16]}}, search="optuna", metric="pass@1")
    checked({"training.learning_rate": {"grid": [1e-3, 1e-4]}, "model.layers": {"choice": [2, 4]}}, target="pretrain")
    checked({"finetuning.lora.rank": {"choice": [2, 4]}})


@pytest.mark.parametrize(
    ("space", "sweep", "message"),
    [
        (
            {"finetuning.training.learnign_rate": {"uniform": [0.1, 0.2]}},
            {},
            "learnign_rate is no key of the config; did you mean finetuning.training.learning_rate?",
        ),
        ({"finetuning.training.lr": {"uniform": [0.1, 0.2]}}, {}, "did you mean finetuning.training.learning_rate?"),
        ({"learning_rate": {"uniform": [0.1, 0.2]}}, {}, "did you mean training.learning_rate?"),
        ({"training.steps": {"choice": [1, 2]}}, {}, "training.steps does not change what a trial of finetune does"),
        ({RATE: {"uniform": [-1.0, 1.0]}}, {}, f"sweep.space: {RATE} = -1.0: .*greater than 0"),
        ({"finetuning.training.batch_size": {"uniform": [8, 16]}}, {}, "batch_size = 10.96: .*integer"),
        ({"finetuning.training.batch_size": {"choice": [8, 9]}}, {}, "batch_size = 9: .*not divisible"),
        ({RATE: {"grid": [1e-4, 1e-3]}}, {"search": "optuna"}, "learning_rate is a grid, and Optuna draws"),
        ({RATE: {"grid": [1e-4, 1e-3]}}, {"scheduler": "pbt"}, "learning_rate is a grid, and pbt changes keys"),
        ({RATE: {"uniform": [0.1, 0.2]}}, {"metric": "pass@7"}, "no trial reports 'pass@7'; .*validation_loss, pass@1"),
        ({RATE: {"uniform": [0.1, 0.2]}}, {"metric": "accuracy"}, "no trial reports 'accuracy'"),
        ({RATE: {"uniform": [0.1, 0.2]}}, {"scheduler": "pbt", "search": "optuna"}, "pbt changes keys itself"),
        (
            {"finetuning.training.workers": {"choice": [1, 2]}},
            {},
            "workers changes how a trial runs and not what comes",
        ),
    ],
)
def test_spaces_that_are_wrong(space: dict[str, Any], sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(space, **sweep)


def test_steps_are_searched_only_where_they_count() -> None:
    steps: dict[str, Any] = {"finetuning.training.steps": {"choice": [2000, 3000]}}
    epochs = {"finetuning.epochs": {"choice": [1, 2]}}
    checked(steps)
    checked(epochs, {"epochs": 1})
    for finetuning, space in (({"epochs": 1}, steps), ({}, steps | epochs)):
        with pytest.raises(UserError, match=r"training.steps changes nothing, since finetuning.epochs sets the steps"):
            checked(space, finetuning)


@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_a_scheduler_needs_a_validation_before_the_end(scheduler: str) -> None:
    """Trials would all run to their end without a word."""
    space, recipe = {RATE: {"uniform": [0.1, 0.2]}}, {"training": {"steps": 40, "validate_every": 40}}
    with pytest.raises(UserError, match=r"decides at validations; .* before the last of 40 steps; set it to 4, or"):
        checked(space, recipe, scheduler=scheduler)
    checked(space, recipe, scheduler="none")
    checked(space, {"training": {"steps": 40, "validate_every": 39}}, scheduler=scheduler)
    checked(space, {"epochs": 1, **recipe}, scheduler=scheduler)  # how many steps these are is not known yet


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"choice": [1e-4]}, "choice has a single point, 0.0001"),
        ({"grid": [1e-4, 1e-4]}, "grid has a single point"),
        ({"uniform": [1e-4, 1e-4]}, "uniform has a single point"),
        ({"uniform": [2, 1]}, "low 2 is above high 1"),
        ({"loguniform": [0, 1]}, "low 0 has no logarithm"),
        ({"choice": []}, "choice is empty"),
        ({}, "give exactly one of choice, grid, uniform, loguniform"),
        ({"choice": [1, 2], "grid": [1, 2]}, "give exactly one of"),
        ({"normal": [1, 2]}, "unknown key"),
    ],
)
def test_dimensions_that_are_wrong(dimension: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment({RATE: dimension})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        checked({"training.steps": {"choice": [1, 2]}, "x": {"choice": [1, 2]}}, metric="accuracy")
    assert len(str(caught.value).splitlines()) == 3


def test_overrides_are_checked_as_the_config_is() -> None:
    made = experiment({RATE: {"choice": [1e-4, 1e-3]}})
    changed = overridden(made, {RATE: 1e-3, "finetuning.lora.rank": 4, "seed": 7})
    assert changed.finetuning is not None
    assert changed.finetuning.lora is not None
    assert (changed.finetuning.training.learning_rate, changed.finetuning.lora.rank, changed.seed) == (1e-3, 4, 7)
    assert overridden(made, {}) == made
    with pytest.raises(UserError, match=f"with {RATE}=fast"):
        overridden(made, {RATE: "fast"})


def test_the_target_is_fine_tuning_where_the_config_has_it() -> None:
    made = experiment({RATE: {"choice": [1e-4, 1e-3]}})
    assert made.sweep is not None
    assert target_of(made, made.sweep) == "finetune"
    without = made.model_copy(update={"finetuning": None})
    assert target_of(without, made.sweep) == "pretrain"
    with pytest.raises(UserError, match=r"sweep.target: finetune"):
        target_of(without, made.sweep.model_copy(update={"target": "finetune"}))


def test_grids_multiply() -> None:
    made = experiment({RATE: {"grid": [1e-4, 1e-3]}, "seed": {"grid": [1, 2, 3]}}, trials=2)
    assert made.sweep is not None
    assert points(made.sweep) == 12
