"""Which number format to compute in."""

from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]


def resolve_precision(wanted: Literal["auto", "bf16", "fp32"], device_type: str) -> Precision:
    """What `auto` stands for on this machine; bf16 and fp32 stand for themselves."""
    if wanted != "auto":
        return wanted
    return "bf16" if computes_in_bf16(device_type) else "fp32"


def computes_in_bf16(device_type: str) -> bool:
    """Whether the processor has bf16 arithmetic. Without it a bf16 matrix product is emulated: on a CPU
    with AVX2 alone it was 500 times slower than in float32.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        has = torch.cpu.get_capabilities()
        return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's
    return device_type == "tpu"
