"""How much of what the hardware can do a training uses: model FLOPs utilisation (MFU)."""

import time

import torch

PEAK_BF16 = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "TPU-V7X": 2307e12,
    "TPU-V6E": 918e12,
    "TPU-V5P": 459e12,
    "TPU-V5LITEPOD": 197e12,
    "TPU-V4": 275e12,
}
"""FLOP/s of one device in dense bf16 with sums in float32, as NVIDIA's and Google's data sheets have it; a name that
begins with or contains another one stands before it."""

PUBLISHED, MEASURED = "published", "measured"
"""Where a peak is from."""

MEASURED_SIZE = 1024
MEASURED_SECONDS = 0.1


def flops_per_token(parameters: int, layers: int, width: int, length: int) -> int:
    """Floating-point operations that training takes a token: 6 N + 12 layers * width * length (Chowdhery et al. 2022,
    "PaLM", appendix B): two for each parameter forward and four backward, and attention over `length` places.
    """
    return 6 * parameters + 12 * layers * width * length


def published_peak(name: str) -> float | None:
    """The bf16 peak of a device by its name (of `torch.cuda.get_device_name`, or Ray's of a TPU); None if unknown."""
    return next((peak for known, peak in PEAK_BF16.items() if known.lower() in name.lower()), None)


def peak_flops(device: torch.device, precision: str, name: str | None = None) -> tuple[float, str]:
    """FLOP/s that one worker can reach, and where that is from: published or measured.

    Args:
        device: the worker's; a CPU is measured, with the threads that the process uses.
        precision: bf16 or fp32.
        name: of the device, where torch does not know it.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    peak = published_peak(name) if name is not None and precision == "bf16" else None
    return (measured_peak(device, precision), MEASURED) if peak is None else (peak, PUBLISHED)


def measured_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of the product of two square matrices, the best of those that a tenth of a second allows.

    On a machine that others use it is too low: `codelm.on_ray.meter` measures again and keeps the best.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones((MEASURED_SIZE, MEASURED_SIZE), dtype=dtype, device=device)
    best = 0.0
    end = time.perf_counter() + MEASURED_SECONDS
    first = True
    while first or time.perf_counter() < end:
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        rate = 2 * MEASURED_SIZE**3 / (time.perf_counter() - started)
        best, first = (best if first else max(best, rate)), False  # the first one warms up
    return best or measured_peak(device, precision)
