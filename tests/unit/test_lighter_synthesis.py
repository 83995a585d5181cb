"""Lighter versions of g_s: where they begin, their files, their training, and a bundle that holds them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from forging import edit, forge
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from training import CONFIG, SETTINGS, nine_pictures
from untrained import checkpoint_of, lively, small_config

from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.cases import Source
from s2c_deploy.bench.measure import run_benchmark
from s2c_deploy.bench.request import Request
from s2c_deploy.bench.rows import choose_rows, known_rows, open_engine
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import BundleError, EngineError, ExportError, InputError
from s2c_deploy.evaluation import Request as EvaluationRequest
from s2c_deploy.evaluation import evaluate_folder
from s2c_deploy.export.exporter import export_bundle
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import Image, write_image
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.models.cost import count_cost
from s2c_deploy.models.lighter import lighter_start
from s2c_deploy.models.synthesis_files import LighterSynthesis, synthesis_files, with_synthesis
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.presets import LIGHTER, VARIANTS, SynthesisConfig, model_config, synthesis_config
from s2c_deploy.quantize import activation_ranges, exact_model
from s2c_deploy.train import SynthesisOnly, TrainSettings, train
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.folder import _frozen
from s2c_deploy.train.frozen import BANK, Frozen, LatentBank
from s2c_deploy.train.release import release
from s2c_deploy.train.run import STATE, Run

FAST = synthesis_config(CONFIG, "fast")


# shapes


def test_shapes_by_name() -> None:
    config = model_config("conv", "small")
    assert synthesis_config(config).widths == (160, 96, 48)
    assert synthesis_config(config, "fast").widths == (160, 96)
    assert synthesis_config(config, "fastest").widths == (160, 64)
    assert [synthesis_config(config, name).last_factor for name in ("full", *LIGHTER)] == [2, 4, 4]
    with pytest.raises(InputError, match="expected one of full, fast, fastest, int8, fast-int8, found 'quick'"):
        synthesis_config(config, "quick")


@pytest.mark.parametrize(
    "change", [{"widths": ()}, {"widths": (8, 8, 8, 8), "depths": (1, 1, 1, 1)}, {"depths": (1,)}, {"upsampling": "x"}]
)
def test_impossible_shapes(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected one"):
        dataclasses.replace(FAST, **change)  # type: ignore[arg-type]


def test_cost_of_a_transposed_convolution() -> None:
    """Against a count by hand: one stage, no block but an identity's aggregation would be more to count."""
    config = small_config("identity", widths=(8, 8, 8), aggregation="mlp", expansion=1)
    shape = SynthesisConfig(name="fast", widths=(8,), depths=(1,), upsampling="transposed3x3")
    found = next(part for part in count_cost(config, shape) if part.name == "g_s")
    up, block, last = 48 * 8 * 9 / 16**2, 2 * 8 * 8 / 8**2, 8 * 3 * 8**2 * 9 / 8**2
    assert found.kmac_per_pixel == pytest.approx((up + block + last) / 1000)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", LIGHTER)
def test_every_variant_has_them(variant: str, name: str) -> None:
    config = small_config(variant)
    full = S2CModel(config).g_s
    lively(full)
    start = lighter_start(config, synthesis_config(config, name), full)
    assert start(torch.randn(1, 48, 8, 8)).shape == (1, 3, 128, 128)


# where they begin


def as_subpixel(conv: nn.ConvTranspose2d) -> nn.Sequential:
    """A transposed 3x3 convolution of stride 2 as a sub-pixel one, from its definition: each tap to its own place."""
    inputs, outputs = conv.weight.shape[:2]
    kernels = torch.zeros(outputs, 2, 2, inputs, 3, 3)
    for row in range(3):
        for column in range(3):
            # out[2 i - 1 + tap] += w[tap] in[i]: the output at 2 j + d reads in[j + (d + 1 - tap) / 2]
            dy, dx = (row + 1) % 2, (column + 1) % 2
            kernels[:, dy, dx, :, 1 + (dy + 1 - row) // 2, 1 + (dx + 1 - column) // 2] = conv.weight[
                :, :, row, column
            ].T
    subpixel = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
    assert conv.bias is not None
    assert subpixel.bias is not None
    with torch.no_grad():
        subpixel.weight.copy_(kernels.flatten(0, 2))
        subpixel.bias.copy_(conv.bias.repeat_interleave(4))
    return nn.Sequential(subpixel, nn.PixelShuffle(2))


