import pytest
import torch

from codelm.training.throughput import PEAK_BF16, flops_per_token, peak_flops, published_peak


def test_palms_utilisation_is_the_published_one() -> None:
    """46.2 % at 238.3 thousand tokens/s on 6,144 TPU v4 (Chowdhery et al. 2022, table 3): 540.35e9 parameters, 118
    layers, 48 heads of 256, 2,048 tokens.
    """
    flops = flops_per_token(540_350_000_000, 118, 48 * 256, 2048) * 238_300
    assert flops / (6144 * PEAK_BF16["TPU-V4"]) == pytest.approx(0.462, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("TPU-V6E", 918e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_devices_are_told_apart_by_their_names(name: str, peak: float | None) -> None:
    assert published_peak(name) == peak


def test_no_name_hides_another() -> None:
    for place, name in enumerate(PEAK_BF16):
        assert published_peak(name) == PEAK_BF16[name], place


def test_a_cpu_is_measured() -> None:
    peak, source = peak_flops(torch.device("cpu"), "fp32")
    assert source == "measured"
    assert 1e8 < peak < 1e14
