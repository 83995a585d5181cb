"""Model configurations: what a checkpoint, a bundle and a stream name when they say ``conv-tiny``.  No torch here.

S2CFormer (arXiv 2502.00700), reconstructed from its abstract and the author's later code: a block is a spatial
interaction followed by a channel aggregation; the variants differ in the spatial interaction of each stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from s2c_deploy.contract import LATENT_STRIDE
from s2c_deploy.errors import InputError

SPATIAL_INTERACTIONS = ("identity", "conv", "attention")
CHANNEL_AGGREGATIONS = ("mlp", "conv_ffn", "glu", "glu_dw")

#: Spatial interaction of the three stages, from high resolution (1/2) to low (1/8).
VARIANTS: dict[str, tuple[str, str, str]] = {
    "identity": ("identity", "identity", "identity"),
    "conv": ("conv", "conv", "conv"),
    "attention": ("attention", "attention", "attention"),
    "hybrid": ("conv", "conv", "attention"),
}

#: Rate-distortion trade-offs of quality 1..8, for the loss lmbda * 255^2 * MSE + bpp (CompressAI's convention);
#: geometric from 0.0018 to 0.0932.
LMBDAS: tuple[float, ...] = tuple(round(0.0018 * (0.0932 / 0.0018) ** (i / 7), 6) for i in range(8))

#: What the distortion is, and the trade-offs of its eight qualities; MS-SSIM's, for lmbda * (1 - MS-SSIM) + bpp, are
#: CompressAI's (its model zoo's documentation).
OBJECTIVES: dict[str, tuple[float, ...]] = {
    "mse": LMBDAS,
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}

#: Widths of what the entropy networks multiply: 8 fits INT8 kernels, 11 is what TF32 tensor cores hold.
OPERAND_BITS = (8, 11)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of one model."""

    variant: str
    preset: str
    #: Channels of the stages at 1/2, 1/4, 1/8.
    widths: tuple[int, int, int]
    #: Blocks of these stages.
    depths: tuple[int, int, int]
    #: Hidden width of the channel aggregation over its width.
    expansion: int
    #: M, at 1/16.
    latent_channels: int
    #: N, at 1/64.
    hyper_channels: int
    #: D, of the context networks.
    context_width: int
    #: Structure of the feed-forward network.
    aggregation: str = "glu"
    #: A LayerNorm before the separable convolution.
    spatial_norm: bool = False
    #: The distortion it was trained for.
    objective: str = "mse"
    #: One rate-distortion trade-off per quality level.
    lmbdas: tuple[float, ...] = LMBDAS
    #: Of the entropy networks' integers, one of OPERAND_BITS.
    operand_bits: int = 11

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise InputError(f"variant: expected one of {', '.join(VARIANTS)}, found {self.variant!r}")
        if self.aggregation not in CHANNEL_AGGREGATIONS:
            raise InputError(
                f"aggregation: expected one of {', '.join(CHANNEL_AGGREGATIONS)}, found {self.aggregation!r}"
            )
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective: expected one of {', '.join(OBJECTIVES)}, found {self.objective!r}")
        if type(self.operand_bits) is not int or self.operand_bits not in OPERAND_BITS:
            raise InputError(f"operand_bits: expected 8 or 11, found {self.operand_bits!r:.80}")

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.preset}"

    @property
    def spatial(self) -> tuple[str, str, str]:
        return VARIANTS[self.variant]

    @property
    def levels(self) -> int:
        return len(self.lmbdas)

    @property
    def groups(self) -> tuple[int, ...]:
        """Channels of the latent groups: ELIC's 16, 16, 32, 64, 192 of 320, in multiples of 8 at other widths."""
        first = [max(8, 8 * round(self.latent_channels * part / 320 / 8)) for part in (16, 16, 32, 64)]
        return (*first, self.latent_channels - sum(first))

    @property
    def hyper_features(self) -> int:
        return 2 * self.hyper_channels

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


