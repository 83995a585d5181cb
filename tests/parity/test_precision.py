"""FP16 in the graphs' types: what is rounded, what stays in float32 and why, and a gate that can fail."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as Pil
from torch import nn
from untrained import checkpoint_of

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.transforms import to_pixels
from s2c_deploy.errors import BundleError, InputError, ParityError
from s2c_deploy.export.exporter import export_bundle
from s2c_deploy.export.precision import half, half_graphs
from s2c_deploy.export.precision.gate import Cost, Reference, cost
from s2c_deploy.export.precision.measure import node_ranges
from s2c_deploy.export.precision.pixels import with_pixels
from s2c_deploy.export.precision.rounding import rounded_graph
from s2c_deploy.export.precision.typed import typed_graph
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.metrics import psnr
from s2c_deploy.models.checkpoint import Checkpoint
from s2c_deploy.runtime.runner import Runner

Array = npt.NDArray[np.float32]
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    Pil.fromarray(small_photograph).save(folder / "small.png")
    return folder


def chain(**factors: float) -> onnx.ModelProto:
    """x times one factor after another; nodes and values are named after the factors."""
    nodes, value = [], "x"
    for name in factors:
        nodes.append(helper.make_node("Mul", [value, f"{name}_factor"], [name], name=name))
        value = name
    shape = ["n"]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(value, FLOAT, shape)],
        [numpy_helper.from_array(np.array(v, np.float32), f"{name}_factor") for name, v in factors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, inputs: Mapping[str, Array], outputs: list[str] | None = None) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(outputs, dict(inputs)))


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return found | {t.name: t.data_type for t in graph.initializer}


# rounding


def test_every_step_is_rounded_as_numpy_rounds() -> None:
    x = np.array([1.0003, 2000, 3.1415926, -655, 1e-6, 0], np.float32)
    model = rounded_graph(typed_graph(chain(up=100.3, down=0.013), []))
    (found,) = run(model, {"x": x})
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16) * np.float16(100.3) * np.float16(0.013)
    assert np.isinf(expected[1])
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_neighbours_in_float32_hand_over_what_fp16_cannot_hold() -> None:
    x = np.array([1.0003, 2000], np.float32)
    typed = typed_graph(chain(up=100, down=0.01, last=3), ["up", "down"])
    found_types = types(typed)
    assert (found_types["up"], found_types["down"]) == (FLOAT, FLOAT)
    assert [node.op_type for node in typed.graph.node] == ["Mul", "Mul", "Cast", "Mul", "Cast"]
    (found,) = run(rounded_graph(typed), {"x": x})
    half_way = (x * np.float32(100) * np.float32(0.01)).astype(np.float16)
    np.testing.assert_array_equal(found, (half_way * np.float16(3)).astype(np.float32))


@pytest.mark.parametrize("graph", ["g_a", "h_a", "g_s"])
def test_every_value_of_the_shipped_graphs_is_rounded(bundle: Bundle, graph: str) -> None:
    """The types that the file declares, and every one of its FP16 values held by FP16: no rounding got lost."""
    typed = onnx.load(bundle.graph(graph, "float16"))
    onnx.checker.check_model(typed, full_check=True)
    assert [(o.domain, o.version) for o in typed.opset_import] == [("", 17)]
    found = types(typed)
    for value in (*typed.graph.input, *typed.graph.output):
        assert found[value.name] == (TensorProto.UINT8 if value.name == "pixels" else FLOAT)
    for node in typed.graph.node:
        if node.name.startswith("/pixels/"):
            assert found[node.input[0]] == FLOAT, node.name
        elif node.op_type in ("Conv", "MatMul", "Erf", "LeakyRelu", "Transpose", "DepthToSpace"):
            assert {found[name] for name in (*node.input, *node.output)} == {HALF}, node.name
        if node.op_type == "LayerNormalization" or any("gain" in name for name in node.input):
            assert {found[name] for name in (*node.input, *node.output)} == {FLOAT}, node.name
    halves = [name for node in typed.graph.node for name in node.output if found[name] == HALF]
    assert len(halves) > 3
    model = rounded_graph(typed)
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in halves)
    side = {"g_a": (3, 64, 128), "h_a": (256, 4, 8), "g_s": (256, 4, 8)}[graph]
    random = np.random.default_rng(0)
    inputs = {
        v.name: random.normal(size=(1, 96 if "hyper" in v.name else 256, 1, 1) if "gain" in v.name else (1, *side))
        for v in typed.graph.input
    }
    values = run(model, {name: array.astype(np.float32) for name, array in inputs.items()}, halves)
    for name, value in zip(halves, values, strict=True):
        assert (value == value.astype(np.float16)).all(), name
        assert np.abs(value).max() > 0, name


@pytest.mark.parametrize("io", ["float32", "float16"])
def test_pixels_are_what_the_codec_makes_of_x_hat(bundle: Bundle, io: str) -> None:
    typed, added = with_pixels(typed_graph(onnx.load(bundle.graph("g_s")), ["/Mul"], io=io))
    onnx.checker.check_model(typed, full_check=True)
    assert sum(node.name in added for node in typed.graph.node) == len(added) == (5 if io == "float32" else 6)
    y_hat = np.random.default_rng(0).normal(scale=900, size=(2, 256, 4, 8)).astype(np.float32)
    inputs = {"y_hat": y_hat, "inverse_gain": np.full((1, 256, 1, 1), 1 / 256, np.float32)}
    # As written: by itself ONNX Runtime would leave out the cast to FP16, and round what x_hat was before it.
    x_hat, pixels = run(rounded_graph(typed), inputs, ["x_hat", "pixels"])
    assert pixels.dtype == np.uint8
    assert x_hat.min() < 0
    assert x_hat.max() > 1, "both ends are clipped"
    for one, found in zip(x_hat, pixels, strict=True):
        np.testing.assert_array_equal(found, to_pixels(one[None], 64, 128))


def test_the_bundle_says_what_rounds(bundle: Bundle) -> None:
    kept = bundle.manifest["float16"]["graphs"]["g_s"]["float32_nodes"]
    graph = onnx.load(bundle.graph("g_s", "float16")).graph
    assert [output.name for output in graph.output] == ["x_hat", "pixels"]
    rounding = {node.name for node in graph.node if node.name.startswith("/pixels/")}
    assert {name for name, node in kept.items() if node["reason"] == "pixels"} == rounding


def test_inputs_and_outputs_in_fp16(bundle: Bundle) -> None:
    typed = typed_graph(onnx.load(bundle.graph("g_s")), ["/Mul"], io="float16")
    found = types(typed)
    assert (found["y_hat"], found["inverse_gain"], found["x_hat"]) == (HALF, FLOAT, HALF)
    inputs = {
        "y_hat": np.random.default_rng(0).normal(scale=30, size=(1, 256, 4, 4)).astype(np.float32),
        "inverse_gain": np.full((1, 256, 1, 1), 1 / 256, np.float32),
    }
    (expected,) = run(onnx.load(bundle.graph("g_s")), inputs)
    (rounded,) = run(rounded_graph(typed), inputs)
    (itself,) = run(typed, {**inputs, "y_hat": inputs["y_hat"].astype(np.float16)})  # type: ignore[dict-item]
    assert itself.dtype == np.float16
    assert (rounded == rounded.astype(np.float16)).all()
    for found_pixels in (rounded, itself.astype(np.float32)):
        np.testing.assert_allclose(found_pixels, expected, atol=0.01 * float(np.abs(expected).max()))
    with pytest.raises(InputError, match="expected float32, float16, found 'int8'"):
        typed_graph(onnx.load(bundle.graph("g_s")), [], io="int8")


def test_a_weight_that_fp16_cannot_hold_is_named() -> None:
    with pytest.raises(ParityError, match="up: FP16 cannot hold its weights up_factor"):
        typed_graph(chain(up=1e5), [])


# measuring


def test_ranges_and_errors_against_numpy() -> None:
    model = chain(small=1e-6, back=1e6, up=3000.7)
    calls = [{"x": np.array([1, -2.7], np.float32)}, {"x": np.array([0.3], np.float32)}]
    ranges, gains = node_ranges(model, calls)
    assert not gains
    small, back, up = ranges
    assert [r.largest for r in ranges] == pytest.approx([2.7, 2.7, 2.7 * 3000.7])
    # By itself: float32 values in, rounded; weights rounded; result rounded.
    x = np.array([1, -2.7, 0.3], np.float32)
    exact = x * np.float32(1e-6)
    rounded = (x.astype(np.float16) * np.float16(1e-6)).astype(np.float32)
    expected = np.sqrt(np.square(rounded - exact).sum() / np.square(exact).sum())
    assert small.error == pytest.approx(expected, rel=1e-4)
    assert small.error > 0.01
    assert small.reason == "loses"
    assert (back.reason, back.error) == ("overflow", np.inf)  # 1e6 is a weight FP16 cannot hold
    assert up.error < 1e-3
    assert up.reason is None
    calls = [{"x": np.array([3], np.float32)}]
    assert node_ranges(model, calls)[0][2].reason == "overflow", "within 65504, but with no room for other pictures"


class Says(Runner):
    backend = provider = precision = "a test"
    inputs = ()

    def __init__(self, **says: Array) -> None:
        self.says = says

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.says

    _run = __call__


def test_the_loss_of_an_encoder_is_that_of_rounding_again(small_photograph: Pixels) -> None:
    random = np.random.default_rng(0)
    y = random.uniform(-20, 20, (1, 128, 64, 64)).astype(np.float32)
    y_hat = np.rint(y)
    x_hat = small_photograph.transpose(2, 0, 1)[None].astype(np.float32) / 255
    calls: Any = {"g_a": {}, "h_a": {}, "g_s": {"y_hat": y_hat * 16}}
    reference = Reference(
        pixels=small_photograph, quality=1, calls=calls, outputs={"g_a": y, "h_a": y, "g_s": x_hat}, psnr={"g_s": 40.0}
    )
    noisy = y + random.normal(scale=0.05, size=y.shape).astype(np.float32)
    again = np.square(np.rint(noisy) - y).mean() / np.square(y_hat - y).mean()
    for graph in ("g_a", "h_a"):
        assert cost(reference, graph, Says(y=noisy)).loss == pytest.approx(10 * np.log10(again), rel=0.05)
        assert cost(reference, graph, Says(y=y)).loss == 0
        assert cost(reference, graph, Says(y=np.where(y > 19, np.inf, y).astype(np.float32))).loss == np.inf
    worse = x_hat + random.normal(scale=0.01, size=x_hat.shape).astype(np.float32)
    expected = 40 - psnr(small_photograph, to_pixels(worse, *small_photograph.shape[:2]))
    assert cost(reference, "g_s", Says(x=worse)).loss == pytest.approx(expected)
    assert cost(reference, "g_s", Says(x=np.full_like(x_hat, np.nan))).loss == np.inf


# whole bundles


def test_the_shipped_weights_lose_nothing(bundle: Bundle, bundle_path: Path, tmp_path: Path) -> None:
    report = bundle.manifest["float16"]
    assert report["io"] == "float32"
    rows = report["gate"]["loss_db"]
    assert sorted(rows) == [str(q) for q in range(1, 9)]
    for row in rows.values():
        assert row["g_a"] + row["g_s"] <= 0.01
        assert row["h_a"] <= 0.01
        assert 0 < row["g_a"] < 0.002, "FP16 that changes nothing at all was not run"
    reasons = {name: {n["reason"] for n in g["float32_nodes"].values()} for name, g in report["graphs"].items()}
    assert reasons == {"g_a": {"gain", "reduction"}, "h_a": {"gain"}, "g_s": {"gain", "pixels", "reduction"}}
    assert all(1e-5 < graph["relative_difference"] < 0.01 for graph in report["graphs"].values())
    assert bundle.graph("h_s", "float16") == bundle.graph("h_s")
    assert all(name.endswith(".onnx") for name in (bundle.graph(g, "float16").name for g in report["graphs"]))


def test_streams_do_not_know_of_fp16(tmp_path: Path, photographs: Path) -> None:
    checkpoint = checkpoint_of("conv", lmbdas=(0.01,))
    plain = export_bundle(checkpoint, tmp_path / "plain", images=photographs)
    both = export_bundle(checkpoint, tmp_path / "both", images=photographs, precision="float16")
    assert plain.fingerprint == both.fingerprint
    assert plain.manifest["files"].items() < both.manifest["files"].items()
    with pytest.raises(BundleError, match="expected FP16 graphs, found none"):
        plain.graph("g_s", "float16")
    with pytest.raises(InputError, match="precision"):
        export_bundle(checkpoint, tmp_path / "no", images=photographs, precision="int8")


def blocks(checkpoint: Checkpoint, transform: str) -> list[nn.Module]:
    found = getattr(checkpoint.model, transform)
    return [module for module in found.modules() if hasattr(module, "aggregation") and hasattr(module, "spatial")]


def scale(layer: nn.Conv2d, factor: float, rows: slice = slice(None)) -> None:
    with torch.no_grad():
        layer.weight[rows] *= factor
        assert layer.bias is not None
        layer.bias[rows] *= factor


def large(variant: str) -> Checkpoint:
    """The layout of ``large`` (depths 2, 3, 8, expansion 4) at an eighth of its widths, which a CPU can run."""
    checkpoint = checkpoint_of(
        variant, preset="large", widths=(24, 40, 48), depths=(2, 3, 8), expansion=4, lmbdas=(0.005, 0.05)
    )
    last: Any = checkpoint.model.g_a[-1]
    scale(last, 1 / 16)  # latents of a few symbols, as trained models have them
    return checkpoint


def test_overflow_is_found_and_kept_in_float32(tmp_path: Path, photographs: Path) -> None:
    """The values of a gate are scaled up and its projection down: the same function, but FP16 cannot hold it."""
    checkpoint = large("conv")
    block: Any = blocks(checkpoint, "g_s")[3]
    scale(block.aggregation.value, 2.0**17)
    with torch.no_grad():
        block.aggregation.project.weight *= 2.0**-17
    made = export_bundle(checkpoint, tmp_path / "bundle", images=photographs, precision="float16")
    report = made.manifest["float16"]
    kept = report["graphs"]["g_s"]["float32_nodes"]
    found = {name: node["reason"] for name, node in kept.items() if node["reason"] in ("overflow", "loses", "gate")}
    prefix = next(name for name in found if name.endswith("/value/Conv")).removesuffix("/value/Conv")
    assert found == {
        f"{prefix}/value/Conv": "overflow",
        f"{prefix}/Mul_2": "overflow",
        f"{prefix}/project/Conv": "overflow",
    }
    assert kept[f"{prefix}/value/Conv"]["largest"] > 65504
    assert all(row["g_a"] + row["g_s"] <= 0.01 for row in report["gate"]["loss_db"].values())
    # Without the pass the same weights give no picture at all.
    rest = [name for name in kept if name not in found]
    broken = rounded_graph(typed_graph(onnx.load(made.graph("g_s")), rest))
    y_hat = np.random.default_rng(0).integers(-64, 64, (1, 48, 8, 8)).astype(np.float32)
    inputs = {"y_hat": y_hat, "inverse_gain": np.full((1, 48, 1, 1), 1 / 64, np.float32)}
    assert not np.isfinite(run(broken, inputs)[0]).all()
    good = rounded_graph(onnx.load(made.graph("g_s", "float16")))
    assert np.isfinite(run(good, inputs)[0]).all()


def test_attention_that_overflows(tmp_path: Path, photographs: Path) -> None:
    checkpoint = large("hybrid")
    block: Any = blocks(checkpoint, "g_a")[-1]
    width = block.spatial.qkv.weight.shape[1]
    scale(block.spatial.qkv, 2.0**18, slice(0, width))
    scale(block.spatial.qkv, 2.0**-18, slice(width, 2 * width))
    made = export_bundle(checkpoint, tmp_path / "bundle", images=photographs, precision="float16")
    report = made.manifest["float16"]
    kept = report["graphs"]["g_a"]["float32_nodes"]
    measured = {name: node["op"] for name, node in kept.items() if node["reason"] in ("overflow", "loses")}
    assert {"Conv", "MatMul"} <= set(measured.values())
    (prefix,) = {name.rsplit("/spatial/", 1)[0] for name in measured}
    softmaxes = [name for name, node in kept.items() if node["op"] == "Softmax"]
    assert len(softmaxes) == 8
    assert {kept[name]["reason"] for name in softmaxes} == {"reduction"}
    typed = onnx.load(made.graph("g_a", "float16"))
    products = [node for node in typed.graph.node if node.op_type == "MatMul" and not node.name.startswith(prefix)]
    found = types(typed)
    assert len(products) == 14
    assert {found[name] for node in products for name in (*node.input, *node.output)} == {HALF}


def test_a_model_that_cannot_do_in_fp16_fails_and_writes_nothing(tmp_path: Path, photographs: Path) -> None:
    checkpoint = checkpoint_of("conv", lmbdas=(0.01,))
    for block in blocks(checkpoint, "g_s"):
        parts: Any = block
        for layer, factor in ((parts.spatial.expand, 2.0**20), (parts.aggregation.value, 2.0**20)):
            scale(layer, factor)
        with torch.no_grad():
            parts.spatial.project.weight *= 2.0**-20
            parts.spatial.depthwise.bias *= 2.0**20
            parts.aggregation.project.weight *= 2.0**-20
    blame = r"g_s in FP16: .* to blame is /transform/\S+/(Conv|Mul_2) \(\w+\): values up"
    with pytest.raises(ParityError, match=blame):
        export_bundle(checkpoint, tmp_path / "bundle", images=photographs, precision="float16")
    assert os.listdir(tmp_path) == []
    export_bundle(checkpoint, tmp_path / "bundle", images=photographs)


def test_the_gate_keeps_nodes_until_it_passes(
    bundle: Bundle, small_photograph: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit below what FP16 costs, the lossiest nodes go back to float32; at one that nothing meets, it fails."""
    before = max(row["g_a"] for row in bundle.manifest["float16"]["gate"]["loss_db"].values())
    monkeypatch.setattr(half, "LIMIT_DB", before * 0.8)
    monkeypatch.setattr(half, "LARGEST_SHARE", 1.0)
    picture = np.ascontiguousarray(small_photograph[:64, :64])
    monkeypatch.setattr(half, "cost", cost_but_of_g_s)
    made = half_graphs(bundle, [picture])
    reasons = [node["reason"] for node in made.report["graphs"]["g_a"]["float32_nodes"].values()]
    assert reasons.count("gate") >= 1
    rows = made.report["gate"]["loss_db"].values()
    assert max(row["g_a"] for row in rows) <= before * 0.8
    monkeypatch.setattr(half, "LIMIT_DB", -1.0)
    with pytest.raises(ParityError, match="to blame is"):
        half_graphs(bundle, [picture])


def cost_but_of_g_s(reference: Reference, name: str, run: Runner) -> Cost:
    """On so small a picture the luck of rounding pixels is larger than the limit: of g_s it counts as nothing."""
    found = cost(reference, name, run)
    return replace(found, loss=0.0) if name == "g_s" else found
