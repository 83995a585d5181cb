"""How a picture is cut into the blocks that g_a and g_s are given, one after another.

Blocks are not tiles.  Tiles are in the stream, and cut what the entropy coder sees; blocks are one program's way to run
a transform in the memory that it has, and leave no trace: each is run with as much around it as it depends on
(``formats/receptive_field.py``), so that its pixels are those of one run over the whole picture, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from s2c_deploy.contract import ALIGNMENT, padded
from s2c_deploy.formats.receptive_field import ReceptiveField
from s2c_deploy.presets import ModelConfig

#: Sides of blocks, in pixels, from the best: what lies around a block is computed in vain.
_SIDES = (768, 512, 384, 256, 128, 64)
#: What is around a block in planning, in pixels: the released models' fields are 96 at most.
_AROUND = 96
#: Peak memory of a transform in bytes a pixel, for each channel of its finest stage: 13.1 of S2C-Conv `small`
#: (``python -m benchmarks.memory``).
_BYTES_PER_CHANNEL = 13.2


@dataclass(frozen=True, kw_only=True)
class Area:
    """A rectangle; in pixels of a picture that is padded to multiples of 64, or in positions of a latent."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @classmethod
    def whole(cls, height: int, width: int) -> Area:
        """A picture of so many pixels, with its padding."""
        return cls(top=0, bottom=padded(height), left=0, right=padded(width))

    def scaled(self, stride: int) -> Area:
        """In positions of something that is ``stride`` times as coarse; sides are multiples of it."""
        edges = (self.top, self.bottom, self.left, self.right)
        top, bottom, left, right = (edge // stride for edge in edges)
        return Area(top=top, bottom=bottom, left=left, right=right)

    def within(self, outer: Area) -> tuple[slice, slice]:
        """Its rows and columns, counted from the corner of one around it."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )

    def around(self, field: ReceptiveField, height: int, width: int) -> Area:
        """With what a transform looks at, in a picture or latent of this size."""
        top, bottom = field.around(self.top, self.bottom, height)
        left, right = field.around(self.left, self.right, width)
        return Area(top=top, bottom=bottom, left=left, right=right)


def bytes_per_pixel(config: ModelConfig) -> float:
    """Of memory that g_a or g_s takes."""
    return _BYTES_PER_CHANNEL * config.widths[0]


def block_side(config: ModelConfig, *, height: int, width: int, tiled: bool, memory: int) -> int:
    """The side of blocks for a picture: its longer one where it is run in one block.

    A picture without tiles is run whole where what its transform takes is within ``memory``, in bytes.  Others are run
    in the largest blocks that need no more than half of it, or the smallest there are.
    """
    rows, columns = padded(height), padded(width)
    per_pixel = bytes_per_pixel(config)
    if rows * columns * per_pixel <= memory and not (tiled and max(rows, columns) > _SIDES[0]):
        return max(rows, columns)
    for side in _SIDES:
        if (side + 2 * _AROUND) ** 2 * per_pixel <= memory / 2:
            return side
    return _SIDES[-1]


def steps(start: int, stop: int, side: int) -> Iterator[tuple[int, int]]:
    """``[start, stop)``, both multiples of 64, in as few pieces of at most ``side`` as will do, all about as long."""
    units = (stop - start) // ALIGNMENT
    count = -(-(stop - start) // side)
    for k in range(count):
        yield start + units * k // count * ALIGNMENT, start + units * (k + 1) // count * ALIGNMENT


def blocks(area: Area, side: int) -> Iterator[Area]:
    """An area in blocks, row by row."""
    for top, bottom in steps(area.top, area.bottom, side):
        for left, right in steps(area.left, area.right, side):
            yield Area(top=top, bottom=bottom, left=left, right=right)
