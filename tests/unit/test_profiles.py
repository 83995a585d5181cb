"""What other formats and grey profiles say about colours ends as a profile, held against littleCMS, or as a refusal."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from picture_files import (
    ADOBE,
    BT709,
    BT2020,
    D65,
    GAMMA_2_2,
    LINEAR,
    P3,
    SRGB,
    SRGB_PROFILE,
    Light,
    assert_means,
    assert_srgb,
    refusal,
    saved,
    srgb_decode,
    srgb_encode,
    tiff,
    to_srgb,
)

from s2c_deploy.formats.bitstream import MAX_METADATA
from s2c_deploy.image import decode_image

ROWS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(0, 0, 0), (255, 255, 255), (9, 99, 199)]]


# --- grey profiles


def grey_profile(curve: bytes, space: bytes = b"XYZ ", tag: bytes = b"kTRC") -> bytes:
    """Version 2, of a white and a tone curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, tag, 176, len(curve))
    body = table + white + curve
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x", 128 + len(body), 0x02400000, b"mntr", b"GRAY", space, b"acsp", 63190, 65536, 54061
    )
    return head + body


def curv(*values: int) -> bytes:
    return struct.pack(f">4s4xI{len(values)}H", b"curv", len(values), *values)


def para(kind: int, *values: float) -> bytes:
    return struct.pack(f">4s4xHxx{len(values)}i", b"para", kind, *(round(value * 65536) for value in values))


LSTAR: Light = lambda x: np.where(x > 0.08, ((100 * x + 16) / 116) ** 3, 100 * x * 27 / 24389)  # noqa: E731
SRGB_PARAMETERS = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


@pytest.mark.parametrize(
    ("profile", "light"),
    [
        (grey_profile(curv(round(2.2 * 256))), GAMMA_2_2),
        (grey_profile(curv()), LINEAR),
        (grey_profile(curv(*(round(65535 * (at / 64) ** 1.8) for at in range(65)))), lambda x: x**1.8),
        (grey_profile(para(0, 1.8)), lambda x: x**1.8),
        (grey_profile(para(1, 2.0, 1.25, -0.25)), lambda x: np.maximum(1.25 * x - 0.25, 0) ** 2),
        (grey_profile(para(2, 2.0, 0.8, 0.0, 0.2)), lambda x: (0.8 * x) ** 2 + 0.2),
        (
            grey_profile(para(4, 2.0, 0.9, 0.0, 0.5, 0.1, 0.1, 0.0)),
            lambda x: np.where(x >= 0.1, (0.9 * x) ** 2 + 0.1, 0.5 * x),
        ),
        (grey_profile(curv(), space=b"Lab "), LSTAR),
    ],
    ids=["gamma", "linear", "table", "para0", "para1", "para2", "para4", "lightness"],
)
@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF"])
def test_grey_profile(profile: bytes, light: Light, name: str) -> None:
    grey = decode_image(saved(np.arange(64).reshape(8, 8) * 4, name, icc_profile=profile))
    levels = np.array([(level,) * 3 for level in (0, 30, 77, 128, 200, 255)])
    assert grey.icc is not None
    assert abs(to_srgb(grey.icc, levels) - srgb_encode(light(levels / 255))).max() < 1.6


def test_grey_profile_of_srgb_s_curve() -> None:
    assert_srgb(saved(np.zeros((4, 4)), "PNG", icc_profile=grey_profile(para(3, *SRGB_PARAMETERS))))


def test_grey_profile_of_tables_is_refused() -> None:
    data = saved(np.zeros((4, 4)), "PNG", icc_profile=grey_profile(curv(), tag=b"A2B0"))
    assert "no tone curve" in refusal(data)
    assert_srgb(data, drop_icc=True)


