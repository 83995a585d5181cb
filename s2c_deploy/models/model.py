"""The whole S2CFormer codec as one PyTorch module: what is trained, and what the exporter takes apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from s2c_deploy.contract import MEAN_LIMIT, MEAN_STEPS, SCALE_LEVELS, Z_LIMIT
from s2c_deploy.models.entropy_model import (
    GroupContext,
    HyperSynthesis,
    pack_anchors,
    pack_nonanchors,
    unpack,
)
from s2c_deploy.models.transforms import Analysis, HyperAnalysis, Synthesis
from s2c_deploy.presets import ModelConfig, SynthesisConfig, synthesis_config

#: The scale table: sigma_i = SCALE_MIN * exp(i * SCALE_STEP), i = 0..63 (CompressAI's 0.11 .. 256).
SCALE_MIN, SCALE_MAX = 0.11, 256.0
SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
#: Indexes per unit of network output; a power of two, so that it folds into integer weights.
INDEX_GAIN = 8.0
_LIKELIHOOD_FLOOR = 1e-9
#: Beyond this many standard deviations, training counts bits that grow with the logarithm of the distance only.
_TAIL = 4.0
#: Gain of the middle level at the start of training: latents of a few units, so that symbols are not all zero.
FIRST_GAIN = 16.0


class _BoundedIndex(torch.autograd.Function):
    """clamp(x, 0, 63) whose gradient still flows where it would bring x back into the range."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, SCALE_LEVELS - 1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        grad = grads[0]
        passes = ((x >= 0) | (grad < 0)) & ((x <= SCALE_LEVELS - 1) | (grad > 0))
        return grad * passes


def bounded_index(x: Tensor) -> Tensor:
    """Scale index in [0, 63], differentiable towards the range."""
    out: Tensor = _BoundedIndex.apply(x)  # type: ignore[no-untyped-call]
    return out


def ste_round(x: Tensor) -> Tensor:
    """round(x) with the gradient of the identity (straight-through)."""
    return x + (torch.round(x) - x).detach()


def gaussian_bits(v: Tensor, index: Tensor) -> Tensor:
    """-log2 of the mass of N(0, sigma_index) in [v - 1/2, v + 1/2]; float32, element by element."""
    return bits_at(v.float().abs(), _sigma(index))


def training_bits(v: Tensor, index: Tensor) -> Tensor:
    """``gaussian_bits`` with a tail that still has a gradient where float32's masses have none.

    Without one, a symbol far outside what its networks predict stays there: neither mean nor scale would learn of it.
    From ``_TAIL`` standard deviations on (of the near edge of the symbol's interval), bits go on as the logarithm of
    the distance, at first as steeply as those of the density.
    """
    sigma = _sigma(index)
    v = v.float().abs()
    excess = torch.log(((v - 0.5) / (_TAIL * sigma)).clamp_min(1))
    return bits_at(torch.minimum(v, 0.5 + _TAIL * sigma), sigma) + _TAIL**2 / math.log(2) * excess


def _sigma(index: Tensor) -> Tensor:
    return SCALE_MIN * torch.exp(index.float() * SCALE_STEP)


def bits_at(distance: Tensor, sigma: Tensor) -> Tensor:
    """-log2 of a Gaussian's mass in half a step around a distance from its mean; float32, element by element."""
    upper = torch.special.erfc((distance - 0.5) / (sigma * math.sqrt(2)))
    lower = torch.special.erfc((distance + 0.5) / (sigma * math.sqrt(2)))
    return -torch.log2((0.5 * (upper - lower)).clamp_min(_LIKELIHOOD_FLOOR))


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """What the model makes of a batch of B pictures."""

    #: B x 3 x H x W, unclipped.
    x_hat: Tensor
    #: B x M x H/16 x W/16, before the inverse gain.
    y_hat: Tensor
    #: Per sample, B.
    bits_y: Tensor
    #: Per sample, B.
    bits_z: Tensor

    @property
    def bits(self) -> Tensor:
        return self.bits_y + self.bits_z


