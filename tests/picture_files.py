"""What the tests of pictures share: files written byte by byte, and colours by littleCMS."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest
from PIL import ImageCms

from s2c_deploy.errors import InputError
from s2c_deploy.image import Image, decode_image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
COLOURS = np.array(
    [(0, 0, 0), (255, 255, 255), (128, 128, 128), (20, 20, 20), (150, 120, 100), (90, 110, 130), (60, 50, 55)]
)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Light = Callable[[Any], Any]

D65 = (0.3127, 0.3290)
BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PAL = ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))
GAMMA_2_2: Light = lambda x: x**2.2  # noqa: E731
LINEAR: Light = lambda x: x  # noqa: E731


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(samples: Any, *before: bytes, depth: int = 8, kind: int = RGB, after: tuple[bytes, ...] = ()) -> bytes:
    """samples: rows of pixels, of integers or tuples; before, after: chunks before and behind the pixels."""
    values = np.array(samples, np.int64)
    height, width = values.shape[:2]
    bits = (values.reshape(height, -1, 1) >> np.arange(depth - 1, -1, -1) & 1).reshape(height, -1).astype(np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = b"".join((*before, chunk(b"IDAT", zlib.compress(rows)), *after, chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + header + body


def tiff(width: int, height: int, data: bytes, tags: dict[int, tuple[int, bytes]], order: str = "<") -> bytes:
    """One uncompressed strip.  tags: by number, the type and the values as they are stored."""
    kinds = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    short = lambda value: (3, struct.pack(order + "H", value))  # noqa: E731
    entries = {256: short(width), 257: short(height), 259: short(1), 278: short(height), **tags}
    entries |= {273: (4, bytes(4)), 279: (4, struct.pack(order + "I", len(data)))}
    place = 8 + 2 + 12 * len(entries) + 4
    far = b""
    for tag, (kind, values) in entries.items():
        if len(values) > 4:
            entries[tag] = (kind, struct.pack(order + "II", place + len(far), len(values)))
            far += values + bytes(len(values) % 2)
    entries[273] = (4, struct.pack(order + "I", place + len(far)))
    directory = b""
    for tag, (kind, values) in sorted(entries.items()):
        far_size = struct.unpack(order + "I", values[4:])[0] if len(values) == 8 else len(values)
        directory += struct.pack(order + "HHI", tag, kind, far_size // kinds[kind]) + values[:4].ljust(4, b"\0")
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    return start + directory + bytes(4) + far + data


def saved(pixels: Any, file_format: str, **options: Any) -> bytes:
    """By Pillow."""
    file = io.BytesIO()
    Pil.fromarray(np.asarray(pixels, np.uint8)).save(file, file_format, **options)
    return file.getvalue()


def to_srgb(icc: bytes, colours: Any) -> Any:
    """What littleCMS makes of uint8 colours (n, 3) under a profile, relative colorimetric."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB", renderingIntent=1)
    applied = ImageCms.applyTransform(Pil.fromarray(np.asarray([colours], np.uint8)), transform)
    assert applied is not None
    return np.asarray(applied)[0].astype(int)


def srgb_encode(light: Any) -> Any:
    """Linear light, 0 to 1, to sRGB's samples 0 to 255: IEC 61966-2-1."""
    clipped = np.clip(light, 0, 1)
    return 255 * np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)


def srgb_decode(samples: Any) -> Any:
    x = np.asarray(samples) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


SRGB: Light = lambda x: srgb_decode(255 * x)  # noqa: E731


def to_xyz(primaries: Any, white: tuple[float, float] = D65) -> Any:
    """The matrix from linear RGB to XYZ, as BT.709 derives it (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = white
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


def expected(primaries: Any, light: Light) -> Any:
    """COLOURS of an RGB space of white D65, in sRGB: no adaptation is needed, so none is in this oracle."""
    linear = light(COLOURS / 255) @ (np.linalg.inv(to_xyz(BT709)) @ to_xyz(primaries)).T
    return srgb_encode(linear)


def assert_means(icc: bytes | None, primaries: Any, light: Light) -> None:
    """littleCMS makes of colours under the profile what the closed forms do, to a rounding in either."""
    assert icc is not None
    assert int.from_bytes(icc[:4], "big") == len(icc)
    assert abs(to_srgb(icc, COLOURS) - expected(primaries, light)).max() < 1.6


def rows_of(found: Image) -> Any:
    return [[tuple(pixel) for pixel in row] for row in found.pixels.tolist()]


def refusal(data: bytes, **options: Any) -> str:
    """What is said of a file that is refused; there is always a hint."""
    with pytest.raises(InputError) as caught:
        decode_image(data, **options)
    assert caught.value.hint
    return str(caught.value)


def assert_srgb(data: bytes, **options: Any) -> None:
    found = decode_image(data, **options)
    assert (found.icc, found.dropped) == (None, ())
