"""Graphs with their weights in fewer bytes: narrow initializers, and casts to float32 behind them.

Engines compute the casts once, when they load a graph, so that it runs as before.  Integers come out as they were;
float weights are rounded to float16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Smaller arrays are left as they are: a node more costs as much.
_FEWEST = 256
_LARGEST_FLOAT16 = 65504


def narrow_integers(model: bytes) -> bytes:
    """An exact graph whose weights are int8 where they fit, else two planes of bytes, of the high and of the low ones:
    w = 256 high + low.  Compressors do better on planes than on bytes that take turns.

    Weights that are no integers within 16 bits stay float32.
    """
    return _rewritten(model, _integer_parts)


def halve_floats(model: bytes) -> bytes:
    """A float graph with its kernels and matrices in float16, rounded to nearest even; vectors stay float32."""
    return _rewritten(model, _half_parts)


def _integer_parts(weight: Array) -> list[Array] | None:
    whole = np.rint(weight)
    if weight.size < _FEWEST or not np.array_equal(whole, weight) or float(np.abs(whole).max()) >= 2**15:
        return None
    integers = whole.astype(np.int16)
    if int(integers.min()) >= -(2**7) and int(integers.max()) < 2**7:
        return [integers.astype(np.int8)]
    return [(integers >> 8).astype(np.int8), (integers & 255).astype(np.uint8)]


def _half_parts(weight: Array) -> list[Array] | None:
    if weight.size < _FEWEST or weight.ndim < 2 or float(np.abs(weight).max()) > _LARGEST_FLOAT16:
        return None
    return [weight.astype(np.float16)]


def _rewritten(data: bytes, parts_of: Callable[[Array], list[Array] | None]) -> bytes:
    from onnx import TensorProto, helper, load_model_from_string, numpy_helper

    model = load_model_from_string(data)
    graph = model.graph
    kept, nodes = [], []
    for tensor in graph.initializer:
        weight = numpy_helper.to_array(tensor)
        parts = parts_of(weight) if weight.dtype == np.float32 else None
        if parts is None:
            kept.append(tensor)
            continue
        name, casts = tensor.name, []
        for number, part in enumerate(parts):
            narrow = f"{name}.{part.dtype.name}"
            kept.append(numpy_helper.from_array(part, narrow))
            casts.append(name if len(parts) == 1 else f"{name}.part_{number}")
            nodes.append(helper.make_node("Cast", [narrow], [casts[-1]], name=f"{narrow}.cast", to=TensorProto.FLOAT))
        if len(parts) > 1:
            nodes.append(helper.make_node("Mul", [casts[0], "plane"], [f"{name}.high"], name=f"{name}.high"))
            nodes.append(helper.make_node("Add", [f"{name}.high", casts[1]], [name], name=f"{name}.whole"))
    if any("plane" in node.input for node in nodes):
        kept.append(numpy_helper.from_array(np.array(256, np.float32), "plane"))
    nodes.extend(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    del graph.value_info[:]
    result: bytes = model.SerializeToString()
    return result
