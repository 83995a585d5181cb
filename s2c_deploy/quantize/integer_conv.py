"""Convolutions on integers held in float32, small enough that every sum is exact in any order.

A tensor of real values r is held as integers n with r = n * 2^-s, s (its *exponents*) fixed per channel.  A layer
computes

    acc = sum_i W[o, i] * n[i] + B[o]            exact, because sum |W| * max|n| + |B| < 2^24
    out = clip(floor(acc * 2^-k[o]), low, high)  k >= 0; B already holds the 2^(k-1) that makes floor a rounding

Float32 holds every integer up to 2^24 and every such integer times a power of two, so no operation here rounds,
whichever kernel performs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.contract import EXACT_LIMIT
from s2c_deploy.errors import ExactnessError
from s2c_deploy.models.entropy_model import CheckerboardConv

#: Largest requantisation shift; its rounding half, 2^19, is a small part of the bound.
MAX_SHIFT = 20


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a tensor is held in integers."""

    #: float32 of C channels; whole numbers.
    exponents: Tensor
    #: The largest magnitude of its integers.
    limit: int


def floor_log2(x: Tensor) -> Tensor:
    """floor(log2(x)) as float32, from the exponent itself: the same on every machine."""
    return (torch.frexp(x).exponent - 1).float()


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """The value of ``exact`` with the gradient of ``smooth``."""
    return smooth + (exact - smooth).detach() if smooth.requires_grad else exact


@dataclass(frozen=True, kw_only=True)
class IntegerWeights:
    """A layer in integers."""

    #: One O x I x k x k per input.
    weights: tuple[Tensor, ...]
    #: O, with the rounding half.
    bias: Tensor
    #: Of bits, O.
    shifts: Tensor
    #: The largest sum, O; below 2^24.
    bound: Tensor


