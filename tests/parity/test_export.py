"""Exported graphs: valid, self-describing, reproducible, at any size; and a gate that lets no damaged one through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image as Pil
from untrained import checkpoint_of

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import ExactnessError, ExportError, InputError, ParityError
from s2c_deploy.export import exporter
from s2c_deploy.export.exporter import deployed_gains, export_bundle
from s2c_deploy.export.graph_writer import IR_VERSION, OPSET
from s2c_deploy.export.parity import check_graph
from s2c_deploy.formats.bundle import Bundle, exact_graphs, graph_names, load_arrays, open_bundle
from s2c_deploy.formats.manifest import KNOWN_ANSWERS
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint
from s2c_deploy.presets import VARIANTS
from s2c_deploy.runtime import Runner, open_runner
from s2c_deploy.runtime.probe import Probe, compare, probe_from_arrays

Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    Pil.fromarray(small_photograph).save(folder / "small.png")
    return folder


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


def known_answers(bundle: Bundle, graph: str) -> Probe:
    return probe_from_arrays(graph, load_arrays(bundle.path / KNOWN_ANSWERS))


# what is exported


def test_graphs_are_valid_and_describe_themselves(bundle: Bundle) -> None:
    names = graph_names(bundle.config)
    assert set(bundle.manifest["graphs"]) == set(names)
    for name in names:
        model = onnx.load(bundle.graph(name))
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
        assert OPSET == 17
        assert model.ir_version <= IR_VERSION
        described = {p.key: p.value for p in model.metadata_props}
        exact = name in exact_graphs(bundle.config)
        assert described["model"] == bundle.config.name
        assert described["graph"] == model.graph.name == name
        assert described["weights_sha256"] == bundle.manifest["weights_sha256"]
        assert described["arithmetic"].startswith("exact" if exact else "float32")
        listed = bundle.manifest["graphs"][name]
        assert listed["exact"] is exact
        for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            assert [tensor["name"] for tensor in listed[side]] == [value.name for value in values]
            assert all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in values)
        # Batch and both sides of every picture-like tensor are free.
        dynamic = [d for d in listed["outputs"][0]["shape"] if isinstance(d, str)]
        assert len(dynamic) == 3
        assert listed["parity"]["relative_difference"] < 1e-5
        assert not exact or listed["parity"]["differing_values"] == 0


def test_exact_graphs_hold_nothing_that_rounds(bundle: Bundle) -> None:
    allowed = {"Add", "Clip", "Concat", "Conv", "DepthToSpace", "Floor", "Mul", "Slice", "Split"}
    for name in exact_graphs(bundle.config):
        graph = onnx.load(bundle.graph(name)).graph
        assert {node.op_type for node in graph.node} <= allowed
        for tensor in graph.initializer:
            array = numpy_helper.to_array(tensor)
            if tensor.name.endswith(".scale"):
                assert (np.frexp(array)[0] == 0.5).all(), "scales are powers of two"
            elif tensor.name != "half":
                assert (array == np.rint(array)).all(), tensor.name
            if ".weight" in tensor.name:
                assert np.abs(array).max() <= 2047


@pytest.mark.parametrize("variant", VARIANTS)
def test_transforms_take_any_size(tmp_path: Path, photographs: Path, variant: str) -> None:
    """Traced at one size, right at others, with another gain: no size or weight is baked in by mistake."""
    checkpoint = checkpoint_of(variant, aggregation="glu_dw" if variant == "hybrid" else "glu")
    made = export_bundle(checkpoint, tmp_path / "bundle", images=photographs)
    model = checkpoint.model
    g = torch.Generator().manual_seed(1)
    for size in ((1, 64, 64), (2, 192, 64)):
        n, height, width = size
        latent = (n, 48, height // 16, width // 16)
        calls = {
            "g_a": (model.g_a, "x", torch.rand(n, 3, height, width, generator=g), "gain", "y"),
            "h_a": (model.h_a, "y", torch.randn(latent, generator=g), "hyper_gain", "z"),
            "g_s": (model.g_s, "y_hat", torch.randn(latent, generator=g), "inverse_gain", "x_hat"),
        }
        for name, (module, data, x, gain, output) in calls.items():
            channels = 16 if name == "h_a" else 48
            scale = torch.rand(1, channels, 1, 1, generator=g) + 0.5
            with torch.no_grad():
                expected = module(x * scale) if name == "g_s" else module(x) * scale
            with open_runner(made.graph(name), backend="onnxruntime") as run:
                found = run({data: x.numpy(), gain: scale.numpy()})[output]
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))


def test_a_bundle_of_another_shape_codes_pictures(tmp_path: Path, photographs: Path, small_photograph: Pixels) -> None:
    export_bundle(checkpoint_of("hybrid", lmbdas=(0.01,)), tmp_path / "bundle", images=photographs)
    with Codec.open(tmp_path / "bundle", "onnxruntime", threads=1) as codec:
        picture = small_photograph[:100, :130]
        assert (codec.decompress(codec.compress(picture, 1)) == codec.reconstruct(picture, 1)).all()


def test_the_same_weights_give_the_same_bytes(tmp_path: Path, photographs: Path) -> None:
    first, second = (
        export_bundle(checkpoint_of("conv"), tmp_path / name, images=photographs) for name in ("first", "second")
    )
    assert first.fingerprint == second.fingerprint
    assert first.manifest["files"] == second.manifest["files"]
    checkpoint = checkpoint_of("conv")
    with torch.no_grad():
        checkpoint.model.group_contexts[4].mix.weight[0, 0, 0, 0] += 0.1
    other = export_bundle(checkpoint, tmp_path / "other", images=photographs)
    assert other.fingerprint != first.fingerprint


def test_a_processor_with_other_vectors_gives_the_same_fingerprint(tmp_path: Path, photographs: Path) -> None:
    """exp and its like differ in their last bit between vector widths: none may reach what is fingerprinted."""
    checkpoint = checkpoint_of("conv")
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    program = """
import sys, torch
from pathlib import Path
from s2c_deploy.export.exporter import export_bundle

