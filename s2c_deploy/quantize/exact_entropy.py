"""The entropy networks on integers, with the interface of ``models.entropy_model``'s float ones.

Hyper-latents come in as whole numbers, latents in real units that are multiples of 1/16 (held as 16 * y_hat inside);
scale indexes and means leave as real network outputs whose integers are index = 8 * output and mean = 16 * output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.contract import FEATURE_LIMIT, HYPER_LIMIT, MEAN_STEPS, PARAMETER_LIMIT, Z_LIMIT
from s2c_deploy.models.entropy_model import GroupContext, HyperSynthesis, pack_anchors, pack_nonanchors
from s2c_deploy.models.model import INDEX_GAIN
from s2c_deploy.quantize.integer_conv import Grid, IntegerConv, attainable, grid_for, shrink

#: Largest activation integers: small where a kernel sums over 3x3 or 5x5 positions, larger where it is point-wise.
SPATIAL_LIMIT, POINTWISE_LIMIT, LATENT_LIMIT = HYPER_LIMIT, 1023, 1023
#: A grid may be so many bits coarser than its range asks for; weights that need more were not the calibrated ones.
COARSER = 4


@dataclass(frozen=True, kw_only=True)
class HyperRanges:
    """Largest activations, per channel, after the three ReLUs of h_s."""

    first: Tensor
    second: Tensor
    hyper: Tensor


@dataclass(frozen=True, kw_only=True)
class ContextRanges:
    """Largest magnitudes, per channel, in one group's networks; latents are y_hat of every group before and this."""

    mixed: Tensor
    features: Tensor
    anchor_hidden: Tensor
    nonanchor_hidden: Tensor
    earlier: Tensor
    current: Tensor


def _conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _grid_within(largest: Tensor, limit: int, finest: Tensor) -> Grid:
    """The finest grid for values up to ``largest``, coarser by up to COARSER bits where ``finest`` asks for it."""
    wanted = grid_for(largest, limit).exponents
    return Grid(exponents=torch.maximum(torch.minimum(wanted, finest), wanted - COARSER), limit=limit)


class ExactHyperSynthesis(nn.Module):
    """h_s on integers; its output is the integers of the hyper features, B x 2N x h x w, in [0, 255]."""

    def __init__(self, h_s: HyperSynthesis, ranges: HyperRanges) -> None:
        super().__init__()
        first, second = (block[0] for block in (h_s[0], h_s[2]))  # type: ignore[index]
        whole = Grid(exponents=torch.zeros(_conv(first).in_channels), limit=Z_LIMIT)
        # The four sub-pixels of a channel share its exponent.
        finest = attainable([_conv(first)], [whole]).view(-1, 4).amin(1)
        after_first = _grid_within(ranges.first, SPATIAL_LIMIT, finest)
        finest = attainable([_conv(second)], [after_first]).view(-1, 4).amin(1)
        after_second = _grid_within(ranges.second, SPATIAL_LIMIT, finest)
        self.hyper_grid = _grid_within(ranges.hyper, SPATIAL_LIMIT, attainable([_conv(h_s[4])], [after_second]))
        self.first = IntegerConv(
            "h_s.0",
            [_conv(first)],
            [whole],
            out=after_first.exponents.repeat_interleave(4),
            low=0,
            high=SPATIAL_LIMIT,
        )
        self.second = IntegerConv(
            "h_s.1",
            [_conv(second)],
            [after_first],
            out=after_second.exponents.repeat_interleave(4),
            low=0,
            high=SPATIAL_LIMIT,
        )
        self.third = IntegerConv(
            "h_s.2", [_conv(h_s[4])], [after_second], out=self.hyper_grid.exponents, low=0, high=SPATIAL_LIMIT
        )

    def forward(self, z_symbols: Tensor) -> Tensor:
        v = F.pixel_shuffle(self.first(z_symbols), 2)
        v = F.pixel_shuffle(self.second(v), 2)
        out: Tensor = self.third(v)
        return out


