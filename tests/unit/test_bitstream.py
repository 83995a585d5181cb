"""The .s2c container: one test per malformed input, against a writer of its own with a bitwise CRC."""

from __future__ import annotations

import re
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy import contract
from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError, InputError
from s2c_deploy.formats import bitstream
from s2c_deploy.formats.bitstream import Stream, pack, parse
from s2c_deploy.formats.grid import Tile, tile_count, tile_grid

# the example of docs/bitstream.md, written down byte for byte
GOLDEN = bytes.fromhex(
    "f5533243 01 03 11 60 4600 4000 0100 0001020304050607"
    "03000000 0599b81d 04000000 48e16f57 04000000 31a86dfb 05000000 7daf5238 d64f799a"
    "696363 49492a00 6c656674 7269676874"
)
GOLDEN_STREAM = Stream(
    width=70,
    height=64,
    variant="conv",
    preset="tiny",
    quality=4.0,
    tile=64,
    fingerprint=bytes(range(8)),
    icc=b"icc",
    exif=b"II*\0",
    tiles=(b"left", b"right"),
)


def crc_bitwise(data: bytes) -> int:
    """CRC-32C one bit at a time, from the polynomial alone."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def build(
    *sections: bytes,
    magic: bytes = b"\xf5S2C",
    version: int = 1,
    flags: int = 0,
    model: int = 0x11,
    step: int = 96,
    width: int = 70,
    height: int = 64,
    tile: int = 1,
    fingerprint: bytes = bytes(8),
    lengths: list[int] | None = None,
) -> bytes:
    """A stream with right checksums whatever its fields say."""
    head = magic + struct.pack("<4B3H", version, flags, model, step, width, height, tile) + fingerprint
    for data, length in zip(sections, lengths or [len(data) for data in sections], strict=True):
        head += struct.pack("<II", length, crc_bitwise(data))
    return head + struct.pack("<I", crc_bitwise(head)) + b"".join(sections)


def refused(data: bytes, **options: int) -> BitstreamError:
    with pytest.raises(BitstreamError) as caught:
        parse(data, **options)
    error = caught.value
    assert error.exit_code == 4
    assert str(error.expected) in str(error)
    assert str(error.found) in str(error)
    return error


def peak_of_refusal(data: bytes) -> int:
    tracemalloc.start()
    try:
        refused(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- what is right


def test_crc_check_value() -> None:
    assert crc_bitwise(b"123456789") == 0xE3069283
    assert crc32c(b"123456789") == 0xE3069283


def test_golden_stream() -> None:
    assert pack(GOLDEN_STREAM) == GOLDEN
    assert parse(GOLDEN) == GOLDEN_STREAM


def test_golden_stream_is_the_documented_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bitstream.md").read_text("utf-8").split("## Example")[1]
    rows = re.findall(r"^    ((?:[0-9a-f]{2} {1,2})+)", text, re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == GOLDEN


def test_a_writer_of_its_own_is_read() -> None:
    stream = parse(build(b"a", b"bc", width=65, height=3, model=0x34, step=0, fingerprint=b"01234567"))
    assert (stream.width, stream.height, stream.tile) == (65, 3, 64)
    assert (stream.variant, stream.preset, stream.quality) == ("hybrid", "large", 1.0)
    assert (stream.fingerprint, stream.tiles) == (b"01234567", (b"a", b"bc"))
    assert stream.icc is None
    assert stream.exif is None


@pytest.mark.parametrize(("flags", "icc", "exif"), [(1, b"m", None), (2, None, b"m")])
def test_one_metadata_section(flags: int, icc: bytes | None, exif: bytes | None) -> None:
    data = build(b"m", b"t", flags=flags, tile=0)
    stream = parse(data)
    assert (stream.icc, stream.exif, stream.tiles) == (icc, exif, (b"t",))
    assert pack(stream) == data


def test_parsed_sections_outlive_the_buffer() -> None:
    buffer = bytearray(GOLDEN)
    stream = parse(buffer)  # type: ignore[arg-type]
    buffer[:] = bytes(len(buffer))
    assert stream == GOLDEN_STREAM


def test_variants_and_presets_have_fixed_numbers() -> None:
    assert bitstream.VARIANTS == ("identity", "conv", "attention", "hybrid")
    assert bitstream.PRESETS == ("custom", "tiny", "small", "base", "large")


# --- quality


@pytest.mark.parametrize(
    ("quality", "step"), [(1, 0), (8, 224), (4, 96), (1.015, 0), (1.016, 1), (1.015625, 1), (7.99, 224)]
)
def test_quality_step(quality: float, step: int) -> None:
    assert bitstream.quality_step(quality) == step


def test_quality_round_trip() -> None:
    assert bitstream.step_quality(1) == 1.03125
    assert bitstream.round_quality(3.14159) == 3.15625
    assert all(bitstream.quality_step(bitstream.step_quality(step)) == step for step in range(225))


@pytest.mark.parametrize("quality", [0.999, 8.001, -1, float("nan"), float("inf")])
def test_quality_out_of_range(quality: float) -> None:
    with pytest.raises(InputError, match="from 1 to 8"):
        bitstream.quality_step(quality)


@pytest.mark.parametrize("step", [-1, 225])
def test_step_out_of_range(step: int) -> None:
    with pytest.raises(InputError):
        bitstream.step_quality(step)


# --- tiles


def test_tile_grid() -> None:
    assert tile_grid(130, 65, 64) == [
        Tile(left=0, top=0, width=64, height=64),
        Tile(left=64, top=0, width=64, height=64),
        Tile(left=128, top=0, width=2, height=64),
        Tile(left=0, top=64, width=64, height=1),
        Tile(left=64, top=64, width=64, height=1),
        Tile(left=128, top=64, width=2, height=1),
    ]


@pytest.mark.parametrize("tile", [0, 64, 128, 4194240])
def test_tile_grid_of_small_pictures(tile: int) -> None:
    assert tile_grid(7, 5, tile) == [Tile(left=0, top=0, width=7, height=5)]
    assert tile_grid(64, 64, tile) == [Tile(left=0, top=0, width=64, height=64)]


def test_tile_count() -> None:
    assert tile_count(130, 65, 64) == 6
    assert tile_count(65535, 65535, 64) == 1024 * 1024
    assert tile_count(65535, 65535, 0) == 1


@pytest.mark.parametrize(
    ("width", "height", "tile"),
    [(0, 1, 0), (1, 0, 0), (65536, 1, 0), (1, 65536, 0), (1, 1, 63), (1, 1, -64), (1, 1, 4194304)],
)
def test_tile_grid_refuses(width: int, height: int, tile: int) -> None:
    for function in (tile_grid, tile_count):
        with pytest.raises(InputError):
            function(width, height, tile)


# --- streams that cannot be written


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": 65536},
        {"tile": 65},
        {"variant": "transformer"},
        {"preset": "huge"},
        {"quality": 0.5},
        {"quality": 4.01},
        {"fingerprint": bytes(7)},
        {"fingerprint": bytes(32)},
        {"tiles": ()},
        {"tiles": (b"left",)},
        {"tiles": (b"left", b"right", b"more")},
        {"icc": b""},
        {"exif": b""},
        {"icc": bytes(2**24 + 1)},
        {"exif": bytes(2**24 + 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_stream_refuses(change: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        replace(GOLDEN_STREAM, **change)  # type: ignore[arg-type]
    assert caught.value.hint


# --- streams that cannot be read


@pytest.mark.parametrize("data", [b"", b"\xf5", b"\xf5S2", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_not_a_stream(data: bytes) -> None:
    error = refused(data)
    assert error.field == "magic"
    assert error.expected == "f5533243"


def test_truncated_at_every_byte() -> None:
    fields = {refused(GOLDEN[:size]).field for size in range(len(GOLDEN))}
    assert fields == {"magic", "header", "section table", "file size"}


def test_every_flipped_bit() -> None:
    fields = set()
    for bit in range(len(GOLDEN) * 8):
        damaged = bytearray(GOLDEN)
        damaged[bit // 8] ^= 1 << bit % 8
        fields.add(refused(bytes(damaged)).field)
    assert fields == {
        *("magic", "version", "flags", "height", "section table", "checksum of header"),
        *("checksum of icc", "checksum of exif", "checksum of tile 0", "checksum of tile 1"),
    }


@pytest.mark.parametrize("tail", [b"\0", b"\n", GOLDEN])
def test_trailing_bytes(tail: bytes) -> None:
    error = refused(GOLDEN + tail)
    assert error.field == "file size"
    assert (error.expected, error.found) == (f"{len(GOLDEN)} bytes", f"{len(GOLDEN) + len(tail)} bytes")


@pytest.mark.parametrize(
    ("data", "field", "found"),
    [
        (build(b"a", b"b", version=0), "version", 0),
        (build(b"a", b"b", version=2), "version", 2),
        (build(b"a", b"b", flags=8), "flags", "0x08"),
        (build(b"a", width=1, height=1, flags=4), "flags", "one tile"),
        (build(b"a", b"b", flags=0x83), "flags", "0x83"),
        (build(b"a", b"b", model=0x41), "variant", 4),
        (build(b"a", b"b", model=0x15), "preset", 5),
        (build(b"a", b"b", step=225), "quality step", 225),
        (build(b"a", b"b", width=0), "width", 0),
        (build(b"a", b"b", height=0), "height", 0),
        (build(b"", b"aa", b"b", flags=1), "icc", "0 bytes"),
        (build(b"", b"aa", b"b", flags=2), "exif", "0 bytes"),
        (build(b"a", b"b", lengths=[1, 2]), "file size", "44 bytes"),
        (build(b"a", b"bc", lengths=[1, 1]), "file size", "45 bytes"),
        (build(b"a", b"b", lengths=[0xFFFFFFFF, 0xFFFFFFFF]), "file size", "44 bytes"),
        (build(b"ab", b"c", lengths=[1, 2]), "checksum of tile 0", "0xc1d04330"),
        (build(b"a", b"b", lengths=[2**24 + 1, 1], flags=1, tile=0), "icc", "16777217 bytes"),
        (build(b"a", b"b", lengths=[2**24 + 1, 1], flags=2, tile=0), "exif", "16777217 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed(data: bytes, field: str, found: object) -> None:
    error = refused(data)
    assert (error.field, error.found) == (field, found)


def test_a_newer_version_says_upgrade() -> None:
    assert "upgrade" in str(refused(build(b"a", b"b", version=2)))


def test_swapped_tiles() -> None:
    data = build(b"aa", b"bb")
    assert refused(data[:-4] + b"bbaa").field == "checksum of tile 0"


def test_missing_sections() -> None:
    error = refused(build(b"a"))  # two tiles need 26 + 2 * 8 bytes
    assert (error.field, error.expected) == ("section table", "42 bytes or more for 2 tiles")


def test_tiles_of_which_nothing_was_coded() -> None:
    assert parse(build(b"", b"")).tiles == (b"", b"")


# --- bounds


@pytest.mark.parametrize("limit", ["100", 0, -5, 1.5, True])
def test_a_limit_that_is_none(limit: int) -> None:
    with pytest.raises(InputError, match="max_pixels: expected None or 1 or more"):
        parse(GOLDEN, max_pixels=limit)


def test_max_pixels() -> None:
    data = build(b"a", width=100, height=50, tile=0)
    assert parse(data, max_pixels=128 * 64).width == 100
    error = refused(data, max_pixels=128 * 64 - 1)
    assert (error.field, error.expected) == ("dimensions", "at most 8191 pixels")
    assert error.found == "100x50, with its padding 128x64"


def test_a_thin_picture_counts_with_its_padding() -> None:
    data = build(b"a", width=1, height=65535, tile=0)
    assert refused(data, max_pixels=65535).found == "1x65535, with its padding 64x65536"
    assert parse(data, max_pixels=64 * 65536).height == 65535


def test_a_tile_has_a_lower_limit_than_a_picture() -> None:
    large = build(b"a", width=8192, height=8192, tile=0)
    assert refused(large).expected == f"at most {2**25} pixels a tile"
    assert parse(large, max_pixels=2**26).width == 8192
    assert parse(build(*[b""] * 4, width=8192, height=8192, tile=64)).width == 8192


NO_BYTES = ["photo.s2c", Path("photo.s2c"), None, 3, [1, 2], memoryview(GOLDEN)[::2]]


@pytest.mark.parametrize("data", NO_BYTES, ids=lambda data: type(data).__name__)
def test_what_is_no_bytes(data: object) -> None:
    with pytest.raises(InputError, match=r"stream: expected its bytes, found \w+") as caught:
        parse(data)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


LIKE_BYTES = [bytearray(GOLDEN), memoryview(GOLDEN), np.frombuffer(GOLDEN, np.uint8)]


@pytest.mark.parametrize("data", LIKE_BYTES, ids=lambda data: type(data).__name__)
def test_what_is_like_bytes(data: bytes) -> None:
    assert parse(data) == GOLDEN_STREAM


@pytest.mark.parametrize("tile", [64.0, "64", True, None, -64, 65])
def test_tiles_are_whole_multiples_of_64(tile: object) -> None:
    with pytest.raises(InputError, match="tile size"):
        tile_grid(100, 100, tile)  # type: ignore[arg-type]


def test_huge_dimensions() -> None:
    assert (contract.MAX_PIXELS, contract.MAX_TILE_PIXELS) == (2**27, 2**25)
    data = build(b"a", width=65535, height=65535, tile=0)
    assert refused(data).field == "dimensions"
    assert peak_of_refusal(data) < 20_000
    assert parse(data, max_pixels=2**32).height == 65535


def test_tile_count_bomb() -> None:
    data = build(b"a", width=8192, height=16384) + bytes(100_000)  # 32,768 tiles of 64, inside the pixel limit
    assert refused(data).expected == "262170 bytes or more for 32768 tiles"
    assert peak_of_refusal(data) < 20_000


def test_tile_count_beyond_the_pixel_limit_is_not_acted_on() -> None:
    count = 1024 * 1024
    head = GOLDEN[:5] + struct.pack("<3B3H8x", 0, 0x11, 0, 65535, 65535, 1) + bytes(8 * count)
    data = head + struct.pack("<I", crc32c(head)) + bytes(count)
    assert refused(data).field == "dimensions"
    assert peak_of_refusal(data) < 20_000


def test_memory_of_a_long_stream() -> None:
    # two million bytes in 256 tiles: one copy of the sections, and little else
    stream = replace(GOLDEN_STREAM, width=1024, height=1024, tiles=tuple(bytes([i]) * 8000 for i in range(256)))
    data = pack(stream)
    tracemalloc.start()
    try:
        assert parse(data).tiles[255] == b"\xff" * 8000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(data) + 300 * 256 + 20_000


def test_memory_of_many_small_tiles() -> None:
    stream = replace(GOLDEN_STREAM, width=4096, height=4096, tiles=(b"x",) * 4096)
    data = pack(stream)
    tracemalloc.start()
    try:
        parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(data) + 300 * 4096 + 20_000