@pytest.mark.parametrize(
    "profile",
    [
        grey_profile(curv(1, 2, 3))[:-3],
        grey_profile(b"none" + bytes(12)),
        grey_profile(para(9, 1)),
        grey_profile(para(0, -1)),
        grey_profile(para(1, 1, 0, 1)),
        grey_profile(b"curv" + bytes(4) + b"\xff\xff\xff\xff"),
        grey_profile(curv())[:130],
        bytes(16) + b"GRAYXYZ " + bytes(104) + b"\xff\xff\xff\xff",
    ],
)
def test_damaged_grey_profile_is_named(profile: bytes) -> None:
    found = decode_image(saved(np.full((4, 4), 77), "PNG", icc_profile=profile))
    assert (found.icc, found.dropped) == (None, ("ICC profile, damaged",))
    assert found.pixels[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("profile", [bytes(16) + b"CMYKLab " + bytes(104), grey_profile(curv()), b"short"])
def test_profile_of_another_kind_of_picture_is_named(profile: bytes) -> None:
    found = decode_image(saved(ROWS, "PNG", icc_profile=profile))
    assert (found.icc, found.dropped) == (None, ("ICC profile, damaged or of another kind of picture",))


# --- TIFF


def rationals(*values: float, order: str = "<") -> bytes:
    return b"".join(struct.pack(order + "II", round(value * 1e6), 10**6) for value in values)


def colour_tiff(tags: dict[int, tuple[int, bytes]]) -> bytes:
    pixels = bytes(value for row in ROWS for pixel in row for value in pixel)
    layout = {258: (3, struct.pack("<3H", 8, 8, 8)), 262: (3, struct.pack("<H", 2)), 277: (3, struct.pack("<H", 3))}
    return tiff(3, 2, pixels, layout | tags)


def flat(primaries: Any) -> tuple[float, ...]:
    return tuple(value for point in primaries for value in point)


def test_tiff_primaries_and_transfer() -> None:
    tags = {318: (5, rationals(*D65)), 319: (5, rationals(*flat(ADOBE)))}
    assert_means(decode_image(colour_tiff(tags)).icc, ADOBE, SRGB)
    table = [round(65535 * (at / 255) ** 1.8) for at in range(256)]
    for values in (table, table * 3):
        found = decode_image(colour_tiff(tags | {301: (3, struct.pack(f"<{len(values)}H", *values))}))
        assert found.pixels.tolist()[0] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
        assert_means(found.icc, ADOBE, lambda x: x**1.8)
    linear = [at * 257 for at in range(256)]
    assert_means(decode_image(colour_tiff({301: (3, struct.pack("<256H", *linear))})).icc, BT709, LINEAR)


def test_tiff_of_srgb() -> None:
    curve = [round(65535 * value) for value in srgb_decode(np.arange(256))]
    assert_srgb(colour_tiff({318: (5, rationals(*D65)), 319: (5, rationals(*flat(BT709)))}))
    assert_srgb(colour_tiff({301: (3, struct.pack("<256H", *curve))}))


@pytest.mark.parametrize(
    "tags",
    [
        {318: (5, bytes(16))},
        {319: (5, rationals(0.1, 0.2))},
        {319: (5, rationals(*[0.5] * 6))},
        {301: (3, struct.pack("<H", 7))},
        {318: (1, b"text")},
    ],
)
def test_damaged_tiff_tags_are_named(tags: dict[int, tuple[int, bytes]]) -> None:
    found = decode_image(colour_tiff(tags))
    assert (found.icc, found.dropped) == (None, ("TransferFunction, WhitePoint, damaged",))


def test_tiff_profile_comes_before_its_tags() -> None:
    tags = {319: (5, rationals(*flat(ADOBE))), 34675: (7, SRGB_PROFILE)}
    assert decode_image(colour_tiff(tags)).icc == SRGB_PROFILE


# --- bitmaps


def bitmap(
    space: bytes,
    *,
    points: tuple[float, ...] = (0,) * 9,
    gammas: tuple[float, ...] = (0,) * 3,
    tail: bytes = b"",
    linked: tuple[int, int] | None = None,
) -> bytes:
    """24 bits, one pixel, header of version 5, a profile behind the pixels."""
    at, size = linked or (128, len(tail))
    fields = struct.pack("<IiiHHIIiiII16x4s", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0, space[::-1])
    fields += struct.pack("<9i", *(round(value * 2**30) for value in points))
    fields += struct.pack("<3I", *(round(value * 2**16) for value in gammas)) + struct.pack("<IIII", 4, at, size, 0)
    return struct.pack("<2sIII", b"BM", 142 + len(tail), 0, 138) + fields + bytes([3, 2, 1, 0]) + tail


def endpoints(primaries: Any) -> tuple[float, ...]:
    return tuple(value for x, y in primaries for value in (x, y, 1 - x - y))


CALIBRATED = bytes(4)


def test_calibrated_bitmap() -> None:
    found = decode_image(bitmap(CALIBRATED, points=endpoints(ADOBE), gammas=(1.8,) * 3))
    assert found.pixels.tolist() == [[[1, 2, 3]]]
    assert_means(found.icc, ADOBE, lambda x: x**1.8)
    assert_means(decode_image(bitmap(CALIBRATED, gammas=(1.8,) * 3)).icc, BT709, lambda x: x**1.8)
    # some programs write 1/1.8
    assert_means(decode_image(bitmap(CALIBRATED, gammas=(1 / 1.8,) * 3)).icc, BT709, lambda x: x**1.8)


def test_bitmaps_of_srgb() -> None:
    assert_srgb(bitmap(b"sRGB"))
    assert_srgb(bitmap(b"Win "))
    assert_srgb(bitmap(CALIBRATED))
    assert_srgb(bitmap(CALIBRATED, points=endpoints(BT709), gammas=(2.2,) * 3))
    assert_srgb(saved(ROWS, "BMP"))


def test_profile_in_a_bitmap() -> None:
    assert decode_image(bitmap(b"MBED", tail=SRGB_PROFILE)).icc == SRGB_PROFILE
    assert decode_image(bitmap(b"MBED", tail=SRGB_PROFILE), drop_icc=True).icc is None
    found = decode_image(bitmap(b"MBED", linked=(128, 500)))
    assert (found.icc, found.dropped) == (None, ("ICC profile, damaged",))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bitmap(b"LINK", tail=b"C:\\my.icc\0"), "in another file"),
        (bitmap(b"MBED", linked=(128, MAX_METADATA + 1)), "more than 16777216 bytes"),
    ],
)
def test_bitmap_profiles_that_cannot_be_kept(data: bytes, reason: str) -> None:
    assert reason in refusal(data)
    assert "--drop-icc" in refusal(data)
    assert_srgb(data, drop_icc=True)