class ExactParameterNetwork(nn.Module):
    """ReLU, point-wise convolution, ReLU, point-wise convolution, on packed integer features."""

    units: Tensor

    def __init__(self, name: str, network: nn.Sequential, features: Grid, hidden: Tensor) -> None:
        super().__init__()
        hidden_grid = _grid_within(hidden, POINTWISE_LIMIT, attainable([_conv(network[1])], [features]))
        last = _conv(network[3])
        channels = last.out_channels // 2
        out = torch.tensor([INDEX_GAIN, MEAN_STEPS]).log2().repeat_interleave(channels)
        self.first = IntegerConv(
            f"{name}.0",
            [_conv(network[1])],
            [features],
            out=hidden_grid.exponents,
            low=0,
            high=POINTWISE_LIMIT,
        )
        self.second = IntegerConv(
            f"{name}.1", [last], [hidden_grid], out=out, low=-PARAMETER_LIMIT, high=PARAMETER_LIMIT
        )
        self.register_buffer("units", torch.exp2(-out)[None, :, None, None])

    def forward(self, features: Tensor) -> Tensor:
        v = features.clamp(0, POINTWISE_LIMIT)
        out: Tensor = self.second(self.first(v)) * self.units
        return out


class ExactGroupContext(nn.Module):
    """Context and parameter networks of one group, on integers."""

    earlier_shifts: Tensor
    current_shifts: Tensor

    def __init__(self, name: str, context: GroupContext, hyper: Grid, ranges: ContextRanges) -> None:
        super().__init__()
        inputs, grids = [context.hyper], [hyper]
        self.has_earlier = context.channel is not None
        if context.channel is not None:
            earlier = self._latent_grid(ranges.earlier)
            self.register_buffer("earlier_shifts", 4 - earlier.exponents)
            inputs.append(context.channel)
            grids.append(earlier)
        current = self._latent_grid(ranges.current)
        self.register_buffer("current_shifts", 4 - current.exponents)
        mixed = _grid_within(ranges.mixed, POINTWISE_LIMIT, attainable(inputs, grids))
        # Features from both sides are added: one grid for the two.
        finest = torch.minimum(attainable([context.mix], [mixed]), attainable([context.spatial], [current]))
        features = _grid_within(ranges.features, POINTWISE_LIMIT, finest)
        self.input = IntegerConv(f"{name}.input", inputs, grids, out=mixed.exponents, low=0, high=POINTWISE_LIMIT)
        signed = {"out": features.exponents, "low": -FEATURE_LIMIT, "high": FEATURE_LIMIT}
        self.mix = IntegerConv(f"{name}.mix", [context.mix], [mixed], **signed)  # type: ignore[arg-type]
        self.spatial = IntegerConv(f"{name}.spatial", [context.spatial], [current], **signed)  # type: ignore[arg-type]
        self.anchor_parameters = ExactParameterNetwork(
            f"{name}.anchor", context.anchor_parameters, features, ranges.anchor_hidden
        )
        self.nonanchor_parameters = ExactParameterNetwork(
            f"{name}.nonanchor", context.nonanchor_parameters, features, ranges.nonanchor_hidden
        )

    @staticmethod
    def _latent_grid(largest: Tensor) -> Grid:
        """Steps of 1/16 or coarser: latents have no finer ones."""
        grid = grid_for(largest, LATENT_LIMIT)
        return Grid(exponents=grid.exponents.clamp(max=4), limit=grid.limit)

    def features(self, hyper: Tensor, earlier: Tensor) -> Tensor:
        """Integer hyper features and earlier y_hat (real) to integer features, B x D x h x w."""
        inputs = [hyper]
        if self.has_earlier:
            inputs.append(shrink(earlier * MEAN_STEPS, self.earlier_shifts, LATENT_LIMIT))
        out: Tensor = self.mix(self.input(*inputs))
        return out

    def anchor(self, features: Tensor) -> Tensor:
        """As GroupContext.anchor."""
        out: Tensor = self.anchor_parameters(pack_anchors(features))
        return out

    def nonanchor(self, features: Tensor, current: Tensor) -> Tensor:
        """As GroupContext.nonanchor."""
        spatial = self.spatial(shrink(current * MEAN_STEPS, self.current_shifts, LATENT_LIMIT))
        out: Tensor = self.nonanchor_parameters(pack_nonanchors(features + spatial))
        return out