@torch.no_grad()
def test_begins_as_what_a_transposed_convolution_can_do() -> None:
    """A full g_s of transposed convolutions in disguise, blocks that say something, and a last stage with none: the
    lighter one begins as the same function."""
    torch.manual_seed(3)
    config = small_config("conv", widths=(16, 16, 24))
    shape = synthesis_config(config, "fast")
    full, wanted = S2CModel(config).g_s, Synthesis(config, shape)
    lively(wanted)
    firsts = [0, 2, 4, 6]
    for i, first in enumerate(firsts[:2]):
        up = wanted[2 * i]
        assert isinstance(up, nn.ConvTranspose2d)
        full[first] = as_subpixel(up)
        full[first + 1].load_state_dict(wanted[2 * i + 1].state_dict())
    # Of the stage that it lacks, 3x3 kernels see what one does: the next convolution looks nowhere else.
    conv = full[firsts[3]][0]  # type: ignore[index]
    conv.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    start = lighter_start(config, shape, full)
    y = torch.randn(2, config.latent_channels, 6, 10)
    bare = nn.Sequential(*(layer for i, layer in enumerate(full) if i != 5))
    torch.testing.assert_close(start(y), bare(y), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_narrower_stage_keeps_what_matters() -> None:
    """Channels that nothing reads are the first to go."""
    torch.manual_seed(4)
    config = small_config("conv")
    shape = synthesis_config(config, "fastest")
    full = S2CModel(config).g_s
    lively(full)
    dead = torch.arange(0, 16, 2)
    full[4][0].weight[:, dead] = 0  # type: ignore[index]
    start = lighter_start(config, shape, full)
    rows = full[2][0].bias.view(16, 4).mean(1)  # type: ignore[index]
    assert torch.equal(start[2].bias, rows[1::2])  # type: ignore[arg-type]


# files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with a lighter g_s beside its weights."""
    out = tmp_path / "model"
    out.mkdir()
    model = S2CModel(model_config("conv", "tiny"))
    ranges = activation_ranges(model, [torch.rand(1, 3, 64, 64)])
    release(out, model.config, model.state_dict(), ranges, {})
    return out


def lay_beside(folder: Path, **table: object) -> None:
    checkpoint = load_checkpoint(folder)
    shape = synthesis_config(checkpoint.config, "fast")
    g_s = lighter_start(checkpoint.config, shape, checkpoint.model.g_s)
    weights, recipe = synthesis_files("fast")
    save_file({f"g_s.{key}": value.half() for key, value in g_s.state_dict().items()}, folder / weights)
    values = {**dataclasses.asdict(shape), "weights_sha256": checkpoint.sha256} | table
    lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
    (folder / recipe).write_text("[synthesis]\n" + "\n".join(lines) + "\n")


def test_they_are_read_with_the_weights(folder: Path) -> None:
    assert load_checkpoint(folder).lighter == ()
    lay_beside(folder)
    (found,) = load_checkpoint(folder).lighter
    assert (found.shape.name, found.shape.widths) == ("fast", (96, 64))
    assert not found.module.training


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"weights_sha256": "0" * 64}, r"expected a g_s of the weights .*train it for these"),
        ({"widths": [96, -64]}, "widths: expected whole numbers"),
        ({"widths": [96, 10**9]}, "widths: expected whole numbers"),
        ({"widths": "wide"}, "widths: expected whole numbers"),
        ({"depths": [1, 1, 1]}, "expected one to three stages"),
        ({"upsampling": "bilinear"}, "upsampling"),
        ({"name": "fastest"}, "name: expected fast"),
        ({"int8": 1}, "int8: expected true or false"),
        ({"widths": [96, 32]}, r"expected \(96, 32, 3, 3\)"),
    ],
)
def test_files_that_do_not_fit(folder: Path, table: dict[str, object], message: str) -> None:
    lay_beside(folder, **table)
    with pytest.raises((InputError, ExportError), match=message):
        load_checkpoint(folder)


def test_damaged_files(folder: Path) -> None:
    lay_beside(folder)
    weights, recipe = (folder / name for name in synthesis_files("fast"))
    whole = weights.read_bytes()
    for data in (b"", whole[:100], whole[:-1]):
        weights.write_bytes(data)
        with pytest.raises(InputError, match=r"g_s\.fast"):
            load_checkpoint(folder)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, weights)
    with pytest.raises(ExportError, match="missing g_s"):
        load_checkpoint(folder)
    for text in ("", "[synthesis", "synthesis = 3"):
        recipe.write_text(text)
        with pytest.raises(InputError, match=r"\[synthesis\] table"):
            load_checkpoint(folder)


