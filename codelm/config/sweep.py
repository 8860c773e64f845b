"""The section `sweep`: which keys are searched, how, and by what a trial is judged."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from codelm.config.section import PositiveInt, Section

Value = bool | int | float | str
Range = tuple[float, float]
KINDS = ("choice", "grid", "uniform", "loguniform")


class Dimension(Section):
    """The values of one key; exactly one of these."""

    choice: tuple[Value, ...] | None = None
    """Drawn from these."""
    grid: tuple[Value, ...] | None = None
    """Each of these, with each of the other grids' values; `trials` counts how often the grid is gone through."""
    uniform: Range | None = None
    loguniform: Range | None = None
    """Drawn between low and high; evenly on a logarithmic scale for the latter."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}; here are {kinds or 'none'}")
        kind = kinds[0]
        values = getattr(self, kind)
        if not values:
            raise ValueError(f"{kind} is empty")
        if kind in ("uniform", "loguniform") and values[0] > values[1]:
            raise ValueError(f"{kind}: low {values[0]:g} is above high {values[1]:g}")
        if kind == "loguniform" and values[0] <= 0:
            raise ValueError(f"loguniform: low {values[0]:g} has no logarithm; it must be above 0")
        if len(set(values)) == 1:
            raise ValueError(f"{kind} has a single point, {values[0]!r}; set the key to it, or give it a range")
        return self

    @property
    def kind(self) -> str:
        """Which one it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """The values, or low and high."""
        found: tuple[Any, ...] = getattr(self, self.kind)
        return found


class Sweep(Section):
    """A search over the config with Ray Tune; each trial is a fine-tuning or a pretraining with other keys."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted keys of the config, such as `finetuning.training.learning_rate: {loguniform: [1e-5, 1e-4]}`."""
    trials: PositiveInt = 8
    """Draws; with grids, so many times each point of the grid."""
    target: Literal["finetune", "pretrain"] | None = None
    """What a trial is; null takes fine-tuning where the config has that."""
    search: Literal["random", "optuna"] = "random"
    """How values are drawn: independently, or by Optuna's tree-structured Parzen estimator."""
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    """`asha` (Li et al. 2018) stops what is behind at its rungs; `pbt` (Jaderberg et al. 2017) lets what is behind go
    on from a copy of what is ahead, with changed keys; `none` runs all to the end. All compare validation losses."""
    grace_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of its steps that every trial may take: the first rung; for pbt, how often trials are compared."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Of the trials at one of asha's rungs, one in so many goes on to the next, which is so many times as far."""
    metric: str = "validation_loss"
    """What the best trial is best at: `validation_loss`, or `pass@K` on `evaluation.benchmark`, by the stage
    `evaluate`, of the trials that ran to their end."""
    concurrency: PositiveInt | None = None
    """Trials at the same time; null takes as many as the cluster has workers for."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Of a trial that fails; then it is recorded as failed, and the sweep goes on. What diverges is not tried again."""
    alias: str = "best"
    """Of the best model's version in MLflow's registry, under the experiment's name."""
