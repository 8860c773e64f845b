"""Names of the engines that generate text, and of their precisions."""

from typing import Literal

EngineName = Literal["auto", "openvino", "vllm", "transformers"]
"""`auto` is openvino on a CPU, vllm on a GPU where it is installed, and else transformers."""
Precision = Literal["auto", "fp32", "bf16", "int8"]
"""Of an engine's arithmetic: `auto` is bf16 where the device computes with it natively and else fp32; `int8` is fp32
with weights rounded to 8 bits, for engine openvino."""
