"""Graphs with their weights in fewer bytes: narrow initializers, and a few nodes behind them that make them float32.

Engines compute these nodes once, when they load a graph, so that it runs as before.  Integers of more than 8 bits lie
in two planes, all high bytes before all low ones: compressors do better on planes than on bytes that take turns.
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
#: The high plane's largest is 127.
_LARGEST_INTEGER, _LARGEST_FLOAT16 = 127 * 256 + 127, 65504


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

    def cast(self, source: str, output: str) -> str:
        from onnx import TensorProto, helper

        self.node("Cast", [source], output)
        self.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        return output


def narrow_integers(model: bytes) -> bytes:
    """An exact graph whose weights are int8 where they fit, else two planes of int8: w = 256 high + low.

    Weights that are no such integers stay float32.
    """
    return _rewritten(model, _write_integers)


def halve_floats(model: bytes) -> bytes:
    """A float graph with its kernels and matrices rounded to float16, to nearest even; vectors stay float32."""
    return _rewritten(model, _write_halves)


def _write_integers(writer: _Writer, name: str, weight: Array) -> bool:
    whole = np.rint(weight)
    if weight.size < _FEWEST or not np.array_equal(whole, weight) or float(np.abs(whole).max()) > _LARGEST_INTEGER:
        return False
    # Rounded and not cut: the high bytes of most weights are then 0, whatever their sign, and the low ones small.
    high = np.floor((whole + 128) / 256)
    low = whole - 256 * high
    if not high.any():
        writer.cast(writer.weight(f"{name}.int8", low.astype(np.int8)), name)
        return True
    high_plane, low_plane = (
        writer.cast(writer.weight(f"{name}.{part}", plane.astype(np.int8)), f"{name}.{part}.cast")
        for part, plane in (("high", high), ("low", low))
    )
    scaled = writer.node("Mul", [high_plane, writer.weight("plane", np.array(256, np.float32))], f"{name}.scaled")
    writer.node("Add", [scaled, low_plane], name)
    return True


def _write_halves(writer: _Writer, name: str, weight: Array) -> bool:
    if weight.size < _FEWEST or weight.ndim < 2 or float(np.abs(weight).max()) > _LARGEST_FLOAT16:
        return False
    writer.cast(writer.weight(f"{name}.float16", weight.astype(np.float16)), name)
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
