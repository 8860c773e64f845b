"""The experiment: one YAML file, checked as a whole before anything starts.

`load(path, overrides)` reads a file and applies dotted overrides (`training.learning_rate=3e-4`), the
same for the command line, for jobs and for sweeps. Every model is frozen; an unknown key is an error
that names the nearest valid one.
"""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from codelm.errors import UserError
from codelm.records import BYTE_ALPHABET_SIZE, SPECIAL_TOKENS

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the config: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cluster(Section):
    """The Ray cluster to run on."""

    address: str | None = None
    """`auto` or `host:port` of a running cluster; null starts one on this machine for the run."""
    num_cpus: PositiveInt | None = None
    """Logical CPUs of a cluster started here; null takes the machine's."""
    object_store_mb: Annotated[int, Field(ge=80)] = 512
    """Object store of a cluster started here, in MiB."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator to train on, where the cluster has several: H100, TPU-V6E."""
    tpu_topology: str | None = None
    """The slice to train on, such as 4x4; needed, with accelerator_type, for more than one worker on TPUs."""


class Filters(Section):
    """CodeParrot's heuristics with their published thresholds (its `arguments.py`)."""

    max_line_length: PositiveInt = 1000
    max_mean_line_length: Annotated[float, Field(gt=0)] = 100
    min_alphanumeric_share: Share = 0.25
    min_characters_per_token: Annotated[float, Field(ge=0)] = 1.5
    """Applied only when `tokenizer` names one; CodeParrot used a tokenizer trained before."""
    tokenizer: str | None = None
    """A directory with a `tokenizer.json`, for the characters-per-token filter."""
    drop_probability: Share = 0.7
    """Chance to drop a configuration or test file, and a file without keywords."""
    min_assignments: Annotated[int, Field(ge=0)] = 5
    """A file with fewer "=" is dropped; CodeParrot drops at four or fewer."""


class NearDedup(Section):
    """MinHash-LSH near-deduplication with verified pairs."""

    enabled: bool = True
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Jaccard similarity of shingle sets from which two files are near-duplicates."""
    permutations: Annotated[int, Field(ge=16, le=1024)] = 256
    shingle_words: PositiveInt = 5


class Corpus(Section):
    """Where the source files come from and which of them are kept."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """Directories; `stdlib` stands for the standard library of the interpreter that runs."""
    include: tuple[str, ...] = ("*.py",)
    """File name patterns."""
    max_file_bytes: PositiveInt = 1_048_576
    preset: Literal["codeparrot"] = "codeparrot"
    filters: Filters = Filters()
    near_dedup: NearDedup = NearDedup()
    shards: PositiveInt = 8
    """Parquet files to write."""


class Tokenizer(Section):
    """The byte-level BPE tokenizer."""

    vocab_size: PositiveInt = 32_768
    """Special tokens included."""
    min_frequency: PositiveInt = 2


class Data(Section):
    """How the corpus becomes training sequences."""

    sequence_length: Annotated[int, Field(ge=8)] = 1024
    """Tokens in a sequence."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Share of the files (of their near-duplicate groups) held out."""


class Model(Section):
    """The shape of a model made from scratch."""

    architecture: Literal["llama", "gpt2", "gpt_bigcode"] = "llama"
    hidden_size: PositiveInt = 256
    layers: PositiveInt = 6
    heads: PositiveInt = 8
    kv_heads: PositiveInt = 2
    """Key/value heads (llama); gpt2 has as many as heads, gpt_bigcode has one."""
    intermediate_size: PositiveInt = 688
    max_positions: PositiveInt = 1024
    tie_embeddings: bool = True


