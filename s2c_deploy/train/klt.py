"""The Karhunen-Loeve transform of 16 x 16 pixels: where a model begins that is trained from nothing.

Four stages, each the principal components of 2 x 2 positions of the one before, as strided convolutions of g_a and
sub-pixel convolutions of g_s.  (Transform, high-rate steps and scales: N. S. Jayant and P. Noll, Digital Coding of
Waveforms, 1984.)  Blocks begin as the identity and bend it from there on.  So no step of training goes into what a
covariance matrix tells in seconds, and no latent begins unused.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.contract import SCALE_LEVELS
from s2c_deploy.models import S2CModel
from s2c_deploy.models.model import FIRST_GAIN, INDEX_GAIN, SCALE_MIN, SCALE_STEP
from s2c_deploy.presets import LMBDAS, ModelConfig
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.validation import middle

#: Covariances are those of the middles of this many training pictures.
_PICTURES = 64


@torch.no_grad()
def klt_start(config: ModelConfig, pictures: Pictures, seed: int) -> dict[str, Tensor]:
    """State dict of a new model whose g_a and g_s are the transform of the training pictures.

    Between stages the components are spread over all channels by a random isometry: a LayerNorm would else see one
    large channel and many small ones.
    """
    torch.manual_seed(seed)
    model = S2CModel(config)
    some = np.unique(np.linspace(0, len(pictures.training) - 1, _PICTURES, dtype=int))
    parts = [middle(pictures.cache.picture(pictures.training[i])) for i in some]
    mean = torch.cat([part.flatten(2) for part in parts], dim=2).mean((0, 2))
    features = [part - mean[:, None, None] for part in parts]
    rank, variances = 3, torch.ones(3)
    layers = _convolutions(model)
    for analysis, synthesis in layers:
        blocks = [F.pixel_unshuffle(part, 2) for part in features]
        basis, variances = _components(blocks, min(4 * rank, analysis.out_channels))
        rank, width = basis.shape[1], analysis.out_channels
        spread = torch.eye(width, rank) if analysis is layers[-1][0] else torch.linalg.qr(torch.randn(width, rank))[0]
        matrix = spread @ basis.T
        _place(matrix, analysis, synthesis)
        features = [torch.einsum("ij,bjhw->bihw", matrix, block) for block in blocks]
    first, last = layers[0]
    cast(Tensor, first.bias).copy_(-first.weight.sum((2, 3)) @ mean)
    cast(Tensor, last.bias).copy_(mean.repeat_interleave(4))
    _set_scales(model, variances)
    return model.state_dict()


def _convolutions(model: S2CModel) -> list[tuple[nn.Conv2d, nn.Conv2d]]:
    """The strided convolutions of g_a, from the picture on, each with the sub-pixel one of g_s that undoes it."""
    down = [layer for layer in model.g_a if isinstance(layer, nn.Conv2d)]
    up = [layer for layer in model.g_s.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    up = [layer for layer in up if layer.groups == 1]  # a depthwise one belongs to a block
    return list(zip(down, reversed(up), strict=True))


def _components(blocks: list[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The first principal components of the channels, C x count, and their variances, largest first."""
    vectors = torch.cat([block[0].flatten(1) for block in blocks], dim=1)
    values, basis = torch.linalg.eigh((vectors @ vectors.T).double() / vectors.shape[1])
    return basis.flip(1)[:, :count].float(), values.flip(0)[:count].float()


def _place(matrix: Tensor, analysis: nn.Conv2d, synthesis: nn.Conv2d) -> None:
    """``matrix``, W x 4C, as a strided convolution from C to W channels, and its transpose as the way back."""
    for layer in (analysis, synthesis):
        layer.weight.zero_()
        cast(Tensor, layer.bias).zero_()
    # With a padding of 1, taps 1 and 2 of a kernel of 3 lie on the 2 x 2 positions of a block.
    analysis.weight[:, :, 1:, 1:] = matrix.view(matrix.shape[0], -1, 2, 2)
    synthesis.weight[:, :, 1, 1] = matrix.T


def _set_scales(model: S2CModel, variances: Tensor) -> None:
    """Gains of every level, and the scale indexes that the context networks begin at, those of the middle level.

    At high rates a step of size d costs d^2 / 12 of squared error per coefficient, and halving d costs it one bit.
    lmbda * 255^2 * MSE + bpp, with three samples a pixel, is then least at d^2 = 18 / (lmbda * 255^2 * ln 2).
    """
    gain = 255 * math.sqrt(math.exp(np.log(LMBDAS).mean()) * math.log(2) / 18)
    model.log_gain.add_(math.log(gain / FIRST_GAIN))
    model.log_inverse_gain.sub_(math.log(gain / FIRST_GAIN))
    sigma = torch.zeros(model.config.latent_channels)
    sigma[: len(variances)] = gain * variances.clamp_min(0).sqrt()
    index = ((sigma / SCALE_MIN).log() / SCALE_STEP).clamp(0, SCALE_LEVELS - 1) / INDEX_GAIN
    for context, part in zip(model.group_contexts, torch.split(index, list(model.config.groups)), strict=True):
        for network in (context.anchor_parameters, context.nonanchor_parameters):
            cast(Tensor, cast(nn.Conv2d, network[-1]).bias)[: len(part)] = part
