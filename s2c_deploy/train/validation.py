"""Held-out pictures: what a run's averaged weights would give at every quality."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s2c_deploy.contract import ALIGNMENT
from s2c_deploy.models import S2CModel
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.log import Row

#: Largest side of a held-out picture's middle that is looked at.
LARGEST_SIDE = 512


def held_out_pictures(pictures: Pictures) -> Iterator[Tensor]:
    """The middles of the held-out pictures, float32 1 x 3 x H x W in [0, 1], sides multiples of 64."""
    for i in pictures.held_out:
        yield middle(pictures.cache.picture(i))


def middle(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """The middle of a picture of at least 64 x 64, uint8 H x W x 3, as the model takes it."""
    height, width = (min(side // ALIGNMENT * ALIGNMENT, LARGEST_SIDE) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    piece = pixels[top : top + height, left : left + width]
    return torch.from_numpy(piece.copy()).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def rate_distortion(model: S2CModel, pictures: Pictures, step: int) -> list[Row]:
    """Means over the held-out pictures of bpp (the model's own code lengths) and PSNR in dB, per quality."""
    model = model.eval()
    device = next(model.parameters()).device
    points: list[list[tuple[float, float]]] = []
    for x in held_out_pictures(pictures):
        x = x.to(device)
        points.append([_point(model, x, level) for level in range(model.config.levels)])
    means = np.mean(points, axis=0)
    return [
        {"step": step, "quality": level + 1, "bpp": round(float(bpp), 4), "psnr": round(float(psnr), 3)}
        for level, (bpp, psnr) in enumerate(means)
    ]


def _point(model: S2CModel, x: Tensor, level: int) -> tuple[float, float]:
    output = model(x, torch.tensor([level], device=x.device))
    mse = float((output.x_hat.clamp(0, 1) - x).square().mean())
    return float(output.bits) / (x.shape[2] * x.shape[3]), float(-10 * np.log10(mse))
