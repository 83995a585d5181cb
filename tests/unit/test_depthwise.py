"""Depthwise convolutions: PyTorch's own, but for the precision of a gradient under autocast."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.models.depthwise import DepthwiseConv

CHANNELS = 6


def own_and_pytorchs(kernel: int) -> tuple[DepthwiseConv, nn.Conv2d]:
    torch.manual_seed(0)
    own = DepthwiseConv(CHANNELS, kernel)
    other = nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, groups=CHANNELS)
    other.load_state_dict(own.state_dict())
    return own, other


def gradients(conv: nn.Conv2d, x: Tensor, of: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of x, weight and bias where that of the output is ``of``."""
    out: Tensor = conv(x)
    assert conv.bias is not None
    return out, list(torch.autograd.grad(out, (x, conv.weight, conv.bias), of.to(out.dtype)))


def weight_gradient_by_taps(x: Tensor, of: Tensor, kernel: int) -> Tensor:
    """In float64, one tap after the other: what is below it, times the gradient of the output."""
    height, width = x.shape[-2:]
    padded = F.pad(x.double(), [kernel // 2] * 4)
    taps = [
        (padded[..., i : i + height, j : j + width] * of.double()).sum((0, 2, 3))
        for i in range(kernel)
        for j in range(kernel)
    ]
    return torch.stack(taps, 1).reshape(-1, 1, kernel, kernel)


@pytest.mark.parametrize("kernel", [3, 5])
def test_under_autocast_the_gradient_of_the_weights_is_exact_and_the_rest_is_pytorchs(kernel: int) -> None:
    own, other = own_and_pytorchs(kernel)
    x = torch.randn(2, CHANNELS, 16, 24).contiguous(memory_format=torch.channels_last).requires_grad_()
    of = torch.randn(2, CHANNELS, 16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, (x_gradient, weight_gradient, bias_gradient) = gradients(own, x, of)
        expected, (x_expected, _, _) = gradients(other, x, of)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)
    assert torch.equal(x_gradient, x_expected)
    narrow = of.bfloat16()
    torch.testing.assert_close(bias_gradient.double(), narrow.double().sum((0, 2, 3)), rtol=1e-5, atol=1e-5)
    exact = weight_gradient_by_taps(x.detach().bfloat16(), narrow, kernel)
    assert weight_gradient.dtype == torch.float32
    torch.testing.assert_close(weight_gradient.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
def test_in_float32_it_is_pytorchs(kernel: int) -> None:
    own, other = own_and_pytorchs(kernel)
    x = torch.randn(2, CHANNELS, 16, 24, requires_grad=True)
    of = torch.randn(2, CHANNELS, 16, 24)
    out, found = gradients(own, x, of)
    expected, others = gradients(other, x, of)
    assert torch.equal(out, expected)
    assert all(torch.equal(a, b) for a, b in zip(found, others, strict=True))


def test_without_gradients_autocast_is_pytorchs() -> None:
    own, other = own_and_pytorchs(5)
    x = torch.randn(1, CHANNELS, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(own(x), other(x))