class IntegerConv(nn.Module):
    """The sum of convolutions of one or more inputs, requantised to integers on an output grid.

    Holds the float parameters (so that it can be fine-tuned straight-through) and derives the integers from them on
    every call in training mode: what is trained is what is shipped.
    """

    out_exponents: Tensor

    def __init__(
        self,
        name: str,
        convs: list[nn.Conv2d],
        grids: list[Grid],
        *,
        largest_weight: int,
        out: Tensor,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        self.name = name
        self.convs = nn.ModuleList(convs)
        self.limits, self.largest_weight = [grid.limit for grid in grids], largest_weight
        for i, grid in enumerate(grids):
            self.register_buffer(f"in_exponents_{i}", grid.exponents.clone())
        self.register_buffer("out_exponents", out.clone())
        self.low, self.high = low, high
        self._cached: IntegerWeights | None = None

    def train(self, mode: bool = True) -> IntegerConv:
        self._cached = None
        return super().train(mode)

    @property
    def padding(self) -> list[int]:
        return [conv.padding[0] for conv in self._convs()]  # type: ignore[misc]

    def _convs(self) -> list[nn.Conv2d]:
        return [conv for conv in self.convs if isinstance(conv, nn.Conv2d)]

    def integers(self) -> IntegerWeights:
        """Integer weights, proven exact; ExactnessError names the layer and channel that cannot be."""
        if self.training:
            return self._quantize()
        if self._cached is None:
            # Kept without the graph that made them: a module that holds one cannot be copied.
            with torch.no_grad():
                self._cached = self._quantize()
        return self._cached

    def _quantize(self) -> IntegerWeights:
        convs = self._convs()
        folded, bias = _folded(convs, [getattr(self, f"in_exponents_{i}") for i in range(len(convs))])
        exponents = self._exponents(folded, bias)
        scale = torch.exp2(exponents)
        weights = tuple(self._rounded(w * scale[:, None, None, None]) for w in folded)
        shifts = exponents - self.out_exponents
        half = torch.where(shifts > 0, torch.exp2(shifts - 1), torch.zeros_like(shifts))
        integer_bias = self._rounded(bias * scale) + half
        bound = self._bound(weights, integer_bias).detach()
        self._prove(bound, shifts)
        return IntegerWeights(weights=weights, bias=integer_bias, shifts=shifts, bound=bound)

    @staticmethod
    def _rounded(x: Tensor) -> Tensor:
        return straight_through(torch.round(x), x)

    def _exponents(self, folded: list[Tensor], bias: Tensor) -> Tensor:
        exponents = _weight_exponents(folded, bias, self.limits, self.largest_weight)
        # The rounding half is 2^(e - s - 1): a channel with next to no weights must not push it past the bound.
        return torch.minimum(exponents, self.out_exponents + MAX_SHIFT)

    def _bound(self, weights: tuple[Tensor, ...], bias: Tensor) -> Tensor:
        bound = bias.abs().double()
        for weight, limit in zip(weights, self.limits, strict=True):
            bound = bound + weight.abs().double().sum((1, 2, 3)) * limit
        return bound

    def _prove(self, bound: Tensor, shifts: Tensor) -> None:
        # Not-a-number compares false with everything, so it must not be what passes.
        proven = (bound < EXACT_LIMIT) & (shifts >= 0)
        for channel in torch.nonzero(~proven).flatten().tolist():
            raise ExactnessError(
                f"layer {self.name}, channel {channel}: sums reach {bound[channel]:.0f} with a shift of "
                f"{shifts[channel]:.0f}, expected below 2^24 = {EXACT_LIMIT} and a shift of at least 0",
                hint="fine-tune with smaller weights, or coarser activations",
            )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Integer-valued float32 in, B x I x h x w each; integer-valued float32 out, B x O x h' x w'."""
        exact = self.integers()
        acc = exact.bias[None, :, None, None]
        # Training in bfloat16 stops here: eight bits hold no such sums.
        with torch.autocast(acc.device.type, enabled=False):
            for x, weight, padding in zip(inputs, exact.weights, self.padding, strict=True):
                acc = acc + F.conv2d(x, weight, padding=padding)
        scaled = acc * torch.exp2(-exact.shifts)[None, :, None, None]
        return straight_through(torch.floor(scaled), scaled).clamp(self.low, self.high)


def shrink(y: Tensor, shifts: Tensor, limit: int) -> Tensor:
    """clip(floor(y * 2^-shift + 1/2), -limit, limit) per channel: brings latents into a proven range."""
    scaled = y * torch.exp2(-shifts)[None, :, None, None] + 0.5
    return straight_through(torch.floor(scaled), scaled).clamp(-limit, limit)


def grid_for(largest: Tensor, limit: int) -> Grid:
    """The finest per-channel grid whose integers stay within ``limit`` for values up to ``largest``."""
    exponents = floor_log2(limit / largest.clamp_min(limit * 2.0**-12).double())
    return Grid(exponents=exponents, limit=limit)


def attainable(convs: list[nn.Conv2d], grids: list[Grid], largest_weight: int) -> Tensor:
    """The finest output exponents, per channel, that a sum of convolutions has bits for.

    A channel that calibration hardly saw in use would ask for a finer grid than its own weights can be held on.
    """
    folded, bias = _folded(convs, [grid.exponents for grid in grids])
    return _weight_exponents(folded, bias, [grid.limit for grid in grids], largest_weight)


def _folded(convs: list[nn.Conv2d], exponents: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Weights that take the inputs' integers, one per convolution, and the sum of the biases."""
    folded = []
    for conv, exponent in zip(convs, exponents, strict=True):
        weight = conv.masked_weight if isinstance(conv, CheckerboardConv) else conv.weight
        folded.append(weight * torch.exp2(-exponent)[None, :, None, None])
    return folded, torch.stack([conv.bias for conv in convs if conv.bias is not None]).sum(0)


@torch.no_grad()
def _weight_exponents(folded: list[Tensor], bias: Tensor, limits: list[int], largest_weight: int) -> Tensor:
    """The largest weight exponents that keep the bound and the largest weight, per output channel."""
    total = bias.abs().double()
    largest = torch.zeros_like(bias)
    for weight, limit in zip(folded, limits, strict=True):
        total = total + weight.abs().double().sum((1, 2, 3)) * limit
        largest = torch.maximum(largest, weight.abs().amax((1, 2, 3)))
    # The budget leaves room for what rounding can add: half a unit a weight and the bias, and the half.
    slack = sum(w[0].numel() * 0.5 * limit for w, limit in zip(folded, limits, strict=True)) + 1
    slack += 2 ** (MAX_SHIFT - 1)
    budget = torch.full_like(total, EXACT_LIMIT - 1 - slack)
    by_sum = budget / total.clamp_min(1e-30)
    by_operand = largest_weight / largest.double().clamp_min(1e-30)
    return floor_log2(torch.minimum(by_sum, by_operand))
