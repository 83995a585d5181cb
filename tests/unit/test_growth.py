"""A larger model begun from a smaller one computes what the smaller one did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from untrained import lively, small_config

from s2c_deploy.errors import InputError
from s2c_deploy.models import S2CModel, blocks
from s2c_deploy.presets import PRESETS, model_config
from s2c_deploy.train import growth
from s2c_deploy.train.growth import grown, is_growth

LARGER: dict[str, Any] = {
    "depths": (2, 1, 3),
    "expansion": 3,
    "latent_channels": 160,
    "hyper_channels": 24,
    "context_width": 40,
}
WIDER: dict[str, Any] = LARGER | {"widths": (16, 40, 24)}


def begun(variant: str, changes: dict[str, Any], start: S2CModel) -> tuple[S2CModel, list[str]]:
    torch.manual_seed(7)
    model = S2CModel(small_config(variant, **changes))
    fresh = model.state_dict()
    taken, new = grown(model.config, fresh, start.config, start.state_dict())
    assert set(taken) | set(new) == set(fresh)
    model.load_state_dict(fresh | taken)
    return model.eval(), new


def small(variant: str, **changes: Any) -> S2CModel:
    torch.manual_seed(3)
    model = S2CModel(small_config(variant, **changes))
    lively(model)
    for name, parameter in model.named_parameters():
        if "gain" in name or name == "z_index":  # trained ones differ from channel to channel
            parameter.data += 0.1 * torch.rand_like(parameter)
    return model


def outputs(model: S2CModel) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.rand(2, 3, 128, 64)
    with torch.no_grad():
        output = model(x, torch.tensor([1, 6]))
    return output.x_hat, output.bits_y, output.bits_z


@pytest.mark.parametrize("variant", ["conv", "attention", "hybrid", "identity"])
def test_more_of_everything_but_normalised_channels_changes_nothing(variant: str) -> None:
    start = small(variant)
    model, _ = begun(variant, LARGER, start)
    for found, expected in zip(outputs(model), outputs(start), strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["conv", "attention", "hybrid"])
def test_no_old_channel_of_wider_stages_reads_a_new_one(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ChannelNorm", lambda width: nn.Identity())
    start = small(variant)
    model, _ = begun(variant, WIDER, start)
    for found, expected in zip(outputs(model), outputs(start), strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("variant", ["conv", "attention", "hybrid"])
def test_wider_stages_change_nothing(variant: str, norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what makes new channels differ from one another, and that hardly."""
    start = small(variant, spatial_norm=norm)
    expected = outputs(start)
    model, _ = begun(variant, WIDER | {"spatial_norm": norm}, start)
    for found, wanted in zip(outputs(model), expected, strict=True):
        assert difference(found, wanted) < 0.05
    monkeypatch.setattr(growth, "_SPREAD", 0.0)
    model, _ = begun(variant, WIDER | {"spatial_norm": norm}, start)
    for found, wanted in zip(outputs(model), expected, strict=True):
        assert difference(found, wanted) < 1e-3


def difference(found: Tensor, wanted: Tensor) -> float:
    """Mean difference over mean deviation: a symbol may round the other way."""
    return float((found - wanted).abs().mean() / (wanted - wanted.mean()).abs().mean())


def test_new_latents_begin_as_zeros_that_the_picture_can_change() -> None:
    start = small("conv")
    model, _ = begun("conv", WIDER, start)
    y = model.g_a(torch.rand(1, 3, 64, 64))
    silent = ~y.detach().abs().sum((0, 2, 3)).bool()
    assert int(silent.sum()) == model.config.latent_channels - start.config.latent_channels
    level = torch.tensor([4])
    model.train()(torch.rand(1, 3, 64, 64), level).x_hat.square().sum().backward()
    assert model.g_a[-1].weight.grad[silent].flatten(1).any(1).all()


def test_new_hyper_latents_begin_as_zeros_that_can_learn() -> None:
    start = small("conv")
    model, _ = begun("conv", WIDER, start)
    old = start.config.hyper_channels
    z = model.h_a(torch.randn(1, model.config.latent_channels, 8, 8))
    assert z[:, :old].all()
    assert not z[:, old:].any()
    model.train()(torch.rand(1, 3, 64, 64), torch.tensor([4])).bits_y.sum().backward()
    assert model.h_a[-1].weight.grad[old:].flatten(1).any(1).all()


def test_new_channels_can_learn() -> None:
    """After one step of training no channel of g_a or g_s is without a gradient."""
    model, _ = begun("conv", WIDER, small("conv"))
    model.train()
    for _ in range(2):
        output = model(torch.rand(1, 3, 64, 64), torch.tensor([4]))
        model.zero_grad()
        (1000 * output.x_hat.square().mean() + output.bits.mean() / 4096).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad.sign()
    silent = []
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.dim() == 4 and name.startswith(("g_a", "g_s")):
            assert parameter.grad is not None
            silent += [name] if not parameter.grad.flatten(1).any(1).all() else []
    assert not silent


def test_other_operators_begin_fresh() -> None:
    model, new = begun("hybrid", WIDER, small("conv"))
    blocks_of_attention = {name.split(".spatial")[0] for name in new if ".spatial.qkv" in name}
    assert blocks_of_attention == {f"g_a.{i}" for i in (6, 7, 8)} | {f"g_s.{i}" for i in (1, 2, 3)}
    for name, tensor in model.state_dict().items():
        if any(name.startswith(f"{block}.spatial.") for block in blocks_of_attention):
            assert name in new
            assert ".project." not in name or not tensor.any()


def test_heads_are_not_cut_in_two() -> None:
    # 64 channels have eight heads of 8, 128 eight of 16.
    start = S2CModel(small_config("attention", widths=(8, 16, 64)))
    config = small_config("attention", widths=(8, 16, 128))
    _, new = grown(config, S2CModel(config).state_dict(), start.config, start.state_dict())
    assert {name.split(".")[1] for name in new if name.startswith("g_a") and ".spatial." in name} == {"5"}


def test_what_is_growth() -> None:
    presets = [model_config("conv", preset) for preset in PRESETS]
    for i, larger in enumerate(presets):
        for j, smaller in enumerate(presets):
            deep = all(a >= b for a, b in zip(larger.depths, smaller.depths, strict=True))
            assert is_growth(larger, smaller) == (i > j and deep)
    assert not is_growth(model_config("hybrid", "tiny"), model_config("conv", "tiny"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"aggregation": "mlp"}, "aggregation"), ({"spatial_norm": True}, "norm"), ({"lmbdas": (0.01,)}, "lmbdas")],
)
def test_models_of_other_kinds_are_refused(changes: dict[str, Any], named: str) -> None:
    start = small("conv")
    with pytest.raises(InputError, match=f"same (spatial_)?{named}: expected"):
        begun("conv", WIDER | changes, start)
