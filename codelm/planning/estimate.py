"""The arithmetic of a plan: work by the config, time by rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from codelm.config import Experiment, Training
from codelm.evaluation.benchmarks.catalogue import FEW_PROBLEMS
from codelm.modeling.build import count_parameters, model_config
from codelm.planning.problems import problem_count
from codelm.planning.rates import Rates
from codelm.run_dir import Manifest
from codelm.training.throughput import flops_per_token
from codelm.tuning.space import points, target_of

BYTES_PER_TOKEN = 3.2
"""Of source text with a vocabulary of some thousands (quickstart: 3.24); larger vocabularies reach about 4."""
TOKEN_BYTES = {True: 2, False: 4}
"""Of a packed token, by whether the vocabulary has at most 65,536 entries."""
SMALL_VOCABULARY = 1 << 16
WEIGHT_BYTES = {"bf16": 2, "fp32": 4}
STATE_BYTES = 12
"""A parameter's float32 weight and AdamW's two moments, which a checkpoint holds; bf16 weights come on top."""
KEPT_SHARE = 0.5
"""Of a corpus that is left after filters and deduplication (quickstart: 48 %)."""
PARQUET_SHARE = 0.26
"""Of the kept text's bytes that the corpus takes as compressed Parquet (quickstart: 3.9 of 15.1 MB)."""


@dataclass(frozen=True)
class Machines:
    """What a run is given.

    Attributes:
        cores: of CPUs, for all stages but training.
        devices: that train.
    """

    cores: float
    devices: int


@dataclass(frozen=True)
class Row:
    """One stage of a plan.

    Attributes:
        stage: its name.
        work: in words.
        seconds: that it will take; None where its rate is not known.
        took: that it took in truth; None where it is not finished.
    """

    stage: str
    work: str
    seconds: float | None
    took: float | None

    @property
    def ratio(self) -> float | None:
        """Truth by plan."""
        return self.took / self.seconds if self.took is not None and self.seconds else None


@dataclass(frozen=True)
class Plan:
    """The stages, and bytes in the run directory by what they are."""

    rows: tuple[Row, ...]
    storage: dict[str, float]


def plan(
    experiment: Experiment,
    rates: Rates,
    machines: Machines,
    corpus_bytes: float | None,
    done: Mapping[str, Manifest],
) -> Plan:
    """What an experiment will take.

    Args:
        experiment: the whole config.
        rates: work a second.
        machines: that do it.
        corpus_bytes: of source files; None where it is not known, and not in `done`.
        done: the finished stages of the run, for what is known by now and for what it took.
    """
    if "corpus" in done:
        corpus_bytes = done["corpus"].metrics["bytes_in"]

    def row(stage: str, work: str, seconds: float | None) -> Row:
        return Row(stage, work, seconds, done[stage].facts["seconds"] if stage in done else None)

    rows = []
    if corpus_bytes is not None:
        seconds = corpus_bytes / (rates.corpus * machines.cores)
        rows.append(row("corpus", f"{corpus_bytes / 1e9:,.3g} GB of source files", seconds))
        kept = corpus_tokens(corpus_bytes, done)
        rows.append(row("pack", f"{kept:,.3g} tokens", kept / (rates.pack * machines.cores)))
    parameters = count_parameters(model_config(experiment.model, experiment.tokenizer.vocab_size))

    def trained(stage: str, recipe: Training, length: int, times: int = 1) -> Row:
        tokens = recipe.steps * recipe.batch_size * length
        flops = (
            times * tokens * flops_per_token(parameters, experiment.model.layers, experiment.model.hidden_size, length)
        )
        each = f"{times} x " if times > 1 else ""
        work = f"{each}{parameters:,} parameters x {tokens:,} tokens = {flops:.3g} FLOPs"
        return row(stage, work, flops / (rates.training * machines.devices) if rates.training else None)

    tuned, searched, length = experiment.finetuning, experiment.sweep, experiment.data.sequence_length
    if tuned is None or tuned.model is None:
        rows.append(trained("pretrain", experiment.training, length))
    if tuned is not None and tuned.model is None:
        rows.append(trained("finetune", tuned.training, tuned.sequence_length))
    if searched is not None and target_of(experiment, searched) == "pretrain":
        rows.append(trained("sweep", experiment.training, length, points(searched)))
    elif searched is not None and tuned is not None and tuned.model is None:
        rows.append(trained("sweep", tuned.training, tuned.sequence_length, points(searched)))
    programs = evaluation_programs(experiment)
    if programs is not None:
        # Generating is left out: its rate is that of an engine on a device, which nobody has measured here.
        judging = programs / (rates.judging * machines.cores)
        rows.append(Row("judging", f"{programs:,} programs", judging, _judging_seconds(done)))
    return Plan(tuple(rows), storage(experiment, parameters, corpus_bytes, done))


def corpus_tokens(corpus_bytes: float, done: Mapping[str, Manifest]) -> float:
    """Tokens of a corpus, after filters: counted where it is packed, else by the usual shares."""
    if "pack" in done:
        return float(sum(done["pack"].metrics[split]["tokens"] for split in ("train", "valid")))
    kept = done["corpus"].metrics["bytes_kept"] if "corpus" in done else corpus_bytes * KEPT_SHARE
    return float(kept / BYTES_PER_TOKEN)


def evaluation_programs(experiment: Experiment) -> int | None:
    """Programs that are judged at most: samples of all problems and temperatures, and the benchmark's own solutions.

    None where nobody knows how many problems there are.
    """
    evaluation = experiment.evaluation
    count = problem_count(evaluation, experiment.seed)
    chosen = min((number for number in (count, evaluation.problems) if number is not None), default=None)
    if chosen is None:
        return None
    own = count if count is not None and count <= FEW_PROBLEMS else chosen
    return chosen * evaluation.samples * len(evaluation.temperatures) + own


def storage(
    experiment: Experiment, parameters: int, corpus_bytes: float | None, done: Mapping[str, Manifest]
) -> dict[str, float]:
    """Bytes in the run directory at most, by what they are."""
    training = experiment.training
    precision = "fp32" if training.precision == "fp32" else "bf16"
    state = parameters * (STATE_BYTES + (WEIGHT_BYTES["bf16"] if precision == "bf16" else 0))
    sizes = {
        # One more than are kept: the oldest goes when the newest is whole.
        "checkpoints": float(state * (training.keep_checkpoints + 1)),
        "weights and model": float(2 * 4 * parameters),
    }
    if corpus_bytes is not None:
        small = experiment.tokenizer.vocab_size <= SMALL_VOCABULARY
        sizes["packed tokens"] = TOKEN_BYTES[small] * corpus_tokens(corpus_bytes, done)
        sizes["corpus"] = corpus_bytes * KEPT_SHARE * PARQUET_SHARE
    return sizes


def _judging_seconds(done: Mapping[str, Manifest]) -> float | None:
    facts = done["evaluate"].facts if "evaluate" in done else {}
    laps = [facts[name] for name in ("canonical_seconds", "judge_seconds") if name in facts]
    return sum(laps) if laps else None


def in_words(seconds: float) -> str:
    """`48 s`, `12 min`, `3.4 h`, `12 days`."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h"), (math.inf, 86400, "days")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    raise AssertionError
