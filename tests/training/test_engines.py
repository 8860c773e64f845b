"""All engines give the same losses, and each goes on from a checkpoint as if nothing had happened."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from codelm.config import Training
from codelm.training.engine import accumulation
from codelm.training.precision import Precision
from tests.training.engine_worker import RECIPE, VOCAB_SIZE, run_engine, work
from tests.training.packed import write_packed

TOLERANCE = 1e-4
"""Nats, in float32 over 50 steps. Sums in another order part by 1e-7 at first; training widens this."""

BF16_TOLERANCE = 0.05
"""Nats over the first steps: bf16 has 8 bits of mantissa, so a loss of 4 is good to about 0.02."""

TWO_WORKERS: dict[str, tuple[Training, Precision]] = {
    "ddp": (Training(engine="torch", workers=2, **RECIPE), "fp32"),
    "fsdp": (Training(engine="torch", fsdp=True, workers=2, **RECIPE), "fp32"),
    **{
        f"zero{stage}": (Training(engine="deepspeed", zero_stage=stage, workers=2, **RECIPE), "fp32")
        for stage in (0, 1, 2, 3)
    },
}
SHORT = {**RECIPE, "steps": 6, "checkpoint_every": 4, "validate_every": 3}
BF16: dict[str, tuple[Training, Precision]] = {
    "ddp-bf16": (Training(engine="torch", workers=2, **SHORT), "bf16"),
    **{
        f"zero{stage}-bf16": (Training(engine="deepspeed", zero_stage=stage, workers=2, **SHORT), "bf16")
        for stage in (1, 3)
    },
}
OTHERS: dict[str, tuple[Training, Precision]] = {
    f"{engine}-{optimizer}": (
        Training(engine=engine, zero_stage=0, workers=2, optimizer=optimizer, **(SHORT | {"precision": "fp32"})),
        "fp32",
    )
    for engine in ("torch", "deepspeed")
    for optimizer in ("adafactor", "muon")
} | {
    # DeepSpeed offloads on CPUs too, from one place in memory to another; what reads and fills its state is the same.
    f"zero{stage}-offloaded": (
        Training(engine="deepspeed", zero_stage=stage, offload_optimizer=True, workers=2, **SHORT),
        "fp32",
    )
    for stage in (1, 3)
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed(tmp_path_factory.mktemp("packed"), vocab_size=VOCAB_SIZE, length=32, train=64, valid=11)


@pytest.fixture(scope="module")
def single(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process of plain torch, with whole batches: the reference."""
    alone = RECIPE | {"micro_batch_size": RECIPE["batch_size"]}
    checkpoints = tmp_path_factory.mktemp("single")
    return run_engine(Training(engine="torch", **alone), data, checkpoints) | {"checkpoints": checkpoints}