checkpoint, out, photographs = map(Path, sys.argv[1:])
print(export_bundle(torch.load(checkpoint, weights_only=False), out, images=photographs).fingerprint.hex())
"""
    # Names of NumPy 1, then of NumPy 2; what a processor has not is passed over.
    without = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
    narrow = {"NPY_DISABLE_CPU_FEATURES": without, "ATEN_CPU_CAPABILITY": "default"}
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "checkpoint.pt", tmp_path / "narrow", photographs],
        env=os.environ | narrow | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    here = export_bundle(checkpoint, tmp_path / "here", images=photographs)
    assert ran.stdout.split()[-1] == here.fingerprint.hex()


def test_deployed_gains_are_those_of_the_model() -> None:
    model = checkpoint_of("conv").model
    with torch.no_grad():
        model.log_hyper_gain[2, 3] = 1.5
        model.z_index[0, :3] = torch.tensor([-1.0, 4.06, 99.0])
    gains = deployed_gains(model)
    np.testing.assert_allclose(gains.gain, model.log_gain.detach().exp(), rtol=1e-6)
    np.testing.assert_allclose(gains.inverse_gain * 16, model.log_inverse_gain.detach().exp(), rtol=1e-6)
    assert gains.hyper_gain[2, 3] == np.float32(np.exp(1.5))
    assert gains.z_indexes[0, :3].tolist() == [0, 32, 63]
    assert all(a.dtype == np.float32 for a in (gains.gain, gains.inverse_gain, gains.hyper_gain))


# the gate


def damaged(bundle: Bundle, graph: str, folder: Path, edit: Edit) -> Path:
    model = onnx.load(bundle.graph(graph))
    edit(model)
    onnx.save(model, folder / f"{graph}.onnx")
    return folder / f"{graph}.onnx"


def change_weight(model: onnx.ModelProto, change: Callable[[float], float]) -> None:
    """Changes one number: the largest of a convolution in the middle of the graph."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    name = convs[len(convs) // 2].input[1]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    position = np.unravel_index(np.abs(array).argmax(), array.shape)
    array[position] = change(float(array[position]))
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def one_step_more(model: onnx.ModelProto, layer: str, channel: int) -> None:
    """Changes one bias by as much as one step of that channel's output."""
    tensors = {t.name: t for t in model.graph.initializer}
    bias = numpy_helper.to_array(tensors[f"{layer}.bias"]).copy()
    bias[channel] += 1 / numpy_helper.to_array(tensors[f"{layer}.scale"])[0, channel, 0, 0]
    tensors[f"{layer}.bias"].CopyFrom(numpy_helper.from_array(bias, f"{layer}.bias"))


def gate(bundle: Bundle, graph: str, path: Path, probe: Probe) -> None:
    check_graph(graph, path, [{graph: probe}], exact=graph in exact_graphs(bundle.config))


def test_good_graphs_pass(bundle: Bundle) -> None:
    for name in graph_names(bundle.config):
        gate(bundle, name, bundle.graph(name), known_answers(bundle, name))


