"""A model begun with the Karhunen-Loeve transform, against numpy's singular values of the same blocks."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from untrained import small_config

from benchmarks.experiments import latent_width
from s2c_deploy.models import S2CModel
from s2c_deploy.models.model import INDEX_GAIN, SCALE_MIN, SCALE_STEP
from s2c_deploy.presets import LMBDAS, ModelConfig
from s2c_deploy.train import TrainSettings, hold_out, open_cache, train
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.klt import klt_start

#: Wide enough that no stage but the last one drops anything.
WIDE: dict[str, Any] = {"widths": (16, 48, 192), "latent_channels": 40}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Smooth noise, in sizes that attention takes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(4)
    for i, (height, width) in enumerate([(64, 128), (128, 64), (64, 64), (128, 128)]):
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(picture) + rng.normal(0, 4, (height, width, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return hold_out(open_cache(folder, folder / "cache.u8"), 1)


def begun(config: ModelConfig, pictures: Pictures) -> S2CModel:
    model = S2CModel(config)
    model.load_state_dict(klt_start(config, pictures, seed=0))
    return model.eval()


def originals(pictures: Pictures) -> list[npt.NDArray[np.float64]]:
    """The training pictures, H x W x 3 in [0, 1]."""
    return [pictures.cache.picture(i) / 255 for i in pictures.training]


def reconstructed(model: S2CModel, picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return np.asarray(model.g_s(model.g_a(x))[0].permute(1, 2, 0), np.float64)


def blocks(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rows, columns = picture.shape[0] // 16, picture.shape[1] // 16
    return picture.reshape(rows, 16, columns, 16, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 768)


@pytest.mark.parametrize("variant", ["conv", "attention"])
def test_it_drops_what_the_smallest_singular_values_hold(pictures: Pictures, variant: str) -> None:
    model = begun(small_config(variant, **WIDE), pictures)
    found = originals(pictures)
    mean = np.concatenate([picture.reshape(-1, 3) for picture in found]).mean(0)
    vectors = np.concatenate([blocks(picture - mean) for picture in found])
    dropped = float((np.linalg.svd(vectors, compute_uv=False)[40:] ** 2).sum())
    lost = sum(float(((picture - reconstructed(model, picture)) ** 2).sum()) for picture in found)
    assert lost == pytest.approx(dropped, rel=1e-3)


def test_nothing_is_lost_where_there_is_room(pictures: Pictures) -> None:
    model = begun(small_config("conv", widths=(12, 48, 192), latent_channels=768), pictures)
    for picture in originals(pictures):
        assert np.abs(picture - reconstructed(model, picture)).max() < 1e-4


def test_latents_have_falling_variances_and_are_uncorrelated(pictures: Pictures) -> None:
    model = begun(small_config("conv", **WIDE), pictures)
    with torch.no_grad():
        ys = [model.g_a(torch.from_numpy(p).permute(2, 0, 1)[None].float()) for p in originals(pictures)]
    y = torch.cat([y[0].flatten(1) for y in ys], dim=1).double()
    covariance = y @ y.T / y.shape[1]
    variances = covariance.diagonal()
    assert (variances.diff() < 1e-9).all()
    assert (covariance - variances.diag()).abs().max() < 1e-4 * variances[0]


def test_steps_and_scales_are_those_of_high_rates(pictures: Pictures) -> None:
    config = small_config("conv", **WIDE)
    model = begun(config, pictures)
    for level, lmbda in enumerate(LMBDAS):
        # dD/dR of D = lmbda 255^2 d^2 / 12 per coefficient of 768 samples, R = -log2(d) / 256 bit per pixel, is -1.
        step = math.sqrt(6 / (lmbda * 255**2) * 768 / 256 / math.log(2))
        assert torch.allclose(model.log_gain[level].exp(), torch.tensor(1 / step), rtol=1e-3)
        assert torch.allclose(model.log_inverse_gain[level].exp(), torch.tensor(step), rtol=1e-3)
    with torch.no_grad():
        ys = [model.g_a(torch.from_numpy(p).permute(2, 0, 1)[None].float()) for p in originals(pictures)]
    sigma = torch.cat([y[0].flatten(1) for y in ys], dim=1).square().mean(1).sqrt()
    sigma = sigma * (model.log_gain[3] + model.log_gain[4]).mul(0.5).exp()
    found, first = [], 0
    for context, channels in zip(model.group_contexts, config.groups, strict=True):
        for network in (context.anchor_parameters, context.nonanchor_parameters):
            found.append((first, channels, network[-1].bias.detach()[:channels] * INDEX_GAIN))
        first += channels
    for first, channels, index in found:
        expected = sigma[first : first + channels].clamp(SCALE_MIN, 256)
        assert torch.allclose(SCALE_MIN * (index * SCALE_STEP).exp(), expected, rtol=1e-2)


def test_a_run_from_nothing_begins_with_it(pictures: Pictures, tmp_path: Path) -> None:
    config = small_config("conv", **WIDE)
    settings = TrainSettings(steps=1, batch=1, crop=64, last_crop=64, learning_rate=1e-9, warmup=0, exact_from=1.0)
    assert train(config, settings, pictures, tmp_path / "run") is not None
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    expected = klt_start(config, pictures, settings.seed)
    for name, tensor in state["model"].items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name


def test_room_grows_with_the_channels(pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, picture in enumerate(originals(pictures)):
        Image.fromarray(np.round(picture * 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(latent_width, "CHANNELS", (40, 48, 96))
    out = tmp_path / "out.json"
    options = ("--data", tmp_path, "--images", tmp_path, "--cache", tmp_path / "p.u8", "--preset", "base", "--out", out)
    monkeypatch.setattr(sys, "argv", ["latent_width", *map(str, options)])
    latent_width.main()
    psnr = json.loads(out.read_text())["psnr_db"]
    assert psnr["40"] < psnr["48"] < 60 < psnr["96"]  # fewer than 96 blocks are lost in no 96 components
