"""Convolutions of every second row and column, and of which channels are divided: other nodes, the same values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from s2c_deploy.formats.bundle import exact_graphs, open_bundle
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime import open_runner
from s2c_deploy.runtime.openvino_planes import convolve_whole_in_place

CHANNELS = 6
#: What a decoder's graphs ask for: kernel, and pads (top, left, bottom, right), by the plane's first row and column.
FORMS = [
    ((3, 2), (1, 0, 1, 1), (0, 0)),
    ((2, 3), (1, 1, 0, 1), (1, 1)),
    ((3, 2), (1, 1, 1, 0), (1, 1)),
    ((2, 3), (0, 1, 1, 1), (0, 0)),
]


def graph(kernel: Sequence[int] = (3, 2), pads: Sequence[int] = (1, 0, 1, 1), start: Sequence[int] = (0, 0), *,
          steps: Sequence[int] = (2, 2), axes: Sequence[int] = (2, 3), strides: Sequence[int] = (1, 1),
          axis: int = 1) -> OnnxGraph:  # fmt: skip
    """A plane, scaled, rounded and clipped, convolved, scaled per channel, and its channels divided."""
    random = np.random.default_rng(0)
    halves = [5, 3] if axis == 1 else [2, 2]
    weights = {
        "start": np.array(start), "end": np.full(2, 2**31 - 1), "axes": np.array(axes), "steps": np.array(steps),
        "scale": random.choice([0.25, 0.5, 1], (1, CHANNELS, 1, 1)).astype(np.float32), "low": np.float32(-20),
        "high": np.float32(20), "weight": random.integers(-9, 10, (8, CHANNELS, *kernel)).astype(np.float32),
        "bias": random.integers(-99, 99, 8).astype(np.float32), "halves": np.array(halves),
        "out_scale": random.choice([0.125, 0.25], (1, 8, 1, 1)).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["x", "start", "end", "axes", "steps"], ["plane"]),
        helper.make_node("Mul", ["plane", "scale"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["whole"]),
        helper.make_node("Clip", ["whole", "low", "high"], ["clipped"]),
        helper.make_node("Conv", ["clipped", "weight", "bias"], ["sum"], pads=list(pads), strides=list(strides)),
        helper.make_node("Mul", ["sum", "out_scale"], ["out"]),
        helper.make_node("Split", ["out", "halves"], ["first", "second"], axis=axis),
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", CHANNELS, "h", "w"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("first", "second")]
    made = helper.make_graph(nodes, "planes", [x], outputs, tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxGraph(name="planes.onnx", data=model.SerializeToString())


def rewritten(source: OnnxGraph) -> tuple[int, list[str]]:
    model = ov.Core().read_model(source.data, b"")
    return convolve_whole_in_place(model), [node.get_type_name() for node in model.get_ops()]


@pytest.mark.parametrize(("kernel", "pads", "start"), FORMS)
@pytest.mark.parametrize("shape", [(1, CHANNELS, 8, 12), (2, CHANNELS, 4, 4), (1, CHANNELS, 4, 20)])
def test_the_same_values(
    kernel: tuple[int, int], pads: tuple[int, ...], start: tuple[int, int], shape: tuple[int, ...]
) -> None:
    """As another engine has them, which knows nothing of this."""
    source = graph(kernel, pads, start)
    count, kinds = rewritten(source)
    assert count == 2
    assert not {"Slice", "VariadicSplit"} & set(kinds)
    x = np.random.default_rng(1).integers(-99, 100, shape).astype(np.float32)
    with open_runner(source, backend="openvino") as here, open_runner(source, backend="onnxruntime") as there:
        found, expected = here({"x": x}), there({"x": x})
    assert list(found) == ["first", "second"]
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    ("other", "left"),
    [
        ({"steps": (1, 1)}, "Slice"),
        ({"steps": (2, 1)}, "Slice"),
        ({"axes": (3, 2)}, "Slice"),
        ({"strides": (2, 2)}, "Slice"),
        ({"axis": 2}, "VariadicSplit"),
    ],
)
def test_what_is_no_such_chain_stays(other: dict[str, Sequence[int]], left: str) -> None:
    count, kinds = rewritten(graph(**other))  # type: ignore[arg-type]
    assert count == 1
    assert left in kinds


def test_every_context_network_has_them(bundle_path: Path) -> None:
    """A division of indexes and means each, and non-anchors four convolutions of planes."""
    bundle = open_bundle(bundle_path)
    for name in exact_graphs(bundle.config):
        count, kinds = rewritten(bundle.read_graph(name))
        assert count == {"anchor": 1, "nonanchor": 5}.get(name.rsplit("_", 1)[-1], 0), name
        assert "VariadicSplit" not in kinds
        convolutions = sum(n.op_type == "Conv" for n in onnx.load_from_string(bundle.read_graph(name).data).graph.node)
        assert kinds.count("Convolution") >= convolutions
