"""PyTorch: runs the bundle's own .onnx graphs, node by node.

The graphs, not the original modules, are the contract of a bundle; executing the very same file on PyTorch's kernels
makes PyTorch one more engine to hold the others against, and needs no weights beside the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from s2c_deploy.arrays import FloatArray
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.runner import Runner, TensorSpec
from s2c_deploy.runtime.torch_graph import TorchGraph, use_threads


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
        use_threads(threads)
        self.provider = f"torch {torch.__version__} CPU"
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._graph = TorchGraph(graph, memory_format=self._format)
        self.inputs = tuple(_spec(value) for value in self._graph.inputs)
        self.outputs = tuple(_spec(value) for value in self._graph.outputs)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        # PyTorch takes no negative strides, and warns of arrays that it could write to but must not.
        tensor = torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
        return tensor.contiguous(memory_format=self._format) if tensor.ndim == 4 else tensor

    @torch.inference_mode()
    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        tensors = {name: self._tensor(array) for name, array in inputs.items()}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            outputs = self._graph(tensors)
        return {name: tensor.float().contiguous().numpy() for name, tensor in outputs.items()}


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dims = value.type.tensor_type.shape.dim
    return TensorSpec(name=value.name, shape=tuple(d.dim_value if d.HasField("dim_value") else None for d in dims))