# --- AVIF


def avif(primaries: int, transfer: int, **options: Any) -> bytes:
    data = saved(np.full((8, 8, 3), 99), "AVIF", **options)
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_avif_code_points() -> None:
    assert_srgb(avif(1, 13))
    assert_srgb(avif(2, 2))
    assert_srgb(avif(1, 1))
    assert_means(decode_image(avif(12, 13)).icc, P3, SRGB)
    assert_means(decode_image(avif(9, 8)).icc, BT2020, LINEAR)
    assert "HDR displays (PQ)" in refusal(avif(9, 16))
    assert "HDR displays (HLG)" in refusal(avif(9, 18))
    assert "no certain RGB meaning" in refusal(avif(77, 13))


def without_nclx(primaries: int, transfer: int) -> bytes:
    """The codes stand in the AV1 sequence header only, in bits that are not aligned to bytes."""
    data = saved(np.full((8, 8, 3), 99), "AVIF")
    colr = data.index(b"nclx") - 4
    codes = f"{1:08b}{13:08b}{6:08b}"  # as Pillow writes them
    pixels = data.index(b"mdat") + 4
    bits = "".join(f"{byte:08b}" for byte in data[pixels:])
    assert bits.count(codes) == 1
    bits = bits.replace(codes, f"{primaries:08b}{transfer:08b}{6:08b}")
    patched = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return data[:colr] + b"free" + data[colr + 4 : pixels] + patched


def test_avif_code_points_of_its_sequence_header() -> None:
    assert_srgb(without_nclx(1, 13))
    assert_srgb(without_nclx(2, 2))
    assert_means(decode_image(without_nclx(12, 13)).icc, P3, SRGB)
    assert "HDR displays (PQ)" in refusal(without_nclx(9, 16))


def test_avif_profile_comes_before_code_points() -> None:
    assert decode_image(avif(9, 16, icc_profile=SRGB_PROFILE)).icc == SRGB_PROFILE


# --- profiles of other formats


@pytest.mark.parametrize("name", ["JPEG", "TIFF", "WEBP", "AVIF"])
def test_profile_that_is_too_large(name: str) -> None:
    big = SRGB_PROFILE + bytes(MAX_METADATA if name != "JPEG" else 255 * 65519 - len(SRGB_PROFILE))
    data = saved(np.zeros((4, 4, 3)), name, icc_profile=big)
    if name == "JPEG":  # it cannot hold as much as a stream
        assert decode_image(data).icc == big
        return
    assert "--drop-icc" in refusal(data)
    assert_srgb(data, drop_icc=True)


def test_profile_in_a_gif() -> None:
    data = saved(ROWS, "GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    blocks = b"".join(
        bytes([len(part)]) + part for part in (SRGB_PROFILE[at : at + 255] for at in range(0, len(SRGB_PROFILE), 255))
    )
    comment = b"!\xfe\5hello\0"
    found = decode_image(data[:start] + comment + b"!\xff\x0bICCRGBG1012" + blocks + b"\0" + data[start:])
    assert found.icc == SRGB_PROFILE
    assert found.pixels.tolist() == [[list(pixel) for pixel in row] for row in ROWS]
