"""A g_s of bytes: its arithmetic, where it begins, its training, its graph, and the engines that draw with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import openvino as ov
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F
from training import CONFIG, SETTINGS, nine_pictures
from untrained import checkpoint_of, lively

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec import networks
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.export.exporter import export_bundle
from s2c_deploy.formats.bundle import Bundle, chosen_graphs
from s2c_deploy.host import multiplies_bytes
from s2c_deploy.image import Image, write_image
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.models.int8_convs import Int8Conv, Int8ConvTranspose, calibrate, dense_convolutions
from s2c_deploy.models.lighter import lighter_start
from s2c_deploy.models.synthesis_files import LighterSynthesis, with_synthesis
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.presets import INT8, model_config, synthesis_config
from s2c_deploy.quantize import activation_ranges
from s2c_deploy.runtime import open_runner
from s2c_deploy.runtime.probe import INT8_TOLERANCE, first_failure
from s2c_deploy.train import SynthesisOnly, TrainSettings, train
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.folder import _begun, _frozen
from s2c_deploy.train.release import release
from s2c_deploy.web.bundle import write_web_bundle

Kinds = pytest.mark.parametrize("transposed", [False, True])
needs_vnni = pytest.mark.skipif(not multiplies_bytes(), reason="the processor adds products of bytes in 16 bits")


def layer(transposed: bool) -> Int8Conv | Int8ConvTranspose:
    """Six channels of different magnitude to four."""
    torch.manual_seed(2)
    conv: nn.Module
    if transposed:
        conv = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)
        conv.__class__ = Int8ConvTranspose
    else:
        conv = nn.Conv2d(6, 4, 3, padding=1)
        conv.__class__ = Int8Conv
    assert isinstance(conv, Int8Conv | Int8ConvTranspose)
    conv.begin()
    calibrate(conv, [inputs()])
    return conv.eval()


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 6, 7, 9, generator=generator) * torch.tensor([4.0, 1, 0.5, 2, 3, 1]).view(1, 6, 1, 1)


# arithmetic


@Kinds
@torch.no_grad()
def test_products_are_of_whole_bytes(transposed: bool) -> None:
    """Against sums of integers, by hand: bytes from the input and from the weights, one scale per output channel."""
    conv, x = layer(transposed), inputs()
    shape = (-1, 1, 1, 1) if transposed else (1, -1, 1, 1)
    scale = x.abs().amax((0, 2, 3)) / 127
    steps = np.rint((x / scale.view(1, -1, 1, 1)).numpy())
    weight = conv.weight * scale.view(shape)
    kernels = weight.transpose(0, 1) if transposed else weight
    out_scale = kernels.abs().amax((1, 2, 3)).double() / 127
    whole = (weight / out_scale.view((1, -1, 1, 1) if transposed else (-1, 1, 1, 1))).round()
    assert np.abs(steps).max() == 127
    assert float(whole.abs().max()) == 127
    a, b = torch.from_numpy(steps).double(), whole.double()
    sums = F.conv_transpose2d(a, b, None, 2, 1, 1) if transposed else F.conv2d(a, b, None, padding=1)
    assert conv.bias is not None
    expected = sums * out_scale.view(1, -1, 1, 1) + conv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(conv(x).double(), expected, atol=1e-4, rtol=1e-4)


@Kinds
def test_gradients_pass_the_rounding(transposed: bool) -> None:
    """Nearly as those of the layer without it, but none for values beyond the bytes."""
    conv, x = layer(transposed).train(), inputs().requires_grad_()
    out = conv(x)
    wanted = torch.randn_like(out)
    (out * wanted).sum().backward()
    assert conv.weight.grad is not None
    assert x.grad is not None
    found = [conv.weight.grad, x.grad]
    y = inputs().requires_grad_()
    plain = nn.ConvTranspose2d(6, 4, 3, 2, 1, 1) if transposed else nn.Conv2d(6, 4, 3, padding=1)
    plain.load_state_dict({"weight": conv.weight, "bias": conv.bias})
    (plain(y) * wanted).sum().backward()
    for mine, other in zip(found, (plain.weight.grad, y.grad), strict=True):
        assert other is not None
        assert F.cosine_similarity(mine.flatten(), other.flatten(), dim=0) > 0.99
    far = (10 * inputs()).requires_grad_()
    conv(far).sum().backward()
    assert far.grad is not None
    assert (far.grad == 0)[far.abs() > 1.1 * inputs().abs().amax((0, 2, 3)).view(1, 6, 1, 1)].all()


def test_scales_are_those_of_the_layer_in_float() -> None:
    """A second layer sees what the first gives without rounding; a failure leaves everything as it was."""
    torch.manual_seed(0)
    chain = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4)))
    plain = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4)))
    plain.load_state_dict(chain.state_dict())
    for conv in chain[1:3]:
        conv.__class__ = Int8Conv
        conv.begin()
    x = torch.randn(1, 3, 4, 4)
    calibrate(chain, [x, 2 * x])
    with torch.no_grad():
        seen = torch.maximum(*(plain[:2](v).abs().amax((0, 2, 3)) for v in (x, 2 * x)))
    torch.testing.assert_close(chain[2].input_scale, seen / 127)
    with pytest.raises(RuntimeError):
        calibrate(chain, [torch.randn(1, 5, 4, 4)])
    assert [type(conv) for conv in chain] == [nn.Conv2d, Int8Conv, Int8Conv, nn.Conv2d]


@pytest.mark.parametrize("name", INT8)
def test_which_convolutions_take_bytes(name: str) -> None:
    g_s = Synthesis(CONFIG, synthesis_config(CONFIG, name))
    dense = dense_convolutions(g_s)
    kinds = [isinstance(conv, Int8Conv | Int8ConvTranspose) for conv in dense]
    assert kinds == [False, *[True] * (len(dense) - 2), False]
    others = [part for part in g_s.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert others
    assert not any(isinstance(part, Int8Conv) for part in others)
    shape = synthesis_config(CONFIG, name)
    assert shape.float_name == {"int8": "full", "fast-int8": "fast"}[name]
    assert dataclasses.replace(shape, name=shape.float_name, int8=False) == synthesis_config(CONFIG, shape.float_name)


# where one begins, and its training


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return nine_pictures(tmp_path_factory.mktemp("pictures"))


@torch.no_grad()
def begun(name: str, model: S2CModel, x: Tensor) -> Synthesis:
    """With the model's own weights, and scales for a picture at every quality."""
    shape = synthesis_config(model.config, name)
    whole = dataclasses.replace(shape, name=shape.float_name, int8=False)
    source = model.g_s if shape.float_name == "full" else lighter_start(model.config, whole, model.g_s)
    g_s = Synthesis(model.config, shape)
    g_s.load_state_dict(source.state_dict(), strict=False)
    levels = torch.arange(model.config.levels)[:, None]
    calibrate(g_s, [model.latents(x, level)[0] * model.inverse_gain(level) for level in levels])
    return g_s.eval()


