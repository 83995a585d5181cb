"""The float transforms: g_a (analysis), g_s (synthesis) and h_a (hyper-analysis)."""

from __future__ import annotations

from torch import nn

from s2c_deploy.models.blocks import S2CBlock
from s2c_deploy.presets import ModelConfig


def unit_gain(conv: nn.Conv2d) -> nn.Conv2d:
    """Starts a convolution of the main path so that it keeps the variance of its input.

    PyTorch's default keeps a third of it: after four stages latents are so small that every symbol rounds to zero.
    """
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    return conv


def subpixel_conv(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution and sub-pixel shuffle: doubles the resolution."""
    return nn.Sequential(unit_gain(nn.Conv2d(inputs, 4 * outputs, 3, padding=1)), nn.PixelShuffle(2))


def _blocks(config: ModelConfig, stage: int) -> list[nn.Module]:
    return [
        S2CBlock(
            config.widths[stage],
            spatial=config.spatial[stage],
            spatial_norm=config.spatial_norm,
            expansion=config.expansion,
            aggregation=config.aggregation,
        )
        for _ in range(config.depths[stage])
    ]


class Analysis(nn.Sequential):
    """g_a: x, B x 3 x H x W in [0, 1], to y, B x M x H/16 x W/16."""

    def __init__(self, config: ModelConfig) -> None:
        layers: list[nn.Module] = []
        inputs = 3
        for stage, width in enumerate(config.widths):
            layers += [unit_gain(nn.Conv2d(inputs, width, 3, stride=2, padding=1)), *_blocks(config, stage)]
            inputs = width
        layers.append(unit_gain(nn.Conv2d(inputs, config.latent_channels, 3, stride=2, padding=1)))
        super().__init__(*layers)


class Synthesis(nn.Sequential):
    """g_s: y_hat, B x M x H/16 x W/16, to x_hat, B x 3 x H x W (unclipped)."""

    def __init__(self, config: ModelConfig) -> None:
        layers: list[nn.Module] = []
        inputs = config.latent_channels
        for stage in reversed(range(len(config.widths))):
            layers += [subpixel_conv(inputs, config.widths[stage]), *_blocks(config, stage)]
            inputs = config.widths[stage]
        layers.append(subpixel_conv(inputs, 3))
        super().__init__(*layers)


class HyperAnalysis(nn.Sequential):
    """h_a: gained y, B x M x H/16 x W/16, to z, B x N x H/64 x W/64 (before the hyper gain)."""

    def __init__(self, config: ModelConfig) -> None:
        n = config.hyper_channels
        super().__init__(
            unit_gain(nn.Conv2d(config.latent_channels, n, 3, padding=1)),
            nn.LeakyReLU(0.01),
            unit_gain(nn.Conv2d(n, n, 5, stride=2, padding=2)),
            nn.LeakyReLU(0.01),
            unit_gain(nn.Conv2d(n, n, 5, stride=2, padding=2)),
        )
