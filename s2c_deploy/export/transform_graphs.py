"""The float transforms g_a, h_a and g_s as ONNX graphs, traced by PyTorch's exporter, gains included.

g_a   x, gain               -> y        y gained, as h_a and the symbols want it
h_a   y, hyper_gain         -> z
g_s   y_hat, inverse_gain   -> x_hat    y_hat in 1/16 steps (inverse_gain holds the 1/16), x_hat unclipped
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from s2c_deploy.export.graph_writer import OPSET
from s2c_deploy.models import S2CModel
from s2c_deploy.models.int8_convs import HIGH, LOW
from s2c_deploy.models.transforms import Synthesis


class _ThenGain(nn.Module):
    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        out: Tensor = self.transform(x) * gain
        return out


class _GainFirst(nn.Module):
    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        out: Tensor = self.transform(x * gain)
        return out


def transform_graphs(model: S2CModel, lighter: Mapping[str, Synthesis]) -> dict[str, onnx.ModelProto]:
    """g_a, h_a and g_s of a model, with dynamic batch, height and width; and lighter versions of g_s by the names of
    their graphs."""
    m, n = model.config.latent_channels, model.config.hyper_channels
    return {
        "g_a": _trace("g_a", _ThenGain(model.g_a), ("x", (1, 3, 128, 192)), ("gain", m), "y"),
        "h_a": _trace("h_a", _ThenGain(model.h_a), ("y", (1, m, 8, 12)), ("hyper_gain", n), "z"),
    } | {
        name: _trace(name, _GainFirst(g_s), ("y_hat", (1, m, 8, 12)), ("inverse_gain", m), "x_hat")
        for name, g_s in {"g_s": model.g_s, **lighter}.items()
    }


def _trace(
    name: str, module: nn.Module, data: tuple[str, tuple[int, ...]], gain: tuple[str, int], output: str
) -> onnx.ModelProto:
    file = io.BytesIO()
    example = (torch.zeros(data[1]), torch.ones(1, gain[1], 1, 1))
    axes = {
        data[0]: {0: "batch", 2: "height", 3: "width"},
        output: {0: "batch", 2: "out_height", 3: "out_width"},
    }
    with warnings.catch_warnings():
        # The TorchScript-based exporter is the one that writes opset 17 natively; the newer one writes 18 and
        # converts down, which TensorRT 8.6 users would have to trust.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module.eval(),
            example,
            file,  # type: ignore[arg-type]
            opset_version=OPSET,
            input_names=[data[0], gain[0]],
            output_names=[output],
            dynamic_axes=axes,
            dynamo=False,
        )
    model = onnx.load_from_string(file.getvalue())
    model.graph.name = name
    _store_bytes(model.graph)
    return model


def _store_bytes(graph: onnx.GraphProto) -> None:
    """Weights that the exporter writes in float32, in front of nodes that round them, become the bytes themselves."""
    if not any(node.op_type == "QuantizeLinear" for node in graph.node):
        return
    known: dict[str, Any] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    known |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    computed = [node for node in graph.node if _compute(node, known)]
    for node in computed:
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    results = [node.output[0] for node in computed if node.output[0] in read]
    graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in results)
    for unread in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(unread)


def _compute(node: onnx.NodeProto, known: dict[str, Any]) -> bool:
    """Adds a node's output to the known values, if it follows from them and is one that weights pass."""
    values: list[Any] = [known.get(name) for name in node.input]
    if any(value is None for value in values):
        return False
    if node.op_type == "Cast":
        known[node.output[0]] = values[0].astype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
    elif node.op_type == "Mul":
        known[node.output[0]] = values[0] * values[1]
    elif node.op_type == "Reshape":
        known[node.output[0]] = values[0].reshape(values[1])
    elif node.op_type == "QuantizeLinear":
        known[node.output[0]] = _rounded(node, *values)
    return node.output[0] in known and node.op_type != "Constant"


def _rounded(node: onnx.NodeProto, weight: Any, scale: Any, zero: Any) -> Any:
    axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
    steps = np.moveaxis(weight, axis, -1) / scale
    return np.moveaxis(np.clip(np.rint(steps), LOW, HIGH), -1, axis).astype(zero.dtype)
