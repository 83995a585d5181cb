"""Whatever is done to a picture file, reading it ends in a picture or in an InputError, and soon."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import GREY, RGB, RGBA, chunk, png, saved, tiff
from PIL import ImageCms

from s2c_deploy.errors import InputError
from s2c_deploy.image import Image, decode_image
from s2c_deploy.pictures.icc import Chromaticities, ParametricCurve, read_tags, rgb_from_grey, rgb_profile
from s2c_deploy.pictures.isobmff import exif_block, primary_colour, without_exif

PIXELS = np.arange(8 * 8 * 3).reshape(8, 8, 3)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x010F, 2, 4, b"Cam\0", 0)
ICC_CHUNK = chunk(b"iCCP", b"n\0\0" + zlib.compress(PROFILE))
PNG_CHUNKS = [
    ICC_CHUNK,
    chunk(b"cICP", bytes([12, 13, 0, 1])),
    chunk(b"gAMA", struct.pack(">I", 60000)),
    chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    chunk(b"tRNS", bytes(6)),
    chunk(b"acTL", struct.pack(">II", 1, 0)),
    chunk(b"eXIf", EXIF[6:]),
    chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text")),
]
COLOUR_TAGS = {
    258: (3, struct.pack("<3H", 8, 8, 8)),
    262: (3, b"\2\0"),
    277: (3, b"\3\0"),
    301: (3, struct.pack("<256H", *(at * 257 for at in range(256)))),
    319: (5, struct.pack("<12I", *[640, 1000, 330, 1000, 210, 1000, 710, 1000, 150, 1000, 60, 1000])),
}
NEGATIVE_TAGS = {258: (3, b"\0\x10"), 262: (3, b"\0\0"), 277: (3, b"\0\1"), 284: (3, b"\0\2")}
RUNS = (
    struct.pack("<2sIII", b"BM", 1078 + 32, 0, 1078)
    + struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, 32, 0, 0, 0, 0)
    + bytes(range(256)) * 4
    + b"\x08\7\0\0" * 7
    + b"\x08\7\0\1"
)
FILES = {
    "PNG": png(PIXELS % 256, *PNG_CHUNKS),
    "PNG, 16 bits": png(PIXELS, PNG_CHUNKS[4], depth=16, kind=RGB),
    "PNG, 16 bits and alpha": png(np.dstack([PIXELS, PIXELS[:, :, :1]]), depth=16, kind=RGBA),
    "PNG, grey": png(PIXELS[:, :, 0] % 4, chunk(b"tRNS", b"\0\1"), depth=2, kind=GREY),
    "JPEG": saved(PIXELS, "JPEG", icc_profile=PROFILE, exif=EXIF),
    "WEBP": saved(np.dstack([PIXELS, PIXELS[:, :, :1]]), "WEBP", lossless=True, icc_profile=PROFILE, exif=EXIF),
    "AVIF": saved(PIXELS, "AVIF", exif=EXIF),
    "GIF": saved(PIXELS, "GIF"),
    "BMP": saved(np.dstack([PIXELS, PIXELS[:, :, :1]]), "BMP"),
    "BMP, in runs": RUNS,
    "TGA": saved(np.dstack([PIXELS, PIXELS[:, :, :1]]), "TGA", compression="tga_rle"),
    "TIFF": tiff(8, 8, PIXELS.astype(np.uint8).tobytes(), COLOUR_TAGS),
    "TIFF, white is zero": tiff(8, 8, bytes(128), NEGATIVE_TAGS, ">"),
    "JPEG, progressive": saved(PIXELS, "JPEG", progressive=True),
}


def read(data: bytes) -> Image | None:
    try:
        return decode_image(data, background="white", max_pixels=10_000)
    except InputError:
        return None


@pytest.mark.parametrize("name", FILES)
def test_whole_files(name: str) -> None:
    found = read(FILES[name])
    assert found is not None
    assert found.pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=50, deadline=5000)
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    file = bytearray(FILES[name])
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=4)):
        file[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    read(bytes(file))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=5000)
@given(data=st.data())
def test_parts_removed_repeated_and_put_in(name: str, data: st.DataObject) -> None:
    file = FILES[name]
    first, second = sorted(data.draw(st.tuples(st.integers(0, len(file)), st.integers(0, len(file)))))
    middle = data.draw(st.sampled_from([b"", file[first:second] * 2]) | st.binary(max_size=40))
    read(file[:first] + middle + file[second:])


@settings(max_examples=100, deadline=5000)
@given(data=st.data())
def test_png_chunks_in_any_order_with_sound_checksums(data: st.DataObject) -> None:
    """Checksums do not protect from who writes them: contents and order are arbitrary, all else is sound."""
    chunks = data.draw(st.lists(st.sampled_from(PNG_CHUNKS), max_size=6))
    names = st.sampled_from([b"iCCP", b"cICP", b"gAMA", b"cHRM", b"sRGB", b"tRNS", b"acTL", b"fcTL", b"eXIf", b"PLTE"])
    chunks += [chunk(data.draw(names), data.draw(st.binary(max_size=40))) for _ in range(data.draw(st.integers(0, 3)))]
    order = data.draw(st.permutations(chunks))
    cut = data.draw(st.integers(0, len(order)))
    found = read(png(PIXELS % 256, *order[:cut], after=tuple(order[cut:])))
    if found is not None and found.icc is not None:
        assert found.icc == PROFILE or usable(found.icc)


def usable(icc: bytes) -> bool:
    """littleCMS takes it."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    return True


POINT = st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2))


@settings(max_examples=150)
@given(POINT, POINT, POINT, POINT, st.floats(0.01, 100))
def test_any_chromaticities(
    white: tuple[float, float],
    red: tuple[float, float],
    green: tuple[float, float],
    blue: tuple[float, float],
    gamma: float,
) -> None:
    corners = Chromaticities(white=white, red=red, green=green, blue=blue)
    try:
        icc = rgb_profile("any", corners, (ParametricCurve(g=gamma),) * 3)
    except ValueError:
        return
    assert usable(icc)
    assert set(read_tags(icc)) >= {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"wtpt", b"chad"}


@settings(max_examples=150)
@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_any_grey_profile(body: bytes, count: int) -> None:
    header = bytes(16) + b"GRAYXYZ " + bytes(104)
    for tail in (body, struct.pack(">I", count) + body, struct.pack(">I4sII", 1, b"kTRC", 144, len(body)) + body):
        try:
            icc = rgb_from_grey(header + tail)
        except (ValueError, LookupError):
            continue
        assert icc is None or usable(icc)


@settings(max_examples=150)
@given(st.data())
def test_any_boxes(data: st.DataObject) -> None:
    file = bytearray(FILES["AVIF"])
    for at in data.draw(st.lists(st.integers(0, 500), min_size=1, max_size=6)):
        file[min(at, len(file) - 1)] = data.draw(st.integers(0, 255))
    for parse in (primary_colour, exif_block, without_exif):
        try:
            parse(bytes(file))
        except ValueError:
            continue
