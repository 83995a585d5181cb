"""The float transforms: g_a (analysis), g_s (synthesis) and h_a (hyper-analysis)."""

from __future__ import annotations

from torch import nn

from s2c_deploy.models.blocks import S2CBlock
from s2c_deploy.models.int8_convs import take_bytes
from s2c_deploy.presets import ModelConfig, SynthesisConfig


def unit_gain(conv: nn.Conv2d) -> nn.Conv2d:
    """Starts a convolution of the main path so that it keeps the variance of its input.

    PyTorch's default keeps a third of it: after four stages latents are so small that every symbol rounds to zero.
    """
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    return conv


def subpixel_conv(inputs: int, outputs: int, *, kernel: int = 3, factor: int = 2) -> nn.Sequential:
    """Convolution and sub-pixel shuffle: ``factor`` times the resolution."""
    conv = nn.Conv2d(inputs, factor**2 * outputs, kernel, padding=kernel // 2)
    return nn.Sequential(unit_gain(conv), nn.PixelShuffle(factor))


def transposed_conv(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """3x3 of stride 2: doubles the resolution with a quarter of a 3x3 sub-pixel convolution's products."""
    conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    # A position of the output is reached by 9 / 4 of the kernel's taps on average.
    nn.init.normal_(conv.weight, std=(inputs * 9 / 4) ** -0.5)
    return conv


def upsampling(kind: str, inputs: int, outputs: int) -> nn.Module:
    """The module of one of ``presets.UPSAMPLINGS``."""
    if kind == "transposed3x3":
        return transposed_conv(inputs, outputs)
    return subpixel_conv(inputs, outputs, kernel=3 if kind == "subpixel3x3" else 1)


def _blocks(config: ModelConfig, stage: int, width: int, depth: int) -> list[nn.Module]:
    return [
        S2CBlock(
            width,
            spatial=config.spatial[stage],
            spatial_norm=config.spatial_norm,
            expansion=config.expansion,
            aggregation=config.aggregation,
        )
        for _ in range(depth)
    ]


class Analysis(nn.Sequential):
    """g_a: x, B x 3 x H x W in [0, 1], to y, B x M x H/16 x W/16."""

    def __init__(self, config: ModelConfig) -> None:
        layers: list[nn.Module] = []
        inputs = 3
        for stage, width in enumerate(config.widths):
            down = unit_gain(nn.Conv2d(inputs, width, 3, stride=2, padding=1))
            layers += [down, *_blocks(config, stage, width, config.depths[stage])]
            inputs = width
        layers.append(unit_gain(nn.Conv2d(inputs, config.latent_channels, 3, stride=2, padding=1)))
        super().__init__(*layers)


class Synthesis(nn.Sequential):
    """g_s: y_hat, B x M x H/16 x W/16, to x_hat, B x 3 x H x W (unclipped)."""

    def __init__(self, config: ModelConfig, shape: SynthesisConfig) -> None:
        layers: list[nn.Module] = []
        inputs = config.latent_channels
        for stage, width, depth in zip((2, 1, 0), shape.widths, shape.depths, strict=False):
            layers += [upsampling(shape.upsampling, inputs, width), *_blocks(config, stage, width, depth)]
            inputs = width
        layers.append(subpixel_conv(inputs, 3, factor=shape.last_factor))
        super().__init__(*layers)
        if shape.int8:
            take_bytes(self)


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
