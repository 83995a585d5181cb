"""What FP16 would do to each node of a float32 graph: how large its values get, and how much it loses by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from s2c_deploy.arrays import FloatArray
from s2c_deploy.export.precision.rounding import MOVES, rounding
from s2c_deploy.export.precision.typed import FLOAT, folded, is_gain, values_of_type
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.onnxruntime_runner import OnnxRuntimeRunner

#: Largest finite FP16 value.
HALF_MAX = 65504.0
#: Room above the largest value seen: other pictures have larger ones.
HEADROOM = 8.0
#: Relative error of one node above which it stays in float32; rounding alone is about 2^-11 = 0.0005.
LOSSY = 0.01
#: Operators that sum over many values of different size, whatever was measured.
REDUCTIONS = frozenset(("LayerNormalization", "Softmax", "ReduceMean", "ReduceSum"))

_LARGEST, _ERROR, _POWER = "|largest", "|error", "|power"


@dataclass(frozen=True, kw_only=True)
class NodeRange:
    """One node on the calibration pictures, in float32."""

    name: str
    op: str
    #: Largest magnitude of what it reads, weights left out, and writes.
    largest: float
    #: What FP16 alone in this node changes, root mean square over that of its outputs; inf on overflow.
    error: float

    @property
    def reason(self) -> str | None:
        """Why it has to stay in float32, by itself; None where FP16 will do."""
        if self.op in REDUCTIONS:
            return "reduction"
        if self.largest * HEADROOM > HALF_MAX or not math.isfinite(self.error):
            return "overflow"
        return "loses" if self.error > LOSSY else None


def node_ranges(
    model: onnx.ModelProto, calls: Sequence[Mapping[str, FloatArray]], *, threads: int = 0
) -> tuple[list[NodeRange], set[str]]:
    """Ranges of all nodes that compute floats, over all calls, and the names of those that multiply by a gain.

    Every node gets a twin in the same graph that reads the same float32 values, rounded to FP16.
    """
    source = folded(model)
    floats = values_of_type(source, FLOAT)
    weights = {tensor.name for tensor in source.graph.initializer}
    probe = _with_twins(source, floats)
    totals: dict[str, float] = {}
    with OnnxRuntimeRunner(OnnxGraph(name="probe.onnx", data=probe.SerializeToString()), threads=threads) as run:
        for call in calls:
            for name, value in run(call).items():
                before = totals.get(name, 0.0)
                found = float(value) if np.isfinite(value) else math.inf
                totals[name] = max(before, found) if name.endswith(_LARGEST) else before + found
    ranges, gains = [], set()
    for node in source.graph.node:
        values = [v for v in (*node.input, *node.output) if v in floats and v not in weights and not is_gain(v)]
        if not any(v in floats for v in node.output):
            continue
        if any(is_gain(v) for v in node.input):
            gains.add(node.name)
        power = totals.get(node.name + _POWER, 0.0)
        error = math.sqrt(totals.get(node.name + _ERROR, 0.0) / power) if power else 0.0
        largest = max((totals[v + _LARGEST] for v in values), default=0.0)
        ranges.append(NodeRange(name=node.name, op=node.op_type, largest=largest, error=error))
    return ranges, gains


def _with_twins(source: onnx.ModelProto, floats: set[str]) -> onnx.ModelProto:
    """The graph with a twin for each computing node; outputs are scalars, so that no activation is kept."""
    nodes: list[onnx.NodeProto] = []
    outputs: list[str] = []
    measured = [v.name for v in source.graph.input if not is_gain(v.name)]
    for value in measured:
        nodes += _largest(value, outputs)
    for node in source.graph.node:
        nodes.append(node)
        results = [v for v in node.output if v in floats]
        for value in results:
            nodes += _largest(value, outputs)
        if results and node.op_type not in MOVES | REDUCTIONS:
            nodes += _twin(node, floats, outputs)
    graph = helper.make_graph(
        nodes,
        "probe",
        list(source.graph.input),
        [helper.make_tensor_value_info(name, FLOAT, []) for name in outputs],
        list(source.graph.initializer),
    )
    return helper.make_model(graph, opset_imports=list(source.opset_import), ir_version=source.ir_version)


def _largest(value: str, outputs: list[str]) -> list[onnx.NodeProto]:
    outputs.append(value + _LARGEST)
    magnitude = f"{value}|magnitude"
    return [
        helper.make_node("Abs", [value], [magnitude]),
        helper.make_node("ReduceMax", [magnitude], [outputs[-1]], keepdims=0),
    ]


def _twin(node: onnx.NodeProto, floats: set[str], outputs: list[str]) -> list[onnx.NodeProto]:
    twin = onnx.NodeProto.FromString(node.SerializeToString())
    twin.name = f"{node.name}|twin"
    nodes: list[onnx.NodeProto] = []
    for i, name in enumerate(node.input):
        if name in floats:
            twin.input[i] = f"{name}|rounded|{twin.name}"
            nodes += rounding(name, twin.input[i])
    (result,) = [v for v in node.output if v in floats]
    twin.output[:] = [f"{result}|twin"]
    nodes.append(twin)
    nodes += rounding(f"{result}|twin", f"{result}|twin|rounded")
    difference = f"{result}|difference"
    nodes.append(helper.make_node("Sub", [f"{result}|twin|rounded", result], [difference]))
    for source, suffix in ((difference, _ERROR), (result, _POWER)):
        outputs.append(node.name + suffix)
        nodes.append(helper.make_node("ReduceSumSquare", [source], [outputs[-1]], keepdims=0))
    return nodes
