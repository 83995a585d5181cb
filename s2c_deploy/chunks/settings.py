"""What both codecs share: how a chunk is coded, and which chunks are pictures."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import round_quality
from s2c_deploy.formats.grid import tile_grid

#: What arrays' metadata call the codec.
NAME = "s2c"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """As :meth:`Codec.compress` takes them; InputError for others."""

    #: 1 (small) to 8 (good), rounded to 1/32.
    quality: float = 4
    #: In pixels, 0 for one tile.
    tile: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "quality", round_quality(self.quality))
        try:
            object.__setattr__(self, "tile", operator.index(self.tile))
        except TypeError:
            raise InputError(f"tile: expected a whole number, found {self.tile!r:.40}") from None
        tile_grid(1, 1, self.tile)

    def configuration(self) -> dict[str, float | int]:
        """What metadata hold."""
        return {"quality": self.quality, "tile": self.tile}


def check_chunk(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """InputError unless such a chunk is one RGB picture: uint8, ... x H x W x 3, axes before those of length 1."""
    if dtype != np.uint8 or len(shape) < 3 or shape[-1] != 3 or any(side != 1 for side in shape[:-3]):
        raise InputError(
            f"chunk: expected uint8 of height x width x 3, found {dtype} of {shape}",
            hint="chunks hold all three channels of one picture, (1, 1, height, width, 3) with axes before it",
        )


def check_axes(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """InputError unless such a chunk can be one RGB picture once a filter has put its axes in order."""
    sides = sorted(shape)
    if 3 in sides:
        sides.remove(3)
    in_order = (*sides, 3) if len(sides) < len(shape) else shape
    check_chunk(in_order, dtype)


def picture_of(chunk: object) -> Pixels:
    """A chunk, an array, as its picture."""
    if not isinstance(chunk, np.ndarray):
        raise InputError(f"chunk: expected a numpy array, found {type(chunk).__name__}")
    check_chunk(chunk.shape, chunk.dtype)
    picture: Pixels = chunk.reshape(chunk.shape[-3:])
    return picture
