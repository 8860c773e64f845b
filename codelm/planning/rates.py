"""How fast the stages are: measured by us, or by an earlier run, and what devices can do by their data sheets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from codelm.errors import UserError
from codelm.run_dir import DIRECTORIES, Manifest, RunDir
from codelm.training.throughput import PEAK_BF16, flops_per_token

CORPUS_BYTES_PER_CORE = {"codeparrot": 12.35e6, "codelm": 5.96e6, "santacoder": 5.96e6}
"""Bytes read a second on a core, the whole stage (tests/benchmarks/RESULTS.md, "Corpus: the whole stage"). SantaCoder's
heuristics are slower than codelm's alone and its stage has no figure: it is taken for as slow."""
PROGRAMS_PER_CORE = 142.0
"""Judged in full isolation a second, by the slowest of the runs there (RESULTS.md, "Sandbox")."""
TOKENS_PER_CORE = 115e3
"""Packed a second: the quickstart's 4.6 million in 20 s on two cores, as the README has it, the start included."""
USUAL_MFU = 0.3
"""Of the peak: SantaCoder reached 29 %, nanoGPT 29 %, torchtitan 33 to 39 %, as they tell."""


@dataclass(frozen=True)
class Rates:
    """Work a second.

    Attributes:
        corpus: bytes of source files that one core reads, filters and deduplicates.
        pack: tokens that one core packs.
        training: FLOP/s of one training device in truth, not at its peak; None where nobody has measured it.
        judging: programs judged on a core.
        origin: where the figures are from.
    """

    corpus: float
    pack: float
    training: float | None
    judging: float
    origin: str


def usual_rates(preset: str) -> Rates:
    """Those of the benchmarks."""
    return Rates(CORPUS_BYTES_PER_CORE[preset], TOKENS_PER_CORE, None, PROGRAMS_PER_CORE, "tests/benchmarks/RESULTS.md")


def device_rate(device: str, mfu: float) -> float:
    """FLOP/s of a device that is used to a share of its published peak.

    Raises:
        UserError: it has no published peak here.
    """
    peaks = {name.lower(): peak for name, peak in PEAK_BF16.items()}
    if device.lower() not in peaks:
        raise UserError(f"--device {device!r}: no published peak is known; the devices are {', '.join(PEAK_BF16)}")
    return peaks[device.lower()] * mfu


def measured_rates(usual: Rates, run: str) -> Rates:
    """The rates of an earlier run, where its stages are finished; else the usual ones.

    Args:
        usual: for what the run has not got.
        run: its directory.

    Raises:
        UserError: no stage of it is finished.
    """
    found = published(RunDir(run))
    if not found:
        raise UserError(f"--measured {run!r}: no stage is finished there; give the run directory of an earlier run")
    return replace(usual, origin=f"{usual.origin} and {run}", **_of_run(found))


def published(run_dir: RunDir) -> dict[str, Manifest]:
    """The finished stages of a run, by name."""
    manifests = {stage: run_dir.manifest(directory) for stage, directory in DIRECTORIES.items()}
    return {stage: manifest for stage, manifest in manifests.items() if manifest is not None}


def _of_run(found: Mapping[str, Manifest]) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    cores = _cores(found)
    if "corpus" in found and cores:
        rates["corpus"] = found["corpus"].metrics["bytes_in"] / found["corpus"].facts["seconds"] / cores
    if "pack" in found and cores:
        tokens = sum(split["tokens"] for split in found["pack"].metrics.values())
        rates["pack"] = tokens / found["pack"].facts["seconds"] / cores
    if "pretrain" in found:
        facts, config = found["pretrain"].facts, found["pretrain"].config
        model = config["model"]
        work = flops_per_token(
            found["pretrain"].metrics["parameters"], model["layers"], model["hidden_size"], config["sequence_length"]
        )
        rates["training"] = facts["tokens_per_second"] * work / facts["workers"]
    return rates


def _cores(found: Mapping[str, Manifest]) -> float:
    """CPUs of the cluster that a run was made on, as its manifests have them; 0 where none does."""
    return max((float(manifest.facts.get("cluster_cpus", 0)) for manifest in found.values()), default=0.0)
