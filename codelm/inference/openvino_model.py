"""A model in OpenVINO's runtime with a paged key/value cache: pieces of many texts in, logits out."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13
from openvino._offline_transformations import paged_attention_transformation

from codelm.inference.sampling import Logits

SLIDING_WINDOW = 10
"""The input of a `PagedAttentionExtension` that says how many tokens it sees; 0 for all."""
LAYER_INPUT = 3
"""Its input with the keys of its layer."""
PRECISIONS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


@dataclass(frozen=True)
class Piece:
    """Tokens of one text that are fed together.

    Attributes:
        tokens: their ids.
        past: tokens of the text before them, whose keys and values are in the cache.
        blocks: of the cache, in the text's order, enough for all of it so far.
    """

    tokens: Sequence[int]
    past: int
    blocks: Sequence[int]


def capabilities() -> frozenset[str]:
    """What this machine's CPU computes with natively: FP32, BF16, INT8 and others."""
    return frozenset(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


class PagedModel:
    """A compiled model and its cache. Not safe for several threads."""

    def __init__(self, exported: Path, precision: str, threads: int | None) -> None:
        """Compile a model of `codelm.inference.openvino_export`.

        Args:
            exported: its directory.
            precision: of the arithmetic, fp32 or bf16; of the cache too.
            threads: None for OMP_NUM_THREADS, which Ray sets for each worker, and without that all cores.
        """
        core = openvino.Core()
        model = core.read_model(exported / "model.xml")
        paged_attention_transformation(model)
        _set_windows(model, json.loads((exported / "model.json").read_text())["windows"])
        _choose_positions(model)
        kind = PRECISIONS[precision]
        for port in model.inputs:
            if "_cache." in port.get_any_name():
                port.get_node().set_element_type(kind)
        model.validate_nodes_and_infer_types()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": kind,
            "KV_CACHE_PRECISION": kind,
            "PERFORMANCE_HINT": "LATENCY",
            # Replicas on one machine would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
            # int8 weights: the activations stay what they are.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        threads = threads or int(os.environ.get("OMP_NUM_THREADS", "0"))
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._caches = [port for port in self._compiled.inputs if "_cache." in port.get_any_name()]
        self._spare = 0
        self.block_size: int = self._caches[0].get_partial_shape()[2].get_length()

    def block_bytes(self) -> int:
        """Memory of one block, of all layers."""
        return sum(self._size(port, 1)[1] for port in self._caches)

    def allocate(self, blocks: int) -> None:
        """Make the cache, with a block to spare. The system hands its memory out as it is first written."""
        self._spare = blocks
        for port in self._caches:
            shape, _ = self._size(port, blocks + 1)
            self._request.set_tensor(port, openvino.Tensor(port.get_element_type(), openvino.Shape(shape)))

    @staticmethod
    def _size(port: Any, blocks: int) -> tuple[list[int], int]:
        shape = [blocks, *(port.get_partial_shape()[axis].get_length() for axis in (1, 2, 3))]
        return shape, int(np.prod(shape)) * port.get_element_type().size

    def forward(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> Logits:
        """Feed pieces.

        Args:
            pieces: at most one of each text.
            wanted: which of all fed tokens, counted through all pieces.

        Returns:
            `len(wanted)` x vocabulary: the logits of what follows each wanted token. Valid until the next call.
        """
        if sum(len(piece.tokens) for piece in pieces) == 1:
            # A product with a single row takes another path, which rounds differently: a text would depend on its
            # company in the last digits. With two rows or more the CPU plugin's results are the same, bit for bit.
            pieces = [*pieces, Piece([0], 0, [self._spare])]
        lengths = [len(piece.tokens) for piece in pieces]
        ends = [piece.past + length for piece, length in zip(pieces, lengths, strict=True)]
        tables = [piece.blocks[: -(-end // self.block_size)] for piece, end in zip(pieces, ends, strict=True)]
        inputs = {
            "input_ids": np.concatenate([piece.tokens for piece in pieces], dtype=np.int64),
            "position_ids": np.concatenate(
                [np.arange(piece.past, end) for piece, end in zip(pieces, ends, strict=True)], dtype=np.int64
            ),
            "past_lens": np.array([piece.past for piece in pieces], np.int32),
            "subsequence_begins": np.cumsum([0, *lengths], dtype=np.int32),
            "block_indices": np.concatenate(tables, dtype=np.int32),
            "block_indices_begins": np.cumsum([0, *map(len, tables)], dtype=np.int32),
            "max_context_len": np.array(max(ends), np.int32),
            # One at least: products with nothing have no shape.
            "wanted": np.array(wanted or [0], np.int64),
        }
        for name, value in inputs.items():
            self._request.set_tensor(name, openvino.Tensor(value))
        self._request.infer()
        logits: Logits = self._request.get_output_tensor(0).data
        return logits.reshape(len(logits), -1)[: len(wanted)]


def _set_windows(model: Any, windows: Sequence[int]) -> None:
    """Let layers with local attention see no more than their window."""
    for node in model.get_ops():
        if node.get_type_name() == "PagedAttentionExtension":
            layer = int(node.input_value(LAYER_INPUT).get_node().get_friendly_name().rpartition(".")[2])
            if windows[layer]:
                window = opset13.constant(windows[layer], openvino.Type.i32)
                node.input(SLIDING_WINDOW).replace_source_output(window.output(0))


def _choose_positions(model: Any) -> None:
    """Compute the logits of wanted positions only: the output layer is a good part of a small model."""
    output = model.get_results()[0].input_value(0).get_node()
    while output.get_type_name() != "MatMul":
        output = output.input_value(0).get_node()
    wanted = opset13.parameter([-1], openvino.Type.i64, name="wanted")
    wanted.output(0).get_tensor().set_names({"wanted"})
    chosen = opset13.gather(output.input_value(0), wanted, opset13.constant(0, openvino.Type.i64))
    output.input(0).replace_source_output(chosen.output(0))
    model.add_parameters([wanted])
