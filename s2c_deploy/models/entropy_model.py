"""The entropy model: hyper-synthesis and the space-channel context networks (ELIC's SCCTX).

Only convolutions, ReLU, sub-pixel shuffles and additions appear here, because only these stay exact in integers
(DESIGN section 3).  The latent is split into channel groups; each group is coded in two passes: anchors are the
positions whose row + column is even, non-anchors the others.  A pass sees

    pass 0:  hyper features, all earlier groups
    pass 1:  the same, and this group's anchors

Positions of a pass are *packed*: the even rows' positions above the odd rows', (B, C, H, W) -> (B, C, H, W/2).
The point-wise parameter networks run on packed features, so each position is computed once.

Networks speak in table units: the scale *index* (0..63, see ``entropy.tables``) and the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.models.transforms import subpixel_conv
from s2c_deploy.presets import ModelConfig


def pack_anchors(x: Tensor) -> Tensor:
    """Anchor positions, B x C x H x W to B x C x H x W/2 (even H and W)."""
    return torch.cat((x[:, :, 0::2, 0::2], x[:, :, 1::2, 1::2]), dim=2)


def pack_nonanchors(x: Tensor) -> Tensor:
    """Non-anchor positions, B x C x H x W to B x C x H x W/2 (even H and W)."""
    return torch.cat((x[:, :, 0::2, 1::2], x[:, :, 1::2, 0::2]), dim=2)


def unpack(anchors: Tensor, nonanchors: Tensor) -> Tensor:
    """Inverse of ``pack_anchors`` and ``pack_nonanchors``: two B x C x H x W/2 to B x C x H x W."""
    a_even, a_odd = anchors.chunk(2, dim=2)
    n_even, n_odd = nonanchors.chunk(2, dim=2)
    even = torch.stack((a_even, n_even), dim=-1).flatten(-2)
    odd = torch.stack((n_odd, a_odd), dim=-1).flatten(-2)
    return torch.stack((even, odd), dim=3).flatten(2, 3)


class HyperSynthesis(nn.Sequential):
    """h_s: z_hat, B x N x H/64 x W/64 integers, to hyper features, B x 2N x H/16 x W/16."""

    def __init__(self, config: ModelConfig) -> None:
        n = config.hyper_channels
        super().__init__(
            subpixel_conv(n, n),
            nn.ReLU(),
            subpixel_conv(n, n),
            nn.ReLU(),
            nn.Conv2d(n, config.hyper_features, 3, padding=1),
            nn.ReLU(),
        )


class CheckerboardConv(nn.Conv2d):
    """5x5 convolution whose taps on positions of the other parity alone remain: it reads anchors only."""

    mask: Tensor
    #: How many they are.
    taps = 12

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, padding=2)
        rows, columns = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
        self.register_buffer("mask", ((rows + columns) % 2 == 1).float(), persistent=False)

    @property
    def masked_weight(self) -> Tensor:
        """The weight as it is used, O x I x 5 x 5."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.masked_weight, self.bias, padding=2)


class ParameterNetwork(nn.Sequential):
    """Point-wise: features, B x D x H x W/2, to 2C channels: C scale indexes, then C means."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 2 * channels, 1))


class GroupContext(nn.Module):
    """Context and parameter networks of one latent group."""

    def __init__(self, config: ModelConfig, group: int) -> None:
        super().__init__()
        width = config.context_width
        channels = config.groups[group]
        earlier = sum(config.groups[:group])
        self.hyper = nn.Conv2d(config.hyper_features, width, 1)
        self.channel = nn.Conv2d(earlier, width, 5, padding=2) if earlier else None
        self.mix = nn.Conv2d(width, width, 1)
        self.spatial = CheckerboardConv(channels, width)
        self.anchor_parameters = ParameterNetwork(width, channels)
        self.nonanchor_parameters = ParameterNetwork(width, channels)

    def features(self, hyper: Tensor, earlier: Tensor) -> Tensor:
        """hyper, B x 2N x h x w, and earlier groups' y_hat, B x P x h x w, to B x D x h x w (before a ReLU)."""
        v = self.hyper(hyper)
        if self.channel is not None:
            v = v + self.channel(earlier)
        out: Tensor = self.mix(F.relu(v))
        return out

    def anchor(self, features: Tensor) -> Tensor:
        """Indexes and means of the anchors, packed, B x 2C x h x w/2."""
        out: Tensor = self.anchor_parameters(pack_anchors(features))
        return out

    def nonanchor(self, features: Tensor, current: Tensor) -> Tensor:
        """The same of the non-anchors; ``current`` is y_hat of the group with zeros at non-anchors."""
        out: Tensor = self.nonanchor_parameters(pack_nonanchors(features + self.spatial(current)))
        return out
