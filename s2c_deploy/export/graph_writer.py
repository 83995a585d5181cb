"""A small writer of ONNX graphs, for the entropy networks.

Their graphs are written node by node rather than traced, because the arithmetic of every node is part of the
contract (docs/entropy.md) and because the same weights must give the same bytes whatever versions are installed:
the bytes enter the stream's fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from s2c_deploy.quantize.integer_conv import IntegerConv

#: Opset 17 is the newest that TensorRT 8.6 reads; IR version 8 goes with it.
OPSET, IR_VERSION = 17, 8
Shape = Sequence[int | str]


class GraphWriter:
    """Collects nodes and weights; every method appends nodes and returns the name of their output."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._renamed: dict[str, str] = {}

    def input(self, name: str, shape: Shape) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def output(self, value: str, name: str, shape: Shape) -> None:
        """Renames a value to an output: an Identity node would leave engines two names to choose from."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if n == value else n for n in names]
        self._renamed[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def weight(self, name: str, array: np.ndarray) -> str:
        self._weights[name] = np.ascontiguousarray(array)
        return name

    def node(self, op: str, *inputs: str, **attributes: int | str | list[int]) -> str:
        out = f"{op.lower()}_{len(self._nodes)}"
        names = [self._renamed.get(name, name) for name in inputs]
        self._nodes.append(helper.make_node(op, names, [out], name=out, **attributes))  # type: ignore[arg-type]
        return out

    def clip(self, x: str, low: float, high: float) -> str:
        bounds = [
            self.weight(f"limit_{bound:g}".replace("-", "minus_"), np.array(bound, np.float32)) for bound in (low, high)
        ]
        return self.node("Clip", x, *bounds)

    def per_channel(self, name: str, values: Tensor) -> str:
        return self.weight(name, values.detach().numpy().astype(np.float32).reshape(1, -1, 1, 1))

    def integer_conv(self, layer: IntegerConv, *inputs: str) -> str:
        """Convolutions, their sum, the shift, floor and clip of one IntegerConv."""
        exact = layer.integers()
        acc = ""
        for i, (x, kernel, padding) in enumerate(zip(inputs, exact.weights, layer.padding, strict=True)):
            names = [self.weight(f"{layer.name}.weight_{i}", kernel.detach().numpy().astype(np.float32))]
            if i == 0:
                names.append(self.weight(f"{layer.name}.bias", exact.bias.detach().numpy().astype(np.float32)))
            term = self.node("Conv", x, *names, pads=[padding] * 4, kernel_shape=list(kernel.shape[2:]))
            acc = self.node("Add", acc, term) if acc else term
        return self._requantised(layer, acc)

    def checkerboard_conv(self, layer: IntegerConv, even: str, odd: str) -> str:
        """A 5x5 convolution from anchors to non-anchors, packed: without the taps that are zero, and only where it is
        wanted.

        even, odd: anchors of even rows (they have even columns) and of odd rows, h/2 x w/2 each.  A non-anchor sees the
        anchors of rows of its own parity, an odd number of columns away, through a 3x2 kernel, and the others through a
        2x3 kernel.  What differs between even and odd rows is on which side the near ones lie: hence the pads (top,
        left, bottom, right).
        """
        (kernel,) = layer.integers().weights
        whole = kernel.detach().numpy().astype(np.float32)
        own, other = (
            self.weight(f"{layer.name}.weight_0.{rows}", part)
            for rows, part in (("even", whole[:, :, 0::2, 1::2]), ("odd", whole[:, :, 1::2, 0::2]))
        )
        bias = self.weight(f"{layer.name}.bias", layer.integers().bias.detach().numpy().astype(np.float32))
        halves = []
        for near, far, near_pads, far_pads in (
            (even, odd, [1, 0, 1, 1], [1, 1, 0, 1]),
            (odd, even, [1, 1, 1, 0], [0, 1, 1, 1]),
        ):
            first = self.node("Conv", near, own, bias, pads=near_pads, kernel_shape=[3, 2])
            second = self.node("Conv", far, other, pads=far_pads, kernel_shape=[2, 3])
            halves.append(self.node("Add", first, second))
        return self._requantised(layer, self.node("Concat", *halves, axis=2))

    def _requantised(self, layer: IntegerConv, acc: str) -> str:
        scale = self.per_channel(f"{layer.name}.scale", (-layer.integers().shifts).exp2())
        return self.clip(self.node("Floor", self.node("Mul", acc, scale)), layer.low, layer.high)

    def shrink(self, name: str, y: str, shifts: Tensor, limit: int) -> str:
        """clip(floor(y * 2^-shift + 1/2), -limit, limit)."""
        scaled = self.node("Mul", y, self.per_channel(f"{name}.scale", (-shifts).exp2()))
        half = self.weight("half", np.array(0.5, np.float32))
        return self.clip(self.node("Floor", self.node("Add", scaled, half)), -limit, limit)

    def pixel_shuffle(self, x: str) -> str:
        return self.node("DepthToSpace", x, blocksize=2, mode="CRD")

    def pack(self, x: str, *, parity: int) -> str:
        """Positions whose row + column has this parity: even rows' above odd rows', half as wide."""
        return self.node("Concat", *self.planes(x, parity=parity), axis=2)

    def planes(self, x: str, *, parity: int) -> list[str]:
        """Those of even rows, and those of odd rows."""
        parts = []
        for row, column in ((0, parity), (1, 1 - parity)):
            starts = self.weight(f"start_{row}{column}", np.array([row, column], np.int64))
            ends = self.weight("ends", np.full(2, np.iinfo(np.int32).max, np.int64))
            axes = self.weight("axes", np.array([2, 3], np.int64))
            steps = self.weight("steps", np.array([2, 2], np.int64))
            parts.append(self.node("Slice", x, starts, ends, axes, steps))
        return parts

    def split_channels(self, x: str, sizes: Sequence[int]) -> list[str]:
        outs = [f"split_{len(self._nodes)}_{i}" for i in range(len(sizes))]
        lengths = self.weight("split_" + "_".join(map(str, sizes)), np.array(sizes, np.int64))
        self._nodes.append(helper.make_node("Split", [x, lengths], outs, name=outs[0], axis=1))
        return outs

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            [numpy_helper.from_array(array, name) for name, array in self._weights.items()],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="s2c-deploy",
        )
