"""The entropy networks on integers, with the interface of ``models.entropy_model``'s float ones.

Hyper-latents come in as whole numbers, latents in real units that are multiples of 1/16 (held as 16 * y_hat inside);
scale indexes and means leave as real network outputs whose integers are index = 8 * output and mean = 16 * output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.contract import FEATURE_LIMIT, HYPER_LIMIT, MEAN_STEPS, OPERAND_LIMIT, PARAMETER_LIMIT, Z_LIMIT
from s2c_deploy.models.entropy_model import GroupContext, HyperSynthesis, pack_anchors, pack_nonanchors
from s2c_deploy.models.model import INDEX_GAIN
from s2c_deploy.quantize.integer_conv import Grid, IntegerConv, attainable, grid_for, shrink


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest integers of what the networks multiply."""

    #: Magnitude of a weight.
    weight: int
    #: Of activations that a point-wise layer reads; they are not negative.
    pointwise: int
    #: Magnitude of a latent.
    latent: int


#: By ``ModelConfig.operand_bits``.  With 11, sums over 3x3 and 5x5 positions leave fewer bits to activations than
#: point-wise ones.
LIMITS = {
    8: Limits(weight=127, pointwise=255, latent=127),
    11: Limits(weight=OPERAND_LIMIT - 1, pointwise=1023, latent=1023),
}
#: Of activations that a 3x3 kernel sums over; they are not negative.
SPATIAL_LIMIT = HYPER_LIMIT
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


def _latent_grid(largest: Tensor, limits: Limits) -> Grid:
    """Steps of 1/16 or coarser: latents have no finer ones."""
    grid = grid_for(largest, limits.latent)
    return Grid(exponents=grid.exponents.clamp(max=4), limit=grid.limit)


class ExactHyperSynthesis(nn.Module):
    """h_s on integers; its output is the integers of the hyper features, B x 2N x h x w, in [0, 255]."""

    def __init__(self, h_s: HyperSynthesis, ranges: HyperRanges, limits: Limits) -> None:
        super().__init__()
        first, second = (block[0] for block in (h_s[0], h_s[2]))  # type: ignore[index]
        whole = Grid(exponents=torch.zeros(_conv(first).in_channels), limit=Z_LIMIT)
        # The four sub-pixels of a channel share its exponent.
        finest = attainable([_conv(first)], [whole], limits.weight).view(-1, 4).amin(1)
        after_first = _grid_within(ranges.first, SPATIAL_LIMIT, finest)
        finest = attainable([_conv(second)], [after_first], limits.weight).view(-1, 4).amin(1)
        after_second = _grid_within(ranges.second, SPATIAL_LIMIT, finest)
        finest = attainable([_conv(h_s[4])], [after_second], limits.weight)
        self.hyper_grid = _grid_within(ranges.hyper, SPATIAL_LIMIT, finest)
        self.first = IntegerConv(
            "h_s.0",
            [_conv(first)],
            [whole],
            largest_weight=limits.weight,
            out=after_first.exponents.repeat_interleave(4),
            low=0,
            high=SPATIAL_LIMIT,
        )
        self.second = IntegerConv(
            "h_s.1",
            [_conv(second)],
            [after_first],
            largest_weight=limits.weight,
            out=after_second.exponents.repeat_interleave(4),
            low=0,
            high=SPATIAL_LIMIT,
        )
        self.third = IntegerConv(
            "h_s.2",
            [_conv(h_s[4])],
            [after_second],
            largest_weight=limits.weight,
            out=self.hyper_grid.exponents,
            low=0,
            high=SPATIAL_LIMIT,
        )

    def forward(self, z_symbols: Tensor) -> Tensor:
        v = F.pixel_shuffle(self.first(z_symbols), 2)
        v = F.pixel_shuffle(self.second(v), 2)
        out: Tensor = self.third(v)
        return out


