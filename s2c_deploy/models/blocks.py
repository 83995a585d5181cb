"""S2CFormer blocks: a spatial interaction, then a channel aggregation.  All tensors are B x C x H x W."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.contract import ATTENTION_WINDOW as WINDOW
from s2c_deploy.models.depthwise import DepthwiseConv
from s2c_deploy.presets import attention_heads


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of every position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        # The permutation is a view on channels-last memory, so the reduction runs over contiguous channels.
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return y.permute(0, 3, 1, 2)


def residual_projection(inputs: int, outputs: int) -> nn.Conv2d:
    """The last 1x1 convolution of a residual branch, zero at first: a new block is the identity, which lets deep
    stacks start at a high learning rate."""
    projection = nn.Conv2d(inputs, outputs, 1)
    nn.init.zeros_(projection.weight)
    assert projection.bias is not None
    nn.init.zeros_(projection.bias)
    return projection


class SeparableConv(nn.Module):
    """x + PW(DW5x5(LeakyReLU(PW(x)))): the spatial interaction of S2C-Conv."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(width) if norm else nn.Identity()
        self.expand = nn.Conv2d(width, width, 1)
        self.depthwise = DepthwiseConv(width, 5)
        self.project = residual_projection(width, width)

    def forward(self, x: Tensor) -> Tensor:
        v = F.leaky_relu(self.expand(self.norm(x)), 0.01)
        out: Tensor = x + self.project(self.depthwise(v))
        return out


class WindowAttention(nn.Module):
    """x + Proj(softmax(Q K^T / sqrt(d)) V) in 8x8 windows with no shift: the interaction of S2C-Attention.

    H and W must be multiples of 8.  The scale is applied to Q before the product, and the product is plain
    MatMul - Softmax - MatMul, because that is the pattern inference engines fuse.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = attention_heads(width)
        self.head_size = width // self.heads
        self.norm = ChannelNorm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.project = residual_projection(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        rows, columns = h // WINDOW, w // WINDOW
        qkv = self.qkv(self.norm(x))
        qkv = qkv.reshape(b, 3 * self.heads, self.head_size, rows, WINDOW, columns, WINDOW)
        qkv = qkv.permute(0, 3, 5, 1, 4, 6, 2)
        qkv = qkv.reshape(b * rows * columns, 3, self.heads, WINDOW * WINDOW, self.head_size)
        q, k, v = qkv[:, 0], qkv[:, 1], qkv[:, 2]
        weights = torch.softmax((q * self.head_size**-0.5) @ k.transpose(-2, -1), dim=-1)
        y = (weights @ v).reshape(b, rows, columns, self.heads, WINDOW, WINDOW, self.head_size)
        y = y.permute(0, 3, 6, 1, 4, 2, 5).reshape(b, c, h, w)
        out: Tensor = x + self.project(y)
        return out


class ChannelAggregation(nn.Module):
    """x + FFN(LN x), with one of four structures.

    mlp: W2 GELU(W1 v); conv_ffn: W2 DW3x3(GELU(W1 v)); glu: W_out (GELU(W1 v) * W2 v);
    glu_dw: the gate passes a depthwise 3x3 before its GELU.
    """

    def __init__(self, width: int, *, expansion: int, structure: str) -> None:
        super().__init__()
        hidden = expansion * width
        self.structure = structure
        self.gated = structure in ("glu", "glu_dw")
        self.norm = ChannelNorm(width)
        self.gate = nn.Conv2d(width, hidden, 1)
        if self.gated:
            self.value = nn.Conv2d(width, hidden, 1)
        if structure in ("conv_ffn", "glu_dw"):
            self.depthwise = DepthwiseConv(hidden, 3)
        self.project = residual_projection(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        v = self.norm(x)
        gate = self.gate(v)
        if self.structure == "glu_dw":
            gate = self.depthwise(gate)
        hidden = F.gelu(gate)
        if self.structure == "conv_ffn":
            hidden = self.depthwise(hidden)
        if self.gated:
            hidden = hidden * self.value(v)
        out: Tensor = x + self.project(hidden)
        return out


def spatial_interaction(kind: str, width: int, *, norm: bool) -> nn.Module:
    """The module of one of ``presets.SPATIAL_INTERACTIONS``."""
    if kind == "conv":
        return SeparableConv(width, norm=norm)
    if kind == "attention":
        return WindowAttention(width)
    return nn.Identity()


class S2CBlock(nn.Sequential):
    """One S2CFormer block; keeps the shape."""

    def __init__(self, width: int, *, spatial: str, spatial_norm: bool, expansion: int, aggregation: str) -> None:
        super().__init__()
        self.spatial = spatial_interaction(spatial, width, norm=spatial_norm)
        self.aggregation = ChannelAggregation(width, expansion=expansion, structure=aggregation)
