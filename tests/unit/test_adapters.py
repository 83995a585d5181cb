"""Checkpoints from elsewhere: wrappers, one quality, a factorised prior; and starting one variant from another."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.compressai_import import import_compressai
from s2c_deploy.entropy.tables import TOTAL, gaussian_tables
from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.export.exporter import export_bundle
from s2c_deploy.models import S2CModel
from s2c_deploy.models.adapters import adapt, compatible_part, factorized_pmf, read_tensors
from s2c_deploy.models.checkpoint import load_checkpoint, load_file_checkpoint
from s2c_deploy.presets import model_config

SHIPPED = Path(__file__).resolve().parent.parent.parent / "export" / "conv-tiny"
GAINS = ("log_gain", "log_inverse_gain", "log_hyper_gain", "z_index")
CONFIG = model_config("conv", "tiny", lmbdas=(0.013,))


@pytest.fixture(scope="module")
def plain() -> dict[str, Tensor]:
    """The shipped networks without gains, as a checkpoint of one quality has them."""
    state = load_checkpoint(SHIPPED).model.state_dict()
    return {name: tensor for name, tensor in state.items() if name not in GAINS}


def logistic_prior(channels: int, slopes: Tensor, shifts: Tensor) -> dict[str, Tensor]:
    """A factorised prior of one layer: the logistic distribution's cumulative, sigmoid(slope * x + shift)."""
    return {
        "_matrix0": torch.log(torch.expm1(slopes)).reshape(channels, 1, 1),
        "_bias0": shifts.reshape(channels, 1, 1),
        "quantiles": torch.zeros(channels, 1, 3),
    }


def test_files_and_wrappers(tmp_path: Path, plain: dict[str, Tensor]) -> None:
    wrapped: dict[str, Any] = {
        "bare.pt": plain,
        "nested.pth": {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in plain.items()}},
        "compiled.pth.tar": {"model": {f"module._orig_mod.{k}": v for k, v in plain.items()}},
        "averaged.pt": {"model": {"g_a.0.bias": torch.zeros(1)}, "ema": plain},
    }
    for name, content in wrapped.items():
        torch.save(content, tmp_path / name)
    save_file(plain, tmp_path / "plain.safetensors")
    for name in [*wrapped, "plain.safetensors"]:
        found = read_tensors(tmp_path / name)
        assert found.keys() == plain.keys(), name
        assert all(torch.equal(found[k], plain[k]) for k in plain), name


