"""PyTorch: runs the bundle's own .onnx graphs, node by node.

The graphs, not the original modules, are the contract of a bundle; executing the very same file on PyTorch's kernels
makes PyTorch one more engine to hold the others against, and needs no weights beside the bundle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.runner import Runner, TensorSpec, cannot_load

#: The process that PyTorch was imported in.
_HOME = os.getpid()
_Attributes = Mapping[str, Any]


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
    "Div": _div,
    "Erf": lambda a, x: torch.erf(x),
    "Floor": lambda a, x: torch.floor(x),
    "Gather": _gather,
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "MatMul": lambda a, x, y: x @ y,
    "Mul": lambda a, x, y: x * y,
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


class TorchRunner(Runner):
    """Runs an .onnx graph on PyTorch's CPU kernels; threads: 0 keeps the process's setting.

    The thread count is the process's: PyTorch has no other.  channels_last: the memory layout of inputs and kernels.
    precision: float32, or bfloat16 by autocast (slow where the processor does not multiply it).
    """

    backend = "torch"

    def __init__(
        self, graph: OnnxGraph, *, threads: int = 0, channels_last: bool = False, precision: str = "float32"
    ) -> None:
        self.precision = precision
        if os.getpid() != _HOME:
            # A fork of the process that had PyTorch's threads: they are not here, and it would wait for them for ever.
            torch.set_num_threads(1)
        elif threads:
            torch.set_num_threads(threads)
        try:
            model = onnx.load_model_from_string(graph.data)
        except Exception as error:
            raise cannot_load(graph.name, "PyTorch", error) from error
        if not model.graph.output:
            raise EngineError(f"PyTorch cannot load {graph.name}: expected a graph, found none")
        unknown = sorted({node.op_type for node in model.graph.node} - set(_OPERATORS))
        if unknown:
            raise EngineError(f"{graph.name}: no PyTorch counterpart of {', '.join(unknown)}")
        self.provider = f"torch {torch.__version__} CPU"
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._weights = {w.name: self._tensor(numpy_helper.to_array(w).copy()) for w in model.graph.initializer}
        self._nodes = [
            (
                _OPERATORS[node.op_type],
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
                list(node.input),
                list(node.output),
            )
            for node in model.graph.node
        ]
        self._dead = _dead_values(model.graph)
        self.inputs = tuple(_spec(value) for value in model.graph.input)
        self.outputs = tuple(_spec(value) for value in model.graph.output)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        # PyTorch takes no negative strides, and warns of arrays that it could write to but must not.
        tensor = torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
        return tensor.contiguous(memory_format=self._format) if tensor.ndim == 4 else tensor

    @torch.inference_mode()
    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        values: dict[str, Any] = dict(self._weights)
        values.update((name, self._tensor(array)) for name, array in inputs.items())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            for (operator, attributes, arguments, results), dead in zip(self._nodes, self._dead, strict=True):
                out = operator(attributes, *(values[name] for name in arguments))
                values.update(zip(results, out, strict=True) if isinstance(out, tuple) else [(results[0], out)])
                for name in dead:
                    del values[name]
        return {spec.name: values[spec.name].float().contiguous().numpy() for spec in self.outputs}


def _dead_values(graph: onnx.GraphProto) -> list[list[str]]:
    """Per node, the values that no later node reads: kept, they would hold every activation at once."""
    keep = {value.name for value in graph.output}
    dead: list[list[str]] = []
    for node in reversed(graph.node):
        names = {name for name in (*node.input, *node.output) if name not in keep}
        keep |= names
        dead.append(sorted(names))
    return dead[::-1]


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dims = value.type.tensor_type.shape.dim
    return TensorSpec(name=value.name, shape=tuple(d.dim_value if d.HasField("dim_value") else None for d in dims))