@pytest.fixture(scope="module")
def root(data: Path, single: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two workers have trained with each engine."""
    root = tmp_path_factory.mktemp("engines")
    started = single["checkpoints"] / str(RECIPE["checkpoint_every"])
    multiprocessing.spawn(work, (2, root, data, TWO_WORKERS | BF16 | OTHERS, started), nprocs=2)
    return root


def read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = torch.load(path, weights_only=False)
    return result


def losses(result: dict[str, Any], kind: str) -> list[float]:
    values = [getattr(point, kind) for point in result["curve"]]
    return [value for value in values if value is not None]


def test_the_reference_learns(single: dict[str, Any]) -> None:
    assert len(losses(single, "train_loss")) == 50
    measured = losses(single, "validation_loss")
    assert len(measured) == 3
    assert measured[-1] < measured[0] - 1


@pytest.mark.parametrize("name", TWO_WORKERS)
def test_two_workers_have_the_losses_of_one_process(root: Path, single: dict[str, Any], name: str) -> None:
    assert accumulation(TWO_WORKERS[name][0], 2) == 2
    result = read(root / f"{name}.pt")
    for kind in ("train_loss", "validation_loss"):
        assert losses(result, kind) == pytest.approx(losses(single, kind), abs=TOLERANCE), kind


@pytest.mark.parametrize("name", TWO_WORKERS)
def test_two_workers_have_the_gradient_norms_of_one_process(root: Path, single: dict[str, Any], name: str) -> None:
    assert read(root / f"{name}.pt")["norms"] == pytest.approx(single["norms"], rel=1e-2)


@pytest.mark.parametrize("name", TWO_WORKERS)
def test_two_workers_have_the_weights_of_one_process(root: Path, single: dict[str, Any], name: str) -> None:
    weights = read(root / f"{name}.pt")["weights"]
    assert weights.keys() == single["weights"].keys()
    for key, weight in weights.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(
            weight, single["weights"][key], atol=5e-3, rtol=0, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", BF16)
def test_bf16_follows_float32(root: Path, single: dict[str, Any], name: str) -> None:
    result = read(root / f"{name}.pt")
    first = slice(0, RECIPE["warmup_steps"])
    assert losses(result, "train_loss")[first] == pytest.approx(losses(single, "train_loss")[first], abs=BF16_TOLERANCE)
    assert {weight.dtype for weight in result["weights"].values()} == {torch.float32}


@pytest.fixture(scope="module")
def single_by_optimizer(root: Path, data: Path) -> dict[str, dict[str, Any]]:
    """One process of plain torch with each optimizer."""
    alone = SHORT | {"micro_batch_size": SHORT["batch_size"]}
    return {
        name: run_engine(Training(engine="torch", **(alone | {"optimizer": name})), data, root / "alone")
        for name in ("adamw", "adafactor", "muon")
    }


@pytest.mark.parametrize("name", OTHERS)
def test_other_optimizers_and_an_offloaded_one_have_the_losses_of_one_process(
    root: Path, single_by_optimizer: dict[str, dict[str, Any]], name: str
) -> None:
    reference = single_by_optimizer[OTHERS[name][0].optimizer]
    assert losses(read(root / f"{name}.pt"), "train_loss") == pytest.approx(losses(reference, "train_loss"), abs=1e-4)


@pytest.mark.parametrize("name", TWO_WORKERS | BF16 | OTHERS)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(root: Path, name: str) -> None:
    whole, resumed = read(root / f"{name}.pt"), read(root / f"{name}-resumed.pt")
    assert whole["curve"] == resumed["curve"]
    for key, weight in whole["weights"].items():
        assert torch.equal(weight, resumed["weights"][key]), key


@pytest.mark.parametrize("name", TWO_WORKERS)
def test_two_workers_go_on_from_what_one_process_left(root: Path, single: dict[str, Any], name: str) -> None:
    result = read(root / f"{name}-from-one.pt")
    assert result["samples"] == single["samples"]
    assert losses(result, "train_loss") == pytest.approx(losses(single, "train_loss"), abs=TOLERANCE)
    for key, weight in result["weights"].items():
        torch.testing.assert_close(weight, single["weights"][key], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", TWO_WORKERS)
def test_one_process_goes_on_from_what_two_workers_left(
    root: Path, data: Path, single: dict[str, Any], name: str
) -> None:
    alone = RECIPE | {"micro_batch_size": RECIPE["batch_size"]}
    left = root / name / str(RECIPE["checkpoint_every"])
    result = run_engine(Training(engine="torch", **alone), data, root / "unused", left)
    assert result["samples"] == single["samples"] == read(root / f"{name}.pt")["samples"]
    assert result["workers"] == [(1, 2), (RECIPE["checkpoint_every"] + 1, 1)]
    assert losses(result, "train_loss") == pytest.approx(losses(single, "train_loss"), abs=TOLERANCE)
    for key, weight in result["weights"].items():
        torch.testing.assert_close(weight, read(root / f"{name}.pt")["weights"][key], atol=1e-3, rtol=0)