class Hostile:
    """What a pickle could run on loading."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/this-must-not-exist"),))


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 no archive", None, [1, 2], {"a": 3}, Hostile()])
def test_unusable_files(tmp_path: Path, content: object) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(InputError, match=r"weights\.pth: expected") as caught:
        read_tensors(file)
    assert "weights_only" not in str(caught.value)  # PyTorch's advice to execute the file is not ours
    assert not Path("/tmp/this-must-not-exist").exists()
    with pytest.raises(InputError, match="no file"):
        read_tensors(tmp_path / "nowhere.pth")


def test_one_quality_has_unit_gains(tmp_path: Path, plain: dict[str, Tensor]) -> None:
    torch.save({"state_dict": plain | {"z_index": torch.full((1, 96), 2.0)}}, tmp_path / "w.pth.tar")
    checkpoint = load_file_checkpoint(tmp_path / "w.pth.tar", CONFIG)
    state = checkpoint.model.state_dict()
    assert all(torch.equal(state[name], torch.zeros_like(state[name])) for name in GAINS[:3])
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    assert checkpoint.ranges == {}
    assert checkpoint.z_tables == ()


def test_everything_that_does_not_fit_is_listed(tmp_path: Path, plain: dict[str, Tensor]) -> None:
    bad = dict(plain)
    del bad["g_a.0.weight"]
    bad["context_prediction.weight"] = torch.zeros(2)
    bad["g_s.0.0.bias"] = torch.zeros(3)
    torch.save(bad, tmp_path / "w.pt")
    with pytest.raises(ExportError) as caught:
        load_file_checkpoint(tmp_path / "w.pt", CONFIG)
    assert str(caught.value).splitlines() == [
        "4 tensors do not fit the model:",
        "  missing g_a.0.weight (32, 3, 3, 3)",
        "  missing z_index (1, 96)",
        "  unexpected context_prediction.weight",
        "  g_s.0.0.bias: expected (384,), found (3,)",
    ]


# the factorised prior


def test_a_logistic_prior_has_the_logistic_distribution() -> None:
    slopes, shifts = torch.tensor([0.5, 2.0, 9.0]), torch.tensor([0.0, -3.0, 4.5])
    pmf = factorized_pmf(logistic_prior(3, slopes, shifts), 3).numpy()
    for channel in range(3):
        slope, shift = float(slopes[channel]), float(shifts[channel])
        for q in (-35, -20, -1, 0, 1, 2, 35):
            # tanh's difference formula: no cancellation, whatever the side
            a, b = slope * (q - 0.5) + shift, slope * (q + 0.5) + shift
            expected = np.sinh((b - a) / 2) / (2 * np.cosh(a / 2) * np.cosh(b / 2))
            assert pmf[channel, q + 127] == pytest.approx(expected, rel=1e-5)


def test_the_prior_is_compressais() -> None:
    if find_spec("compressai") is None:
        pytest.skip("compressai is not installed")
    import_compressai()
    compressai = import_module("compressai.entropy_models")
    torch.manual_seed(2)
    bottleneck = compressai.EntropyBottleneck(5)
    for parameter in bottleneck.parameters():
        with torch.no_grad():
            parameter += 0.3 * torch.randn_like(parameter)
    values = torch.arange(-127.0, 128).expand(5, 1, -1)
    expected = bottleneck._likelihood(values)
    expected = (expected[0] if isinstance(expected, tuple) else expected).detach()
    state = {k: v for k, v in bottleneck.state_dict().items() if v.numel()}
    assert torch.allclose(factorized_pmf(state, 5).float(), expected.reshape(5, -1), atol=1e-6)


def test_a_prior_becomes_tables(tmp_path: Path, plain: dict[str, Tensor]) -> None:
    prior = logistic_prior(96, torch.linspace(0.3, 6, 96), torch.linspace(-4, 4, 96))
    tensors = plain | {f"entropy_bottleneck.{k}": v for k, v in prior.items()}
    tensors["gaussian_conditional.scale_table"] = torch.tensor(gaussian_tables().scales)
    tensors["gaussian_conditional._offset"] = torch.zeros(64, dtype=torch.int32)
    torch.save({"state_dict": tensors}, tmp_path / "w.pth.tar")
    tables = load_file_checkpoint(tmp_path / "w.pth.tar", CONFIG).z_tables
    assert len(tables) == 96
    pmf = factorized_pmf(prior, 96)
    for channel in (0, 50, 95):
        table = tables[channel]
        assert table.center == int(pmf[channel].argmax()) - 127
        # id 0 is the commonest value: its frequency is its probability in 1/16384, give or take a rounding.
        assert int(table.freqs[0]) == pytest.approx(float(pmf[channel].max()) * TOTAL, abs=2 + 0.01 * TOTAL)


def test_a_checkpoint_of_one_quality_codes_pictures(
    tmp_path: Path, plain: dict[str, Tensor], small_photograph: Pixels
) -> None:
    """From a wrapped .pth.tar with a factorised prior to a stream: ranges are calibrated, z has tables of its own."""
    prior = logistic_prior(96, torch.full((96,), 2.0), torch.zeros(96))
    shipped = load_checkpoint(SHIPPED).model.state_dict()
    # These networks were trained with gains: the checkpoint holds those of one of its qualities.
    tensors = plain | {name: shipped[name][3:4] for name in GAINS[:3]}
    tensors |= {f"entropy_bottleneck.{k}": v for k, v in prior.items()}
    torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "w.pth.tar")
    checkpoint = load_file_checkpoint(tmp_path / "w.pth.tar", CONFIG)
    bundle = export_bundle(checkpoint, tmp_path / "bundle", images=SHIPPED.parent / "photographs")
    assert bundle.config.levels == 1
    assert bundle.tables.count == 64 + 96
    assert (bundle.gains.z_indexes == np.arange(64, 160)).all()
    with Codec.open(tmp_path / "bundle", "onnxruntime") as codec:
        data = codec.compress(small_photograph, 1)
        assert np.array_equal(codec.decompress(data), codec.reconstruct(small_photograph, 1))


def test_another_scale_table_is_refused(plain: dict[str, Tensor]) -> None:
    scales = torch.linspace(0.11, 64, 64)
    with pytest.raises(ExportError, match=r"scale_table: expected 64 scales from 0\.11 to 256, found 64 from"):
        adapt(plain | {"gaussian_conditional.scale_table": scales}, CONFIG)


def test_a_prior_of_another_width_is_refused(plain: dict[str, Tensor]) -> None:
    prior = logistic_prior(4, torch.ones(4), torch.zeros(4))
    with pytest.raises(ExportError, match=r"entropy_bottleneck, layer 0: expected a matrix of 96 x 1 x 1, found \(4,"):
        adapt(plain | {f"entropy_bottleneck.{k}": v for k, v in prior.items()}, CONFIG)
    with pytest.raises(ExportError, match="expected matrices that end in one value"):
        adapt(plain | {"entropy_bottleneck.quantiles": torch.zeros(96, 1, 3)}, CONFIG)


# one variant from another


def test_a_new_operator_starts_at_zero() -> None:
    source = load_checkpoint(SHIPPED).model.state_dict()
    target = S2CModel(model_config("hybrid", "tiny"))
    taken, new = compatible_part(target.state_dict(), source)
    assert new
    assert all(".spatial." in name for name in new)
    assert "g_a.1.spatial.depthwise.weight" in taken  # hybrid's first stages are convolutions too
    assert "g_a.5.spatial.project.weight" in new  # fits in shape, but is another operator's
    target.load_state_dict(target.state_dict() | taken)
    assert not target.state_dict()["g_a.5.spatial.project.weight"].any()


def test_the_same_variant_is_taken_whole() -> None:
    source = load_checkpoint(SHIPPED).model.state_dict()
    taken, new = compatible_part(S2CModel(model_config("conv", "tiny")).state_dict(), source)
    assert new == []
    assert all(torch.equal(taken[name], source[name]) for name in source)