@pytest.mark.parametrize("graph", ["g_a", "h_a", "g_s"])
def test_one_changed_weight_of_a_float_graph_is_found(bundle: Bundle, tmp_path: Path, graph: str) -> None:
    path = damaged(bundle, graph, tmp_path, lambda model: change_weight(model, lambda w: -w))
    with pytest.raises(ParityError, match=rf"{graph}: \w+ at \(0(, \d+)+\): expected \S+, found \S+;"):
        gate(bundle, graph, path, known_answers(bundle, graph))


@pytest.mark.parametrize(
    ("graph", "layer", "output"),
    [
        ("h_s", "h_s.2", "hyper"),
        ("context_0_anchor", "context_0.mix", "features"),
        ("context_4_nonanchor", "context_4.nonanchor.1", "means"),
    ],
)
def test_one_changed_weight_of_an_exact_graph_is_found(
    bundle: Bundle, tmp_path: Path, graph: str, layer: str, output: str
) -> None:
    answers = known_answers(bundle, graph)
    inside = (answers.outputs[output] > 0) & (answers.outputs[output] < 255)  # clipped nowhere
    channel = int(inside.sum((0, 2, 3)).argmax())
    offset = answers.outputs["indexes"].shape[1] if output == "means" else 0
    path = damaged(bundle, graph, tmp_path, lambda model: one_step_more(model, layer, offset + channel))
    with pytest.raises(ParityError, match=rf"{graph}: {output} at \(0, {channel}, \d+, \d+\): expected ") as caught:
        gate(bundle, graph, path, answers)
    expected, found = (int(v) for v in re.findall(r"(?:expected|found) (-?\d+)", str(caught.value)))
    assert found == expected + 1