# training


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return nine_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def start() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state of a small model with the beginning of a lighter g_s in it, and its ranges."""
    torch.manual_seed(1)
    model = S2CModel(CONFIG).eval()
    lively(model)
    ranges = activation_ranges(model, [torch.rand(1, 3, 64, 64)])
    return with_synthesis(model.state_dict(), lighter_start(CONFIG, FAST, model.g_s)), ranges


def settings_of(steps: int, bank_steps: int = 2) -> TrainSettings:
    only = SynthesisOnly(shape=FAST, weights_sha256="5" * 64, bank_steps=bank_steps)
    return dataclasses.replace(SETTINGS, steps=steps, exact_from=0.85, only=only)


def test_only_g_s_learns(
    tmp_path: Path, pictures: Pictures, start: tuple[dict[str, Tensor], dict[str, Tensor]]
) -> None:
    before = {name: tensor.clone() for name, tensor in start[0].items()}
    result = train(CONFIG, settings_of(8), pictures, tmp_path / "run", initial=start[0], ranges=start[1])
    assert result is not None
    assert result.finished
    state = torch.load(tmp_path / "run" / STATE, weights_only=True)
    for kind in ("model", "averages"):
        changed = {name for name, tensor in state[kind].items() if not torch.equal(tensor, before[name])}
        assert changed
        assert all(name.startswith("g_s.") for name in changed)
    # What never moves has no moments to carry along either.
    assert len(state["optimizer"]["states"]) == sum(name.startswith("g_s.") for name in before)
    weights, recipe = (tmp_path / "run" / name for name in synthesis_files("fast"))
    assert {name.split(".")[0] for name in load_file(weights)} == {"g_s"}
    assert "quality_3 = " in recipe.read_text()
    assert not (tmp_path / "run" / BANK).exists()


def run_to(
    settings: TrainSettings, steps: int, pictures: Pictures, out: Path,
    start: tuple[dict[str, Tensor], dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Trains until a step begins that is not to be, its state saved after every one."""
    one_step = Run.one_step

    def until(run: Run) -> None:
        if run.step == steps:
            raise KeyboardInterrupt
        one_step(run)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "one_step", until)
        with pytest.raises(KeyboardInterrupt):
            train(CONFIG, settings, pictures, out, initial=start[0], ranges=start[1])


