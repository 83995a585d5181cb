"""Any stream comes back from its bytes; any bytes give a stream that writes them, or a BitstreamError."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import PRESETS, VARIANTS, Stream, pack, parse, step_quality
from s2c_deploy.formats.grid import TILE_UNIT, tile_count, tile_grid

SIDES = st.integers(1, 400)
TILES = st.integers(0, 8).map(lambda units: units * TILE_UNIT)
PAYLOAD = st.binary(min_size=1, max_size=40)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    width, height, tile = draw(SIDES), draw(SIDES), draw(TILES)
    count = tile_count(width, height, tile)
    return Stream(
        width=width,
        height=height,
        variant=draw(st.sampled_from(VARIANTS)),
        preset=draw(st.sampled_from(PRESETS)),
        quality=step_quality(draw(st.integers(0, 224))),
        tile=tile,
        fingerprint=draw(st.binary(min_size=8, max_size=8)),
        tiles=tuple(draw(st.lists(PAYLOAD, min_size=count, max_size=count))),
        icc=draw(st.none() | PAYLOAD),
        exif=draw(st.none() | PAYLOAD),
    )


@given(streams())
def test_round_trip(stream: Stream) -> None:
    data = pack(stream)
    assert parse(data) == stream
    metadata = [section for section in (stream.icc, stream.exif) if section]
    sections = [*metadata, *stream.tiles]
    assert len(data) == 26 + 8 * len(sections) + sum(map(len, sections))


@settings(max_examples=300)
@given(streams(), st.data())
def test_changed_bytes_never_pass(stream: Stream, data: st.DataObject) -> None:
    packed = bytearray(pack(stream))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    try:
        parse(bytes(packed))
    except BitstreamError:
        return
    raise AssertionError(f"a change of byte {at} went unseen")


@settings(max_examples=500)
@given(streams(), st.lists(st.tuples(st.integers(4, 60), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_hostile_header_with_a_right_checksum(stream: Stream, edits: list[tuple[int, int]]) -> None:
    """What is accepted is canonical: it writes the same bytes again."""
    packed = bytearray(pack(stream))
    sections = (stream.icc is not None) + (stream.exif is not None) + len(stream.tiles)
    end = 22 + 8 * sections
    for at, value in edits:
        packed[min(at, end - 1)] = value
    struct.pack_into("<I", packed, end, crc32c(bytes(packed[:end])))
    try:
        accepted = parse(bytes(packed))
    except BitstreamError:
        return
    assert pack(accepted) == bytes(packed)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, b"\xf5S2C\x01" + noise):
        try:
            accepted = parse(data)
        except BitstreamError:
            continue
        assert pack(accepted) == data


@given(SIDES, SIDES, TILES)
def test_tiles_cover_the_picture_once(width: int, height: int, tile: int) -> None:
    tiles = tile_grid(width, height, tile)
    assert len(tiles) == tile_count(width, height, tile)
    assert sum(part.width * part.height for part in tiles) == width * height
    assert len({(part.left, part.top) for part in tiles}) == len(tiles)
    for part in tiles:
        assert 0 <= part.left < part.left + part.width <= width
        assert 0 <= part.top < part.top + part.height <= height
