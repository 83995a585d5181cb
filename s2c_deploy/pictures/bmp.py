"""What the header of a Windows bitmap says about colour, and the transparency that Pillow does not read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from s2c_deploy.pictures.icc import Chromaticities

Plane = np.ndarray[Any, np.dtype[np.uint8]]

FILE_HEADER = 14
_V4_SIZE, _V5_SIZE = 108, 124
_BITFIELDS = 3
_BYTES, _RUNS = 1, frozenset({1, 2})  # run lengths of 8-bit pixels, of 8-bit and 4-bit ones
_END, _SKIP = 1, 2
_CALIBRATED, _LINKED, _EMBEDDED = 0, int.from_bytes(b"LINK", "big"), int.from_bytes(b"MBED", "big")
_D65 = (0.3127, 0.3290)


@dataclass(frozen=True, kw_only=True)
class BmpColour:
    """What a BMP says of its colours."""

    #: An embedded profile.
    icc: bytes | None = None
    #: The profile is another file.
    linked: bool = False
    #: Of a calibrated picture, where given.
    chromaticities: Chromaticities | None = None
    #: Of a calibrated picture, where given: 2.2, not 1/2.2.
    gammas: tuple[float, float, float] | None = None
    #: There is a 16-bit alpha mask, which Pillow drops.
    hidden_alpha: bool = False
    #: There is a profile that cannot be read.
    damaged: bool = False
    #: The profile has more bytes than the limit.
    too_large: bool = False


def read_bmp(file: BinaryIO, start: int, *, max_metadata: int) -> BmpColour:
    """Of a file whose bitmap header begins at ``start`` (14 behind a file header, 0 in a DIB)."""
    file.seek(start)
    header = file.read(_V5_SIZE)
    if len(header) < 56:
        return BmpColour()
    size, depth, packing, alpha = struct.unpack_from("<I10xHI32xI", header)
    hidden_alpha = size >= 56 and depth == 16 and packing == _BITFIELDS and alpha != 0
    if size < _V4_SIZE or len(header) < _V4_SIZE:
        return BmpColour(hidden_alpha=hidden_alpha)
    (space,) = struct.unpack_from("<I", header, 56)
    if space == _CALIBRATED:
        points = struct.unpack_from("<9i", header, 60)
        gammas = [value / 65536 for value in struct.unpack_from("<3I", header, 96)]
        return BmpColour(hidden_alpha=hidden_alpha, chromaticities=_endpoints(points), gammas=_exponents(gammas))
    if space not in (_LINKED, _EMBEDDED) or size < _V5_SIZE or len(header) < _V5_SIZE:
        return BmpColour(hidden_alpha=hidden_alpha)  # sRGB, or Windows' own, which is sRGB
    if space == _LINKED:
        return BmpColour(hidden_alpha=hidden_alpha, linked=True)
    at, length = struct.unpack_from("<II", header, 112)
    if length > max_metadata:
        return BmpColour(hidden_alpha=hidden_alpha, too_large=True)
    file.seek(start + at)
    icc = file.read(length)
    whole = len(icc) == length > 0
    return BmpColour(hidden_alpha=hidden_alpha, icc=icc if whole else None, damaged=not whole)


def fourth_bytes(file: BinaryIO, start: int, size: tuple[int, int]) -> Plane | None:
    """Of 32-bit pixels without masks, uint8 (height, width), where they are alpha; else None.

    The header does not say.  Where all are 0 or all 255 they are unused; others are what programs write that
    keep alpha there.
    """
    width, height = size
    file.seek(0)
    head = file.read(start + 40)
    if len(head) < start + 40:
        return None
    header_size, signed_height, depth, packing = struct.unpack_from("<I4xi2xHI", head, start)
    if header_size < 40 or depth != 32 or packing != 0:
        return None
    file.seek(int.from_bytes(head[10:14], "little") if start else header_size)
    plane = np.empty((height, width), np.uint8)
    for row in plane if signed_height < 0 else plane[::-1]:
        stored = file.read(4 * width)
        if len(stored) < 4 * width:
            return None
        row[:] = np.frombuffer(stored, np.uint8)[3::4]
    return None if plane.min() == plane.max() in (0, 255) else plane


def check_runs(file: BinaryIO, start: int, size: tuple[int, int]) -> None:
    """Of run-length coded pixels, that they fill each row, as Pillow takes for granted.

    What a bitmap skips has no colour that readers agree on.  Raises ValueError for such a bitmap.
    """
    file.seek(0)
    head = file.read(start + 40)
    if len(head) < start + 40:
        return
    header_size, depth, packing, colours = struct.unpack_from("<I10xHI12xI", head, start)
    if header_size < 40 or packing not in _RUNS:
        return
    behind = header_size + 4 * (colours or 1 << min(depth, 8))  # the palette
    place = int.from_bytes(head[10:14], "little") if start else behind
    file.seek(place)
    data, at = file.read(), 0
    width, height = size
    for row in range(height):
        x, value = 0, _SKIP
        while at + 2 <= len(data):
            count, value = data[at : at + 2]
            at += 2
            if count:
                x += count
            elif value > _SKIP:  # as they are, filled up to two bytes
                x += value
                stored = value if packing == _BYTES else -(-value // 2)
                at += stored + stored % 2
                if place % 2:  # there Pillow aligns by the place in the file
                    raise ValueError("runs of pixels that start at an odd place")
            else:
                break
        else:
            value = _END  # the last end is not needed
        if x != width or value == _SKIP:
            raise ValueError(f"row {row} has {x} pixels, expected {width}")
        if value == _END and row + 1 < height:
            raise ValueError(f"it ends behind row {row}, expected {height} rows")


def _endpoints(points: tuple[int, ...]) -> Chromaticities | None:
    """The primaries, whose X, Y, Z are given; no white is: it is D65, as browsers take it."""
    corners = [points[at : at + 3] for at in (0, 3, 6)]
    if not all(sum(corner) > 0 for corner in corners):
        return None
    red, green, blue = ((x / (x + y + z), y / (x + y + z)) for x, y, z in corners)
    return Chromaticities(white=_D65, red=red, green=green, blue=blue)


def _exponents(gammas: list[float]) -> tuple[float, float, float] | None:
    """Gammas as exponents; some programs write 1/2.2 in place of 2.2."""
    if not all(gammas):
        return None
    red, green, blue = (1 / gamma if gamma < 1 else gamma for gamma in gammas)
    return red, green, blue
