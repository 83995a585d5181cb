"""Depthwise convolutions that train quickly in bfloat16 on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


class DepthwiseConv(nn.Conv2d):
    """A convolution of every channel by itself, of the input's size; float32 or under autocast.

    Under autocast on a CPU the gradient of the weights is computed in float32: oneDNN has no quick kernel of it in
    bfloat16, and takes 3 to 4 times as long there, a quarter of a training step.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        if device != "cpu" or not torch.is_grad_enabled() or not torch.is_autocast_enabled(device):
            return super().forward(input)
        assert self.bias is not None
        narrow = input.to(torch.get_autocast_dtype(device))
        out: Tensor = _WideWeightGradient.apply(narrow, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out


class _WideWeightGradient(torch.autograd.Function):
    """x: bfloat16 B x C x H x W; weight: float32 C x 1 x k x k; bias: float32 C.  Of x's type, as its gradient is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        wide, padding = gradient.float(), weight.shape[-1] // 2
        of_x, _, _ = torch.ops.aten.convolution_backward(
            *(gradient, x, weight.to(x.dtype), None, [1, 1], [padding, padding], [1, 1], False, [0, 0], len(weight)),
            [True, False, False],
        )
        of_weight = conv2d_weight(  # type: ignore[no-untyped-call]
            x.float(), weight.shape, wide, padding=padding, groups=len(weight)
        )
        return of_x, of_weight, wide.sum((0, 2, 3))
