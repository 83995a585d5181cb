"""LayerNorms that lose their transpositions in OpenVINO compute what they did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime import open_runner
from s2c_deploy.runtime.openvino_norms import normalise_in_place

CHANNELS = 24


def graph(*, before: Sequence[int] = (0, 2, 3, 1), after: Sequence[int] = (0, 3, 1, 2), axis: int = -1,
          outputs: Sequence[str] = ("y",)) -> OnnxGraph:  # fmt: skip
    random = np.random.default_rng(0)
    width = CHANNELS if axis == -1 else 1
    weights = {name: random.normal(1, 0.3, width).astype(np.float32) for name in ("weight", "bias")}
    nodes = [
        helper.make_node("Transpose", ["x"], ["last"], perm=list(before)),
        helper.make_node("LayerNormalization", ["last", "weight", "bias"], ["norm"], axis=axis, epsilon=1e-3),
        helper.make_node("Transpose", ["norm"], ["y"], perm=list(after)),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", CHANNELS, "h", "w"] if name == "x" else [None] * 4)
        for name in ("x", *outputs)
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    made = helper.make_graph(nodes, "norm", values[:1], values[1:], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxGraph(name="norm.onnx", data=model.SerializeToString())


def count(source: OnnxGraph) -> int:
    return normalise_in_place(ov.Core().read_model(source.data, b""))


@pytest.mark.parametrize("shape", [(1, CHANNELS, 8, 8), (2, CHANNELS, 5, 1), (1, CHANNELS, 1, 3)])
def test_the_same_values(shape: tuple[int, ...]) -> None:
    """Against a mean and a deviation from their definition, in float64."""
    source = graph()
    assert count(source) == 1
    x = np.random.default_rng(1).normal(40, 7, shape).astype(np.float32)
    wide = x.astype(np.float64)
    deviation = np.sqrt(wide.var(1, keepdims=True) + 1e-3)
    weight, bias = (numpy_helper.to_array(w) for w in onnx.load_from_string(source.data).graph.initializer)
    expected = (wide - wide.mean(1, keepdims=True)) / deviation * weight[:, None, None] + bias[:, None, None]
    for backend in ("openvino", "onnxruntime"):
        with open_runner(source, backend=backend) as runner:
            np.testing.assert_allclose(runner({"x": x})["y"], expected, atol=2e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"before": (0, 3, 2, 1)},
        {"after": (0, 3, 2, 1)},
        {"outputs": ("y", "norm")},
    ],
)
def test_other_graphs_stay_as_they_are(other: dict[str, Sequence[int]]) -> None:
    """Rows and columns exchanged, and a norm that somebody else reads, too."""
    source = graph(**other)  # type: ignore[arg-type]
    assert count(source) == 0
    x = np.random.default_rng(1).normal(size=(1, CHANNELS, 4, 6)).astype(np.float32)
    with open_runner(source, backend="openvino") as runner, open_runner(source, backend="onnxruntime") as other_runner:
        found, expected = runner({"x": x}), other_runner({"x": x})
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