def test_resumed_it_is_the_same_run(
    tmp_path: Path, pictures: Pictures, start: tuple[dict[str, Tensor], dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = dataclasses.replace(settings_of(8), save_every=1)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(CONFIG, settings, pictures, whole, initial=start[0], ranges=start[1])
    run_to(settings, 5, pictures, broken, start, monkeypatch)
    train(CONFIG, settings, pictures, broken, initial=start[0], ranges=start[1])
    for name in synthesis_files("fast")[:1]:
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_the_bank_gives_what_the_model_computes(
    tmp_path: Path, start: tuple[dict[str, Tensor], dict[str, Tensor]]
) -> None:
    model = S2CModel(CONFIG, FAST)
    model.load_state_dict(start[0])
    exact = exact_model(model, start[1])
    x, levels = torch.rand(3, 3, 64, 64), torch.tensor([0, 2, 1])
    bank = LatentBank(tmp_path / BANK, crops=6, channels=CONFIG.latent_channels, side=4, resumes=False)
    frozen = Frozen(exact, bank)
    computed = frozen.latents(x, levels, first=3)
    assert bank.get(0, 3) is None
    known = bank.get(3, 3)
    assert known is not None
    assert torch.equal(known[0], computed[1])
    again = Frozen(exact, LatentBank(tmp_path / BANK, crops=6, channels=CONFIG.latent_channels, side=4, resumes=True))
    # Other pictures at the same place show that nothing is computed.
    for found, expected in zip(again.latents(torch.zeros_like(x), levels, first=3), computed, strict=True):
        assert torch.equal(found, expected)
    fresh = LatentBank(tmp_path / BANK, crops=6, channels=CONFIG.latent_channels, side=4, resumes=False)
    assert fresh.get(3, 3) is None


def test_latents_that_16_bits_cannot_hold_are_not_kept(tmp_path: Path) -> None:
    bank = LatentBank(tmp_path / BANK, crops=1, channels=2, side=4, resumes=False)
    bank.put(0, torch.full((1, 2, 4, 4), 2048.0), torch.zeros(1))
    assert bank.get(0, 1) is None
    bank.put(0, torch.full((1, 2, 4, 4), -2047.9375), torch.zeros(1))
    found = bank.get(0, 1)
    assert found is not None
    assert float(found[0].max()) == -2047.9375


def test_crops_come_round_until_they_grow() -> None:
    settings = TrainSettings(
        steps=100, last_crop_from=0.9, only=SynthesisOnly(shape=FAST, weights_sha256="", bank_steps=40)
    )
    assert [settings.crops_of(step) for step in (0, 39, 40, 85, 90, 99)] == [0, 39, 0, 5, 90, 99]


def test_goes_on_from_the_files_beside_the_weights(folder: Path, pictures: Pictures) -> None:
    lay_beside(folder)
    file = folder / synthesis_files("fast")[0]
    save_file({name: tensor * 0.5 for name, tensor in load_file(file).items()}, file)
    checkpoint, said = load_checkpoint(folder), []
    state, ranges = _frozen(checkpoint.lighter[0].shape, folder, pictures, said.append, resumes=False)
    assert torch.equal(state["g_s.0.weight"], load_file(file)["g_s.0.weight"].float())
    assert ranges.keys() == checkpoint.ranges.keys()
    assert "its own files" in said[0]


# bundles


@pytest.fixture(scope="module")
def lighter_bundle(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels) -> Path:
    place = tmp_path_factory.mktemp("lighter")
    write_image(place / "a.png", Image(pixels=small_photograph))
    checkpoint = checkpoint_of("conv")
    lighter = []
    for name in LIGHTER:
        shape = synthesis_config(checkpoint.config, name)
        module = lighter_start(checkpoint.config, shape, checkpoint.model.g_s).eval()
        lighter.append(LighterSynthesis(shape=shape, module=module))
    export_bundle(dataclasses.replace(checkpoint, lighter=tuple(lighter)), place / "with", images=place)
    export_bundle(checkpoint, place / "without", images=place)
    return place


def test_a_stream_decodes_with_every_g_s(lighter_bundle: Path, small_photograph: Pixels) -> None:
    with Codec.open(lighter_bundle / "without", "onnxruntime") as codec:
        stream = codec.compress(small_photograph, 3)
        own = codec.decompress(stream)
    pictures = {}
    for name in ("full", *LIGHTER):
        with Codec.open(lighter_bundle / "with", "onnxruntime", synthesis=name) as codec:
            pictures[name] = codec.decompress(stream)
            assert np.array_equal(pictures[name], codec.reconstruct(small_photograph, 3))
    assert np.array_equal(pictures["full"], own)
    assert not np.array_equal(pictures["fast"], own)
    assert not np.array_equal(pictures["fast"], pictures["fastest"])


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_every_backend_draws_the_same(lighter_bundle: Path, small_photograph: Pixels, backend: str) -> None:
    with Codec.open(lighter_bundle / "with", "onnxruntime", synthesis="fast") as codec:
        stream = codec.compress(small_photograph, 5)
        expected = codec.decompress(stream)
    with Codec.open(lighter_bundle / "with", backend, synthesis="fast") as codec:
        found = codec.decompress(stream)
    assert int(np.abs(found.astype(int) - expected).max()) <= 1


def test_what_a_bundle_says_of_them(lighter_bundle: Path) -> None:
    bundle = open_bundle(lighter_bundle / "with")
    assert bundle.syntheses == ["full", "fast", "fastest"]
    assert bundle.fingerprint == open_bundle(lighter_bundle / "without").fingerprint
    told = bundle.manifest["syntheses"]
    assert list(told) == bundle.syntheses
    assert told["full"]["kmac_per_pixel"] > told["fast"]["kmac_per_pixel"] > told["fastest"]["kmac_per_pixel"]
    assert list(told["fast"]["psnr"]) == [str(level) for level in range(1, 9)]


def test_a_g_s_that_is_not_there(lighter_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"expected full of .*, found 'fast'"):
        Codec.open(lighter_bundle / "without", synthesis="fast")
    with pytest.raises(InputError, match="--precision"):
        Codec.open(lighter_bundle / "without", synthesis="bfloat16")


def test_bundles_that_lie_about_them(lighter_bundle: Path, tmp_path: Path) -> None:
    def exact(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["graphs"]["g_s.fast"]["exact"] = True

    def swapped(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["graphs"]["g_s.fast"]["file"] = "g_s.onnx"

    def wild(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["syntheses"]["fast"]["psnr"] = {"1\x1b[2J": 30.0}

    for number, lie in enumerate((exact, swapped, wild)):
        copied = shutil.copytree(lighter_bundle / "with", tmp_path / str(number))
        edit(copied, lie)
        with pytest.raises(BundleError):
            open_bundle(copied)


def test_a_damaged_one_is_refused(lighter_bundle: Path, tmp_path: Path, small_photograph: Pixels) -> None:
    """Weights of another g_s under its name, hashes and all: the known answers tell, and only where it is asked for."""
    damaged = shutil.copytree(lighter_bundle / "with", tmp_path / "damaged")
    forge(damaged, "g_s.fast.onnx", (damaged / "g_s.fastest.onnx").read_bytes())
    with Codec.open(damaged, "onnxruntime") as codec:
        stream = codec.compress(small_photograph, 3)
        codec.decompress(stream)
    with (
        Codec.open(damaged, "onnxruntime", synthesis="fast") as codec,
        pytest.raises(EngineError, match="known-answer"),
    ):
        codec.decompress(stream)


def test_sums_of_taps() -> None:
    """The definition that ``as_subpixel`` was written from, against PyTorch."""
    conv = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1)
    x = torch.randn(1, 3, 4, 5)
    torch.testing.assert_close(as_subpixel(conv)(x), F.conv_transpose2d(x, conv.weight, conv.bias, 2, 1, 1))


def test_a_benchmark_holds_a_row_against_its_own_g_s(lighter_bundle: Path, small_photograph: Pixels) -> None:
    """One that really runs the full g_s under another's name loses its times."""
    sound = known_rows()["openvino-fast"]
    other = dataclasses.replace(sound, name="full-in-disguise", open=partial(open_engine, backend="openvino"))
    source = Source(name="part", pixels=np.ascontiguousarray(small_photograph[:64, :96]))
    request = Request(
        bundle=lighter_bundle / "with",
        rows=(sound, other),
        left_out={},
        sources=(source,),
        threads=(1,),
        min_seconds=0,
        min_count=1,
        rounds=1,
    )
    fast, disguised = run_benchmark(request).rows
    assert (fast.failure, fast.fallback) == (None, None)
    assert fast.series
    assert disguised.failure is not None
    assert "PSNR changes" in disguised.failure
    assert not disguised.series


def test_rows_of_a_g_s_that_the_bundle_lacks_are_left_out() -> None:
    rows, left = choose_rows(["openvino-fast", "openvino"], ["full"])
    assert [row.name for row in rows] == ["openvino"]
    assert left == {"openvino-fast": "the bundle has no g_s called fast"}


def test_evaluation_compares_them(lighter_bundle: Path) -> None:
    """The same files, other pixels: a curve for each, and one for each effort of each."""
    request = EvaluationRequest(
        images=lighter_bundle,
        bundles=(lighter_bundle / "with",),
        qualities=(2, 5),
        efforts=(0, 1),
        syntheses=("full", "fast"),
        backend="onnxruntime",
    )
    evaluation = evaluate_folder(request)
    names = [curve.name for curve in evaluation.curves]
    assert names == [
        "s2c conv-custom",
        "s2c conv-custom effort 1",
        "s2c conv-custom fast",
        "s2c conv-custom fast effort 1",
    ]
    full, _, fast, _ = evaluation.curves
    assert [point.bpp for point in full.points] == [point.bpp for point in fast.points]
    assert [point.psnr for point in full.points] != [point.psnr for point in fast.points]
    assert "g_s.fast float32" in fast.description
    with pytest.raises(InputError, match=r"synthesis: expected full or fast or fastest of .*, found 'slow'"):
        evaluate_folder(dataclasses.replace(request, syntheses=("slow",)))


def test_browsers_get_the_fast_one(run: commands.Run, lighter_bundle: Path, tmp_path: Path) -> None:
    for options, name, graph in (((), "fast", "g_s.fast"), (("--synthesis", "full"), "full", "g_s")):
        out = tmp_path / name
        code, told, _ = run("web", str(out), "--bundle", str(lighter_bundle / "with"), "--json", *options)
        assert (code, json.loads(told)["synthesis"]) == (0, name)
        assert [path.name for path in out.glob("g_s*")] == [f"{graph}.onnx"]
