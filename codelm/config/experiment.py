"""The root of the config, and what must hold between its sections."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from codelm.config.corpus import Corpus
from codelm.config.evaluation import Evaluation
from codelm.config.finetuning import Finetuning
from codelm.config.model import Data, Model, Tokenizer
from codelm.config.presets import filled
from codelm.config.running import Cluster, Serving, Tracking
from codelm.config.section import Section
from codelm.config.sweep import Sweep
from codelm.config.training import Training, impossible_engine
from codelm.records import BYTE_ALPHABET_SIZE, SPECIAL_TOKENS


class Experiment(Section):
    """All of one experiment: the root of the config."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    run_dir: str
    """Local path, or s3:// or gs:// URI; the stages are published here."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    cluster: Cluster = Cluster()
    corpus: Corpus
    tokenizer: Tokenizer = Tokenizer()
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    finetuning: Finetuning | None = None
    """null leaves fine-tuning out; else the fine-tuned model is the one that is evaluated and served."""
    sweep: Sweep | None = None
    """null where nothing is searched; `codelm sweep` needs it."""
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    tracking: Tracking = Tracking()

    @property
    def model_stage(self) -> str:
        """The stage whose model is evaluated and served: `finetune` where the config has that, else `export`."""
        return "export" if self.finetuning is None else "finetune"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_presets(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        tree = dict(given)
        for section, chooser in (("tokenizer", "model"), ("data", "training")):
            keys = tree.get(chooser)
            if isinstance(keys, dict):
                tree[section] = filled(keys.get("preset"), section, tree.get(section, {}))
        if isinstance(tree.get("model"), dict) and isinstance(tree["tokenizer"], dict):
            start = filled(tree["model"].get("preset"), "model", tree["model"]).get("pretrained")
            tree["tokenizer"] = {"pretrained": start, **tree["tokenizer"]}
        return tree

    @model_validator(mode="after")
    def _check_combinations(self) -> "Experiment":
        problems = list(_impossible_combinations(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _impossible_combinations(experiment: Experiment) -> Iterator[str]:
    training, model, data = experiment.training, experiment.model, experiment.data
    yield from _impossible_recipe("training", training, training.steps)
    if (section := experiment.finetuning) is not None:
        steps = section.training.steps if section.epochs is None else None
        yield from _impossible_recipe("finetuning.training", section.training, steps)
    if data.sequence_length > model.max_positions:
        yield (
            f"data.sequence_length: {data.sequence_length} is longer than model.max_positions = "
            f"{model.max_positions}; lower the first or raise the second"
        )
    smallest = BYTE_ALPHABET_SIZE + len(SPECIAL_TOKENS)
    if experiment.tokenizer.vocab_size < smallest:
        yield (
            f"tokenizer.vocab_size: {experiment.tokenizer.vocab_size} is below {BYTE_ALPHABET_SIZE} bytes + "
            f"{len(SPECIAL_TOKENS)} special tokens = {smallest}; take at least {smallest}"
        )
    if model.hidden_size % model.heads:
        yield f"model.hidden_size: {model.hidden_size} is not divisible by model.heads = {model.heads}"
    if model.heads % model.kv_heads:
        yield f"model.heads: {model.heads} is not divisible by model.kv_heads = {model.kv_heads}"
    if model.architecture != "gpt2" and (model.scale_attention_by_inverse_layer or model.reorder_and_upcast_attention):
        yield f"model.architecture: {model.architecture} has not got CodeParrot's changes to attention; gpt2 has"
    too_large = [k for k in experiment.evaluation.k if k > experiment.evaluation.samples]
    if too_large:
        yield (
            f"evaluation.k: pass@{too_large[0]} needs {too_large[0]} samples a problem, but "
            f"evaluation.samples = {experiment.evaluation.samples}"
        )


def _impossible_recipe(key: str, training: Training, steps: int | None) -> Iterator[str]:
    """What cannot be in a recipe.

    Args:
        key: of the section that it stands in.
        training: the recipe.
        steps: that it takes; None where these are not known yet.
    """
    yield from impossible_engine(key, training)
    if steps is not None and training.warmup_steps >= steps:
        yield (f"{key}.warmup_steps: {training.warmup_steps} leaves nothing of {key}.steps = {steps}; lower the first")
    if steps is not None and training.schedule == "wsd" and training.warmup_steps > steps * (1 - training.decay_share):
        yield (
            f"{key}.decay_share: {training.decay_share} of {key}.steps = {steps} begins within "
            f"{key}.warmup_steps = {training.warmup_steps}; lower one of them"
        )
    flattens = training.zero_stage > 0 or training.precision != "fp32"
    if training.engine == "deepspeed" and training.optimizer != "adamw" and flattens:
        yield (
            f"{key}.optimizer: {training.optimizer} works on matrices, and DeepSpeed flattens them; set "
            f"{key}.engine: torch, or {key}.zero_stage: 0 with {key}.precision: fp32"
        )
