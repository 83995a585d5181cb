"""Parameters and multiply-accumulates per image pixel, counted from the modules themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from s2c_deploy.contract import ATTENTION_WINDOW as WINDOW
from s2c_deploy.models.blocks import WindowAttention
from s2c_deploy.models.entropy_model import CheckerboardConv
from s2c_deploy.models.model import S2CModel
from s2c_deploy.presets import ModelConfig, SynthesisConfig


@dataclass(frozen=True, kw_only=True)
class TransformCost:
    """Size and arithmetic of one transform."""

    name: str
    #: Their count.
    parameters: int
    #: Thousand multiply-accumulates per pixel of the image.
    kmac_per_pixel: float


_PARTS = {
    "g_a": ("g_a",),
    "h_a": ("h_a",),
    "h_s": ("h_s",),
    "contexts": ("contexts",),
    "g_s": ("g_s",),
    "gains and z prior": ("log_gain", "log_inverse_gain", "log_hyper_gain", "z_index"),
}


def _macs(module: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of one call of a module; biases, norms and point-wise functions are not counted."""
    if isinstance(module, CheckerboardConv):
        # Wanted at half of the positions, through the taps that are not masked.
        outputs, inputs = module.weight.shape[:2]
        return output.shape[-2] * output.shape[-1] // 2 * outputs * inputs * module.taps
    if isinstance(module, nn.ConvTranspose2d):
        # Every position of the input meets every tap.
        positions = output.shape[-2] * output.shape[-1] // math.prod(module.stride)
        return positions * module.weight.numel()
    if isinstance(module, nn.Conv2d):
        return output.numel() // output.shape[0] * module.weight[0].numel()
    if isinstance(module, WindowAttention):
        # Q K^T and A V: each position meets WINDOW^2 positions over all channels, twice.
        return output.numel() // output.shape[0] * WINDOW * WINDOW * 2
    return 0


def count_cost(config: ModelConfig, synthesis: SynthesisConfig | None = None) -> list[TransformCost]:
    """Cost of every transform of a model, on tensors without data (no weights are allocated).

    synthesis: another g_s than the model's own.

    The contexts' masked 5x5 convolution is counted as the exported graphs compute it: without its zeros, for the
    positions that are wanted.
    """
    side = 256
    if synthesis is not None:
        synthesis = replace(synthesis, int8=False)  # as many products; tensors without data have no bytes
    with torch.device("meta"):
        model = S2CModel(config, synthesis).eval()
        x = torch.empty(1, 3, side, side)
        levels = torch.empty(1, dtype=torch.int64)
    macs = dict.fromkeys(_PARTS, 0)
    for name, module in model.named_modules():
        part = name.split(".")[0]
        if part in macs:
            module.register_forward_hook(_counting_hook(macs, part))
    model(x, levels)
    return [
        TransformCost(
            name=part,
            parameters=sum(p.numel() for n, p in model.named_parameters() if n.split(".")[0] in members),
            kmac_per_pixel=macs[part] / side**2 / 1000,
        )
        for part, members in _PARTS.items()
    ]


def _counting_hook(macs: dict[str, int], part: str):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, _inputs: object, output: Tensor) -> None:
        macs[part] += _macs(module, output)

    return hook
