"""`codelm plan`: the table of what a run will take, and beside it what it took."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from codelm.config import Experiment
from codelm.errors import UserError
from codelm.planning.estimate import Machines, Plan, Row, in_words, plan
from codelm.planning.rates import USUAL_MFU, device_rate, measured_rates, published, usual_rates
from codelm.run_dir import RunDir

UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}


@dataclass(frozen=True)
class Asked:
    """What was typed.

    Attributes:
        cores: CPUs of the cluster; None for this machine's.
        device: that trains, as its data sheet is called; None for what `measured` trained on.
        count: of those devices.
        mfu: the share of the device's peak that training reaches.
        price: of one device for an hour, in any currency.
        corpus: size of the sources, such as `40GB`.
        measured: the directory of an earlier run to take rates from.
    """

    cores: float | None = None
    device: str | None = None
    count: int | None = None
    mfu: float = USUAL_MFU
    price: float | None = None
    corpus: str | None = None
    measured: str | None = None


def described(experiment: Experiment, asked: Asked) -> str:
    """The plan of an experiment as text; where stages are finished, with what they took.

    Raises:
        UserError: a size, a device or a run directory is wrong.
    """
    rates = usual_rates(experiment.corpus.preset)
    if asked.measured is not None:
        rates = measured_rates(rates, asked.measured)
    if asked.device is not None:
        rates = replace(rates, training=device_rate(asked.device, asked.mfu))
    machines = Machines(asked.cores or os.cpu_count() or 1, asked.count or experiment.training.workers)
    done = published(RunDir(experiment.run_dir))
    size = parsed_size(asked.corpus) if asked.corpus is not None else None
    return "\n".join(_lines(plan(experiment, rates, machines, size, done), experiment, machines, asked, rates.origin))


def _lines(made: Plan, experiment: Experiment, machines: Machines, asked: Asked, origin: str) -> Iterator[str]:
    yield f"on {machines.cores:g} CPUs, {machines.devices} x {asked.device or 'the device of the measured run'}"
    for row in made.rows:
        yield f"  {row.stage:10} {row.work:70} {_time(row)}"
        if row.stage in ("pretrain", "finetune", "sweep") and row.seconds is not None and asked.price is not None:
            hours = row.seconds / 3600 * machines.devices
            yield f"  {'':10} {hours:,.0f} device hours at {asked.price:g} = {hours * asked.price:,.0f}"
    if not any(row.stage == "corpus" for row in made.rows):
        yield "  corpus     of unknown size: give --corpus, such as --corpus 40GB"
    if not any(row.stage == "judging" for row in made.rows):
        yield "  judging    of an unknown number of problems: set evaluation.problems"
    yield f"  storage    {', '.join(f'{name} {size / 1e9:,.3g} GB' for name, size in made.storage.items())}"
    yield f"rates: {origin}" + (f"; {asked.device} at {asked.mfu:.0%} of its published peak" if asked.device else "")
    if any(row.stage == "sweep" for row in made.rows):
        yield "a sweep is planned at most: a scheduler stops trials early"
    if experiment.finetuning is not None and experiment.finetuning.model is not None:
        yield f"left out: training {experiment.finetuning.model}, whose size is known when it is loaded"
    yield "left out: starting workers, waiting for machines, generating samples"


def _time(row: Row) -> str:
    planned = in_words(row.seconds) if row.seconds is not None else "no rate known: give --measured, or --device"
    if row.took is None:
        return planned
    return f"{planned}, took {in_words(row.took)}" + (f" ({row.ratio:.2f} x)" if row.ratio is not None else "")


def parsed_size(text: str) -> float:
    """Bytes of `1TB`, `31.5 MB`, `4e9`.

    Raises:
        UserError: it is no size.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgtp]?)b?\s*", text.lower())
    try:
        return float(found[1]) * UNITS[found[2]] if found is not None else _refuse(text)
    except ValueError:
        return _refuse(text)


def _refuse(text: str) -> float:
    raise UserError(f"--corpus {text!r} is no size; write 31.5MB, 40GB or 1TB")
