"""PNG chunk by chunk: what is no part of the picture does not matter, what is decides with all its bits."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from picture_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk, png, refusal, saved
from PIL import ImageCms, PngImagePlugin

from s2c_deploy.formats.bitstream import MAX_METADATA
from s2c_deploy.image import decode_image

ROWS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(0, 0, 0), (255, 255, 255), (9, 99, 199)]]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
BOMB = zlib.compress(bytes(4 * MAX_METADATA))


def rows_of(data: bytes, **options: Any) -> Any:
    return [[tuple(pixel) for pixel in row] for row in decode_image(data, **options).pixels.tolist()]


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


# --- what is no part of the picture


TEXTS = {
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b'{"n":1}' * 300_000)),
    "iTXt": chunk(b"iTXt", b"w\0\1\0\0\0" + zlib.compress(b"ab" * 1_000_000)),
    "tEXt": chunk(b"tEXt", b"w\0" + b"a" * 3_000_000),
    "many": chunk(b"tEXt", b"w\0" + b"a" * 1_000_000) * 70,
    "bomb": chunk(b"zTXt", b"w\0\0" + BOMB),
    "not deflate": chunk(b"zTXt", b"w\0\7junk"),
    "no keyword": chunk(b"iTXt", b""),
    "wrong checksum": chunk(b"tEXt", b"w\0a")[:-4] + b"\0\0\0\0",
    "unknown": chunk(b"teSt", b"anything"),
    # as keywords, these would become what Pillow takes for the file's own metadata
    "icc_profile": chunk(b"tEXt", b"icc_profile\0text"),
    "transparency": chunk(b"tEXt", b"transparency\0text"),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("place", ["before", "after"])
def test_text_does_not_matter(text: bytes, place: str) -> None:
    found = decode_image(png(ROWS, text) if place == "before" else png(ROWS, after=(text,)))
    assert [[tuple(pixel) for pixel in row] for row in found.pixels.tolist()] == ROWS
    assert (found.icc, found.exif, found.dropped) == (None, None, ())


def test_pillow_s_limits_stay_as_they_are() -> None:
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    decode_image(png(ROWS, TEXTS["zTXt"]))
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


# --- profiles


@pytest.mark.parametrize("size", [len(PROFILE), 1_500_000, MAX_METADATA])
def test_a_profile_of_any_size_is_kept(size: int) -> None:
    profile = PROFILE + bytes(size - len(PROFILE))
    assert decode_image(png(ROWS, profile_chunk(profile))).icc == profile
    assert decode_image(png(ROWS, after=(profile_chunk(profile),))).icc == profile


def test_a_profile_that_is_too_large() -> None:
    data = png(ROWS, chunk(b"iCCP", b"name\0\0" + BOMB))
    assert "--drop-icc" in refusal(data)
    assert rows_of(data, drop_icc=True) == ROWS


@pytest.mark.parametrize(
    "bad",
    [
        chunk(b"iCCP", b"name\0\0junk"),
        chunk(b"iCCP", b"name\0\1" + zlib.compress(PROFILE)),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(PROFILE)[:-40]),
        chunk(b"iCCP", b"no end of the name"),
        chunk(b"iCCP", b""),
        profile_chunk(PROFILE)[:-4] + bytes(4),
    ],
    ids=["no deflate", "method", "cut", "name", "empty", "checksum"],
)
def test_a_damaged_profile_is_left_out_and_named(bad: bytes) -> None:
    found = decode_image(png(ROWS, bad))
    assert (found.icc, found.dropped) == (None, ("iCCP, damaged",))
    assert found.pixels[0, 0].tolist() == [255, 0, 0]


def test_exif_of_any_state() -> None:
    exif = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    assert decode_image(png(ROWS, chunk(b"eXIf", exif))).exif == exif
    assert decode_image(png(ROWS, chunk(b"eXIf", b"junk"))).dropped == ("EXIF, damaged",)
    long = decode_image(png(ROWS, chunk(b"eXIf", exif + bytes(MAX_METADATA))))
    assert long.exif is None
    assert "at most 16777216" in long.dropped[0]


# --- transparency


@pytest.mark.parametrize(("depth", "levels"), [(1, (0, 1)), (2, (0, 1, 2, 3)), (4, (0, 5, 10, 15)), (8, (0, 7, 200))])
def test_transparent_grey_level(depth: int, levels: tuple[int, ...]) -> None:
    scale = 255 // ((1 << depth) - 1)
    for clear in levels:
        data = png([levels], chunk(b"tRNS", struct.pack(">H", clear)), depth=depth, kind=GREY)
        assert "transparent in places" in refusal(data)
        expected = [(255, 0, 0) if level == clear else (level * scale,) * 3 for level in levels]
        assert rows_of(data, background="red") == [expected]


def test_only_the_bits_of_a_sample_count() -> None:
    data = png([[0, 3]], chunk(b"tRNS", struct.pack(">H", 0xFF03)), depth=2, kind=GREY)
    assert rows_of(data, background="red") == [[(0, 0, 0), (255, 0, 0)]]
    colour = png([[(1, 2, 3), (4, 5, 6)]], chunk(b"tRNS", struct.pack(">3H", 0x104, 0x205, 0x306)))
    assert rows_of(colour, background="red") == [[(1, 2, 3), (255, 0, 0)]]


def test_transparent_level_of_16_bits() -> None:
    data = png([[1000, 1001, 65535]], chunk(b"tRNS", struct.pack(">H", 1001)), depth=16, kind=GREY)
    assert rows_of(data, background="red") == [[(4,) * 3, (255, 0, 0), (255,) * 3]]


def test_transparent_colour() -> None:
    data = png(ROWS, chunk(b"tRNS", struct.pack(">3H", 0, 255, 0)))
    assert "transparent in places" in refusal(data)
    assert rows_of(data, background="#010203")[0] == [(255, 0, 0), (1, 2, 3), (0, 0, 255)]


def test_transparent_colour_of_16_bits_is_compared_with_all_of_them() -> None:
    clear = (0x1234, 0x5678, 0x9ABC)
    near = [(0x1235, 0x5678, 0x9ABC), (0x1234, 0x5679, 0x9ABC), (0x1234, 0x5678, 0x9ABD)]
    data = png([[clear, *near]], chunk(b"tRNS", struct.pack(">3H", *clear)), depth=16)
    assert rows_of(data, background="white") == [[(255, 255, 255), *[(0x12, 0x56, 0x9A)] * 3]]
    assert "transparent in places" in refusal(data)
    # none of these pixels has the colour, though all have its high bytes
    opaque = png([near], chunk(b"tRNS", struct.pack(">3H", *clear)), depth=16)
    assert rows_of(opaque) == [[(0x12, 0x56, 0x9A)] * 3]


@pytest.mark.parametrize("kind", [GREY_ALPHA, RGBA])
@pytest.mark.parametrize("depth", [8, 16])
def test_alpha(kind: int, depth: int) -> None:
    peak = (1 << depth) - 1
    colour = (peak // 5,) * (1 if kind == GREY_ALPHA else 3)
    data = png([[(*colour, 0), (*colour, peak), (*colour, peak // 5 * 3)]], depth=depth, kind=kind)
    assert "transparent in places" in refusal(data)
    # 51 * 3/5 + 255 * 2/5
    assert rows_of(data, background="white") == [[(255,) * 3, (51,) * 3, (133,) * 3]]
    assert rows_of(png([[(*colour, peak)]], depth=depth, kind=kind)) == [[(51,) * 3]]


@pytest.mark.parametrize("alphas", [b"\xff\0", b"\x80\xff", b"\0"])
def test_transparent_palette_entries(alphas: bytes) -> None:
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    data = png([[0, 1]], palette, chunk(b"tRNS", alphas), depth=1, kind=PALETTE)
    assert "transparent in places" in refusal(data)
    first, second = [*alphas, 255][:2]  # each entry's alpha is also what is left of it on black
    assert rows_of(data, background="black") == [[(first, 0, 0), (0, 0, second)]]


@pytest.mark.parametrize("bad", [chunk(b"tRNS", b"\0"), chunk(b"tRNS", bytes(6))[:-4] + bytes(4)], ids=["short", "crc"])
def test_damaged_transparency_is_no_opacity(bad: bytes) -> None:
    assert "tRNS" in refusal(png(ROWS, bad))


# --- deep samples


@pytest.mark.parametrize("kind", [RGB, RGBA, GREY_ALPHA])
def test_16_bits_are_rounded(kind: int) -> None:
    values = [0, 128, 129, 256, 385, 386, 32767, 65406, 65407, 65535]
    colours = {RGB: lambda v: (v, 0, 65535), RGBA: lambda v: (v, 0, 65535, 65535), GREY_ALPHA: lambda v: (v, 65535)}
    found = decode_image(png([[colours[kind](value) for value in values]], depth=16, kind=kind)).pixels
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 1, 2, 127, 254, 255, 255]
    if kind != GREY_ALPHA:
        assert found[0, :, 1:].tolist() == [[0, 255]] * len(values)


# --- frames and chunks


def animation(frames: int, first: bool) -> bytes:
    """acTL and, if the still picture is the first frame, its fcTL."""
    control = chunk(b"fcTL", struct.pack(">5I2H2B", 0, 3, 2, 0, 0, 1, 10, 0, 0)) if first else b""
    return chunk(b"acTL", struct.pack(">II", frames, 0)) + control


def test_animations() -> None:
    assert rows_of(png(ROWS, animation(1, True))) == ROWS
    assert "3 frames" in refusal(png(ROWS, animation(3, True)))
    behind = chunk(b"fcTL", struct.pack(">5I2H2B", 0, 3, 2, 0, 0, 1, 10, 0, 0))
    assert "2 frames" in refusal(png(ROWS, animation(1, False), after=(behind,)))
    # no animation: behind the pixels, of no frames, or without what belongs to a frame
    assert rows_of(png(ROWS, animation(2, False))) == ROWS
    assert rows_of(png(ROWS, after=(animation(3, True),))) == ROWS
    assert rows_of(png(ROWS, animation(0, True))) == ROWS


def test_pixels_in_many_chunks_with_text_between() -> None:
    whole = png(ROWS)
    start = whole.index(b"IDAT") - 4
    data = whole[start + 8 : whole.index(b"IEND") - 8]
    pieces = b"".join(chunk(b"IDAT", bytes([byte])) for byte in data)
    assert rows_of(whole[:start] + chunk(b"tEXt", b"a\0b") + pieces + chunk(b"zTXt", b"junk") + whole[-12:]) == ROWS


def test_damage_is_refused() -> None:
    data = png(ROWS)
    pixels = data.index(b"IDAT")
    flipped = data[: pixels + 10] + bytes([data[pixels + 10] ^ 1]) + data[pixels + 11 :]
    assert "checksum of a chunk IDAT" in refusal(flipped)
    assert "checksum of its header" in refusal(data[:20] + b"\7" + data[21:])
    assert "damaged" in refusal(data[: pixels + 12])
    assert "damaged" in refusal(data[:8])
    assert "IDAT in place of IHDR" in refusal(data[:8] + data[33:])
    assert "'CgBI'" in refusal(png(ROWS, chunk(b"CgBI", bytes(4))))
    assert "comes twice" in refusal(png(ROWS, data[8:33]))


def test_size_is_checked_before_anything_is_read() -> None:
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    assert "60000x60000 pixels" in refusal(b"\x89PNG\r\n\x1a\n" + huge + chunk(b"IDAT", b""))
    long = chunk(b"IHDR", struct.pack(">IIBBBBB", 65536, 1, 8, 2, 0, 0, 0))
    assert "sides go up to 65535" in refusal(b"\x89PNG\r\n\x1a\n" + long + chunk(b"IDAT", b""))


def test_as_pillow_reads_them() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(saved(pixels, "PNG", optimize=True)).pixels, pixels)
