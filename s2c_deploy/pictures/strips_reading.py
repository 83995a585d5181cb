"""Pictures that memory does not hold, read in strips of rows from the top down.

PNG and TIFF are decoded by libvips, PPM's bytes are pixels.  What is read here has the pixels, profile and EXIF that
:func:`s2c_deploy.image.read_image` gives; all else is refused, since libvips would read much of it in its own way.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import InputError
from s2c_deploy.pictures.metadata import Metadata, other_metadata
from s2c_deploy.pictures.png import SIGNATURE, Png
from s2c_deploy.pictures.reading import SizeCheck, explained, open_png, open_regular
from s2c_deploy.pictures.strips_tiff import check_strips
from s2c_deploy.pictures.tags import reads_too_much
from s2c_deploy.pictures.tiff import is_tiff, read_tiff
from s2c_deploy.pictures.vips import libvips, vips_errors

#: The next rows, at most as many: uint8 (rows, width, 3), C-contiguous; none behind the last one.
NextRows = Callable[[int], Pixels]

_HEAD = 32
_INTERLACED_AT = 28
_ROWS = 16
_TO_8_BITS = "convert it to 8 bits first: vips colourspace IN OUT.tif srgb"
# pixels of a tile: rows of tiles are checked besides
_MAX_TILE = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class Strips:
    """An upright RGB picture that is read from the top down, once."""

    #: In pixels.
    width: int
    #: In pixels.
    height: int
    #: An RGB profile; none for sRGB.
    icc: bytes | None
    #: A TIFF block (no ``Exif\\0\\0`` before it), its orientation 1.
    exif: bytes | None
    #: What the file says and is not kept, in words, as :class:`s2c_deploy.image.Image` has it.
    dropped: tuple[str, ...]
    #: Reads on from where the last call stopped.
    next_rows: NextRows

    def rows(self, count: int = 256) -> Iterator[Pixels]:
        """The rows that were not read yet, ``count`` at a time: uint8 (up to count, width, 3), C-contiguous.

        Raises :class:`InputError` where the file turns out to be damaged, cut short or transparent.
        """
        while len(strip := self.next_rows(count)):
            yield strip


def is_of_rows(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as one of a format that :func:`open_strips` reads; InputError where it cannot be read."""
    with open_regular(path) as file:
        head = file.read(_HEAD)
    return head.startswith(SIGNATURE) or is_tiff(head) or head[:2] in (b"P5", b"P6")


@contextmanager
def open_strips(path: str | os.PathLike[str], *, max_pixels: int, drop_icc: bool = False) -> Iterator[Strips]:
    """Open a PNG, TIFF, BigTIFF or PPM file of 8-bit grey or RGB, to read its rows before the block ends.

    Memory holds some hundreds of rows at a time, and a row of tiles.  A PNG's checksums are all tried first.
    ``drop_icc`` as in :func:`s2c_deploy.image.read_image`.  Raises :class:`InputError` for a file that is missing, no
    regular file, damaged, larger than ``max_pixels`` or than 65535 a side, or of another kind: of other formats, of
    other samples, with several pages, turned, interlaced, or with parts that are too large;
    :class:`DependencyError` for PNG and TIFF without pyvips.
    """
    name = os.fspath(path)
    check = SizeCheck(name, max_pixels)
    with open_regular(path) as file:
        with explained(file, check):
            strips = _open(file, check, drop_icc)
        yield strips


def _open(file: BinaryIO, check: SizeCheck, drop_icc: bool) -> Strips:
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith(SIGNATURE):
        png, metadata = open_png(file, check, drop_icc=drop_icc)
        _check_png(png, head, check.path)
        file.seek(0)
        return _strips(
            check, metadata, (png.width, png.height), _VipsRows(file, check, "pngload_source", fail_on="error")
        )
    if is_tiff(head):
        return _open_tiff(file, check, drop_icc)
    if head[:2] in (b"P5", b"P6"):
        return _open_ppm(file, check, drop_icc)
    raise InputError(
        f"{check.path} cannot be read in strips, expected PNG, TIFF or PPM",
        hint="read it whole, or make it a TIFF of 8-bit RGB, as libvips' program does: vips copy IN OUT.tif",
    )


def _strips(check: SizeCheck, metadata: Metadata, size: tuple[int, int], next_rows: NextRows) -> Strips:
    if metadata.orientation != 1:
        turned = f"a picture whose orientation is {metadata.orientation}, expected 1"
        raise _refusal(check.path, turned, "turn it upright first: vips autorot IN OUT.tif")
    width, height = size
    return Strips(
        width=width,
        height=height,
        icc=metadata.icc,
        exif=metadata.exif,
        dropped=metadata.left_out,
        next_rows=next_rows,
    )


