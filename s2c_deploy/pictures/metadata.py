"""Colour profile, EXIF and orientation of a picture file, whichever way its format says them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import PIL.Image as Pil

from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import MAX_METADATA
from s2c_deploy.pictures.bmp import FILE_HEADER, read_bmp
from s2c_deploy.pictures.colour import adobe_rgb_profile, cicp_profile, gamma_profile, profile_for
from s2c_deploy.pictures.exif import descriptive, says_adobe_rgb, upright_exif
from s2c_deploy.pictures.gif import gif_profile
from s2c_deploy.pictures.icc import (
    GREY_SPACE,
    RGB_SPACE,
    SRGB,
    SRGB_CURVE,
    Chromaticities,
    Curve,
    SampledCurve,
    rgb_from_grey,
)
from s2c_deploy.pictures.isobmff import primary_colour
from s2c_deploy.pictures.jpeg import Jpeg
from s2c_deploy.pictures.png import Png

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES = 301, 318, 319
_KEEP_PIXELS = "--drop-icc leaves it out"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is kept of what a picture's file says beside its pixels."""

    #: An RGB profile.
    icc: bytes | None
    #: A TIFF block, its orientation 1.
    exif: bytes | None
    #: What it was.
    orientation: int
    #: In words: what the file says but cannot be kept.
    left_out: tuple[str, ...]


def profile_too_large(path: str) -> InputError:
    return InputError(
        f"the ICC profile of {path} has more than {MAX_METADATA} bytes", hint=f"no stream keeps it; {_KEEP_PIXELS}"
    )


def png_metadata(png: Png, *, path: str, drop_icc: bool) -> Metadata:
    """By PNG's order: cICP before iCCP before sRGB before gAMA and cHRM; last, what EXIF says.

    Raises :class:`InputError` for colours that have no certain 8-bit RGB meaning.
    """
    facts = _Facts(path=path, drop_icc=drop_icc, grey=png.grey)
    facts.left_out += [f"{name}, damaged" for name in png.damaged]
    if png.cicp is not None:
        primaries, transfer, matrix, full_range = png.cicp
        if matrix != 0 or full_range != 1:
            raise InputError(
                f"{path} has cICP with matrix {matrix} and range flag {full_range}; "
                "expected 0 and 1, as of full-range RGB",
                hint="convert it to 8-bit sRGB first",
            )
        facts.describe("cICP", lambda: cicp_profile(primaries, transfer, path=path))
    facts.embed(png.icc)
    if png.srgb:
        facts.describe("sRGB", lambda: None)
    if png.gamma is not None or png.chromaticities is not None:
        gammas = None if png.gamma is None else (1 / png.gamma, 1 / png.gamma, 1 / png.gamma)
        corners = _corners(png.chromaticities)
        facts.describe("gAMA, cHRM", lambda: gamma_profile("as PNG's gAMA and cHRM", corners, gammas))
    return facts.finish(png.exif)


def jpeg_metadata(jpeg: Jpeg, picture: Pil.Image, *, path: str, drop_icc: bool) -> Metadata:
    """Of its application segments.  Raises :class:`InputError` as :func:`png_metadata`."""
    facts = _facts(picture, path, drop_icc)
    facts.left_out += [f"{name}, damaged" for name in jpeg.damaged]
    facts.embed(jpeg.icc)
    return facts.finish(jpeg.exif)


def other_metadata(picture: Pil.Image, file: BinaryIO, *, path: str, drop_icc: bool) -> Metadata:
    """Of every other format.  After load(), since metadata may lie behind the pixels.

    ``file`` is what the picture was read from.  Raises :class:`InputError` as :func:`png_metadata`.
    """
    facts = _facts(picture, path, drop_icc)
    icc = gif_profile(file, limit=MAX_METADATA) if picture.format == "GIF" else picture.info.get("icc_profile")
    facts.embed(icc or None)
    if picture.format == "TIFF":
        tags = getattr(picture, "tag_v2", {})
        found = tuple(tags.get(tag) for tag in (_TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES))
        if any(value is not None for value in found):
            facts.describe("TransferFunction, WhitePoint", lambda: _tiff_profile(*found))
        return facts.finish_tiff(picture)
    if picture.format in ("BMP", "DIB"):
        _describe_bmp(facts, file, FILE_HEADER if picture.format == "BMP" else 0)
    if picture.format == "AVIF":
        _describe_avif(facts, file)
    return facts.finish(picture.info.get("exif"))


def _facts(picture: Pil.Image, path: str, drop_icc: bool) -> _Facts:
    # Pillow gives AVIF as RGB even where it is grey
    return _Facts(path=path, drop_icc=drop_icc, grey=picture.mode in _GREY_MODES or picture.format == "AVIF")


