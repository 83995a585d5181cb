"""Targa's alpha, and bitmaps that are coded in runs."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from picture_files import refusal, rows_of, saved

from s2c_deploy.image import decode_image

# --- Targa

RED, BLUE = (255, 0, 0), (0, 0, 255)


def targa(
    pixels: bytes, depth: int, attribute_bits: int, *, kind: int = 2, width: int = 2, meaning: int | None = None
) -> bytes:
    """One row, from the top.  meaning: the type of the attributes in an extension area."""
    head = struct.pack("<BBB5x4HBB", 0, 0, kind, 0, 0, width, 1, depth, 0x20 | attribute_bits)
    data = head + pixels
    if meaning is None:
        return data
    area = struct.pack("<H", 495).ljust(494, b"\0") + bytes([meaning])
    return data + area + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


def bgra(*alpha: int) -> bytes:
    return bytes([0, 0, 255, alpha[0], 255, 0, 0, alpha[1]])


@pytest.mark.parametrize("alpha", [(0, 0), (255, 255), (0, 9), (77, 77)])
def test_targa_whose_header_says_that_no_bit_is_alpha(alpha: tuple[int, int]) -> None:
    assert rows_of(decode_image(targa(bgra(*alpha), 32, 0))) == [[RED, BLUE]]
    runs = b"".join(b"\0" + bgra(*alpha)[at : at + 4] for at in (0, 4))
    assert rows_of(decode_image(targa(runs, 32, 0, kind=10))) == [[RED, BLUE]]


def test_targa_with_alpha() -> None:
    data = targa(bgra(255, 0), 32, 8)
    assert "transparent in places" in refusal(data)
    assert rows_of(decode_image(data, background="white")) == [[RED, (255, 255, 255)]]
    assert rows_of(decode_image(targa(bgra(255, 255), 32, 8))) == [[RED, BLUE]]
    grey = targa(bytes([50, 255, 60, 0]), 16, 8, kind=3)
    assert "transparent in places" in refusal(grey)
    assert rows_of(decode_image(grey, background="black")) == [[(50,) * 3, (0,) * 3]]


@pytest.mark.parametrize("meaning", [0, 1, 2, 3, 4])
def test_targa_whose_extension_says_what_the_fourth_byte_is(meaning: int) -> None:
    for bits in (0, 8):
        data = targa(bgra(255, 51), 32, bits, meaning=meaning)
        if meaning < 3:  # it is nothing
            assert rows_of(decode_image(data)) == [[RED, BLUE]]
        elif meaning == 3:
            assert rows_of(decode_image(data, background="black")) == [[RED, (0, 0, 51)]]
        else:
            assert "premultiplied" in refusal(data, background="black")
            assert rows_of(decode_image(targa(bgra(255, 255), 32, bits, meaning=4))) == [[RED, BLUE]]


def test_targa_of_16_bits() -> None:
    red, blue, bit = 31 << 10, 31, 1 << 15
    for attribute_bits, first, second in ((0, 0, 0), (0, bit, bit), (0, bit, 0), (1, 0, 0), (1, bit, bit)):
        data = targa(struct.pack("<HH", red | first, blue | second), 16, attribute_bits)
        assert rows_of(decode_image(data)) == [[RED, BLUE]]
    for first, second in ((bit, 0), (0, bit)):
        data = targa(struct.pack("<HH", red | first, blue | second), 16, 1)
        assert "16-bit Targa with transparency" in refusal(data, background="white")
    # grey of 16 bits, or of 8 with alpha that the header does not tell of
    assert "16-bit Targa" in refusal(targa(bytes([50, 255, 60, 0]), 16, 0, kind=3), background="white")


@pytest.mark.parametrize("bits", [0, 8])
def test_targa_with_a_palette_of_32_bits(bits: int) -> None:
    head = struct.pack("<BBBHHB4HBB", 0, 1, 1, 0, 2, 32, 0, 0, 2, 1, 8, 0x20 | bits)
    data = head + bgra(255, 0) + b"\0\1"
    if bits:
        assert "transparent in places" in refusal(data)
    else:
        assert rows_of(decode_image(data)) == [[RED, BLUE]]


def test_targa_as_programs_write_it() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    for options in ({}, {"compression": "tga_rle"}, {"orientation": 1}):
        np.testing.assert_array_equal(decode_image(saved(pixels, "TGA", **options)).pixels, pixels)


# --- bitmaps in runs

LINE, END = b"\0\0", b"\0\1"


def runs(data: bytes, *, width: int = 4, height: int = 2, bits: int = 8, odd: int = 0) -> bytes:
    """Each level of the palette is 17 times its index."""
    colours = b"".join(bytes([17 * level % 256] * 3 + [0]) for level in range(1 << bits))
    at = 54 + len(colours) + odd
    packing = {8: 1, 4: 2}[bits]
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(data), 0, 0, 0, 0)
    return struct.pack("<2sIII", b"BM", at + len(data), 0, at) + head + colours + bytes(odd) + data


@pytest.mark.parametrize("end", [END, LINE + END, b""])
def test_runs_that_fill_each_row(end: bytes) -> None:
    expected = [[1, 1, 2, 2], [7, 7, 7, 7]]
    found = decode_image(runs(b"\4\7" + LINE + b"\2\1\2\2" + end)).pixels
    np.testing.assert_array_equal(found[:, :, 0] // 17, expected)


def test_runs_without_a_file_header() -> None:
    found = decode_image(runs(b"\4\7" + LINE + b"\2\1\2\2" + END)[14:]).pixels
    np.testing.assert_array_equal(found[:, :, 0] // 17, [[1, 1, 2, 2], [7, 7, 7, 7]])
    assert "row 0 has 2 pixels" in refusal(runs(b"\2\7" + LINE + b"\4\1" + END)[14:])


def test_pixels_among_runs() -> None:
    found = decode_image(runs(b"\0\3\1\2\3\0\1\4" + LINE + b"\0\4\5\6\7\x08" + END)).pixels
    np.testing.assert_array_equal(found[:, :, 0] // 17, [[5, 6, 7, 8], [1, 2, 3, 4]])
    found = decode_image(runs(b"\5\x12" + LINE + b"\0\5\x12\x34\x50\0" + END, width=5, bits=4)).pixels
    np.testing.assert_array_equal(found[:, :, 0] // 17, [[1, 2, 3, 4, 5], [1, 2, 1, 2, 1]])
    assert "odd place" in refusal(runs(b"\0\3\1\2\3\0\1\4" + LINE + b"\4\1" + END, odd=1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\2\7" + LINE + b"\4\1" + END, "row 0 has 2 pixels, expected 4"),
        (b"\2\7\0\2\2\0" + LINE + b"\4\1" + END, "row 0 has 2 pixels"),
        (LINE + b"\4\7" + END, "row 0 has 0 pixels"),
        (b"\4\7" + END, "ends behind row 0, expected 2 rows"),
        (b"\4\7\4\7" + END, "row 0 has 8 pixels"),
        (b"\4\7" + LINE + b"\2\7", "row 1 has 2 pixels"),
    ],
    ids=["short row", "skip", "empty row", "early end", "no line's end", "cut"],
)
def test_pixels_that_are_left_out(data: bytes, reason: str) -> None:
    assert reason in refusal(runs(data))
