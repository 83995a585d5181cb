"""What a bundle says of each g_s: its cost, and what its pictures are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.codec.transforms import to_pixels
from s2c_deploy.contract import MEAN_STEPS
from s2c_deploy.formats.bundle import Gains
from s2c_deploy.metrics import psnr
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint
from s2c_deploy.models.cost import count_cost
from s2c_deploy.presets import FULL, synthesis_config
from s2c_deploy.progress import Steps


@torch.no_grad()
def described_syntheses(
    checkpoint: Checkpoint, model: S2CModel, gains: Gains, pictures: Sequence[Tensor], steps: Steps
) -> dict[str, dict[str, Any]]:
    """Per name of a g_s: kMAC and parameters, and its mean PSNR in dB over these pictures at every quality.

    model: with exact entropy networks; pictures: float32 1 x 3 x H x W in [0, 1], sides multiples of 64.
    """
    syntheses = {FULL: model.g_s, **{s.shape.name: s.module for s in checkpoint.lighter}}
    shapes = {FULL: synthesis_config(checkpoint.config), **{s.shape.name: s.shape for s in checkpoint.lighter}}
    found: dict[str, dict[str, Any]] = {}
    for name, shape in shapes.items():
        cost = next(part for part in count_cost(checkpoint.config, shape) if part.name == "g_s")
        kmac = round(cost.kmac_per_pixel, 2)
        found[name] = {"kmac_per_pixel": kmac, "parameters": cost.parameters, "pictures": len(pictures), "psnr": {}}
    for level in range(checkpoint.config.levels):
        steps(f"drawing photographs with every g_s, quality {level + 1}")
        inverse_gain = torch.from_numpy(np.asarray(gains.at(level + 1.0)[2])) * MEAN_STEPS
        latents = [model.latents(x, torch.tensor([level]))[0] * inverse_gain for x in pictures]
        for name, g_s in syntheses.items():
            values = [_psnr(x, g_s(y)) for x, y in zip(pictures, latents, strict=True)]
            found[name]["psnr"][str(level + 1)] = round(float(np.mean(values)), 3)
    return found


def _psnr(x: Tensor, x_hat: Tensor) -> float:
    height, width = x.shape[2:]
    return psnr(*(to_pixels(picture.numpy().copy(), height, width) for picture in (x, x_hat)))