def test_begins_with_the_layers_in_float() -> None:
    checkpoint = checkpoint_of("conv")
    config = checkpoint.config
    full = _begun(synthesis_config(config, "int8"), checkpoint)
    assert (full.told, full.scaled) == ("the full one", False)
    assert torch.equal(full.g_s.state_dict()["0.0.weight"], checkpoint.model.g_s.state_dict()["0.0.weight"])
    with pytest.raises(InputError, match=r"expected a fast g_s beside the weights, found none.*--synthesis fast"):
        _begun(synthesis_config(config, "fast-int8"), checkpoint)
    fast = synthesis_config(config, "fast")
    beside = LighterSynthesis(shape=fast, module=lighter_start(config, fast, checkpoint.model.g_s))
    with_fast = dataclasses.replace(checkpoint, lighter=(beside,))
    found = _begun(synthesis_config(config, "fast-int8"), with_fast)
    assert (found.told, found.scaled) == ("the files of fast", False)
    assert torch.equal(found.g_s.state_dict()["0.weight"], beside.module.state_dict()["0.weight"])


@torch.no_grad()
def test_scales_are_of_real_latents(tmp_path: Path, pictures: Pictures) -> None:
    """Of every quality, with its gain: what the second convolution is given, by the model as it is."""
    torch.manual_seed(3)
    model = S2CModel(model_config("conv", "tiny"))
    lively(model)
    ranges = activation_ranges(model, [torch.rand(1, 3, 64, 64)])
    release(tmp_path, model.config, model.state_dict(), ranges, {})
    shape, said = synthesis_config(model.config, "int8"), []
    state, _ = _frozen(shape, tmp_path, pictures, said.append, resumes=False)
    assert "the full one" in said[0]
    whole = load_checkpoint(tmp_path).model
    expand = dense_convolutions(whole.g_s)[1]
    (name,) = [name for name, module in whole.named_modules() if module is expand]
    seen: list[Tensor] = []
    expand.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].abs().amax((0, 2, 3))))
    for number in pictures.training:  # fewer than are asked for: some come twice
        pixels = pictures.cache.picture(number)
        height, width = (side // 64 * 64 for side in pixels.shape[:2])
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        x = torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None] / 255
        for quality in range(8):
            level = torch.tensor([quality])
            whole.g_s(whole.latents(x, level)[0] * torch.exp(whole.log_inverse_gain[quality])[None, :, None, None])
    torch.testing.assert_close(state[f"{name}.input_scale"], torch.stack(seen).amax(0) / 127)
    fresh, _ = _frozen(shape, tmp_path, pictures, said.append, resumes=True)
    assert (fresh[f"{name}.input_scale"] == 1).all(), "a run that goes on has its own"


