"""Pictures in and out: files of any common format to upright uint8 RGB, and back, by way of Pillow."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image as Pil
from PIL import ImageColor

from s2c_deploy.arrays import Pixels
from s2c_deploy.contract import MAX_PIXELS
from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.files import atomic_write, cannot_write
from s2c_deploy.pictures.exif import EXIF_PREFIX, has_inner_directories, tiff_tags
from s2c_deploy.pictures.reading import open_regular, read_picture

READ_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".webp", ".avif"}
    | {".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".tga"}
)
_WRITE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".ppm": ("PPM", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}
# pixels a side, and bytes of a profile and of EXIF with what stands in front of it
_MAX_SIDES = {"JPEG": 65_500, "WEBP": 16_383}
_MAX_ICC = {"JPEG": 255 * 65_519}  # 255 segments
_MAX_EXIF = {"JPEG": 65_533}  # one segment
_MAX_PART = 2**31 - 1  # of a PNG; WebP and TIFF take twice as much


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """An upright RGB picture with its metadata.

    ``pixels`` is uint8 (height, width, 3), C-contiguous; ``icc`` an RGB colour profile; ``exif`` a TIFF block
    (it starts with ``II`` or ``MM``, no ``Exif\\0\\0``); ``dropped`` what its file said and is not kept, in words
    (a damaged profile, EXIF that is too long).  Raises :class:`InputError` for other arrays.
    """

    pixels: Pixels
    icc: bytes | None = None
    exif: bytes | None = None
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        p = self.pixels
        if p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3 or not p.size or not p.flags.c_contiguous:
            raise InputError(
                f"pixels of shape {p.shape} and type {p.dtype}",
                hint="pass a C-contiguous uint8 array of height x width x 3",
            )

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


def read_image(
    path: str | os.PathLike[str],
    *,
    background: str | None = None,
    max_pixels: int = MAX_PIXELS,
    drop_icc: bool = False,
) -> Image:
    """Read a picture file, turn it upright by its EXIF orientation, and make it 8-bit RGB.

    Grey is repeated into three channels; 16-bit samples are rounded to 8 bits (of 16-bit colour in TIFF, Pillow
    takes the high byte).  Opaque alpha is dropped; real alpha is composited onto ``background`` (a CSS colour)
    or refused without one.  EXIF is kept with its orientation set to 1; text and XMP are not.  Of a camera's
    multi-picture JPEG the first counts; other files of several frames are refused.

    ``icc`` is what says that the colours are not sRGB's: the file's own profile, byte for byte where it is for
    RGB; or one made of a grey profile's tone curve, of PNG's cICP, gAMA and cHRM, AVIF's nclx, TIFF's
    TransferFunction, WhitePoint and PrimaryChromaticities, a bitmap's calibration, or EXIF's Adobe RGB.
    ``drop_icc`` takes the pixels for sRGB instead.  ``dropped`` names what is damaged or too long to keep.

    Holds the picture at most twice, as Pillow decodes it and as RGB.  Raises :class:`InputError` for a file that is
    missing, no regular file, no picture, damaged, larger than ``max_pixels``, than 65535 a side or than 4 GiB, and of
    a kind that has no certain 8-bit RGB meaning (HDR, CMYK, Lab, signed or floating-point samples, pixels left out);
    :class:`OutOfMemoryError`.
    """
    with open_regular(path) as file:
        return _read(file, os.fspath(path), background, max_pixels, drop_icc)


def decode_image(
    data: bytes, *, background: str | None = None, max_pixels: int = MAX_PIXELS, drop_icc: bool = False
) -> Image:
    """As :func:`read_image`, of a picture file's bytes, which may come from anywhere."""
    return _read(io.BytesIO(data), "the file", background, max_pixels, drop_icc)


def _read(file: BinaryIO, path: str, background: str | None, max_pixels: int, drop_icc: bool) -> Image:
    """path: what messages call the file."""
    color = None if background is None else _parse_color(background)
    pixels, metadata = read_picture(file, path=path, color=color, max_pixels=max_pixels, drop_icc=drop_icc)
    return Image(pixels=pixels, icc=metadata.icc, exif=metadata.exif, dropped=metadata.left_out)


def _parse_color(name: str) -> tuple[int, int, int]:
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise InputError(f"unknown colour {name!r}", hint="pass a CSS name or #rrggbb") from None
    return red, green, blue


def writable_suffixes() -> tuple[str, ...]:
    """The suffixes that :func:`write_image` knows, with their dots, sorted."""
    return tuple(sorted(_WRITE_FORMATS))