def _check_png(png: Png, head: bytes, path: str) -> None:
    if png.depth == 16:
        raise _refusal(path, "a PNG of 16 bits a sample", _TO_8_BITS)
    if head[_INTERLACED_AT]:  # whose first rows are only there when the whole file has been read
        raise _refusal(path, "an interlaced PNG", "store it row by row first: vips copy IN OUT.tif")


def _refusal(path: str, what: str, hint: str) -> InputError:
    return InputError(f"{path} is {what}, which is not read in strips", hint=hint)


def _open_tiff(file: BinaryIO, check: SizeCheck, drop_icc: bool) -> Strips:
    if reads_too_much(file):
        raise InputError(f"{check.path} is damaged: values of its tags overlap", hint="fetch or make it again")
    read_tiff(file, check.path, check, _MAX_TILE)
    strict = check_strips(file, check.path)
    file.seek(0)
    # not Pil.open: that refuses what would be too large to be decoded whole, and nothing is decoded here
    picture = TiffImageFile(file)
    metadata = other_metadata(picture, file, path=check.path, drop_icc=drop_icc)
    file.seek(0)
    # libvips' own limits are lower than those of check_strips
    rows = _VipsRows(file, check, "tiffload_source", fail_on="warning" if strict else "error", unlimited=True)
    return _strips(check, metadata, picture.size, rows)


def _open_ppm(file: BinaryIO, check: SizeCheck, drop_icc: bool) -> Strips:
    picture = PpmImageFile(file)
    check(*picture.size)
    width, height = picture.size
    tile = picture.tile[0]
    channels = {"L": 1, "RGB": 3}.get(picture.mode)
    if tile.codec_name != "raw" or channels is None:
        raise _refusal(check.path, "a PPM of other samples than 0 to 255", _TO_8_BITS)
    start, needed, size = tile.offset, width * height * channels, file.seek(0, io.SEEK_END)
    if size - start < needed:
        raise InputError(
            f"{check.path} is damaged: it has {max(size - start, 0)} bytes of pixels, expected {needed}",
            hint="fetch or make it again",
        )
    metadata = other_metadata(picture, file, path=check.path, drop_icc=drop_icc)
    file.seek(start)
    return _strips(check, metadata, picture.size, _PlainRows(file, check, (height, width, channels)))


class _PlainRows:
    """Of a file that stands at its first row, which has pixels and nothing else."""

    def __init__(self, file: BinaryIO, check: SizeCheck, shape: tuple[int, int, int]) -> None:
        self._file = file
        self._check = check
        self._left, *self._row = shape

    def __call__(self, count: int) -> Pixels:
        with explained(self._file, self._check):
            shape = (min(count, self._left), *self._row)
            data = self._file.read(math.prod(shape))
            if len(data) < math.prod(shape):
                raise ValueError("it became shorter while it was read")
            self._left -= shape[0]
            stored = np.frombuffer(data, np.uint8).reshape(shape)
            return stored.copy() if shape[2] == 3 else np.repeat(stored, 3, axis=2)


class _VipsRows:
    """Of what libvips decodes."""

    def __init__(self, file: BinaryIO, check: SizeCheck, loader: str, **options: str | bool) -> None:
        """libvips moves the file's position from here on.  loader: of pyvips.Image; no other can be reached."""
        pyvips = libvips()
        self._file = file
        self._check = check
        with vips_errors():
            source = pyvips.Source.new_from_descriptor(file.fileno())
            load = getattr(pyvips.Image, loader)
            self._image: Any = load(source, access="sequential", **options)
            self._region: Any = pyvips.Region.new(self._image)
        self._top = 0

    def __call__(self, count: int) -> Pixels:
        with explained(self._file, self._check), vips_errors():
            end = min(self._top + count, self._image.height)
            strip = np.empty((end - self._top, self._image.width, 3), np.uint8)
            # libvips keeps some times as many rows as it is asked for at once
            for top in range(self._top, end, _ROWS):
                part = self._decode(top, min(top + _ROWS, end))
                strip[top - self._top :][: len(part)] = part
            self._top = end
            return strip

    def _decode(self, top: int, end: int) -> Pixels:
        """(rows, width, 3), or (rows, width, 1) of grey."""
        width, bands = self._image.width, self._image.bands
        data = self._region.fetch(0, top, width, end - top)
        samples: Pixels = np.frombuffer(data, np.uint8).reshape(end - top, width, bands)
        if bands in (1, 3):
            return samples
        if (samples[:, :, -1] != 255).any():
            raise _refusal(
                self._check.path,
                "transparent in places",
                "flatten it onto a colour first, for instance: vips flatten IN OUT.tif --background 255",
            )
        return samples[:, :, :-1]