class S2CModel(nn.Module):
    """g_a, h_a, h_s, contexts, g_s and the gains of every quality level.

    In training mode, rates are those of uniformly perturbed symbols; in evaluation mode, of the rounded ones with
    scale indexes and means rounded as the coder sees them.
    """

    def __init__(self, config: ModelConfig, synthesis: SynthesisConfig | None = None) -> None:
        """synthesis: the shape of g_s [default: the model's own]."""
        super().__init__()
        self.config = config
        self.g_a = Analysis(config)
        self.h_a = HyperAnalysis(config)
        self.h_s = HyperSynthesis(config)
        self.contexts = nn.ModuleList(GroupContext(config, k) for k in range(len(config.groups)))
        self.g_s = Synthesis(config, synthesis or synthesis_config(config))
        steps = torch.tensor(config.lmbdas).log()[:, None]
        gains = 0.5 * (steps - steps.mean()) + math.log(FIRST_GAIN)
        self.log_gain = nn.Parameter(gains.repeat(1, config.latent_channels))
        self.log_inverse_gain = nn.Parameter(-gains.repeat(1, config.latent_channels))
        self.log_hyper_gain = nn.Parameter(torch.zeros(config.levels, config.hyper_channels))
        self.z_index = nn.Parameter(torch.full((config.levels, config.hyper_channels), 18.0 / INDEX_GAIN))
        for context in self.group_contexts:
            self._start_at_moderate_scales(context)

    @property
    def group_contexts(self) -> list[GroupContext]:
        """The networks of every group: float, or exact-integer ones of the same interface."""
        return cast("list[GroupContext]", list(self.contexts))

    @staticmethod
    def _start_at_moderate_scales(context: GroupContext) -> None:
        for network in (context.anchor_parameters, context.nonanchor_parameters):
            last = network[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            with torch.no_grad():
                channels = last.out_channels // 2
                last.bias[:channels] = 18.0 / INDEX_GAIN
                last.bias[channels:] = 0.0

    def forward(self, x: Tensor, levels: Tensor) -> ModelOutput:
        """x: B x 3 x H x W in [0, 1], H and W multiples of 64; levels: B quality levels, int64 from 0."""
        y_hat, bits_y, bits_z = self.latents(x, levels)
        x_hat = self.g_s(y_hat * self.inverse_gain(levels))
        return ModelOutput(x_hat=x_hat, y_hat=y_hat, bits_y=bits_y, bits_z=bits_z)

    def inverse_gain(self, levels: Tensor) -> Tensor:
        """What y_hat is multiplied by before g_s, B x M x 1 x 1."""
        return self.log_inverse_gain[levels].exp()[:, :, None, None]

    def latents(self, x: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y_hat, and the bits of y and of z per sample: everything before g_s."""
        y = self.g_a(x).float() * self.log_gain[levels].exp()[:, :, None, None]
        z = self.h_a(y).float() * self.log_hyper_gain[levels].exp()[:, :, None, None]
        z_symbols = ste_round(z.clamp(-Z_LIMIT, Z_LIMIT))
        z_index = self._index(self.z_index[levels])[:, :, None, None]
        bits_z = self._bits(z, z_symbols, z_index)
        y_hat, bits_y = self._latent(y, self.h_s(z_symbols))
        return y_hat, bits_y, bits_z.flatten(1).sum(1)

    def _latent(self, y: Tensor, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """Goes through the groups and passes as the decoder does; returns y_hat and bits per sample."""
        bits = y.new_zeros(y.shape[0])
        decoded: list[Tensor] = []
        for context, target in zip(self.group_contexts, torch.split(y, list(self.config.groups), dim=1), strict=True):
            earlier = torch.cat(decoded, dim=1) if decoded else target[:, :0]
            features = context.features(hyper, earlier)
            anchors, pass_bits = self._code(pack_anchors(target), context.anchor(features))
            bits = bits + pass_bits
            current = unpack(anchors, torch.zeros_like(anchors))
            nonanchors, pass_bits = self._code(pack_nonanchors(target), context.nonanchor(features, current))
            bits = bits + pass_bits
            decoded.append(unpack(anchors, nonanchors))
        return torch.cat(decoded, dim=1), bits

    def _code(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """One pass: packed y and its network's output to y_hat and bits per sample."""
        raw_index, mean = parameters.float().chunk(2, dim=1)
        index = self._index(raw_index)
        if not self.training:
            mean = torch.round(mean * MEAN_STEPS) / MEAN_STEPS
        mean = mean.clamp(-MEAN_LIMIT, MEAN_LIMIT)
        v = y - mean
        symbols = ste_round(v)
        if not self.training:
            symbols = symbols * (index > 0)  # the coder never codes symbols of index 0
        bits = self._bits(v, symbols, index).flatten(1).sum(1)
        return symbols + mean, bits

    def _index(self, raw: Tensor) -> Tensor:
        index = bounded_index(raw * INDEX_GAIN)
        return index if self.training else torch.round(index)

    def _bits(self, v: Tensor, symbols: Tensor, index: Tensor) -> Tensor:
        return training_bits(v + torch.rand_like(v) - 0.5, index) if self.training else gaussian_bits(symbols, index)