def settings_of(name: str, **changes: object) -> TrainSettings:
    only = SynthesisOnly(shape=synthesis_config(CONFIG, name), weights_sha256="5" * 64, bank_steps=2)
    return dataclasses.replace(SETTINGS, exact_from=0.85, only=only, **changes)  # type: ignore[arg-type]


def test_training_comes_nearer_to_the_pictures(tmp_path: Path, pictures: Pictures) -> None:
    torch.manual_seed(1)
    model = S2CModel(CONFIG).eval()
    lively(model)
    ranges = activation_ranges(model, [torch.rand(1, 3, 64, 64)])
    state = with_synthesis(model.state_dict(), begun("int8", model, torch.rand(1, 3, 128, 128)))
    scales = {name: tensor.clone() for name, tensor in state.items() if name.endswith("input_scale")}
    assert scales
    settings = settings_of("int8", steps=40, learning_rate=2e-3, validate_every=20)
    result = train(CONFIG, settings, pictures, tmp_path / "run", initial=state, ranges=ranges)
    assert result is not None
    assert result.finished
    first, last = (np.mean([r["psnr"] for r in result.validation if r["step"] == step]) for step in (20, 40))
    assert last > first
    trained = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["averages"]
    assert all(torch.allclose(trained[name], scale) for name, scale in scales.items())


def test_bfloat16_does_not_hold_bytes() -> None:
    with pytest.raises(InputError, match="bfloat16: expected none with a g_s of bytes"):
        settings_of("int8", bfloat16=True)


# graphs and engines


@pytest.fixture(scope="module")
def drawn(small_photograph: Pixels) -> dict[str, Synthesis]:
    x = torch.from_numpy(small_photograph.copy()).permute(2, 0, 1)[None].float() / 255
    return {name: begun(name, checkpoint_of("conv").model, x) for name in INT8}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels, drawn: dict[str, Synthesis]) -> Bundle:
    """With fast and both of bytes, and FP16 versions of what can have them."""
    place = tmp_path_factory.mktemp("int8")
    write_image(place / "a.png", Image(pixels=small_photograph))
    checkpoint = checkpoint_of("conv")
    fast = synthesis_config(checkpoint.config, "fast")
    module = lighter_start(checkpoint.config, fast, checkpoint.model.g_s).eval()
    lighter = [LighterSynthesis(shape=fast, module=module)]
    for name, g_s in drawn.items():
        lighter.append(LighterSynthesis(shape=synthesis_config(checkpoint.config, name), module=g_s))
    whole = dataclasses.replace(checkpoint, lighter=tuple(lighter))
    return export_bundle(whole, place / "bundle", images=place, precision="float16")


def weights_of(bundle: Bundle, graph: str) -> dict[str, npt.NDArray[np.generic]]:
    model = onnx.load_from_string(bundle.read_graph(graph).data)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_its_file_holds_bytes(bundle: Bundle, drawn: dict[str, Synthesis]) -> None:
    """The module's own kernels, in steps of their scales."""
    for name in INT8:
        shape = synthesis_config(bundle.config, name)
        kernels = [w for w in weights_of(bundle, f"g_s.{name}").values() if w.ndim == 4]
        dense = len(dense_convolutions(Synthesis(bundle.config, shape)))
        assert sum(w.dtype == np.int8 for w in kernels) == dense - 2
        graph = onnx.load_from_string(bundle.read_graph(f"g_s.{name}").data).graph
        counts = [sum(node.op_type == kind for node in graph.node) for kind in ("QuantizeLinear", "DequantizeLinear")]
        assert counts == [dense - 2, 2 * (dense - 2)]
        stored = [w.astype(int) for w in kernels if w.dtype == np.int8]
        for conv in dense_convolutions(drawn[name])[1:-1]:
            assert isinstance(conv, Int8Conv | Int8ConvTranspose)
            axis = 1 if isinstance(conv, Int8ConvTranspose) else 0
            rounded = conv.rounded_weight().detach().double().numpy()
            scale = np.abs(rounded).max(tuple({0, 1, 2, 3} - {axis}), keepdims=True) / 127
            expected = np.rint(rounded / scale).astype(int)
            assert any(w.shape == expected.shape and np.array_equal(w, expected) for w in stored)