@pytest.mark.parametrize("graph", ["h_s", "context_2_anchor", "context_2_nonanchor"])
def test_one_value_off_by_one_is_found(bundle: Bundle, graph: str) -> None:
    good = known_answers(bundle, graph)
    for output, array in good.outputs.items():
        position = (0, array.shape[1] // 2, 1, 2)
        wrong = array.copy()
        wrong[position] += 1
        place = ", ".join(map(str, position))
        value = rf"expected {wrong[position]:g}, found {array[position]:g}; 1 values"
        with pytest.raises(ParityError, match=rf"{graph}: {output} at \({place}\): {value}"):
            gate(bundle, graph, bundle.graph(graph), Probe(inputs=good.inputs, outputs={**good.outputs, output: wrong}))


class Parrot(Runner):
    """An engine that says what it was told to."""

    backend = provider = "parrot"
    precision = "float32"
    inputs = ()

    def __init__(self, **says: npt.NDArray[np.float32]) -> None:
        self.says = says

    def _run(self, _inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        return self.says


def test_off_by_one_is_wrong_however_large_the_values() -> None:
    """One step of 32767 is within the tolerance of a float graph, and a broken stream in an exact one."""
    expected = np.array([[32767, 5]], np.float32)
    probe = Probe(inputs={}, outputs={"features": expected})
    parrot = Parrot(features=np.array([[32767, 6]], np.float32))
    assert compare("context", parrot, probe, exact=False).failure is None
    exact = compare("context", parrot, probe, exact=True)
    assert exact.failure == "context: features at (0, 1): expected 5, found 6; 1 values are wrong, of parrot"
    assert exact.differing == 1


def test_the_worst_of_several_probes_counts(bundle: Bundle) -> None:
    good = known_answers(bundle, "h_s")
    bad = Probe(inputs=good.inputs, outputs={"hyper": good.outputs["hyper"] + 1})
    with pytest.raises(ParityError, match="h_s: hyper"):
        check_graph("h_s", bundle.graph("h_s"), [{"h_s": good}, {"h_s": bad}, {"h_s": good}], exact=True)


def test_float_graphs_may_differ_in_their_last_bits_only(bundle: Bundle) -> None:
    good = known_answers(bundle, "g_s")
    scale = float(np.abs(good.outputs["x_hat"]).max())
    near = good.outputs["x_hat"].copy()
    near[0, 1, 5, 6] += 5e-5 * scale
    gate(bundle, "g_s", bundle.graph("g_s"), Probe(inputs=good.inputs, outputs={"x_hat": near}))
    near[0, 1, 5, 6] += 2e-4 * scale
    with pytest.raises(ParityError, match=r"g_s: x_hat at \(0, 1, 5, 6\)"):
        gate(bundle, "g_s", bundle.graph("g_s"), Probe(inputs=good.inputs, outputs={"x_hat": near}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_found(bundle: Bundle, tmp_path: Path, value: float) -> None:
    path = damaged(bundle, "g_s", tmp_path, lambda model: change_weight(model, lambda _: value))
    with pytest.raises(ParityError, match=r"g_s: x_hat at \(.*found (nan|-?inf)"):
        gate(bundle, "g_s", path, known_answers(bundle, "g_s"))
    good = known_answers(bundle, "g_a")
    answers = good.outputs["y"].copy()
    answers[0, 3, 2, 1] = value
    with pytest.raises(ParityError, match=r"g_a: y at \("), np.errstate(invalid="ignore"):
        gate(bundle, "g_a", bundle.graph("g_a"), Probe(inputs=good.inputs, outputs={"y": answers}))


def test_outputs_of_another_name_or_shape_are_found(bundle: Bundle, tmp_path: Path) -> None:
    good = known_answers(bundle, "h_s")

    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = model.graph.output[0].name = "features"

    with pytest.raises(ParityError, match=r"h_s: .*hyper.*features"):
        gate(bundle, "h_s", damaged(bundle, "h_s", tmp_path, rename), good)
    cut = Probe(inputs=good.inputs, outputs={"hyper": good.outputs["hyper"][:, :, :4]})
    with pytest.raises(ParityError, match=r"h_s: hyper: expected shape \(1, 192, 4, 12\), found \(1, 192, 8, 12\)"):
        gate(bundle, "h_s", bundle.graph("h_s"), cut)


def test_graphs_that_are_none_are_found(bundle: Bundle, tmp_path: Path) -> None:
    def unknown(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Convolve"

    def dangling(model: onnx.ModelProto) -> None:
        model.graph.node[3].input[0] = "nowhere"

    def misshapen(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5

    for edit in (unknown, dangling, misshapen):
        with pytest.raises(ParityError, match=r"h_s\.onnx: not a valid ONNX file|h_s: input z_hat: expected .* 5,"):
            gate(bundle, "h_s", damaged(bundle, "h_s", tmp_path, edit), known_answers(bundle, "h_s"))


# a failed export


@pytest.mark.parametrize("before", ["nothing", "a bundle"])
def test_a_failed_gate_leaves_nothing_behind(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    checkpoint = checkpoint_of("identity")
    if before == "a bundle":
        fingerprint = export_bundle(checkpoint, out / "bundle", images=photographs).fingerprint
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    write = exporter.entropy_graphs

    def damaging(model: S2CModel) -> dict[str, onnx.ModelProto]:
        graphs = write(model)
        one_step_more(graphs["context_3_anchor"], "context_3.mix", 5)
        return graphs

    monkeypatch.setattr(exporter, "entropy_graphs", damaging)
    steps: list[tuple[int, int | None, str]] = []
    with pytest.raises(ParityError, match="context_3_anchor: "):
        export_bundle(checkpoint, out / "bundle", images=photographs, progress=lambda *step: steps.append(step))
    assert steps[-1][2] == "checking context_3_anchor"
    assert [done for done, _, _ in steps] == list(range(len(steps)))
    assert list(scratch.iterdir()) == []
    if before == "a bundle":
        assert [path.name for path in out.iterdir()] == ["bundle"]
        assert open_bundle(out / "bundle").fingerprint == fingerprint
    else:
        assert list(out.iterdir()) == []


def test_what_cannot_be_exported_writes_nothing(tmp_path: Path, photographs: Path, small_photograph: Pixels) -> None:
    out = tmp_path / "bundle"
    checkpoint = checkpoint_of("identity")
    (tmp_path / "tiny").mkdir()
    Pil.fromarray(small_photograph[:127]).save(tmp_path / "tiny" / "a.png")
    with pytest.raises(InputError, match="at least 192x128 pixels, found 192x127"):
        export_bundle(checkpoint, out, images=tmp_path / "tiny")
    no_range = {name: value for name, value in checkpoint.ranges.items() if name != "1.mixed"}
    with pytest.raises(ExportError, match=r"1\.mixed"):
        export_bundle(Checkpoint(**{**vars(checkpoint), "ranges": no_range}), out, images=photographs)
    with pytest.raises(ExportError, match="manifest"):
        export_bundle(Checkpoint(**{**vars(checkpoint), "recipe": {"x": float("nan")}}), out, images=photographs)
    with torch.no_grad():
        checkpoint.model.h_s[4].weight[2] *= 1e7  # type: ignore[operator,index]
    with pytest.raises(ExactnessError, match=r"layer h_s\.2, channel 2"):
        export_bundle(checkpoint, out, images=photographs)
    assert not out.exists()
