"""Convolutions of INT8 operands: what a g_s of bytes is made of, in training and in evaluation mode.

A layer's input channel c is divided by its scale a_c and rounded to -128..127.  Its weights, multiplied by a_c, are
divided by a scale per output channel and rounded likewise, so that sums are of products of bytes and one multiplication
per output channel undoes both scales.  Rounding passes gradients as if it were not there, clipping stops them.

A scale per input channel is what a scale per tensor lacks where channels differ in magnitude (SmoothQuant, arXiv
2211.10438, moves it into the weights alike); engines know one scale per tensor, which is 1 here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The smallest and the largest byte.
LOW, HIGH = -128, 127
#: Of a channel or kernel that is zero.
_SMALLEST = 1e-6


class _Int8(nn.Module):
    """What both kinds share; the axes of a kernel are its output's and its input's."""

    input_scale: Tensor
    weight: Tensor
    _axes = (0, 1)

    def begin(self) -> None:
        self.register_buffer("input_scale", torch.ones(self.weight.shape[self._axes[1]]))
        self._weight_scale: Tensor | None = None

    def train(self, mode: bool = True) -> _Int8:
        super().train(mode)
        # In evaluation mode constants, for the exporter writes what it sees computed.
        self._weight_scale = None if mode else self._measured()
        return self

    def _along(self, values: Tensor, axis: int) -> Tensor:
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        return values.view(shape)

    def _smoothed(self) -> Tensor:
        return self.weight * self._along(self.input_scale, self._axes[1])

    @torch.no_grad()
    def _measured(self) -> Tensor:
        rest = [axis for axis in range(4) if axis != self._axes[0]]
        return (self._smoothed().abs().amax(rest) / HIGH).clamp_min(_SMALLEST)

    def bytes_of(self, x: Tensor) -> Tensor:
        """The input in steps of its channels' scales, whole numbers of a byte."""
        return torch.fake_quantize_per_tensor_affine(x / self._along(self.input_scale, 1), 1.0, 0, LOW, HIGH)

    def rounded_weight(self) -> Tensor:
        """The kernels for ``bytes_of``: bytes times a scale per output channel."""
        scale = self._measured() if self._weight_scale is None else self._weight_scale.to(self.weight.device)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(self._smoothed(), scale, zeros, self._axes[0], LOW, HIGH)


class Int8Conv(_Int8, nn.Conv2d):
    """A convolution of bytes."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.bytes_of(x), self.rounded_weight(), self.bias, self.stride, self.padding)


class Int8ConvTranspose(_Int8, nn.ConvTranspose2d):
    """A transposed convolution of bytes."""

    _axes = (1, 0)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        padding = cast("tuple[int, ...]", self.padding)
        kernels = self.rounded_weight()
        return F.conv_transpose2d(self.bytes_of(x), kernels, self.bias, self.stride, padding, self.output_padding)


def dense_convolutions(module: nn.Module) -> list[nn.Module]:
    """Those that mix channels, in the order of data."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [part for part in module.modules() if isinstance(part, kinds) and part.groups == 1]


def take_bytes(module: nn.Module) -> None:
    """Turns dense convolutions into ones of bytes, but for the first, whose latents span too much, and the last, whose
    errors are the picture's.  Depthwise ones stay: they are memory, not arithmetic."""
    for conv in dense_convolutions(module)[1:-1]:
        conv.__class__ = Int8Conv if isinstance(conv, nn.Conv2d) else Int8ConvTranspose
        assert isinstance(conv, _Int8)
        conv.begin()


@torch.no_grad()
def calibrate(module: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Sets the scales of the inputs of a module's convolutions of bytes, so that the largest magnitude that they had in
    float, over calls with ``inputs``, is the largest byte."""
    convs = [part for part in module.modules() if isinstance(part, _Int8)]
    largest = [torch.zeros_like(conv.input_scale) for conv in convs]

    def floating(number: int):  # type: ignore[no-untyped-def]
        def hook(conv: nn.Module, arguments: tuple[Tensor]) -> None:
            seen = arguments[0].abs().amax((0, 2, 3))
            largest[number] = torch.maximum(largest[number], seen)

        return hook

    hooks = [conv.register_forward_pre_hook(floating(number)) for number, conv in enumerate(convs)]
    kinds = [type(conv) for conv in convs]
    try:
        for conv in convs:
            conv.__class__ = nn.Conv2d if isinstance(conv, nn.Conv2d) else nn.ConvTranspose2d  # type: ignore[assignment]
        for x in inputs:
            module(x)
    finally:
        for conv, kind in zip(convs, kinds, strict=True):
            conv.__class__ = kind
        for registered in hooks:
            registered.remove()
    for conv, seen in zip(convs, largest, strict=True):
        conv.input_scale.copy_((seen / HIGH).clamp_min(_SMALLEST))
        conv.train(conv.training)
