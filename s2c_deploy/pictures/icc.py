"""ICC profiles: small ones written for RGB that a file describes in other ways, and grey ones turned into RGB.

Layout: ICC.1:2022 (version 4.4), a matrix and one tone curve for each channel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

Reals = np.ndarray[Any, np.dtype[np.float64]]

RGB_SPACE, GREY_SPACE = b"RGB ", b"GRAY"
_HEADER_SIZE = 128
_MAX_TAGS = 200
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# how many parameters a parametricCurveType has, by its function type, and where they go in g, a, b, c, d, e, f
_PARAMETERS = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}


@dataclass(frozen=True, kw_only=True)
class Chromaticities:
    """CIE 1931 x, y of the white and of the three primaries."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]

    def near(self, other: Chromaticities, tolerance: float = 0.002) -> bool:
        pairs = zip(self._flat(), other._flat(), strict=True)
        return all(abs(mine - its) <= tolerance for mine, its in pairs)

    def _flat(self) -> tuple[float, ...]:
        return (*self.white, *self.red, *self.green, *self.blue)


@dataclass(frozen=True, kw_only=True)
class ParametricCurve:
    """From samples to light, both 0 to 1: (a x + b)^g from d on, c x below."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0

    def __call__(self, x: Reals) -> Reals:
        with np.errstate(all="ignore"):  # 0 to a negative power, in a profile that is damaged
            return np.where(x >= self.d, np.maximum(self.a * x + self.b, 0) ** self.g, self.c * x)

    def tag(self) -> bytes:
        plain = (self.a, self.b, self.c, self.d) == (1, 0, 0, 0)
        values = (self.g,) if plain else (self.g, self.a, self.b, self.c, self.d)
        return struct.pack(">4s4xHxx", b"para", 0 if plain else 3) + b"".join(_fixed(value) for value in values)


@dataclass(frozen=True, kw_only=True)
class SampledCurve:
    """From samples to light: values 0 to 65535 at equal distances, linear between them."""

    values: tuple[int, ...]

    def __call__(self, x: Reals) -> Reals:
        return np.interp(x * (len(self.values) - 1), np.arange(len(self.values)), np.array(self.values) / 65535)

    def tag(self) -> bytes:
        return struct.pack(f">4s4xI{len(self.values)}H", b"curv", len(self.values), *self.values)


Curve = ParametricCurve | SampledCurve
SRGB_CURVE = ParametricCurve(g=2.4, a=1 / 1.055, b=0.055 / 1.055, c=1 / 12.92, d=0.04045)
SRGB = Chromaticities(white=(0.3127, 0.3290), red=(0.64, 0.33), green=(0.30, 0.60), blue=(0.15, 0.06))


def is_srgb_curve(curve: Curve) -> bool:
    """Whether every 8-bit sample means what it means in sRGB, to half a level."""
    x = np.arange(256) / 255
    light = np.clip(curve(x), 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return bool(np.abs(encoded - x).max() < 0.5 / 255)


def rgb_profile(name: str, chromaticities: Chromaticities, curves: tuple[Curve, Curve, Curve]) -> bytes:
    """A display profile of version 4; ``name`` is what it calls itself, in ASCII.

    Raises ValueError for chromaticities that are no RGB space: a y of 0, primaries on a line, a white that they
    cannot mix, numbers that the format cannot hold.
    """
    colorants, adaptation = _colorants(chromaticities)
    tags = {
        b"desc": _text(name),
        b"cprt": _text("no copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32" + bytes(4) + b"".join(_fixed(value) for value in adaptation.ravel()),
        b"rXYZ": _xyz(colorants[:, 0]),
        b"gXYZ": _xyz(colorants[:, 1]),
        b"bXYZ": _xyz(colorants[:, 2]),
        b"rTRC": curves[0].tag(),
        b"gTRC": curves[1].tag(),
        b"bTRC": curves[2].tag(),
    }
    return _assemble(tags)


def rgb_from_grey(icc: bytes) -> bytes | None:
    """An RGB profile in which grey pixels, repeated into three channels, look as under the grey profile ``icc``.

    None if its tone curve is that of sRGB, which needs no profile.  Raises ValueError for a profile that is
    damaged, and LookupError for a sound one that has tables in place of a curve.
    """
    tags = read_tags(icc)
    if b"kTRC" not in tags:
        raise LookupError("the grey profile has no tone curve")
    curve = _read_curve(tags[b"kTRC"])
    if not np.isfinite(curve(np.linspace(0, 1, 256))).all():
        raise ValueError("a tone curve that is not finite")
    if icc[20:24] == b"Lab ":  # there the curve gives lightness: from it to luminance
        lightness = curve(np.linspace(0, 1, 4096)) * 100
        light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)
        curve = SampledCurve(values=tuple(int(value) for value in np.rint(np.clip(light, 0, 1) * 65535)))
    if is_srgb_curve(curve):
        return None
    return rgb_profile("grey, its own tone curve", SRGB, (curve, curve, curve))


def read_tags(icc: bytes) -> dict[bytes, bytes]:
    """The tags of a profile by signature.  ValueError if a tag lies outside of it, or there are too many."""
    try:
        (count,) = struct.unpack_from(">I", icc, _HEADER_SIZE)
        if count > _MAX_TAGS:
            raise ValueError(f"an ICC profile of {count} tags")
        tags = {}
        for index in range(count):
            name, start, size = struct.unpack_from(">4sII", icc, _HEADER_SIZE + 4 + 12 * index)
            if start + size > len(icc):
                raise ValueError(f"the tag {name!r} lies outside of the ICC profile")
            tags[name] = icc[start : start + size]
    except struct.error:
        raise ValueError("the ICC profile is cut short") from None
    return tags


def _read_curve(tag: bytes) -> Curve:
    """ValueError for a tag that is no curve of a known kind."""
    try:
        if tag[:4] == b"curv":
            (count,) = struct.unpack_from(">I", tag, 8)
            if count == 0:
                return ParametricCurve(g=1)
            if count == 1:
                return ParametricCurve(g=struct.unpack_from(">H", tag, 12)[0] / 256)
            if count > 65536:
                raise ValueError(f"a tone curve of {count} values")
            return SampledCurve(values=struct.unpack_from(f">{count}H", tag, 12))
        if tag[:4] == b"para" and (kind := struct.unpack_from(">H", tag, 8)[0]) in _PARAMETERS:
            return _parametric(kind, *struct.unpack_from(f">{len(_PARAMETERS[kind])}i", tag, 12))
    except struct.error:
        raise ValueError("a tone curve is cut short") from None
    raise ValueError(f"a tone curve of unknown kind {tag[:4]!r}")


def _parametric(kind: int, *fixed: int) -> Curve:
    """The five forms of a parametric curve; those that one of ours cannot say become samples."""
    p = dict.fromkeys("abcdef", 0.0) | {"a": 1.0}
    p |= {name: value / 65536 for name, value in zip(_PARAMETERS[kind], fixed, strict=True)}
    if kind in (0, 3):
        return ParametricCurve(g=p["g"], a=p["a"], b=p["b"], c=p["c"], d=p["d"])
    if kind in (1, 2) and not p["a"]:
        raise ValueError("a tone curve whose factor is 0")
    # types 1 and 2 change over where a x + b is 0, and add c on both sides; type 4 adds e above and f below
    turn = p["d"] if kind == 4 else -p["b"] / p["a"]
    above, below = (p["e"], p["f"]) if kind == 4 else (p["c"], p["c"])
    slope = p["c"] if kind == 4 else 0.0
    x = np.linspace(0, 1, 4096)
    with np.errstate(all="ignore"):
        y = np.where(x >= turn, np.maximum(p["a"] * x + p["b"], 0) ** p["g"] + above, slope * x + below)
    if not np.isfinite(y).all():
        raise ValueError("a tone curve that is not finite")
    return SampledCurve(values=tuple(int(value) for value in np.rint(np.clip(y, 0, 1) * 65535)))


def _colorants(chromaticities: Chromaticities) -> tuple[Reals, Reals]:
    """XYZ of the primaries, as columns, under D50; and the adaptation from the white to D50 (Bradford)."""
    c = chromaticities
    points = (c.white, c.red, c.green, c.blue)
    if not all(0 < y <= 1 and abs(x) <= 2 for x, y in points):
        raise ValueError("chromaticities out of range")
    white, *primaries = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    matrix = np.stack(primaries, axis=1)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            scaled = matrix * np.linalg.solve(matrix, white)
    except np.linalg.LinAlgError:
        raise ValueError("the primaries lie on a line") from None
    if not (scaled[1] > 0).all():
        raise ValueError("the white lies outside of the primaries")
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    adapted = adaptation @ scaled
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 16 and np.abs(adaptation).max() < 16):
        raise ValueError("chromaticities out of range")
    return adapted, adaptation


def _fixed(value: float) -> bytes:
    """s15Fixed16Number; ValueError outside of its range."""
    scaled = round(float(value) * 65536)
    if not -(2**31) <= scaled < 2**31:
        raise ValueError(f"{value} does not fit into an ICC profile")
    return struct.pack(">i", scaled)


def _xyz(values: tuple[float, ...] | Reals) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _text(text: str) -> bytes:
    """multiLocalizedUnicodeType with one record."""
    data = text.encode("utf-16-be")
    return struct.pack(">4s4xII4sII", b"mluc", 1, 12, b"enUS", len(data), 28) + data


def _assemble(tags: dict[bytes, bytes]) -> bytes:
    """Header, table and data; equal data are stored once, as the three curves mostly are."""
    start = _HEADER_SIZE + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    body = b""
    for data in tags.values():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
    table = b"".join(struct.pack(">4sII", name, places[data], len(data)) for name, data in tags.items())
    date = (2024, 1, 1, 0, 0, 0)  # fixed, so that equal pictures give equal streams
    illuminant = b"".join(_fixed(value) for value in _D50)
    kinds = (b"mntr", RGB_SPACE, b"XYZ ")
    layout = ">I4xI4s4s4s6H4s24xI12s48x"
    header = struct.pack(layout, start + len(body), 0x04400000, *kinds, *date, b"acsp", 1, illuminant)
    return header + struct.pack(">I", len(tags)) + table + body