#: How a stage of g_s doubles the resolution: a sub-pixel convolution of 3x3 or 1x1, or a transposed 3x3 of stride 2.
UPSAMPLINGS = ("subpixel3x3", "subpixel1x1", "transposed3x3")
#: Those that a model may have besides its own, for the same latents: of fewer products, and of products of bytes.
LIGHTER, INT8 = ("fast", "fastest"), ("int8", "fast-int8")
SYNTHESES = LIGHTER + INT8
FULL = "full"


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """Shape of one g_s.  Its last layer is a 3x3 sub-pixel convolution from the last stage's resolution to pixels."""

    name: str
    #: Channels of the stages, from 1/8 on, each at twice the resolution of the one before: one to three.
    widths: tuple[int, ...]
    #: Blocks of these stages.
    depths: tuple[int, ...]
    #: One of UPSAMPLINGS.
    upsampling: str
    #: Its convolutions, but for the first, the last and depthwise ones, multiply bytes.
    int8: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) == len(self.depths) <= 3:
            raise InputError(
                f"synthesis: expected one to three stages, found widths {self.widths} and depths {self.depths}"
            )
        if self.upsampling not in UPSAMPLINGS:
            raise InputError(f"upsampling: expected one of {', '.join(UPSAMPLINGS)}, found {self.upsampling!r:.80}")

    @property
    def float_name(self) -> str:
        """The g_s of the same layers whose convolutions are in float32."""
        return (self.name.removesuffix("int8").removesuffix("-") or FULL) if self.int8 else self.name

    @property
    def last_factor(self) -> int:
        """Pixels per side of a position of the last stage."""
        return LATENT_STRIDE >> len(self.widths)


_PRESETS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], int, int, int, int]] = {
    "tiny": ((32, 64, 96), (1, 1, 1), 2, 256, 96, 128),
    "small": ((48, 96, 160), (1, 2, 2), 2, 320, 128, 192),
    "base": ((128, 192, 256), (3, 2, 2), 3, 320, 192, 320),
    "large": ((192, 320, 384), (2, 3, 8), 4, 320, 192, 416),
}
PRESETS = tuple(_PRESETS)


def model_config(
    variant: str,
    preset: str,
    *,
    aggregation: str = "glu",
    spatial_norm: bool = False,
    objective: str = "mse",
    lmbdas: Sequence[float] | None = None,
    operand_bits: int = 11,
) -> ModelConfig:
    """The configuration of a named variant and preset; InputError names the known ones.

    lmbdas: one per quality level [default: the objective's eight].
    """
    if preset not in _PRESETS:
        raise InputError(f"preset: expected one of {', '.join(_PRESETS)}, found {preset!r}")
    widths, depths, expansion, latent_channels, hyper_channels, context_width = _PRESETS[preset]
    return ModelConfig(
        variant=variant,
        preset=preset,
        widths=widths,
        depths=depths,
        expansion=expansion,
        latent_channels=latent_channels,
        hyper_channels=hyper_channels,
        context_width=context_width,
        aggregation=aggregation,
        spatial_norm=spatial_norm,
        objective=objective,
        lmbdas=tuple(lmbdas) if lmbdas is not None else OBJECTIVES.get(objective, LMBDAS),
        operand_bits=operand_bits,
    )


def synthesis_config(config: ModelConfig, name: str = FULL) -> SynthesisConfig:
    """The g_s of a model by name: its own, or one of SYNTHESES; InputError names the known ones.

    The lighter ones have no stage at 1/2, where arithmetic is dear, and transposed convolutions.  ``fast`` keeps the
    other stages as they are, so that it can begin from their weights; ``fastest`` has a narrower one at 1/4.  ``int8``
    and ``fast-int8`` are the full and the fast one with convolutions of bytes.
    """
    if name in INT8:
        same = synthesis_config(config, FULL if name == "int8" else "fast")
        return dataclasses.replace(same, name=name, int8=True)
    coarse, middle, fine = reversed(config.widths)
    blocks, some, last = reversed(config.depths)
    if name == FULL:
        return SynthesisConfig(
            name=name, widths=(coarse, middle, fine), depths=(blocks, some, last), upsampling="subpixel3x3"
        )
    if name == "fast":
        return SynthesisConfig(name=name, widths=(coarse, middle), depths=(blocks, some), upsampling="transposed3x3")
    if name == "fastest":
        narrow = max(8, middle * 2 // 3 // 8 * 8)
        return SynthesisConfig(name=name, widths=(coarse, narrow), depths=(blocks, 1), upsampling="transposed3x3")
    raise InputError(f"synthesis: expected one of {', '.join((FULL, *SYNTHESES))}, found {name!r:.80}")


def attention_heads(width: int) -> int:
    """Eight heads where that leaves heads a multiple of 8 wide (fused attention wants it), else heads of 8."""
    return 8 if width % 64 == 0 else width // 8
