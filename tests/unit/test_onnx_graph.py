"""What an .onnx file may ask an engine to do; against the package onnx, which this reader does without."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from untrained import checkpoint_of

from s2c_deploy.errors import BundleError, EngineError
from s2c_deploy.export.transform_graphs import transform_graphs
from s2c_deploy.formats.bundle import Bundle, graph_names, open_bundle
from s2c_deploy.formats.onnx_graph import OPERATORS, OnnxGraph, check_graph
from s2c_deploy.models.lighter import lighter_start
from s2c_deploy.presets import CHANNEL_AGGREGATIONS, VARIANTS, synthesis_config
from s2c_deploy.quantize import exact_model
from s2c_deploy.runtime.torch_graph import _OPERATORS

Model = onnx.ModelProto


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


@pytest.fixture
def model(bundle: Bundle) -> Model:
    return onnx.load_model_from_string(bundle.read_graph("g_s").data)


def refused(model: Model | bytes, bundle: Bundle, name: str = "g_s") -> str:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(BundleError) as caught:
        check_graph(OnnxGraph(name=f"{name}.onnx", data=data), bundle.manifest["graphs"][name])
    assert len(str(caught.value)) < 900
    return str(caught.value)


def test_every_graph_of_a_bundle_passes(bundle: Bundle) -> None:
    for name in graph_names(bundle.config):
        for precision in ("float32", "float16"):
            assert bundle.read_graph(name, precision).data == bundle.graph(name, precision).read_bytes()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("aggregation", CHANNEL_AGGREGATIONS)
def test_every_variant_keeps_to_the_operators(variant: str, aggregation: str) -> None:
    checkpoint = checkpoint_of(variant, aggregation=aggregation)
    fast = synthesis_config(checkpoint.config, "fast")
    lighter = {"g_s.fast": lighter_start(checkpoint.config, fast, checkpoint.model.g_s)}
    for name, model in transform_graphs(exact_model(checkpoint.model, checkpoint.ranges), lighter).items():
        graph = OnnxGraph(name=name, data=model.SerializeToString())
        check_graph(
            graph,
            {
                "inputs": [_described(v) for v in model.graph.input],
                "outputs": [_described(v) for v in model.graph.output],
            },
        )


def _described(value: onnx.ValueInfoProto) -> dict[str, Any]:
    dimensions = value.type.tensor_type.shape.dim
    return {"name": value.name, "dtype": "float32", "shape": [d.dim_value or d.dim_param for d in dimensions]}


def test_every_operator_runs_on_pytorch() -> None:
    assert set(_OPERATORS) == OPERATORS


def loop(model: Model) -> None:
    info = helper.make_tensor_value_info
    condition = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["s"], ["s2"])]
    inputs = [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("s", TensorProto.FLOAT, None)]
    body = helper.make_graph(condition, "b", inputs, [info("c2", TensorProto.BOOL, []), info("s2", 1, None)])
    model.graph.node.append(helper.make_node("Loop", ["", "", "y_hat"], ["looped"], body=body))


def subgraph(model: Model) -> None:
    body = helper.make_graph([], "b", [], [])
    model.graph.node.append(helper.make_node("Add", ["y_hat", "y_hat"], ["z"], body=body))


def function(model: Model) -> None:
    model.functions.append(helper.make_function("mine", "Add", ["a"], ["a"], [], [helper.make_opsetid("", 17)]))


def foreign(model: Model) -> None:
    model.graph.node.append(helper.make_node("Add", ["y_hat", "y_hat"], ["z"], domain="com.microsoft"))


def external(model: Model) -> None:
    weights = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weights, "/etc/passwd", 0, len(weights.raw_data))
    weights.ClearField("raw_data")


def external_constant(model: Model) -> None:
    value = numpy_helper.from_array(np.zeros(4, np.float32))
    onnx.external_data_helper.set_external_data(value, "elsewhere", 0, 16)
    model.graph.node.append(helper.make_node("Constant", [], ["z"], value=value))


def huge_shape(model: Model) -> None:
    model.graph.initializer[0].dims[:] = [2**40, 2**20]


def many_dimensions(model: Model) -> None:
    model.graph.initializer[0].dims[:] = [2**62] * 30


def many_weights(model: Model) -> None:
    model.graph.initializer.extend([TensorProto()] * 50_000)


def strange_type(model: Model) -> None:
    model.graph.initializer[0].data_type = TensorProto.STRING


def sparse(model: Model) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto())


def too_many(model: Model) -> None:
    model.graph.node.extend([helper.make_node("Add", ["y_hat", "y_hat"], ["z"])] * 10_001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (loop, "found 'Loop'"),
        (subgraph, "found a graph or a type"),
        (function, "found functions"),
        (foreign, "found 'com.microsoft.Add'"),
        (external, "found them in another"),
        (external_constant, "found them in another"),
        (huge_shape, "values, found"),
        (many_dimensions, "at most 8 dimensions"),
        (many_weights, "more than 40000 fields"),
        (strange_type, "found another type"),
        (sparse, "found sparse ones"),
        (too_many, "at most 10000 nodes"),
    ],
)
def test_what_an_engine_must_not_do(
    bundle: Bundle, model: Model, change: Callable[[Model], None], message: str
) -> None:
    change(model)
    assert message in refused(model, bundle)


@pytest.mark.parametrize("kind", ["If", "Scan", "Expand", "ConstantOfShape", "Tile", "Range", "Resize", "Pad"])
def test_operators_that_the_exporter_does_not_write(bundle: Bundle, model: Model, kind: str) -> None:
    model.graph.node.append(helper.make_node(kind, ["y_hat"], ["z"]))
    assert f"found '{kind}'" in refused(model, bundle)


def test_inputs_and_outputs_are_the_manifests(bundle: Bundle, model: Model) -> None:
    data = model.SerializeToString()
    assert "inputs: expected z_hat" in refused(data, bundle, "h_s")
    for side in (model.graph.input, model.graph.output):
        other = onnx.load_model_from_string(data)
        extra = other.graph.input if side is model.graph.input else other.graph.output
        extra.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
        assert "found 'more' too" in refused(other, bundle)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    assert "inputs: expected y_hat, float32" in refused(model, bundle)


def test_a_graph_written_twice_would_be_read_as_the_sum_of_both(bundle: Bundle, model: Model) -> None:
    data = model.SerializeToString()
    assert "expected an ONNX model" in refused(data + data, bundle)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x3a\xff\xff\xff\xff\x0f", bytes(100), b"\x3a\x02\x0a\x05"])
def test_no_model(bundle: Bundle, data: bytes) -> None:
    assert "expected an ONNX model" in refused(data, bundle)


def test_mutated_graphs_are_refused_or_have_known_operators(bundle: Bundle, model: Model) -> None:
    """Whatever passes must be what the package onnx sees: no operator or place of weights is hidden from the check."""
    draw = random.Random(0)
    for tensor in model.graph.initializer:  # most of a file is weights: fewer, so that flips meet what matters
        del tensor.dims[:]
        tensor.raw_data = tensor.raw_data[:4]
    good, passed = model.SerializeToString(), 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(draw.choice((1, 1, 2, 4))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            check_graph(OnnxGraph(name="g_s.onnx", data=bytes(data)), bundle.manifest["graphs"]["g_s"])
        except BundleError:
            continue
        try:
            seen = onnx.load_model_from_string(bytes(data))
        except Exception:  # an engine's parser will say no, too
            continue
        passed += 1
        assert {node.op_type for node in seen.graph.node} <= OPERATORS
        assert not any(t.data_location or t.external_data for t in seen.graph.initializer)
        assert not any(a.HasField("g") or a.graphs for node in seen.graph.node for a in node.attribute)
        assert not seen.functions
    assert passed > 100, "else nothing was shown"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot read"):
        OnnxGraph.read(tmp_path / "nowhere.onnx")
