"""The section `finetuning`: a model, prompts with solutions, and the recipe."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from codelm.config.presets import read
from codelm.config.section import PositiveInt, Section
from codelm.config.training import Training

FinetuningPreset = Literal["gpt-cc-apps-125m", "gpt-cc-apps-1.3b"]
DEFAULTS: dict[str, Any] = {
    "batch_size": 32,
    "micro_batch_size": 8,
    "learning_rate": 5e-5,
    "schedule": "linear",
    "min_learning_rate_share": 0.0,
    "warmup_steps": 0,
    "beta2": 0.98,
}
"""Of `finetuning.training`, where they are not those of `training`: GPT-CC's betas and schedule, a smaller batch."""


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021) by `peft`; the exported model has the adapters merged into its weights."""

    rank: PositiveInt = 8
    alpha: PositiveInt = 16
    """The adapters' product is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Ends of the paths of the layers that are adapted; `all-linear` is all but the output layer."""


class Functions(Section):
    """Which functions of the corpus become examples: signature and docstring -> body."""

    min_docstring: PositiveInt = 30
    max_docstring: PositiveInt = 1500
    """Characters of the docstring."""
    min_body_lines: PositiveInt = 1
    max_body_lines: PositiveInt = 40
    """Lines of the body that are not blank, without the docstring."""
    decontaminate: tuple[str, ...] = ("humaneval",)
    """Benchmarks whose texts drop a function; as `corpus.decontaminate`."""


class Finetuning(Section):
    """Training of a pretrained model on prompts and solutions, with the loss on solutions alone."""

    preset: FinetuningPreset | None = None
    """Gives the defaults of this section (`codelm/config/recipes/NAME.yaml`)."""
    model: str | None = None
    """A directory, or a name on the Hugging Face hub; null takes the model that this run has trained and exported."""
    data: Literal["apps", "jsonl", "functions"]
    """`apps`: problems in APPS' format; `jsonl`: lines with `prompt` and `completion`; `functions`: of this run's
    corpus."""
    source: str | None = None
    """For apps a file, a directory as hendrycks/apps publishes it, or a data set (null: APPS' training split on the
    hub); for jsonl the file."""
    difficulties: tuple[str, ...] | None = None
    """Of the problems wanted, as APPS names them; null for all."""
    solutions: PositiveInt | None = None
    """At most so many of a problem's solutions, drawn by the seed; null takes all."""
    functions: Functions = Functions()
    sequence_length: Annotated[int, Field(ge=8)] = 1024
    """Tokens in a sequence; several examples share one, isolated from each other, and none is cut in two."""
    long: Literal["drop", "cut_prompt"] = "drop"
    """An example longer than a sequence is dropped; or its prompt loses its beginning, if half a sequence or more is
    left for the prompt. A solution is never cut. Both are counted, and the examples named in `dropped.jsonl`."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the problems (of the files' near-duplicate groups, for functions) held out."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the examples; sets `training.steps`, which counts where this is null."""
    lora: Lora | None = None
    """null trains all weights."""
    training: Training = Field(default_factory=lambda: Training(**DEFAULTS))
    """The recipe, with the keys of the section `training`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = read(given.get("preset"), "recipes").get("finetuning", {})
        filled = {**preset, **given}
        for key, defaults in (("training", {**DEFAULTS, **preset.get("training", {})}), ("lora", preset.get("lora"))):
            own = given.get(key)
            if isinstance(own, dict) or (key == "training" and own is None):
                filled[key] = {**(defaults or {}), **(own or {})}
        return filled

    @field_validator("training")
    @classmethod
    def _no_pretraining_preset(cls, given: Training) -> Training:
        if given.preset is not None:
            raise ValueError("preset is a recipe of pretraining; finetuning.preset names those of fine-tuning")
        return given