def check_suffix(suffix: str) -> None:
    """:class:`InputError` unless pictures of this suffix (".png", in any case) can be written."""
    if suffix.lower() not in _WRITE_FORMATS:
        raise InputError(
            f"cannot write pictures with suffix '{suffix}'", hint=f"known: {' '.join(writable_suffixes())}"
        )


def write_image(path: str | os.PathLike[str], image: Image) -> tuple[str, ...]:
    """Write a picture in the format of the path's suffix, to a temporary file that is then renamed.

    PNG, PPM, BMP, TIFF and WebP are lossless; JPEG is quality 95, 4:4:4.  TIFF is deflated, but where there is EXIF
    with directories of its own; memory holds it whole.  The ICC profile and EXIF go with PNG, TIFF (there only tags
    that describe the picture), JPEG (EXIF of up to 64 KiB) and WebP.  Returns what the format has no place for and was
    left out: "ICC profile", "EXIF", "part of the EXIF".  Raises :class:`InputError` for an unknown suffix, a place that
    cannot be written, and a picture with more pixels a side than the format can hold; :class:`OutOfMemoryError` where
    memory does not suffice.
    """
    suffix = Path(path).suffix
    check_suffix(suffix)
    with atomic_write(path) as temporary:
        return _save(temporary, path, suffix, image)


def encode_image(image: Image, suffix: str) -> bytes:
    """The bytes of the file that :func:`write_image` would write, with the same errors."""
    check_suffix(suffix)
    file = io.BytesIO()
    _save(file, f"a picture with suffix {suffix}", suffix, image)
    return file.getvalue()


def left_out(image: Image, suffix: str) -> tuple[str, ...]:
    """What :func:`write_image` and :func:`encode_image` leave out of a file of this suffix: see the former."""
    check_suffix(suffix)
    return _metadata_options(_WRITE_FORMATS[suffix.lower()][0], image)[1]


def _save(target: Path | io.BytesIO, path: str | os.PathLike[str], suffix: str, image: Image) -> tuple[str, ...]:
    """path: what messages call the target."""
    name, options = _WRITE_FORMATS[suffix.lower()]
    side = _MAX_SIDES.get(name)
    if side is not None and max(image.width, image.height) > side:
        raise InputError(
            f"cannot write {path}: {image.width}x{image.height} pixels, and {name} takes {side} a side",
            hint="try .png",
        )
    try:
        metadata, missing = _metadata_options(name, image)
        # given a file, libtiff writes to it by itself, and does not say why it could not
        whole = io.BytesIO() if name == "TIFF" and isinstance(target, Path) else None
        Pil.fromarray(image.pixels).save(whole or target, format=name, **(options | metadata))
        if whole is not None and isinstance(target, Path):
            target.write_bytes(whole.getbuffer())
    except MemoryError:
        raise OutOfMemoryError(
            f"writing {path}, {image.width}x{image.height} pixels", hint="close other programs"
        ) from None
    except Exception as error:  # Pillow raises OSError, ValueError, struct.error, ... as it comes
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_write(path, error) from error
        raise InputError(f"cannot write {path} as {name}: {error}", hint="try .png") from error
    return missing


def _metadata_options(name: str, image: Image) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Pillow's save options for the metadata that a format can hold, and the names of what it cannot."""
    found = {"ICC profile": image.icc, "EXIF": image.exif}
    if name not in ("PNG", "TIFF", "JPEG", "WEBP"):
        return {}, tuple(what for what, data in found.items() if data is not None)
    options: dict[str, Any] = {}
    missing = []
    if image.icc is not None and len(image.icc) > _MAX_ICC.get(name, _MAX_PART):
        missing.append("ICC profile")
    elif image.icc is not None:
        options["icc_profile"] = image.icc
    exif, complete = image.exif, True
    if exif is not None and len(EXIF_PREFIX) + len(exif) > _MAX_EXIF.get(name, _MAX_PART):
        exif = None
        missing.append("EXIF")
    elif exif is not None and name == "TIFF":
        # there EXIF is written as tags of the file itself: one that says where its data lies would break it
        exif, complete = tiff_tags(exif)
        if exif is not None and has_inner_directories(exif):
            options["compression"] = "raw"  # libtiff, which compresses, is not given such directories by Pillow
    if not complete:
        missing.append("part of the EXIF")
    if exif is not None:
        options["exif"] = EXIF_PREFIX + exif
    return options, tuple(missing)
