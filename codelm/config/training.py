"""The section `training`: the recipe and the engine."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from codelm.config.presets import RecipePreset, filled
from codelm.config.section import PositiveInt, Section, Share


class Training(Section):
    """Pretraining: the recipe and the engine."""

    preset: RecipePreset | None = None
    """Gives the defaults of this section and of `data`: the recipe that was published with a model."""
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] = 1
    offload_optimizer: bool = False
    """For DeepSpeed's ZeRO on GPUs: the optimizer's state is in the host's memory, and its step on the CPU."""
    fsdp: bool = False
    """For engine torch: spread weights, gradients and the optimizer's state over the workers (FSDP2), not copies."""
    workers: PositiveInt = 1
    """A run that was interrupted may go on with another number."""
    min_workers: PositiveInt | None = None
    """Where the cluster has too few resources for all workers, or loses some, train with as few as these (Ray Train's
    elastic workers), and with more when there are. null always takes all."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto`: bf16 where the processor computes in it, else fp32."""
    compile: bool = False
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 64
    """Sequences in one optimizer step, over all workers."""
    micro_batch_size: PositiveInt = 8
    """Sequences in one forward pass of one worker; the rest is accumulated."""
    gradient_checkpointing: bool = False
    """Keep each layer's input alone and compute the rest again on the way back: less memory, a third more time."""
    optimizer: Literal["adamw", "adafactor", "muon"] = "adamw"
    """`muon` updates the layers' matrices and AdamW the rest, at one learning rate; `adafactor`'s learning rate is
    relative to the size of each matrix. DeepSpeed's ZeRO spreads flat pieces of the parameters, of which neither can
    be computed: they need engine torch, or zero_stage 0 in fp32."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """At its peak."""
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    """After the warm-up; `wsd` keeps the peak until the last `decay_share` of the steps."""
    min_learning_rate_share: Share = 0.1
    """The schedule ends at this share of the peak: 0.1 is GPT-3's cosine, 0 goes down to zero."""
    decay_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """For `wsd`."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.95
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    log_every: PositiveInt = 10
    validate_every: PositiveInt = 100
    validation_sequences: PositiveInt = 64
    """At most so many sequences of the validation split each time."""
    checkpoint_every: PositiveInt = 100
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Two at least: where the last one is damaged, the one before it is used."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts after a lost worker before the run gives up."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        return filled(given.get("preset"), "training", given) if isinstance(given, dict) else given


def impossible_engine(key: str, training: Training) -> Iterator[str]:
    """What the engine of a recipe cannot do.

    Args:
        key: of the section that the recipe stands in.
        training: the recipe.
    """
    if training.offload_optimizer and (training.engine != "deepspeed" or not training.zero_stage):
        yield f"{key}.offload_optimizer: is for {key}.engine deepspeed with {key}.zero_stage 1, 2 or 3; set it to false"
    if training.fsdp and training.engine != "torch":
        yield f"{key}.fsdp: is for {key}.engine torch; for deepspeed set {key}.zero_stage: 3, which does the same"
    if training.fsdp and training.optimizer != "adamw":
        yield f"{key}.optimizer: {training.optimizer} works on whole matrices, and {key}.fsdp cuts them; set adamw"
    low = training.workers if training.min_workers is None else training.min_workers
    if low > training.workers:
        yield f"{key}.min_workers: {low} is more than {key}.workers = {training.workers}; lower it"
    for workers in range(low, training.workers + 1):
        per_pass = workers * training.micro_batch_size
        if training.batch_size % per_pass:
            yield (
                f"{key}.batch_size: {training.batch_size} is not divisible by workers x micro_batch_size = "
                f"{workers} x {training.micro_batch_size} = {per_pass}; take a multiple of {per_pass}"
            )
