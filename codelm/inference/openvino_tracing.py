"""Traces a Hugging Face model into an OpenVINO graph with keys and values as states."""

import warnings
from pathlib import Path
from types import MethodType
from typing import Any

import openvino
import torch
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation, apply_moc_transformations
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

ATTENTION = "codelm_openvino"


class _Traceable(torch.nn.Module):
    """The model with its cache as plain tensors: keys and values of each layer in turn."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cache: Any = DynamicCache()
        for keys, values in zip(past[::2], past[1::2], strict=True):
            layer: Any = DynamicLayer()
            layer.keys, layer.values = keys, values
            layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
            cache.layers.append(layer)
        logits = self.model(
            input_ids=input_ids,
            attention_mask=_causal(attention_mask, input_ids.shape[1]),
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        ).logits
        return (logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)))


def _causal(attention_mask: torch.Tensor, new: int) -> torch.Tensor:
    """What is added to attention's scores: batch x 1 x new tokens x all tokens, from shapes that a trace can follow.

    A mask of four axes goes through Transformers' models as it is.
    """
    total = attention_mask.shape[1]
    seen = torch.ones(total, total, dtype=torch.bool).tril()[total - new :]
    allowed = seen[None, None] & attention_mask[:, None, None, :].bool()
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as `AttentionInterface` has it; tensors are batch x heads x tokens x size of a head."""
    groups = query.shape[1] // key.shape[1]
    out = scaled_dot_product_attention(
        query, _repeated(key, groups), _repeated(value, groups), attn_mask=attention_mask, scale=scaling
    )
    return out.transpose(1, 2).contiguous(), None


def _repeated(tensor: torch.Tensor, groups: int) -> torch.Tensor:
    """Each key or value head once for each query head that shares it."""
    if groups == 1:
        return tensor
    batch, heads, tokens, size = tensor.shape
    return tensor[:, :, None].expand(batch, heads, groups, tokens, size).reshape(batch, heads * groups, tokens, size)


def _attend_neo(
    self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """GPT-Neo's attention, which is not scaled. Its local window is set where the graph is paged."""
    return scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=1.0), None


def load(model_dir: Path) -> PreTrainedModel:
    """A model in float32 whose attention can be traced."""
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager")
    AttentionInterface.register(ATTENTION, _attend)
    model.config._attn_implementation = ATTENTION
    if model.config.model_type == "gpt_neo":
        for block in model.transformer.h:
            attention = block.attn.attention
            attention._attn = MethodType(_attend_neo, attention)
    return model.eval()


def traced(model: PreTrainedModel) -> openvino.Model:
    """The graph, with states; its inputs are input_ids, attention_mask, position_ids and beam_idx."""
    config: Any = model.config
    heads, size = _cache_shape(config)
    layers: int = config.num_hidden_layers
    past = [torch.zeros(2, heads, 3, size) for _ in range(2 * layers)]
    ones = torch.ones(2, 8, dtype=torch.long)
    example = (ones[:, :5], ones, torch.arange(3, 8).expand(2, 5).contiguous(), *past)
    # Not `openvino.convert_model`: it reports its use to Intel.
    front_end = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trace is checked by its results
        decoder = TorchScriptPythonDecoder(_Traceable(model), example_input=example)
        graph: openvino.Model = openvino.Model(front_end.convert(front_end.load(decoder)))
    apply_moc_transformations(graph, cf=False)
    states = [f"past.{number}" for number in range(2 * layers)]
    for number, name in enumerate(["input_ids", "attention_mask", "position_ids", *states]):
        node = graph.inputs[number].get_node()
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
        node.set_element_type(openvino.Type.i64 if number < 3 else openvino.Type.f32)
        node.set_partial_shape(openvino.PartialShape([-1, -1] if number < 3 else [-1, heads, -1, size]))
    for port, name in zip(graph.outputs, ["logits", *(f"new.{state}" for state in states)], strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()
    _make_stateful(graph, states, heads, size)
    return graph


def _cache_shape(config: Any) -> tuple[int, int]:
    """Key and value heads, and the size of one."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if getattr(config, "multi_query", False):
        heads = 1
    return heads, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _make_stateful(graph: openvino.Model, states: list[str], heads: int, size: int) -> None:
    """Keys and values as states, empty at first, in the order that `beam_idx` gives."""
    first = opset13.constant(0, openvino.Type.i64)
    beams = opset13.parameter([-1], openvino.Type.i32, name="beam_idx")
    beams.output(0).get_tensor().set_names({"beam_idx"})
    for name in states:
        node = graph.input(name).get_node()
        users = list(node.output(0).get_target_inputs())
        ordered = opset13.gather(node, beams, first)
        for user in users:
            user.replace_source_output(ordered.output(0))
    graph.add_parameters([beams])
    graph.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(graph, {name: f"new.{name}" for name in states})
    ids = opset13.shape_of(graph.input("input_ids"), output_type="i64")
    batch = opset13.gather(ids, opset13.constant([0], openvino.Type.i64), first)
    shape = opset13.concat([batch, opset13.constant([heads, 0, size], openvino.Type.i64)], axis=0)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue" and node.get_input_size() == 0:
            node.set_arguments([opset13.broadcast(opset13.constant(0.0, openvino.Type.f32), shape).output(0)])
    graph.validate_nodes_and_infer_types()