class Training(Section):
    """Pretraining: the recipe and the engine."""

    engine: Literal["deepspeed", "torch"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] = 1
    workers: PositiveInt = 1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto`: bf16 where the processor computes in it, else fp32."""
    compile: bool = False
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 64
    """Sequences in one optimizer step, over all workers."""
    micro_batch_size: PositiveInt = 8
    """Sequences in one forward pass of one worker; the rest is accumulated."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    min_learning_rate_share: Share = 0.1
    """The cosine ends at this share of the peak."""
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
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts after a lost worker before the run gives up."""


class Evaluation(Section):
    """Samples for a benchmark, and how they are judged."""

    benchmark: Literal["humaneval"] = "humaneval"
    problems: PositiveInt | None = None
    """The first so many problems; null for all."""
    samples: PositiveInt = 20
    """Samples a problem."""
    temperature: Annotated[float, Field(ge=0)] = 0.2
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_new_tokens: PositiveInt = 256
    batch_size: PositiveInt = 32
    """Samples generated together."""
    k: tuple[PositiveInt, ...] = (1,)
    timeout_seconds: Annotated[float, Field(gt=0)] = 3.0
    memory_mb: PositiveInt = 1024
    """Address space of one judged program, in MiB."""
    engine: Literal["transformers"] = "transformers"


class Serving(Section):
    """The completion endpoint."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(gt=0, lt=65536)] = 8000
    engine: Literal["transformers"] = "transformers"
    replicas: PositiveInt = 1
    max_ongoing_requests: PositiveInt = 16
    max_queued_requests: PositiveInt = 64
    max_prompt_tokens: PositiveInt | None = None
    """null takes the model's positions."""


class Tracking(Section):
    """MLflow."""

    uri: str | None = None
    """A server's address; null takes MLFLOW_TRACKING_URI, and else an SQLite file in the run directory."""
    experiment: str | None = None
    """null takes the experiment's name."""


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
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _check_combinations(self) -> "Experiment":
        problems = list(_impossible_combinations(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _impossible_combinations(experiment: Experiment) -> Iterator[str]:
    training, model, data = experiment.training, experiment.model, experiment.data
    per_pass = training.workers * training.micro_batch_size
    if training.batch_size % per_pass:
        yield (
            f"training.batch_size: {training.batch_size} is not divisible by workers x micro_batch_size = "
            f"{training.workers} x {training.micro_batch_size} = {per_pass}; take a multiple of {per_pass}"
        )
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
    if training.warmup_steps >= training.steps:
        yield (
            f"training.warmup_steps: {training.warmup_steps} leaves nothing of training.steps = "
            f"{training.steps}; lower the first"
        )
    too_large = [k for k in experiment.evaluation.k if k > experiment.evaluation.samples]
    if too_large:
        yield (
            f"evaluation.k: pass@{too_large[0]} needs {too_large[0]} samples a problem, but "
            f"evaluation.samples = {experiment.evaluation.samples}"
        )


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
    except OmegaConfBaseException as error:
        raise UserError(f"cannot apply overrides {overrides} to {str(path)!r}: {error}") from error
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
        valid = valid_keys()
        near = difflib.get_close_matches(key, valid, n=1) or difflib.get_close_matches(
            key.rpartition(".")[2], [name for name in valid if name.rpartition(".")[0] == key.rpartition(".")[0]], n=1
        )
        hint = f"did you mean {near[0]}?" if near else "`codelm show-config` lists the valid keys"
        return [f"{key}: unknown key; {hint}"]
    if detail["type"] == "missing":
        return [f"{key}: missing; it has no default"]
    if detail["type"] == "value_error" and not key:
        return str(detail["ctx"]["error"]).splitlines()
    return [f"{key}: {detail['input']!r} is wrong: {detail['msg']}"]


def valid_keys(model: type[BaseModel] = Experiment, prefix: str = "") -> list[str]:
    """Every dotted key of the config, sections included."""
    keys = []
    for name, info in model.model_fields.items():
        keys.append(f"{prefix}{name}")
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys.extend(valid_keys(info.annotation, f"{prefix}{name}."))
    return keys


def to_yaml(experiment: Experiment) -> str:
    """The whole config, defaults included, as YAML that `load` reads back to an equal experiment."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
