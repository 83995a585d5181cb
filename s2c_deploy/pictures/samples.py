"""From Pillow's pictures to upright uint8 RGB, a strip of rows at a time: memory holds no second whole copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image as Pil

from s2c_deploy.errors import InputError
from s2c_deploy.pictures.png import Png

Samples = np.ndarray[Any, np.dtype[np.uint8]]
# rows from the first to before the last, as stored: uint8 (rows, width, 3), or 4 with alpha
Rows = Callable[[int, int], Samples]

_GREY16 = ("I;16", "I;16L", "I;16B", "I;16N")
_PLAIN_MODES = ("1", "L", "P", "RGB", "RGBX", "YCbCr", "LA", "PA", "RGBA")
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_STRIP = 2**18
# Pillow reads of 16-bit colour one byte a sample, the high one or, told another byte order, the low one
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def assemble(
    rows: Rows, size: tuple[int, int], *, orientation: int, color: tuple[int, int, int] | None, path: str
) -> Samples:
    """Rows of a picture of (width, height), composited onto a colour and turned upright from EXIF orientation 1..8.

    Raises :class:`InputError` without a colour if any pixel is transparent.
    """
    width, height = size
    upright = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = _as_stored(upright, orientation)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        strip = rows(top, min(top + step, height))
        stored[top : top + step] = _flatten(strip, color, path) if strip.shape[2] == 4 else strip
    return upright


def _as_stored(upright: Samples, orientation: int) -> Samples:
    """A view of an upright picture in the order in which a file of this orientation stores it."""
    view = upright
    if orientation in (2, 3, 6, 7):
        view = view[:, ::-1]
    if orientation in (3, 4, 7, 8):
        view = view[::-1]
    return view.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else view


def _flatten(strip: Samples, color: tuple[int, int, int] | None, path: str) -> Samples:
    rgb, alpha = strip[:, :, :3], strip[:, :, 3:]
    if (alpha == 255).all():
        return rgb
    if color is None:
        raise InputError(
            f"{path} is transparent in places, which the stream cannot keep",
            hint="flatten it onto a colour, for instance --background white",
        )
    weight = alpha.astype(np.uint32)
    mixed = rgb * weight + np.array(color, np.uint32) * (255 - weight)
    return ((mixed + 127) // 255).astype(np.uint8)


def png_rows(picture: Pil.Image, png: Png, path: str) -> Rows:
    """Of a PNG, whose transparent level or colour is compared with all bits of the samples.  After load()."""
    if png.depth == 16 and picture.mode in ("RGB", "RGBA"):
        return _deep_png_rows(picture, png)
    if png.key is None:
        return plain_rows(picture, path)
    if picture.mode in _GREY16 or picture.mode == "I":
        return _grey16_rows(picture, peak=65535, inverted=False, key=png.key[0])
    # Pillow has spread samples of fewer bits over 0 to 255
    key = np.array([value * 255 // ((1 << png.depth) - 1) for value in png.key], np.uint8)

    def keyed(top: int, end: int) -> Samples:
        strip = _strip(picture, top, end, "RGB")
        clear = (strip == key).all(axis=2)
        return np.dstack([strip, np.where(clear, 0, 255).astype(np.uint8)])

    return keyed


def _deep_png_rows(picture: Pil.Image, png: Png) -> Rows:
    """Of 16-bit colour, rounded to the nearest of 256 levels."""
    if png.grey:  # grey and alpha: read as if their high and low bytes were four channels
        both = _load_as(png, "RGBA")

        def grey(top: int, end: int) -> Samples:
            planes = _strip(both, top, end, "RGBA").astype(np.int32)
            level, alpha = (_round(planes[:, :, at] << 8 | planes[:, :, at + 1], 65535) for at in (0, 2))
            return np.stack([level, level, level, alpha], axis=2)

        return grey
    mode = picture.mode
    low = _load_as(png, _LOW_BYTES[f"{mode};16B"])
    key = None if png.key is None else np.array(png.key, np.int32)

    def colour(top: int, end: int) -> Samples:
        wide = _strip(picture, top, end, mode).astype(np.int32) << 8 | _strip(low, top, end, mode)
        samples = _round(wide, 65535)
        if key is None:
            return samples
        return np.dstack([samples, np.where((wide == key).all(axis=2), 0, 255).astype(np.uint8)])

    return colour


def _load_as(png: Png, raw_mode: str) -> Pil.Image:
    """The picture, its bytes taken for samples of another layout of the same length."""
    picture = Pil.open(png.open(), formats=["PNG"])
    picture.tile = [tile._replace(args=raw_mode) for tile in picture.tile]
    picture.load()
    return picture


def plain_rows(picture: Pil.Image, path: str, *, negative: bool = False, opaque: bool = False) -> Rows:
    """Of any other picture, after load().

    negative: 16-bit grey of which white is zero, whatever its tags say; opaque: what seems to be alpha is none.
    Raises :class:`InputError` for a mode without a certain RGB meaning.
    """
    mode, file_format = picture.mode, picture.format
    if mode in _GREY16 or (mode == "I" and file_format in ("PNG", "PPM")):
        tags = getattr(picture, "tag_v2", {})
        bits = tags.get(_BITS, (16,))[0]
        inverted = negative or (file_format == "TIFF" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
        return _grey16_rows(picture, peak=(1 << min(bits, 16)) - 1, inverted=inverted, key=None)
    if mode not in _PLAIN_MODES and mode not in _PREMULTIPLIED:
        raise InputError(
            f"{path} is a picture of kind {mode}, which has no certain RGB meaning",
            hint="convert it to 8-bit RGB first, CMYK and Lab by way of their colour profile",
        )
    straight = _PREMULTIPLIED.get(mode)
    target = "RGBA" if straight or (picture.has_transparency_data and not opaque) else "RGB"
    return lambda top, end: _strip(picture, top, end, target, straight)


def partly_covered(rows: Rows, extents: tuple[int, int, int, int]) -> Rows:
    """The same, transparent outside of left, top, right, bottom."""
    left, upper, right, lower = extents

    def masked(top: int, end: int) -> Samples:
        strip = rows(top, end)
        alpha = strip[:, :, 3] if strip.shape[2] == 4 else np.full(strip.shape[:2], 255, np.uint8)
        inside = np.zeros(alpha.shape, bool)
        inside[max(upper - top, 0) : max(lower - top, 0), left:right] = True
        return np.dstack([strip[:, :, :3], np.where(inside, alpha, 0).astype(np.uint8)])

    return masked


def with_alpha(rows: Rows, alpha: Samples) -> Rows:
    """The same, with uint8 (height, width) as its alpha."""
    return lambda top, end: np.dstack([rows(top, end)[:, :, :3], alpha[top:end]])


def _grey16_rows(picture: Pil.Image, *, peak: int, inverted: bool, key: int | None) -> Rows:
    def rows(top: int, end: int) -> Samples:
        wide = np.asarray(picture.crop((0, top, picture.width, end))).astype(np.int32)
        level = _round(peak - wide if inverted else wide, peak)
        planes = [level, level, level]
        if key is not None:
            planes.append(np.where(wide == key, 0, 255).astype(np.uint8))
        return np.stack(planes, axis=2)

    return rows


def _round(wide: np.ndarray[Any, np.dtype[np.int32]], peak: int) -> Samples:
    """0 to peak, which 255 stands for, to the nearest."""
    return ((wide * 510 + peak) // (2 * peak)).astype(np.uint8)


def _strip(picture: Pil.Image, top: int, end: int, mode: str, straight: str | None = None) -> Samples:
    strip = picture.crop((0, top, picture.width, end))
    if straight is not None:
        strip = strip.convert(straight)
    return np.asarray(strip if strip.mode == mode else strip.convert(mode))
