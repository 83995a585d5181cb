"""An .onnx graph of a bundle as a function of PyTorch tensors, which gradients can pass.

Every operator that the exporter writes, each as PyTorch computes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from s2c_deploy.errors import EngineError
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.runner import cannot_load

_Attributes = Mapping[str, Any]
#: The process that PyTorch was imported in.
_HOME = os.getpid()


def use_threads(threads: int) -> None:
    """Of the whole process: PyTorch has no other setting.  0 keeps it."""
    if os.getpid() != _HOME:
        # A fork of the process that had PyTorch's threads: they are not here, and it would wait for them for ever.
        torch.set_num_threads(1)
    elif threads:
        torch.set_num_threads(threads)


def _conv(a: _Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(x, weight, bias, stride=a.get("strides", 1), padding=(top, left), groups=a.get("group", 1))


def _conv_transpose(a: _Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise EngineError(f"ConvTranspose: expected symmetric pads, found {a['pads']}")
    return F.conv_transpose2d(
        x,
        weight,
        bias,
        stride=a.get("strides", 1),
        padding=(top, left),
        output_padding=a.get("output_padding", 0),
        groups=a.get("group", 1),
    )


def _slice(
    _a: _Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor | None = None
) -> Tensor:
    index = [slice(None)] * x.ndim
    strides = [1] * len(starts) if steps is None else steps.tolist()
    columns = (starts.tolist(), ends.tolist(), axes.tolist(), strides)
    for start, end, axis, step in zip(*columns, strict=True):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _depth_to_space(a: _Attributes, x: Tensor) -> Tensor:
    if a.get("mode", b"DCR") != b"CRD":
        raise EngineError(f"DepthToSpace: expected mode CRD, found {a.get('mode')}")
    return F.pixel_shuffle(x, a["blocksize"])


def _layer_norm(a: _Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, a.get("epsilon", 1e-5))


def _reshape(_a: _Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _unsqueeze(_a: _Attributes, x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _gather(a: _Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0)
    flat = x.index_select(axis, index.reshape(-1))
    return flat.reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _div(_a: _Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _steps(a: _Attributes, x: Tensor, values: Tensor) -> Tensor:
    """A scale or zero of the whole tensor, or one per position of an axis."""
    if values.ndim == 0:
        return values
    shape = [1] * x.ndim
    shape[a.get("axis", 1)] = -1
    return values.reshape(shape)


def _quantize(a: _Attributes, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    limits = torch.iinfo(zero.dtype)
    steps = torch.round(x / _steps(a, x, scale)) + _steps(a, x, zero)
    return steps.clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(a: _Attributes, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return (x.float() - _steps(a, x, zero)) * _steps(a, x, scale)


#: The operators that the exporter writes, each as PyTorch computes it.
_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, x, y: x + y,
    "Cast": lambda a, x: x.to({onnx.TensorProto.INT64: torch.int64, onnx.TensorProto.FLOAT: torch.float32}[a["to"]]),
    "Clip": lambda a, x, low, high: x.clamp(low, high),
    "Concat": lambda a, *xs: torch.cat(xs, dim=a["axis"]),
    "Constant": lambda a: torch.from_numpy(numpy_helper.to_array(a["value"]).copy()),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": _div,
    "Erf": lambda a, x: torch.erf(x),
    "Floor": lambda a, x: torch.floor(x),
    "Gather": _gather,
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "MatMul": lambda a, x, y: x @ y,
    "Mul": lambda a, x, y: x * y,
    "QuantizeLinear": _quantize,
    "Relu": lambda a, x: torch.relu(x),
    "Reshape": _reshape,
    "Round": lambda a, x: torch.round(x),
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Slice": _slice,
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Split": lambda a, x, sizes: torch.split(x, sizes.tolist(), dim=a.get("axis", 0)),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}


def _straight(exact: Tensor, x: Tensor) -> Tensor:
    return x + (exact - x).detach()


#: Those whose gradient is 0 almost everywhere, with that of the identity.
_STRAIGHT_THROUGH: dict[str, Callable[..., Any]] = {
    "Floor": lambda a, x: _straight(torch.floor(x), x),
    "Round": lambda a, x: _straight(torch.round(x), x),
}


class TorchGraph:
    """A graph, loaded: its weights as tensors, and its nodes in order.

    straight_through: steps and limits have the gradient of the identity, or none outside the limits.
    """

    def __init__(
        self,
        graph: OnnxGraph,
        *,
        memory_format: torch.memory_format = torch.contiguous_format,
        straight_through: bool = False,
    ) -> None:
        try:
            model = onnx.load_model_from_string(graph.data)
        except Exception as error:
            raise cannot_load(graph.name, "PyTorch", error) from error
        if not model.graph.output:
            raise EngineError(f"PyTorch cannot load {graph.name}: expected a graph, found none")
        unknown = sorted({node.op_type for node in model.graph.node} - set(_OPERATORS))
        if unknown:
            raise EngineError(f"{graph.name}: no PyTorch counterpart of {', '.join(unknown)}")
        self._weights = {}
        for weight in model.graph.initializer:
            tensor = torch.from_numpy(numpy_helper.to_array(weight).copy())
            self._weights[weight.name] = tensor.contiguous(memory_format=memory_format) if tensor.ndim == 4 else tensor
        operators = _OPERATORS | _STRAIGHT_THROUGH if straight_through else _OPERATORS
        self._nodes = [
            (
                operators[node.op_type],
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
                list(node.input),
                list(node.output),
            )
            for node in model.graph.node
        ]
        self._dead = _dead_values(model.graph)
        self._results = [value.name for value in model.graph.output]
        self.inputs, self.outputs = list(model.graph.input), list(model.graph.output)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Runs it; inputs and outputs by name."""
        values: dict[str, Any] = {**self._weights, **inputs}
        for (operator, attributes, arguments, results), dead in zip(self._nodes, self._dead, strict=True):
            out = operator(attributes, *(values[name] for name in arguments))
            values.update(zip(results, out, strict=True) if isinstance(out, tuple) else [(results[0], out)])
            for name in dead:
                del values[name]
        return {name: values[name] for name in self._results}


def _dead_values(graph: onnx.GraphProto) -> list[list[str]]:
    """Per node, the values that no later node reads: kept, they would hold every activation at once."""
    keep = {value.name for value in graph.output}
    dead: list[list[str]] = []
    for node in reversed(graph.node):
        names = {name for name in (*node.input, *node.output) if name not in keep}
        keep |= names
        dead.append(sorted(names))
    return dead[::-1]
