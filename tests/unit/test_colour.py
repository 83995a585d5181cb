"""What PNG and EXIF say about colours ends as a profile, held against littleCMS and closed forms, or as a refusal."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from picture_files import (
    ADOBE,
    BT709,
    BT2020,
    D65,
    GAMMA_2_2,
    GREY,
    LINEAR,
    P3,
    PAL,
    SRGB,
    SRGB_PROFILE,
    Light,
    assert_means,
    assert_srgb,
    chunk,
    png,
    refusal,
    saved,
    tiff,
    to_srgb,
)
from PIL import ImageCms

from s2c_deploy.image import Image, decode_image, encode_image, left_out
from s2c_deploy.pictures.exif import says_adobe_rgb

ROWS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(0, 0, 0), (255, 255, 255), (9, 99, 199)]]


def cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def corners(primaries: Any, white: tuple[float, float] = D65) -> bytes:
    return chunk(b"cHRM", struct.pack(">8i", *(round(value * 1e5) for point in (white, *primaries) for value in point)))


# --- PNG


@pytest.mark.parametrize(
    ("codes", "primaries", "light"),
    [
        ((12, 13, 0, 1), P3, SRGB),
        ((12, 1, 0, 1), P3, SRGB),
        ((12, 2, 0, 1), P3, SRGB),
        ((9, 14, 0, 1), BT2020, SRGB),
        ((9, 8, 0, 1), BT2020, LINEAR),
        ((1, 8, 0, 1), BT709, LINEAR),
        ((1, 4, 0, 1), BT709, GAMMA_2_2),
        ((5, 5, 0, 1), PAL, lambda x: x**2.8),
    ],
)
def test_cicp(codes: tuple[int, ...], primaries: Any, light: Light) -> None:
    assert_means(decode_image(png(ROWS, cicp(*codes))).icc, primaries, light)


def test_smpte_240m() -> None:
    light = lambda v: np.where(v < 0.0913, v / 4, ((v + 0.1115) / 1.1115) ** (1 / 0.45))  # noqa: E731
    smpte_c = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
    assert_means(decode_image(png(ROWS, cicp(7, 7, 0, 1))).icc, smpte_c, light)


def test_dci_white_stays_white() -> None:
    icc = decode_image(png(ROWS, cicp(11, 13, 0, 1))).icc
    assert icc is not None
    grey = [(0, 0, 0), (99, 99, 99), (255, 255, 255)]
    assert abs(to_srgb(icc, grey) - np.array(grey)).max() <= 1


@pytest.mark.parametrize(
    "codes", [(1, 13, 0, 1), (1, 1, 0, 1), (1, 6, 0, 1), (2, 2, 0, 1), (1, 15, 0, 1), (2, 13, 0, 1)]
)
def test_cicp_of_srgb(codes: tuple[int, ...]) -> None:
    assert_srgb(png(ROWS, cicp(*codes)))


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ((9, 16, 0, 1), "HDR displays (PQ)"),
        ((9, 18, 0, 1), "HDR displays (HLG)"),
        ((1, 16, 0, 1), "HDR displays (PQ)"),
        ((1, 13, 1, 1), "matrix 1"),
        ((1, 13, 0, 0), "range flag 0"),
        ((10, 13, 0, 1), "no certain RGB meaning"),
        ((1, 9, 0, 1), "no certain RGB meaning"),
        ((1, 200, 0, 1), "no certain RGB meaning"),
        ((0, 13, 0, 1), "no certain RGB meaning"),
    ],
)
def test_cicp_without_8_bit_meaning(codes: tuple[int, ...], reason: str) -> None:
    for options in ({}, {"drop_icc": True}):
        assert reason in refusal(png(ROWS, cicp(*codes)), **options)


@pytest.mark.parametrize(
    ("chunks", "primaries", "light"),
    [
        ((gamma(100000),), BT709, LINEAR),
        ((gamma(55556),), BT709, lambda x: x**1.8),
        ((corners(P3),), P3, SRGB),
        ((gamma(45455), corners(ADOBE)), ADOBE, GAMMA_2_2),
        ((corners(BT2020), gamma(100000)), BT2020, LINEAR),
    ],
)
def test_gamma_and_chromaticities(chunks: tuple[bytes, ...], primaries: Any, light: Light) -> None:
    assert_means(decode_image(png(ROWS, *chunks)).icc, primaries, light)


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (gamma(45455),),
        (gamma(45455), corners(BT709)),
        (corners(((0.6401, 0.3299), (0.2998, 0.6001), (0.1501, 0.0599))),),
        (chunk(b"sRGB", b"\0"), gamma(100000), corners(P3)),
        (gamma(0),),
    ],
)
def test_what_is_srgb_needs_no_profile(chunks: tuple[bytes, ...]) -> None:
    assert_srgb(png(ROWS, *chunks))


def test_order_of_precedence() -> None:
    own = SRGB_PROFILE + b"one more"
    icc = chunk(b"iCCP", b"n\0\0" + zlib.compress(own))
    everything = [gamma(100000), corners(ADOBE), chunk(b"sRGB", b"\0"), icc, cicp(12, 13, 0, 1)]
    assert_means(decode_image(png(ROWS, *everything)).icc, P3, SRGB)
    assert decode_image(png(ROWS, *everything[:4])).icc == own
    assert_srgb(png(ROWS, *everything[:3]))
    assert decode_image(png(ROWS, *everything), drop_icc=True).icc is None


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (corners(((0, 0), (0, 0), (0, 0))), "gAMA, cHRM"),
        (corners(((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))), "gAMA, cHRM"),
        (corners(BT709, white=(0.7, 0.1)), "gAMA, cHRM"),
        (gamma(2**32 - 1), "gAMA, cHRM"),
        (gamma(1), "gAMA, cHRM"),
        (chunk(b"gAMA", b"\0"), "gAMA"),
        (chunk(b"cHRM", bytes(31)), "cHRM"),
        (chunk(b"cICP", bytes(3)), "cICP"),
        (gamma(100000)[:-4] + bytes(4), "gAMA"),
    ],
)
def test_damaged_signalling_is_named(bad: bytes, name: str) -> None:
    found = decode_image(png(ROWS, bad))
    assert (found.icc, found.dropped) == (None, (f"{name}, damaged",))


def test_equal_files_give_equal_profiles() -> None:
    first, second = (decode_image(png(ROWS, gamma(100000))).icc for _ in range(2))
    assert first == second


# --- EXIF


def exif(space: int | None, index: bytes | None) -> bytes:
    """A TIFF block with a colour space and an interoperability index."""
    fields = [] if space is None else [struct.pack("<HHIH2x", 0xA001, 3, 1, space)]
    fields += [] if index is None else [struct.pack("<HHII", 0xA005, 4, 1, 80)]
    first = struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack("<H", len(fields)) + b"".join(fields) + bytes(4)
    third = b"" if index is None else struct.pack("<HHHI4sI", 1, 1, 2, len(index), index, 0)
    return (b"II*\0" + first + second).ljust(80, b"\0") + third


@pytest.mark.parametrize("block", [exif(2, None), exif(0xFFFF, b"R03\0"), exif(None, b"R03\0")])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_adobe_rgb_by_exif(block: bytes, name: str) -> None:
    found = decode_image(saved(ROWS, name, exif=b"Exif\0\0" + block))
    assert found.exif == block
    assert_means(found.icc, ADOBE, lambda x: x ** (563 / 256))


def exif_tiff(space: int, index: bytes) -> bytes:
    """A grey pixel, and behind it the directories of :func:`exif` as the file's own."""
    layout = {258: (3, b"\10\0"), 262: (3, b"\1\0"), 277: (3, b"\1\0")}
    place = len(tiff(1, 1, b"\x4d", layout | {0x8769: (4, bytes(4))}))
    inner = place + 2 + 2 * 12 + 4
    fields = struct.pack("<HHHIHHHHII", 2, 0xA001, 3, 1, space, 0, 0xA005, 4, 1, inner) + bytes(4)
    last = struct.pack("<HHHI4sI", 1, 1, 2, len(index), index, 0)
    return tiff(1, 1, b"\x4d", layout | {0x8769: (4, struct.pack("<I", place))}) + fields + last


