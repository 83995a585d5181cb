"""The proof of exactness from an ONNX file: what it accepts, and every way in which a file can fail it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from s2c_deploy.errors import ExactnessError
from s2c_deploy.formats.bundle import exact_graphs, open_bundle
from s2c_deploy.verify.proof import EXACT_LIMIT, prove_graph

Change = Callable[[onnx.ModelProto], None]


def test_every_exact_graph_of_a_bundle(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    written = bundle.manifest["exactness"]["layers"]
    bounds = [layer.bound for name in exact_graphs(bundle.config) for layer in prove_graph(bundle.graph(name))]
    # The exporter allows every channel its layer's largest input; the walk through the file knows some to be smaller.
    exported = max(layer["bound"] for layer in written.values())
    assert exported / 2 < max(bounds) <= exported < EXACT_LIMIT


def _set_weight(model: onnx.ModelProto, suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(w for w in model.graph.initializer if w.name.endswith(suffix))
    array = change(numpy_helper.to_array(tensor).copy()).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array * factor


def _first_plus(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] += value
        return array

    return change


def _replace_op(model: onnx.ModelProto, old: str, new: str) -> None:
    node = next(node for node in model.graph.node if node.op_type == old)
    node.op_type = new


def _widen_last_clip(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(300, np.float32), "limit_300"))
    node = [node for node in model.graph.node if node.op_type == "Clip"][-1]
    node.input[2] = "limit_300"


def _attribute(model: onnx.ModelProto, kind: str, name: str, value: object) -> None:
    node = next(node for node in model.graph.node if node.op_type == kind)
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _reshaped(model: onnx.ModelProto, suffix: str, shape: tuple[int, ...]) -> None:
    tensor = next(w for w in model.graph.initializer if w.name.endswith(suffix))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(shape), tensor.name))


def _defined_twice(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.node[0].output[0]


def _channels(model: onnx.ModelProto, count: int) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = count


def test_channels_that_change_places_take_their_bounds_along(bundle_path: Path, tmp_path: Path) -> None:
    """A slice over the channels, a split of the rows: what would give one channel's bound to another is refused."""
    for kind, name, value in (("Slice", "axes", np.array([1, 3])), ("Split", "axis", 2), ("Concat", "axis", 1)):
        model = onnx.load(bundle_path / "context_1_anchor.onnx")
        if kind == "Slice":
            tensor = next(w for w in model.graph.initializer if w.name == name)
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, np.int64), name))
        else:
            _attribute(model, kind, name, value)
        onnx.save(model, tmp_path / "c.onnx")
        with pytest.raises(ExactnessError, match=r"rows|channels"):
            prove_graph(tmp_path / "c.onnx")


def test_what_is_no_graph(tmp_path: Path) -> None:
    for data in (b"", b"hello", bytes(100)):
        (tmp_path / "h_s.onnx").write_bytes(data)
        with pytest.raises(ExactnessError, match="expected a graph"):
            prove_graph(tmp_path / "h_s.onnx")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda m: _set_weight(m, "h_s.0.weight_0", _first_plus(0.5)), "integer", id="fraction"),
        pytest.param(lambda m: _set_weight(m, "h_s.0.weight_0", _scaled(2)), r"2\^24|2\^11", id="too-large"),
        pytest.param(lambda m: _set_weight(m, "h_s.1.bias", _first_plus(2**24)), r"2\^24", id="bias"),
        pytest.param(lambda m: _set_weight(m, "h_s.1.scale", _scaled(3)), "powers of two", id="scale-3"),
        pytest.param(lambda m: _set_weight(m, "h_s.1.scale", _scaled(2.0**30)), "powers of two", id="scale-up"),
        pytest.param(lambda m: _widen_last_clip(m), "within 255", id="wide-output"),
        pytest.param(lambda m: _set_weight(m, "limit_255", lambda a: a * 0 + 254.5), "whole bounds", id="bound"),
        pytest.param(lambda m: _replace_op(m, "Floor", "Sigmoid"), "Sigmoid", id="operator"),
        pytest.param(lambda m: _replace_op(m, "Floor", "Identity"), "Identity", id="no-floor"),
        pytest.param(lambda m: _attribute(m, "DepthToSpace", "mode", b"DCR"), "order CRD", id="other-order"),
        pytest.param(lambda m: _attribute(m, "DepthToSpace", "blocksize", 4), "blocks of 2", id="other-blocks"),
        pytest.param(lambda m: _reshaped(m, "h_s.1.scale", (1, 1, 1, -1)), "powers of two", id="scale-of-columns"),
        pytest.param(lambda m: _defined_twice(m), "every name once", id="twice"),
        pytest.param(lambda m: m.graph.node[0].input.__delitem__(slice(None)), "IndexError", id="no-inputs"),
        pytest.param(lambda m: m.graph.node[1].input.__setitem__(0, "nowhere"), "KeyError", id="unknown"),
        pytest.param(lambda m: _channels(m, 2**33), "up to 65536 channels", id="channels"),
    ],
)
def test_what_is_not_exact(bundle_path: Path, tmp_path: Path, change: Change, says: str) -> None:
    model = onnx.load(bundle_path / "h_s.onnx")
    change(model)
    onnx.save(model, tmp_path / "h_s.onnx")
    with pytest.raises(ExactnessError, match=says) as caught:
        prove_graph(tmp_path / "h_s.onnx")
    assert "h_s" in str(caught.value)


def test_an_input_of_unknown_range(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["b", 4, "h", "w"])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", 4, "h", "w"])
    graph = helper.make_graph([helper.make_node("Floor", ["x"], ["y"])], "stray", [x], [y])
    onnx.save(helper.make_model(graph), tmp_path / "stray.onnx")
    with pytest.raises(ExactnessError, match="found x"):
        prove_graph(tmp_path / "stray.onnx")
