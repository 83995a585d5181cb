"""Optimization profiles: the picture sizes that an engine serves, and the tensor shapes that follow from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2c_deploy.contract import ALIGNMENT, HYPER_STRIDE, LATENT_STRIDE, MAX_PIXELS, padded
from s2c_deploy.errors import InputError

Size = tuple[int, int]
Shape = tuple[int, ...]
#: Side of a picture's pixels per tensor element: x is the picture, z_hat the hyper-latent, all else latents.
_STRIDES = {"x": 1, "z_hat": HYPER_STRIDE}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Smallest, typical and largest picture, width x height in pixels, multiples of 64; engines are fastest at opt."""

    min: Size
    opt: Size
    max: Size

    def __post_init__(self) -> None:
        for size in (self.min, self.opt, self.max):
            if any(side < ALIGNMENT or side % ALIGNMENT for side in size) or size[0] * size[1] > MAX_PIXELS:
                raise InputError(
                    f"profile {self}: expected sides that are multiples of {ALIGNMENT}, at most {MAX_PIXELS} pixels"
                )
        for low, high in ((self.min, self.opt), (self.opt, self.max)):
            if low[0] > high[0] or low[1] > high[1]:
                raise InputError(f"profile {self}: expected min <= opt <= max on both sides")

    @classmethod
    def parse(cls, text: str) -> Profile:
        """From "64x64,768x512,2048x2048" (min, opt, max), or one size for all three; sides are rounded up to 64."""
        sizes = [_size(part, text) for part in text.split(",")]
        if len(sizes) not in (1, 3):
            raise InputError(f"profile: expected MIN,OPT,MAX or one size, found {text!r}")
        return cls(min=sizes[0], opt=sizes[len(sizes) // 2], max=sizes[-1])

    def __str__(self) -> str:
        sizes = [self.opt] if self.min == self.max else [self.min, self.opt, self.max]
        return "_".join(f"{width}x{height}" for width, height in sizes)

    def admits(self, size: Size) -> bool:
        """Whether a picture of this size (sides multiples of 64) is served."""
        return all(a <= side <= b for a, side, b in zip(self.min, size, self.max, strict=True))

    def shapes(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Shape, Shape, Shape]]:
        """(min, opt, max) shape of every input with free dimensions; ``inputs`` as a bundle's manifest lists them.

        Dimensions in the order batch, channels, height, width; the batch is 1.
        """
        free = [tensor for tensor in inputs if any(isinstance(side, str) for side in tensor["shape"][2:])]
        low, typical, high = (shapes_at(free, size) for size in (self.min, self.opt, self.max))
        return {name: (low[name], typical[name], high[name]) for name in low}


def shapes_at(inputs: Sequence[Mapping[str, Any]], size: Size) -> dict[str, Shape]:
    """The shape of every input at one picture's size, sides that are fixed as they are; ``inputs`` as in ``shapes``."""
    found: dict[str, Shape] = {}
    for tensor in inputs:
        _, channels, *sides = tensor["shape"]
        stride = _STRIDES.get(tensor["name"], LATENT_STRIDE)
        free = (size[1] // stride, size[0] // stride)
        spatial = (side if isinstance(given, str) else int(given) for given, side in zip(sides, free, strict=True))
        found[str(tensor["name"])] = (1, int(channels), *spatial)
    return found


DEFAULT_PROFILE = Profile(min=(64, 64), opt=(768, 512), max=(2048, 2048))


def _size(text: str, whole: str) -> Size:
    match = re.fullmatch(r"\s*(\d{1,6})x(\d{1,6})\s*", text)
    if match is None:
        raise InputError(f"profile: expected WIDTHxHEIGHT, found {text!r} in {whole!r}")
    width, height = (padded(int(side)) for side in match.groups())
    return width, height
