"""Graphs with their weights in fewer bytes: narrow initializers, and a few nodes behind them that make them float32.

Engines compute these nodes once, when they load a graph, so that it runs as before.  Wider numbers lie in planes, all
high bytes before all low ones: compressors do better on planes than on bytes that take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

Array = npt.NDArray[Any]
#: Smaller arrays are left as they are: the nodes cost as much.
_FEWEST = 256
_LARGEST_FLOAT16 = 65504


class _Writer:
    """Collects initializers and nodes."""

    def __init__(self) -> None:
        self.weights: dict[str, TensorProto] = {}
        self.nodes: list[NodeProto] = []

    def weight(self, name: str, array: Array) -> str:
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(self, operator: str, inputs: list[str], output: str) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output))
        return output

    def cast(self, source: str, output: str, kind: str = "FLOAT") -> str:
        from onnx import TensorProto, helper

        self.node("Cast", [source], output)
        self.nodes[-1].attribute.append(helper.make_attribute("to", getattr(TensorProto, kind)))
        return output


def narrow_integers(model: bytes) -> bytes:
    """An exact graph whose weights are int8 where they fit, else planes of their high and low bytes:
    w = 256 high + low.

    Weights that are no integers within 16 bits stay float32.
    """
    return _rewritten(model, _write_integers)


def halve_floats(model: bytes) -> bytes:
    """A float graph with its kernels and matrices rounded to float16, to nearest even; vectors stay float32.

    They lie in planes: the low byte counts steps from the number that has the same high byte and 0 below, and both are
    looked up by the high byte.
    """
    return _rewritten(model, _write_halves)


def _write_integers(writer: _Writer, name: str, weight: Array) -> bool:
    whole = np.rint(weight)
    if weight.size < _FEWEST or not np.array_equal(whole, weight) or float(np.abs(whole).max()) >= 2**15:
        return False
    integers = whole.astype(np.int16)
    if int(integers.min()) >= -(2**7) and int(integers.max()) < 2**7:
        writer.cast(writer.weight(f"{name}.int8", integers.astype(np.int8)), name)
        return True
    high = writer.cast(writer.weight(f"{name}.high", (integers >> 8).astype(np.int8)), f"{name}.high.cast")
    low = writer.cast(writer.weight(f"{name}.low", (integers & 255).astype(np.uint8)), f"{name}.low.cast")
    scaled = writer.node("Mul", [high, writer.weight("plane", np.array(256, np.float32))], f"{name}.high.scaled")
    writer.node("Add", [scaled, low], name)
    return True


def _write_halves(writer: _Writer, name: str, weight: Array) -> bool:
    if weight.size < _FEWEST or weight.ndim < 2 or float(np.abs(weight).max()) > _LARGEST_FLOAT16:
        return False
    bits = np.ascontiguousarray(weight, np.float32).astype(np.float16).view(np.uint16)
    highs = np.arange(256, dtype=np.uint16) << 8
    highs[highs & 0x7C00 == 0x7C00] = 0  # no weight's: infinities, and what is no number
    starts, nexts = (pattern.view(np.float16).astype(np.float32) for pattern in (highs, highs + np.uint16(1)))
    high = writer.cast(writer.weight(f"{name}.high", (bits >> 8).astype(np.uint8)), f"{name}.high.cast", "INT32")
    low = writer.cast(writer.weight(f"{name}.low", (bits & 255).astype(np.uint8)), f"{name}.low.cast")
    start, step = (
        writer.node("Gather", [writer.weight(f"half.{part}", table), high], f"{name}.{part}")
        for part, table in (("start", starts), ("step", nexts - starts))
    )
    writer.node("Add", [start, writer.node("Mul", [step, low], f"{name}.above")], name)
    return True


def _rewritten(data: bytes, write: Callable[[_Writer, str, Array], bool]) -> bytes:
    from onnx import load_model_from_string, numpy_helper

    model = load_model_from_string(data)
    graph, writer = model.graph, _Writer()
    kept = []
    for tensor in graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.dtype != np.float32 or not write(writer, tensor.name, weight):
            kept.append(tensor)
    nodes = [*writer.nodes, *graph.node]
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend([*kept, *writer.weights.values()])
    graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result
