"""What a typed FP16 graph computes on an engine that really rounds to FP16, run by ONNX Runtime on a CPU.

ONNX Runtime's CPU provider has few FP16 kernels: it computes such nodes in float32 and drops the casts between
neighbours, so that an FP16 file runs there without ever rounding, and without overflowing.  Its output says nothing
about a GPU's.  Here every node runs in float32 and its result is rounded to FP16 and back by explicit casts, which ONNX
Runtime keeps: sums in float32, activations and weights in FP16, as tensor cores have them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from s2c_deploy.export.precision.typed import FLOAT, HALF, values_of_type

#: Operators that move values without changing them: nothing to round.
MOVES = frozenset(
    ("Concat", "DepthToSpace", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
)


def rounded_graph(typed: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph, float32 outside too, that computes what ``typed`` does with every rounding to FP16 explicit."""
    halves = values_of_type(typed, HALF)
    nodes: list[onnx.NodeProto] = []
    inside = {value.name: f"{value.name}/rounded" for value in typed.graph.input if value.name in halves}
    for name, rounded_name in inside.items():
        nodes += rounding(name, rounded_name)
    for node in typed.graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        from_half = node.input and node.input[0] in halves
        node.input[:] = [inside.get(name, name) for name in node.input]
        if node.op_type == "Cast" and node.output[0] in halves:
            nodes += rounding(node.input[0], node.output[0])
            continue
        if node.op_type == "Cast" and from_half:
            node = helper.make_node("Identity", list(node.input), list(node.output), name=node.name)
        rounded = [] if node.op_type in MOVES else [name for name in node.output if name in halves]
        node.output[:] = [f"{name}/exact" if name in rounded else name for name in node.output]
        nodes.append(node)
        for name in rounded:
            nodes += rounding(f"{name}/exact", name)
    graph = helper.make_graph(
        nodes,
        typed.graph.name,
        [_in_float32(value) for value in typed.graph.input],
        [_in_float32(value) for value in typed.graph.output],
        [_widened(tensor) for tensor in typed.graph.initializer],
    )
    return helper.make_model(graph, opset_imports=list(typed.opset_import), ir_version=typed.ir_version)


def rounding(source: str, target: str) -> list[onnx.NodeProto]:
    """Two casts: target is source rounded to the nearest FP16 value (overflow to infinity), held in float32."""
    half = f"{target}/half"
    return [
        helper.make_node("Cast", [source], [half], name=f"Round/{target}", to=HALF),
        helper.make_node("Cast", [half], [target], name=f"Widen/{target}", to=FLOAT),
    ]


def _in_float32(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto.FromString(value.SerializeToString())
    if value.type.tensor_type.elem_type == HALF:
        value.type.tensor_type.elem_type = FLOAT
    return value


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != HALF:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
