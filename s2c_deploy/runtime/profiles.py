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
#: Of a profile: a slip of the finger is not built for an hour.
MAX_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Smallest, typical and largest picture, width x height in pixels, multiples of 64; engines are fastest at opt.

    batch: the most pictures in one call, such as tiles, and how many engines are fastest with.
    """

    min: Size
    opt: Size
    max: Size
    batch: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= MAX_BATCH:
            raise InputError(f"profile {self}: expected a batch of 1 to {MAX_BATCH}")
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
        """From "64x64,768x512,2048x2048" (min, opt, max), or one size for all three; sides are rounded up to 64.  With
        "@4" behind it up to four pictures in one call."""
        corners, at, batch = text.partition("@")
        sizes = [_size(part, text) for part in corners.split(",")]
        if len(sizes) not in (1, 3) or (at and not re.fullmatch(r"[1-9]\d{0,3}", batch)):
            raise InputError(f"profile: expected MIN,OPT,MAX or one size, and @BATCH or nothing, found {text!r}")
        return cls(min=sizes[0], opt=sizes[len(sizes) // 2], max=sizes[-1], batch=int(batch or 1))

    def __str__(self) -> str:
        sizes = [self.opt] if self.min == self.max else [self.min, self.opt, self.max]
        text = "_".join(f"{width}x{height}" for width, height in sizes)
        return text if self.batch == 1 else f"{text}@{self.batch}"

    def admits(self, size: Size) -> bool:
        """Whether a picture of this size (sides multiples of 64) is served."""
        return all(a <= side <= b for a, side, b in zip(self.min, size, self.max, strict=True))

    def shapes(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Shape, Shape, Shape]]:
        """(min, opt, max) shape of every input with free dimensions; ``inputs`` as a bundle's manifest lists them.

        Dimensions in the order batch, channels, height, width.
        """
        free = [tensor for tensor in inputs if any(isinstance(side, str) for side in tensor["shape"][2:])]
        corners = ((self.min, 1), (self.opt, self.batch), (self.max, self.batch))
        low, typical, high = (shapes_at(free, size, batch) for size, batch in corners)
        return {name: (low[name], typical[name], high[name]) for name in low}


def shapes_at(inputs: Sequence[Mapping[str, Any]], size: Size, batch: int = 1) -> dict[str, Shape]:
    """The shape of every input at a size of pictures, what is fixed as it is; ``inputs`` as in ``shapes``."""
    found: dict[str, Shape] = {}
    for tensor in inputs:
        pictures, channels, *sides = tensor["shape"]
        stride = _STRIDES.get(tensor["name"], LATENT_STRIDE)
        free = (size[1] // stride, size[0] // stride)
        spatial = (side if isinstance(given, str) else int(given) for given, side in zip(sides, free, strict=True))
        found[str(tensor["name"])] = (batch if isinstance(pictures, str) else int(pictures), int(channels), *spatial)
    return found


DEFAULT_PROFILE = Profile(min=(64, 64), opt=(768, 512), max=(2048, 2048))


def _size(text: str, whole: str) -> Size:
    match = re.fullmatch(r"\s*(\d{1,6})x(\d{1,6})\s*", text)
    if match is None:
        raise InputError(f"profile: expected WIDTHxHEIGHT, found {text!r} in {whole!r}")
    width, height = (padded(int(side)) for side in match.groups())
    return width, height
