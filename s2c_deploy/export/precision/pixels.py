"""Pixels out of g_s itself: rounding, clipping, layout and uint8 as nodes of the graph.

What an engine on a GPU would send as float32 planes for the CPU to round, it sends as the bytes of the picture: a
quarter of the transfer, and nothing left to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from s2c_deploy.runtime.runner import PIXELS

_SOURCE = "x_hat"


def with_pixels(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy of g_s with a second output, ``pixels``: uint8, batch x H x W x 3, as ``codec.to_pixels`` computes it of
    ``x_hat``; and the operators of the new nodes by name, which all compute in float32."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    (x_hat,) = (value for value in graph.output if value.name == _SOURCE)
    batch, channels, height, width = x_hat.type.tensor_type.shape.dim
    levels = {"levels": 255.0, "lowest": 0.0, "highest": 255.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), f"{PIXELS}/{name}") for name, value in levels.items()
    )
    steps: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
        ("Widen", "Cast", (), {"to": int(TensorProto.FLOAT)}),
        ("Mul", "Mul", ("levels",), {}),
        ("Round", "Round", (), {}),
        ("Clip", "Clip", ("lowest", "highest"), {}),
        ("Transpose", "Transpose", (), {"perm": [0, 2, 3, 1]}),
        ("Cast", "Cast", (), {"to": int(TensorProto.UINT8)}),
    ]
    if x_hat.type.tensor_type.elem_type == TensorProto.FLOAT:
        steps = steps[1:]
    value, added = _SOURCE, {}
    for number, (step, op, constants, attributes) in enumerate(steps, 1):
        name = f"/{PIXELS}/{step}"
        result = PIXELS if number == len(steps) else f"{name}_output"
        inputs = [value, *(f"{PIXELS}/{constant}" for constant in constants)]
        graph.node.append(helper.make_node(op, inputs, [result], name=name, **attributes))
        value, added[name] = result, op
    pixels = graph.output.add(name=PIXELS)
    pixels.type.tensor_type.elem_type = TensorProto.UINT8
    pixels.type.tensor_type.shape.dim.extend([batch, height, width, channels])
    return model, added
