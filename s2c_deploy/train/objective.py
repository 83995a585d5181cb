"""What training minimises: lmbda * distortion + rate, per sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from s2c_deploy.errors import DependencyError
from s2c_deploy.models.model import ModelOutput


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Per sample, shape B: the loss, mean squared error of values in [0, 1], and bits per pixel."""

    loss: Tensor
    mse: Tensor
    bpp: Tensor


def rate_distortion_cost(output: ModelOutput, x: Tensor, lmbdas: Tensor, objective: str = "mse") -> Cost:
    """lmbda * 255^2 * MSE + bpp, or lmbda * (1 - MS-SSIM) + bpp (CompressAI's conventions).

    x: float32 B x 3 x H x W in [0, 1]; lmbdas: B.
    """
    x_hat = output.x_hat.float()
    mse = F.mse_loss(x_hat, x, reduction="none").flatten(1).mean(1)
    bpp = output.bits / (x.shape[-2] * x.shape[-1])
    distortion = 255**2 * mse if objective == "mse" else 1 - ms_ssim(x_hat, x)
    return Cost(loss=lmbdas * distortion + bpp, mse=mse, bpp=bpp)


def ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """MS-SSIM per sample, shape B, differentiable; DependencyError without pytorch_msssim."""
    try:
        from pytorch_msssim import ms_ssim as of_batch
    except ImportError as error:
        raise DependencyError("pytorch_msssim", extra="train") from error
    value: Tensor = of_batch(x_hat, x, data_range=1.0, size_average=False)
    return value


def balanced(loss: Tensor, lmbdas: Tensor, levels: Tensor, exponent: float) -> Tensor:
    """The batch's loss: the mean over samples, each divided by (lmbda / median lmbda)^exponent."""
    weights: Tensor = (levels.median() / lmbdas) ** exponent
    return torch.mean(loss * weights)
