"""Exact graphs on OpenVINO's INT8 kernels: the same integers, or float32 instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import openvino as ov
import pytest
from onnx import numpy_helper
from PIL import Image
from untrained import checkpoint_of

from s2c_deploy import Codec
from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec import networks as codec_networks
from s2c_deploy.codec.networks import Networks, has_int8
from s2c_deploy.errors import EngineError
from s2c_deploy.export.exporter import export_bundle
from s2c_deploy.formats.bundle import Bundle, exact_graphs, open_bundle
from s2c_deploy.host import multiplies_bytes
from s2c_deploy.runtime import open_runner, openvino_int8
from s2c_deploy.runtime.probe import known_probes
from s2c_deploy.verify.cross import settings_for

needs_vnni = pytest.mark.skipif(not multiplies_bytes(), reason="the processor adds products of bytes in 16 bits")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels) -> Bundle:
    """Of operands of 8 bits."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "photographs").mkdir()
    Image.fromarray(small_photograph).save(folder / "photographs" / "small.png")
    checkpoint = checkpoint_of("conv", operand_bits=8)
    export_bundle(checkpoint, folder / "bundle", images=folder / "photographs", precision="float32")
    return open_bundle(folder / "bundle")


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """INT8, whatever the processor."""
    monkeypatch.setattr(codec_networks, "multiplies_bytes", lambda: True)


def random_inputs(graph: onnx.GraphProto, seed: int) -> dict[str, FloatArray]:
    """Whole numbers over what the decoder may pass, at a size that is no multiple of anything."""
    rng = np.random.default_rng(seed)
    ranges = {"z_hat": (-127, 128), "hyper": (0, 256), "features": (-700, 700), "y_prev": (-9000, 9000)}
    sides = (3, 5) if graph.name == "h_s" else (12, 20)
    inputs = {}
    for value in graph.input:
        channels = value.type.tensor_type.shape.dim[1].dim_value
        low, high = ranges.get(value.name, (-9000, 9000))
        inputs[value.name] = rng.integers(low, high, (2, channels, *sides)).astype(np.float32)
    return inputs


@needs_vnni
def test_the_same_integers_as_another_engine_in_float32(bundle: Bundle) -> None:
    for name in exact_graphs(bundle.config):
        source = bundle.read_graph(name)
        graph = onnx.load_model_from_string(source.data).graph
        with (
            open_runner(source, backend="openvino", int8=True) as bytewise,
            open_runner(source, backend="onnxruntime") as reference,
        ):
            assert bytewise.provider.endswith("INT8")
            for seed in range(3):
                inputs = random_inputs(graph, seed)
                found, expected = bytewise(inputs), reference(inputs)
                assert all(np.array_equal(found[output], expected[output]) for output in expected), name


@needs_vnni
def test_its_convolutions_run_on_int8_kernels(bundle: Bundle) -> None:
    for name in exact_graphs(bundle.config):
        core = ov.Core()
        model = core.read_model(bundle.read_graph(name).data, b"")
        convolutions = sum(node.get_type_name() == "Convolution" for node in model.get_ops())
        assert openvino_int8.multiply_bytes_in_place(model) == convolutions > 0
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        precisions = [
            info["runtimePrecision"].astype(str) for info in infos if info["layerType"].astype(str) == "Convolution"
        ]
        assert len(precisions) == convolutions
        assert set(precisions) <= {"i8", "u8"}, (name, precisions)


@pytest.mark.usefixtures("asked_for")
def test_what_one_engine_codes_the_other_decodes(bundle: Bundle, small_photograph: Pixels) -> None:
    """On any processor: where its INT8 kernels saturate, float32 takes over."""
    with Codec.open(bundle.path, "openvino") as codec, Codec.open(bundle.path, "onnxruntime") as other:
        for data in (encoder.compress(small_photograph, quality) for encoder in (codec, other) for quality in (1, 8)):
            assert np.abs(codec.decompress(data).astype(int) - other.decompress(data)).max() <= 1


@pytest.mark.usefixtures("asked_for")
def test_a_damaged_int8_graph_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of one layer is off by one: the graph runs in float32."""
    stored = openvino_int8._stored

    def damaged(weight: npt.NDArray[np.float32]) -> object:
        weight = weight.copy()
        weight[0, 0, 0, 0] += 1 if weight[0, 0, 0, 0] < 127 else -1
        return stored(weight)

    assert Networks(bundle, "openvino")["h_s"].provider.endswith("INT8") or not multiplies_bytes()
    monkeypatch.setattr(openvino_int8, "_stored", damaged)
    for name in exact_graphs(bundle.config):
        assert not Networks(bundle, "openvino")[name].provider.endswith("INT8")


def test_known_answers_tell_sums_that_saturate(bundle: Bundle) -> None:
    """The first layer of a context network, with pairs of products added in 16 bits, as processors without VNNI do."""
    graph = onnx.load_model_from_string(bundle.read_graph("context_0_anchor").data).graph
    constants = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "Conv")
    weight = constants[first.input[1]][:, :, 0, 0].astype(np.int64)
    probe = known_probes("context_0_anchor", bundle.known_answers(), exact=True)[1]
    hyper = probe.inputs["hyper"].astype(np.int64)
    pairs = np.einsum(
        "opi,bpihw->bophw", weight.reshape(len(weight), -1, 2), hyper.reshape(len(hyper), -1, 2, *hyper.shape[2:])
    )
    assert (np.clip(pairs, -(2**15), 2**15 - 1) != pairs).any()


def test_bundles_of_wider_operands_stay_in_float32(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert not has_int8(bundle, "openvino")
    with pytest.raises(EngineError, match=r"expected operands of a byte, found inputs from .* and weights up to \d+"):
        open_runner(bundle.read_graph("context_0_anchor"), backend="openvino", int8=True)


def test_other_engines_have_none(bundle: Bundle) -> None:
    assert not any(has_int8(bundle, backend) for backend in ("onnxruntime", "torch"))
    with pytest.raises(EngineError, match="onnxruntime has no INT8 kernels for exact graphs"):
        open_runner(bundle.read_graph("h_s"), backend="onnxruntime", int8=True)


@needs_vnni
def test_verify_tries_them(bundle: Bundle) -> None:
    said = [str(setting) for setting in settings_for(bundle, ["onnxruntime", "openvino"])]
    assert said.count("openvino, 1 thread, INT8") == 1