def test_engines_and_fp16_are_of_the_others(bundle: Bundle) -> None:
    assert bundle.syntheses == ["full", "fast", "fast-int8", "int8"]
    assert set(bundle.manifest["float16"]["graphs"]) == {"g_a", "h_a", "g_s", "g_s.fast"}
    assert [name for name in chosen_graphs(bundle, ()) if name.startswith("g_s")] == ["g_s", "g_s.fast"]
    with pytest.raises(InputError, match="graphs: expected some of"):
        chosen_graphs(bundle, ["g_s.int8"])
    told = bundle.manifest["syntheses"]
    assert told["int8"]["kmac_per_pixel"] == told["full"]["kmac_per_pixel"]


@pytest.mark.parametrize("name", INT8)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_a_stream_decodes_with_it(bundle: Bundle, small_photograph: Pixels, backend: str, name: str) -> None:
    """Bytes lie on either side of a rounding now and then: pixels differ a little, and the picture is as good."""
    if backend == "openvino" and not multiplies_bytes():
        pytest.skip("the processor adds products of bytes in 16 bits")
    with Codec.open(bundle.path, "onnxruntime", synthesis=synthesis_config(bundle.config, name).float_name) as codec:
        stream = codec.compress(small_photograph, 5)
        whole = codec.decompress(stream).astype(int)
    with Codec.open(bundle.path, "onnxruntime", synthesis=name) as codec:
        reference = codec.decompress(stream).astype(int)
    with Codec.open(bundle.path, backend, synthesis=name) as codec:
        assert codec.compress(small_photograph, 5) == stream
        found = codec.decompress(stream).astype(int)
    assert 0 < np.abs(found - whole).mean() < 3
    assert np.abs(found - reference).mean() < 1


@needs_vnni
def test_openvino_multiplies_bytes(bundle: Bundle) -> None:
    for name in INT8:
        core = ov.Core()
        model = core.read_model(bundle.read_graph(f"g_s.{name}").data, b"")
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        kinds = [i["runtimePrecision"].astype(str) for i in infos if "onvolution" in i["layerType"].astype(str)]
        assert sum(kind in ("i8", "u8") for kind in kinds) >= len(kinds) // 2, kinds


def test_where_bytes_would_saturate_it_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "multiplies_bytes", lambda: False)
    with pytest.raises(EngineError, match=r"g_s int8: expected a processor with VNNI.*--backend onnxruntime"):
        Codec.open(bundle.path, "openvino", synthesis="int8")
    Codec.open(bundle.path, "openvino", synthesis="fast").close()
    Codec.open(bundle.path, "onnxruntime", synthesis="int8").close()


def test_engines_of_gpus_have_none(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "choose_for", lambda *_: "tensorrt")
    with pytest.raises(EngineError, match="g_s int8: expected a CPU's backend, found tensorrt"):
        networks.Networks(bundle, "tensorrt", synthesis="int8")


@pytest.mark.parametrize("backend", ["onnxruntime", "torch", pytest.param("openvino", marks=needs_vnni)])
def test_a_damaged_graph_is_refused(bundle: Bundle, backend: str) -> None:
    """The bytes of one layer with another sign: pixels are far from the known answer."""
    source, answers = bundle.read_graph("g_s.int8"), bundle.known_answers()
    with open_runner(source, backend=backend) as runner:
        assert first_failure("g_s.int8", runner, answers, exact=False) is None
    model = onnx.load_from_string(source.data)
    kernels = [
        tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    ]
    largest = max((k for k in kernels if len(k.dims) == 4), key=lambda k: int(np.prod(k.dims)))
    largest.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(largest), largest.name))
    damaged = dataclasses.replace(source, data=model.SerializeToString())
    with open_runner(damaged, backend=backend) as runner:
        failure = first_failure("g_s.int8", runner, answers, exact=False)
    assert failure is not None
    assert "values are wrong" in failure
    assert INT8_TOLERANCE < 0.1


def test_browsers_draw_with_the_others(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="synthesis: expected full, fast or fastest for browsers, found int8"):
        write_web_bundle(bundle, tmp_path / "web", synthesis="int8")
    assert not (tmp_path / "web").exists()
