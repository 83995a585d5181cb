"""How far a transform looks: what is read from its graph is what a changed input really changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from untrained import checkpoint_of, lively

from s2c_deploy.errors import BundleError
from s2c_deploy.export.transform_graphs import transform_graphs
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.formats.receptive_field import ReceptiveField, receptive_field
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.presets import UPSAMPLINGS, SynthesisConfig

RNG = np.random.default_rng(0)


def field(model: onnx.ModelProto, source: str) -> ReceptiveField:
    return receptive_field(OnnxGraph(name="a graph", data=model.SerializeToString()), source)


def changed(model: onnx.ModelProto, inputs: dict[str, Any], source: str, start: int, stop: int) -> tuple[int, int]:
    """The rows of the first output that change with rows [start, stop) of an input, as float64 sees it."""
    session = ort.InferenceSession(model.SerializeToString())
    before = session.run(None, inputs)[0]
    other = dict(inputs)
    other[source] = inputs[source].copy()
    other[source][:, :, start:stop] += 9 * RNG.standard_normal(other[source][:, :, start:stop].shape).astype(np.float32)
    rows = np.flatnonzero((session.run(None, other)[0] != before).any(axis=(0, 1, 3)))
    return int(rows[0]), int(rows[-1]) + 1


@pytest.fixture(scope="module", params=["attention", "hybrid"])
def graphs(request: pytest.FixtureRequest) -> dict[str, onnx.ModelProto]:
    """Of an untrained model, and lighter g_s of every upsampling, deep and shallow."""
    checkpoint = checkpoint_of(request.param)
    shapes = {
        f"g_s.a{k}": SynthesisConfig(name=f"a{k}", widths=(8, 8, 8)[: k + 1], depths=(1,) * (k + 1), upsampling=kind)
        for k, kind in enumerate(UPSAMPLINGS)
    }
    lighter = {name: Synthesis(checkpoint.config, shape) for name, shape in shapes.items()}
    for synthesis in lighter.values():
        lively(synthesis)
    return transform_graphs(checkpoint.model, lighter)


@pytest.mark.parametrize("graph", ["g_a", "g_s", "g_s.a0", "g_s.a1", "g_s.a2"])
def test_what_a_block_sees_is_what_changes_it(graphs: dict[str, onnx.ModelProto], graph: str) -> None:
    """A block's output stands still where anything outside its field changes, and moves with the rows at its edge."""
    model, source = graphs[graph], "x" if graph == "g_a" else "y_hat"
    found, gain = field(model, source), "gain" if graph == "g_a" else "inverse_gain"
    size, start, stop, ratio = (1024, 512, 576, 1 / 16) if graph == "g_a" else (64, 32, 36, 16)
    channels = 3 if graph == "g_a" else 48
    inputs = {source: RNG.standard_normal((1, channels, size, 64 if graph == "g_a" else 4)).astype(np.float32)}
    inputs[gain] = np.ones((1, 48, 1, 1), np.float32)
    first, last = found.around(start, stop, size)
    below, above = changed(model, inputs, source, 0, first), changed(model, inputs, source, last, size)
    assert below[1] <= start * ratio
    assert above[0] >= stop * ratio
    edge = start - found.before, stop + found.after - 1
    assert changed(model, inputs, source, edge[0], edge[0] + 1)[1] > start * ratio
    assert changed(model, inputs, source, edge[1], edge[1] + 1)[0] < stop * ratio


def test_released_models(bundle_path: Path) -> None:
    """S2C-Conv `tiny`, by hand: strides of 2 with 3x3, one 5x5 depthwise a stage."""
    g_a, g_s = (OnnxGraph.read(bundle_path / f"{name}.onnx") for name in ("g_a", "g_s"))
    # g_s, in pixels: 2 of the last 3x3, and 4, 8, 16 for 5x5 and 4, 8, 16 for 3x3 at 1/2, 1/4, 1/8 and 1/16.
    assert 2 + 4 + 4 + 8 + 8 + 16 + 16 == 58
    assert receptive_field(g_s, "y_hat") == ReceptiveField(before=4, after=4, unit=1)
    # g_a, before: 1 + 2 + 4 + 8 of the 3x3, 4 + 8 + 16 of the 5x5; after, a 3x3 of stride 2 sees nothing of its own.
    assert receptive_field(g_a, "x") == ReceptiveField(before=43, after=28, unit=16)


def test_what_is_around_a_block_ends_with_the_picture_and_in_whole_units() -> None:
    some = ReceptiveField(before=67, after=52, unit=16)
    assert some.around(0, 64, 640) == (0, 128)
    assert some.around(128, 192, 640) == (48, 256)
    assert some.around(576, 640, 640) == (496, 640)


def one_node(operator: str, weights: tuple[int, ...] | None, **attributes: Any) -> onnx.ModelProto:
    tensors = [] if weights is None else [helper.make_tensor("w", TensorProto.FLOAT, weights, np.ones(weights).ravel())]
    names = ["y_hat"] if weights is None else ["y_hat", "w"]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, None, None]) for n in ("y_hat", "x_hat")]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["x_hat"], **attributes)], "g", value[:1], value[1:], tensors
    )
    return helper.make_model(graph)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (one_node("Conv", (4, 4, 3, 3), kernel_shape=[3, 3], pads=[1] * 4), (1, 1, 1)),
        (one_node("Conv", (4, 4, 3, 3), kernel_shape=[3, 3], pads=[2] * 4, dilations=[2, 2]), (2, 2, 1)),
        (one_node("Conv", (4, 4, 5, 5), kernel_shape=[5, 5], pads=[2] * 4, strides=[2, 2]), (2, 1, 2)),
        (one_node("ConvTranspose", (4, 4, 3, 3), kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]), (0, 1, 1)),
        (one_node("ConvTranspose", (4, 4, 5, 5), kernel_shape=[5, 5], pads=[2] * 4, strides=[2, 2]), (1, 1, 1)),
        (one_node("DepthToSpace", None, blocksize=2), (0, 0, 1)),
        (one_node("Relu", None), (0, 0, 1)),
    ],
)
def test_operators(model: onnx.ModelProto, wanted: tuple[int, int, int]) -> None:
    before, after, unit = wanted
    assert field(model, "y_hat") == ReceptiveField(before=before, after=after, unit=unit)


@pytest.mark.parametrize(
    "model",
    [
        one_node("Conv", (4, 4, 3, 3), kernel_shape=[3, 5], pads=[1] * 4),
        one_node("Conv", (4, 4, 3, 3), pads=[1] * 4),
        one_node("Conv", (4, 4, 3, 3), kernel_shape=[3, 3], pads=[1, 2, 1, 2]),
        one_node("Conv", (4, 4, 3, 3), kernel_shape=[3, 3], strides=[0, 0]),
        one_node("Conv", (4, 4, 3, 3), kernel_shape=[2**40, 2**40]),
        one_node("Conv", (4, 4, 3, 3), kernel_shape=[3, 3], strides=[1021, 1021]),
        one_node("DepthToSpace", None, blocksize=0),
        one_node("DepthToSpace", None, blocksize=-2),
        one_node("Shape", None),
    ],
)
def test_graphs_of_strangers(model: onnx.ModelProto) -> None:
    with pytest.raises(BundleError, match="a graph: "):
        field(model, "y_hat")


def test_an_input_that_is_not_there(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match="depends on x"):
        receptive_field(OnnxGraph.read(bundle_path / "g_s.onnx"), "x")