class _Facts:
    """What is found, in the order of precedence: the first to say anything about colour decides."""

    def __init__(self, *, path: str, drop_icc: bool, grey: bool) -> None:
        self.path = path
        self.drop_icc = drop_icc
        self.grey = grey
        self.left_out: list[str] = []
        self.icc: bytes | None = None
        self.decided = False

    def describe(self, what: str, profile: Callable[[], bytes | None]) -> None:
        """Colour said in another way than by a profile; ValueError from ``profile`` means that it is damaged."""
        if self.decided:
            return
        try:
            self.icc = profile()
        except ValueError:
            self.left_out.append(f"{what}, damaged")
            return
        self.decided = True

    def embed(self, icc: object) -> None:
        """A profile that the file holds: bytes, or None; of TIFF's tags, a damaged one may be of any type."""
        if icc is None or self.decided or self.drop_icc:
            return
        if not isinstance(icc, bytes):
            self.left_out.append("ICC profile, damaged")
            return
        if len(icc) > MAX_METADATA:
            raise profile_too_large(self.path)
        if icc[16:20] == RGB_SPACE:
            self.icc, self.decided = icc, True
        elif icc[16:20] == GREY_SPACE and self.grey:
            try:
                self.describe("ICC profile", lambda: rgb_from_grey(icc))
            except LookupError as error:
                raise InputError(f"{self.path}: {error}", hint=f"convert it to sRGB first, or {_KEEP_PIXELS}") from None
        else:
            self.left_out.append("ICC profile, damaged or of another kind of picture")

    def finish(self, raw_exif: bytes | None) -> Metadata:
        exif, orientation = upright_exif(raw_exif) if raw_exif else (None, 1)
        if raw_exif and exif is None:
            self.left_out.append("EXIF, damaged")
        return self._finish(exif, orientation)

    def finish_tiff(self, picture: Pil.Image) -> Metadata:
        try:
            exif = descriptive(picture.getexif())
        except Exception:  # Pillow raises struct.error, ValueError, KeyError, ... on damaged tags
            exif = None
            self.left_out.append("EXIF, damaged")
        return self._finish(exif, 1)  # Pillow has turned it in load()

    def _finish(self, exif: bytes | None, orientation: int) -> Metadata:
        if exif is not None and len(exif) > MAX_METADATA:
            self.left_out.append(f"EXIF of {len(exif)} bytes, at most {MAX_METADATA} can be kept")
            exif = None
        if exif is not None and says_adobe_rgb(exif):
            self.describe("EXIF's colour space", adobe_rgb_profile)
        return Metadata(
            icc=None if self.drop_icc else self.icc, exif=exif, orientation=orientation, left_out=tuple(self.left_out)
        )


def _corners(values: tuple[float, ...] | None) -> Chromaticities | None:
    if values is None:
        return None
    white, red, green, blue = zip(values[::2], values[1::2], strict=True)
    return Chromaticities(white=white, red=red, green=green, blue=blue)


def _describe_avif(facts: _Facts, file: BinaryIO) -> None:
    file.seek(0)
    try:
        codes = primary_colour(file.read())
    except ValueError:
        facts.left_out.append("colr, damaged")
        return
    if codes is not None and codes != (2, 2):  # unspecified
        facts.describe("colr", lambda: cicp_profile(*codes, path=facts.path))


def _describe_bmp(facts: _Facts, file: BinaryIO, start: int) -> None:
    bmp = read_bmp(file, start, max_metadata=MAX_METADATA)
    if bmp.hidden_alpha:
        raise InputError(
            f"{facts.path} is a 16-bit bitmap with transparency, which cannot be read", hint="make it a PNG first"
        )
    if facts.drop_icc:
        return
    if bmp.too_large:
        raise profile_too_large(facts.path)
    if bmp.linked:
        raise InputError(
            f"the colour profile of {facts.path} is in another file, which its header names",
            hint=f"embed it with a photo editor; {_KEEP_PIXELS}",
        )
    if bmp.damaged:
        facts.left_out.append("ICC profile, damaged")
    facts.embed(bmp.icc)
    if bmp.chromaticities is not None or bmp.gammas is not None:
        facts.describe("calibration", lambda: gamma_profile("as a bitmap's header", bmp.chromaticities, bmp.gammas))


def _tiff_profile(transfer: Any, white: Any, primaries: Any) -> bytes | None:
    """Of the tags TransferFunction, WhitePoint and PrimaryChromaticities; ValueError where they are damaged."""
    try:
        points = tuple(map(float, (*(white or SRGB.white), *(primaries or (*SRGB.red, *SRGB.green, *SRGB.blue)))))
    except (TypeError, ZeroDivisionError, OverflowError):
        points = ()
    corners = _corners(points) if len(points) == 8 else None
    if corners is None:
        raise ValueError("a white point or primaries of other than numbers")
    return profile_for("as TIFF's tags", corners, _transfer_curves(transfer))


def _transfer_curves(table: Any) -> tuple[Curve, Curve, Curve]:
    """One table for all channels or one for each, 65536 values each at most."""
    if table is None:
        return SRGB_CURVE, SRGB_CURVE, SRGB_CURVE
    values = tuple(table) if isinstance(table, tuple) else ()
    channels = 3 if len(values) % 3 == 0 else 1
    size = len(values) // channels
    if not 2 <= size <= 65536 or not all(isinstance(value, int) and 0 <= value <= 65535 for value in values):
        raise ValueError(f"a transfer function of {len(values)} values")
    starts = (size * (channel % channels) for channel in range(3))
    red, green, blue = (SampledCurve(values=values[start : start + size]) for start in starts)
    return red, green, blue