class ExactParameterNetwork(nn.Module):
    """ReLU, point-wise convolution, ReLU, point-wise convolution, on packed integer features."""

    units: Tensor

    def __init__(self, name: str, network: nn.Sequential, features: Grid, hidden: Tensor, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        finest = attainable([_conv(network[1])], [features], limits.weight)
        hidden_grid = _grid_within(hidden, limits.pointwise, finest)
        last = _conv(network[3])
        channels = last.out_channels // 2
        out = torch.tensor([INDEX_GAIN, MEAN_STEPS]).log2().repeat_interleave(channels)
        self.first = IntegerConv(
            f"{name}.0",
            [_conv(network[1])],
            [features],
            largest_weight=limits.weight,
            out=hidden_grid.exponents,
            low=0,
            high=limits.pointwise,
        )
        self.second = IntegerConv(
            f"{name}.1",
            [last],
            [hidden_grid],
            largest_weight=limits.weight,
            out=out,
            low=-PARAMETER_LIMIT,
            high=PARAMETER_LIMIT,
        )
        self.register_buffer("units", torch.exp2(-out)[None, :, None, None])

    def forward(self, features: Tensor) -> Tensor:
        v = features.clamp(0, self.limits.pointwise)
        out: Tensor = self.second(self.first(v)) * self.units
        return out


class ExactGroupContext(nn.Module):
    """Context and parameter networks of one group, on integers."""

    earlier_shifts: Tensor
    current_shifts: Tensor

    def __init__(self, name: str, context: GroupContext, hyper: Grid, ranges: ContextRanges, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        inputs, grids = [context.hyper], [hyper]
        self.has_earlier = context.channel is not None
        if context.channel is not None:
            earlier = _latent_grid(ranges.earlier, limits)
            self.register_buffer("earlier_shifts", 4 - earlier.exponents)
            inputs.append(context.channel)
            grids.append(earlier)
        current = _latent_grid(ranges.current, limits)
        self.register_buffer("current_shifts", 4 - current.exponents)
        mixed = _grid_within(ranges.mixed, limits.pointwise, attainable(inputs, grids, limits.weight))
        # Features from both sides are added: one grid for the two.
        finest = torch.minimum(
            attainable([context.mix], [mixed], limits.weight), attainable([context.spatial], [current], limits.weight)
        )
        features = _grid_within(ranges.features, limits.pointwise, finest)

        def layer(part: str, convs: list[nn.Conv2d], read: list[Grid], out: Grid, low: int, high: int) -> IntegerConv:
            return IntegerConv(
                f"{name}.{part}", convs, read, largest_weight=limits.weight, out=out.exponents, low=low, high=high
            )

        self.input = layer("input", inputs, grids, mixed, 0, limits.pointwise)
        self.mix = layer("mix", [context.mix], [mixed], features, -FEATURE_LIMIT, FEATURE_LIMIT)
        self.spatial = layer("spatial", [context.spatial], [current], features, -FEATURE_LIMIT, FEATURE_LIMIT)
        self.anchor_parameters = ExactParameterNetwork(
            f"{name}.anchor", context.anchor_parameters, features, ranges.anchor_hidden, limits
        )
        self.nonanchor_parameters = ExactParameterNetwork(
            f"{name}.nonanchor", context.nonanchor_parameters, features, ranges.nonanchor_hidden, limits
        )

    def features(self, hyper: Tensor, earlier: Tensor) -> Tensor:
        """Integer hyper features and earlier y_hat (real) to integer features, B x D x h x w."""
        inputs = [hyper]
        if self.has_earlier:
            inputs.append(shrink(earlier * MEAN_STEPS, self.earlier_shifts, self.limits.latent))
        out: Tensor = self.mix(self.input(*inputs))
        return out

    def anchor(self, features: Tensor) -> Tensor:
        """As GroupContext.anchor."""
        out: Tensor = self.anchor_parameters(pack_anchors(features))
        return out

    def nonanchor(self, features: Tensor, current: Tensor) -> Tensor:
        """As GroupContext.nonanchor."""
        spatial = self.spatial(shrink(current * MEAN_STEPS, self.current_shifts, self.limits.latent))
        out: Tensor = self.nonanchor_parameters(pack_nonanchors(features + spatial))
        return out