def test_adobe_rgb_by_exif_in_tiff() -> None:
    found = decode_image(exif_tiff(0xFFFF, b"R03\0"))
    assert_means(found.icc, ADOBE, lambda x: x ** (563 / 256))
    assert found.exif is not None
    assert says_adobe_rgb(found.exif)  # still, though its directories have been written anew
    assert_srgb(exif_tiff(1, b"R98\0"))


def test_tiff_has_no_place_for_the_interoperability_index() -> None:
    block = exif(0xFFFF, b"R03\0")
    picture = Image(pixels=np.zeros((1, 1, 3), np.uint8), icc=SRGB_PROFILE, exif=block)
    assert left_out(picture, ".tif") == ("part of the EXIF",)
    found = decode_image(encode_image(picture, ".tif"))
    assert (found.icc, found.dropped) == (SRGB_PROFILE, ())
    assert b"\xa0\x05" not in (found.exif or b"")  # nor a place where nothing is


@pytest.mark.parametrize("block", [exif(1, None), exif(0xFFFF, None), exif(1, b"R98\0"), exif(None, b"R98\0")])
def test_other_colour_spaces_by_exif(block: bytes) -> None:
    assert_srgb(saved(ROWS, "JPEG", exif=b"Exif\0\0" + block))


def test_exif_decides_last() -> None:
    block = b"Exif\0\0" + exif(2, None)
    assert decode_image(saved(ROWS, "JPEG", exif=block, icc_profile=SRGB_PROFILE)).icc == SRGB_PROFILE
    assert_srgb(png(ROWS, chunk(b"sRGB", b"\0"), chunk(b"eXIf", block[6:])))
    assert_srgb(saved(ROWS, "JPEG", exif=block), drop_icc=True)


def test_grey_level_png_with_gamma() -> None:
    assert_means(decode_image(png([[0, 255]], gamma(100000), kind=GREY)).icc, BT709, LINEAR)


def test_littlecms_knows_the_profile() -> None:
    icc = decode_image(png(ROWS, cicp(12, 13, 0, 1))).icc
    assert icc is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
    assert (profile.profile_description, profile.xcolor_space.strip(), profile.connection_space.strip()) == (
        "Display P3, sRGB",
        "RGB",
        "XYZ",
    )
    assert abs(profile.version - 4.4) < 0.01
