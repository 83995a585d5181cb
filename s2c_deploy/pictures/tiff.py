"""How a TIFF file stores its samples: what Pillow reads rightly, with other tags if need be, and what it does not.

Pillow reads uncompressed files by itself and leaves the others to libtiff; what holds for one need not for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from s2c_deploy.errors import InputError
from s2c_deploy.pictures.splice import patch
from s2c_deploy.pictures.tags import Directories, Entry

_WIDTHS = {3: 2, 4: 4, 16: 8}  # of SHORT, LONG, LONG8
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANAR, _COLOUR_MAP = 273, 277, 278, 279, 284, 320
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_EXTRA, _SAMPLE_FORMAT, _COEFFICIENTS, _SUBSAMPLING, _BLACK_WHITE = 338, 339, 529, 530, 532
# those that Pillow takes for absent, or for other values, if they are of another type
_NUMBERS = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP, _PLANAR}
    | {_TILE_WIDTH, _TILE_LENGTH, _EXTRA, _SAMPLE_FORMAT, _SUBSAMPLING, _COLOUR_MAP}
    | {_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES}
)
_FRACTIONS = frozenset({_COEFFICIENTS, _BLACK_WHITE})
_RAW, _OLD_JPEG = 1, 6
_WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_APART, _REVERSED, _SIGNED = 2, 2, 2
_HEADER = 8
_CONVERT = "convert it to an 8-bit PNG first"
_PLAIN_COEFFICIENTS = (0.299, 0.587, 0.114)
_PLAIN_BLACK_WHITE = (0, 255, 128, 255, 128, 255)


@dataclass(frozen=True, kw_only=True)
class Tiff:
    """What Pillow needs to read a TIFF rightly."""

    #: By place, the bytes to put there.
    patches: dict[int, bytes]
    #: The patches say "black is zero" of a picture in which white is.
    inverted: bool

    def open(self, file: BinaryIO) -> BinaryIO:
        """The file, as Pillow reads it rightly."""
        return patch(file, self.patches) if self.patches else file


def is_tiff(head: bytes) -> bool:
    return head[:2] in (b"II", b"MM") and head[2:4] in (b"*\0", b"\0*", b"+\0", b"\0+")


def read_tiff(file: BinaryIO, path: str, check: Callable[[int, int], None], max_tile: int) -> Tiff:
    """The first directory of a seekable file.

    check: raises for a width and height; max_tile: pixels that a tile may have.  Raises :class:`InputError` for a
    layout that Pillow does not read, or reads wrongly, and for damaged tags.
    """
    try:
        layout = _Layout(Directories(file), path)
        check(layout.width, layout.height)
        layout.check_tiles(max_tile)
        return layout.read()
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}", hint="fetch or make it again") from None


class _Layout:
    def __init__(self, directories: Directories, path: str) -> None:
        self.path = path
        self.directories = directories
        self.entries: dict[int, Entry] = {}
        for entry in directories.read(directories.first)[0]:
            if entry.tag not in _NUMBERS | _FRACTIONS:
                continue
            if entry.tag in self.entries:
                raise ValueError(f"its tag {entry.tag} comes twice")
            if entry.tag not in _FRACTIONS and entry.kind not in _WIDTHS:
                raise ValueError(f"its tag {entry.tag} is of type {entry.kind}, expected SHORT or LONG")
            self.entries[entry.tag] = entry
        self.width, self.height = self.number(_WIDTH, 0), self.number(_HEIGHT, 0)
        self.compression = self.number(_COMPRESSION, _RAW)
        self.photometric = self.number(_PHOTOMETRIC, -1)
        self.samples = self.number(_SAMPLES, 3 if self.compression == _OLD_JPEG else 1)
        self.bits = self.number(_BITS, 1)
        self.extra = self.values(_EXTRA)
        self.apart = self.number(_PLANAR, 1) == _APART and self.samples > 1

    def values(self, tag: int) -> tuple[int, ...]:
        """Of a tag, none if it is missing."""
        entry = self.entries.get(tag)
        return self.directories.values(entry) if entry is not None else ()

    def number(self, tag: int, default: int) -> int:
        entry = self.entries.get(tag)
        if entry is None:
            return default
        values = self.directories.values(entry)
        if not values:
            raise ValueError(f"its tag {tag} has no value")
        return values[0]

    def check_tiles(self, max_tile: int) -> None:
        """Tiles are allocated whole, even where they are larger than the picture."""
        width, length = self.number(_TILE_WIDTH, 0), self.number(_TILE_LENGTH, 0)
        if width * length > max_tile:
            raise InputError(
                f"{self.path} is too large: tiles of {width}x{length} pixels",
                hint=f"at most {max_tile} pixels are read",
            )

    def read(self) -> Tiff:
        if self.photometric < 0 and self.compression != _OLD_JPEG:
            raise self.refusal("TIFF that does not say whether black or white is zero (tag 262)")
        if _SIGNED in self.values(_SAMPLE_FORMAT):
            raise self.refusal(f"TIFF of signed {self.bits}-bit samples")
        if self.apart and not self.planes_are_read():
            kind = f"{self.bits}-bit planar TIFF ({self.samples} planes, of extra kinds {self.extra}"
            raise self.refusal(f"{kind}, compression {self.compression}, photometric {self.photometric})")
        if self.photometric == _PALETTE:
            self.check_palette()
        if self.compression == _RAW:
            if self.photometric == _YCBCR:
                self.check_ycbcr()
            self.check_places()
        patches: dict[int, bytes] = {}
        if self.samples == 1 and self.number(_PLANAR, 1) == _APART:
            patches |= self.patched(_PLANAR, 1)  # one plane is one plane
        inverted = self.photometric == _WHITE_IS_ZERO and self.bits == 16 and self.directories.order == ">"
        if inverted:  # Pillow knows this of the other byte order only
            patches |= self.patched(_PHOTOMETRIC, 1)
        return Tiff(patches=patches, inverted=inverted)

    def refusal(self, what: str) -> InputError:
        return InputError(f"{self.path} is a {what}, which has no certain RGB meaning here", hint=_CONVERT)

    def patched(self, tag: int, value: int) -> dict[int, bytes]:
        entry = self.entries[tag]
        big = value.to_bytes(_WIDTHS[entry.kind], "big")
        return {entry.field_at: big if self.directories.order == ">" else big[::-1]}

    def planes_are_read(self) -> bool:
        """Whether Pillow reads this picture's planes, which are stored one after another."""
        if self.photometric == _YCBCR:
            return self.compression != _RAW and self.samples == 3
        if self.photometric != _RGB or self.samples != 3 + len(self.extra):
            return False
        if self.compression == _RAW:  # plane by plane, without what its raw mode says of all of them
            reverse = self.number(_FILL_ORDER, 1) == _REVERSED
            return self.bits == 8 and not reverse and self.extra in ((), (2,), (999,))
        return self.bits in (8, 16) and (self.extra in ((1,), (2,), (999,)) or not any(self.extra))

    def check_palette(self) -> None:
        levels = self.values(_COLOUR_MAP)
        if len(levels) != 3 << min(self.bits, 16):
            raise ValueError(f"a palette of {len(levels)} numbers for {self.bits} bits, expected {3 << self.bits}")
        if 0 < max(levels) < 256:
            raise self.refusal("TIFF whose palette has 8 bits where 16 are meant")

    def check_ycbcr(self) -> None:
        """Without compression, Pillow takes samples of each pixel, and BT.601 of full range, for granted."""
        if self.values(_SUBSAMPLING) != (1, 1):
            raise self.refusal("TIFF of uncompressed YCbCr with subsampled colour")
        for tag, plain in ((_COEFFICIENTS, _PLAIN_COEFFICIENTS), (_BLACK_WHITE, _PLAIN_BLACK_WHITE)):
            found = self.values(tag)
            if not found:
                continue
            fractions = [a / b if b else -1 for a, b in zip(found[::2], found[1::2], strict=False)]
            if len(fractions) != len(plain) or not np.allclose(fractions, plain, atol=1e-3):
                raise self.refusal(f"TIFF of YCbCr with coefficients of its own (tag {tag})")

    def check_places(self) -> None:
        """That each part of the picture has its place in the file: others stay black."""
        tiled = _STRIP_OFFSETS not in self.entries
        if not tiled and _TILE_WIDTH in self.entries:
            raise ValueError("it has strips and tiles")
        if tiled and _TILE_OFFSETS not in self.entries:
            return  # Pillow says so
        offsets, sizes = (_TILE_OFFSETS, _TILE_SIZES) if tiled else (_STRIP_OFFSETS, _STRIP_SIZES)
        width = self.number(_TILE_WIDTH, 0) if tiled else self.width
        height = self.number(_TILE_LENGTH, 0) if tiled else self.number(_ROWS_PER_STRIP, self.height)
        if min(width, height) < 1:
            raise ValueError(f"it has parts of {width}x{height} pixels")
        rows = -(-self.height // height)
        planes = self.samples if self.apart else 1
        expected = -(-self.width // width) * rows * planes
        places = self.values(offsets)
        if len(places) != expected:
            raise ValueError(f"it has places of {len(places)} parts, expected {expected}")
        if min(places, default=_HEADER) < _HEADER:
            raise ValueError("a part of it lies nowhere")
        in_row = -(-width * self.bits * (1 if self.apart else self.samples) // 8)
        last = height if tiled else self.height - (rows - 1) * height
        lengths = self.values(sizes)
        for at, length in enumerate(lengths[:expected]):
            needed = in_row * (last if at % rows == rows - 1 else height)
            if 0 < length < needed:
                raise ValueError(f"a part of it has {length} bytes, expected {needed}")
