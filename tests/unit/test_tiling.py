"""Tiles and blocks: tiles leave no seam, blocks leave no trace, and neither needs the whole picture in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec import picture as picture_module
from s2c_deploy.codec.blocks import Area, block_side, blocks, bytes_per_pixel, steps
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.sliding import SlidingRows
from s2c_deploy.errors import BitstreamError, InputError
from s2c_deploy.formats.bitstream import Stream, pack, parse
from s2c_deploy.formats.grid import tile_grid
from s2c_deploy.formats.stream_file import open_stream, write_stream
from s2c_deploy.presets import model_config


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture(photograph: Pixels) -> Pixels:
    return np.ascontiguousarray(photograph[100:357, 200:533])


def apart(codec: Codec, image: Pixels, quality: float, tile: int) -> bytes:
    """A stream whose tiles are pictures of their own, as earlier versions wrote."""
    height, width = image.shape[:2]
    parts = [image[t.top : t.top + t.height, t.left : t.left + t.width] for t in tile_grid(width, height, tile)]
    payloads = tuple(parse(codec.compress(np.ascontiguousarray(part), quality)).tiles[0] for part in parts)
    described = codec.describe((height, width), quality, tile=tile)
    return pack(replace(described, tiles=payloads, seamless=False))


def in_blocks(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(picture_module, "block_side", lambda *_args, **_options: side)


def difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())


# --- tiles


def test_tiles_are_parts_of_one_latent(codec: Codec, picture: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that knows nothing of halos puts the tiles' latents together and runs g_s once."""
    data = codec.compress(picture, 5, tile=64)
    stream = parse(data)
    assert (stream.seamless, len(stream.tiles)) == (True, 30)
    latents = list(codec.read_latents(stream))
    rows = [np.concatenate(latents[start : start + 6], axis=3) for start in range(0, 30, 6)]
    whole = replace(stream, tile=0, tiles=stream.tiles[:1], seamless=False)
    expected = codec.synthesize(whole, [np.concatenate(rows, axis=2)])
    for side in (64, 192, 1024):
        in_blocks(monkeypatch, side)
        assert difference(codec.decompress(data), expected) <= 1
        assert codec.compress(picture, 5, tile=64) == data
    np.testing.assert_array_equal(codec.reconstruct(picture, 5, tile=64), codec.decompress(data))


def test_there_is_no_seam(codec: Codec, picture: Pixels) -> None:
    """Beside the borders of tiles a picture is as good as coded whole, where tiles of their own lose much."""
    beside = np.zeros(picture.shape[:2], bool)
    for k in range(64, 320, 64):
        beside[:, k - 4 : k + 4] = beside[k - 4 : k + 4] = True
    streams = (codec.compress(picture, 5), codec.compress(picture, 5, tile=64), apart(codec, picture, 5, 64))
    errors = (codec.decompress(data)[beside].astype(float) - picture[beside] for data in streams)
    whole, tiled, alone = (10 * np.log10(255**2 / np.mean(error**2)) for error in errors)
    assert tiled > whole - 0.15
    assert alone < whole - 0.7


def test_tiles_of_their_own(codec: Codec, picture: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of earlier versions: each tile is the picture that it is alone."""
    data = apart(codec, picture, 6, 128)
    in_blocks(monkeypatch, 1024)
    decoded = codec.decompress(data)
    for part in tile_grid(333, 257, 128):
        here = np.s_[part.top : part.top + part.height, part.left : part.left + part.width]
        np.testing.assert_array_equal(decoded[here], codec.decompress(codec.compress(picture[here].copy(), 6)))
    np.testing.assert_array_equal(np.concatenate(list(codec.decompress_rows(parse(data)))), decoded)


def test_a_tile_as_large_as_the_picture(codec: Codec, picture: Pixels) -> None:
    data = codec.compress(picture, 3, tile=512)
    assert not parse(data).seamless
    assert parse(data).tiles == parse(codec.compress(picture, 3)).tiles


@pytest.mark.parametrize("variant", ["attention", "hybrid", "identity"])
def test_other_variants(variant: str, picture: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of attention stay where they are in the whole picture."""
    from untrained import checkpoint_of

    from s2c_deploy.export.exporter import export_bundle
    from s2c_deploy.image import Image, write_image

    (tmp_path / "pictures").mkdir()
    write_image(tmp_path / "pictures" / "a.png", Image(pixels=np.ascontiguousarray(picture[:128, :192])))
    export_bundle(checkpoint_of(variant), tmp_path / "bundle", images=tmp_path / "pictures", precision="float32")
    with Codec.open(tmp_path / "bundle", "onnxruntime", threads=1) as codec:
        data = codec.compress(picture, 5, tile=64)
        expected = codec.decompress(data)
        in_blocks(monkeypatch, 64)
        assert difference(codec.decompress(data), expected) <= 1
        assert codec.compress(picture, 5, tile=64) == data


# --- rows and memory


@pytest.mark.parametrize(("tile", "side"), [(64, 64), (64, 1024), (128, 64), (128, 192), (0, 128)])
def test_rows_in_and_out(codec: Codec, picture: Pixels, tile: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From rows to a file, and from the file to rows: the stream and the picture that memory gives."""
    in_blocks(monkeypatch, side)
    stream = codec.describe((257, 333), 4.5, tile=tile, icc=b"profile", exif=b"II*\0")
    file = io.BytesIO()
    size = write_stream(file, stream, codec.payloads(stream, iter(np.array_split(picture, 19))))
    assert file.getvalue() == codec.compress(picture, 4.5, tile=tile, icc=b"profile", exif=b"II*\0")
    assert size == len(file.getvalue())
    opened = open_stream(file)
    assert replace(opened, tiles=tuple(opened.tiles)) == parse(file.getvalue())
    bands = list(codec.decompress_rows(opened))
    assert len(bands) == -(-320 // side)
    np.testing.assert_array_equal(np.concatenate(bands), codec.decompress(file.getvalue()))


def test_rows_are_held_no_longer_than_needed(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture 20 tiles high, no more than three rows of tiles wait for the coder at any time, and none for g_s."""
    in_blocks(monkeypatch, 64)
    rows = np.zeros((20, 64, 64, 3), np.uint8)
    asked: list[int] = []

    def strips() -> Iterator[Pixels]:
        for k, strip in enumerate(rows):
            asked.append(k)
            yield strip

    stream = codec.describe((1280, 64), 4, tile=64)
    payloads = []
    for done, payload in enumerate(codec.payloads(stream, strips())):
        payloads.append(payload)
        assert asked[-1] <= done + 1
    assert len(payloads) == 20


def test_sliding_rows() -> None:
    whole = np.arange(60, dtype=np.uint8).reshape(20, 3)[..., None]
    rows = SlidingRows(iter(np.array_split(whole, 6)), axis=0)
    for top, bottom, left, right, held in [
        (0, 5, 0, 3, [4, 4]),
        (3, 9, 1, 2, [1, 4, 3]),
        (8, 9, 0, 3, [3]),
        (15, 20, 0, 1, [3, 3]),
    ]:
        np.testing.assert_array_equal(rows.crop(top, bottom, left, right), whole[top:bottom, left:right])
        assert [len(piece) for piece in rows._held] == held


def test_a_picture_that_ends_too_early(codec: Codec, picture: Pixels) -> None:
    stream = codec.describe((257, 333), 4, tile=64)
    with pytest.raises(InputError, match="257 rows, found 200"):
        list(codec.payloads(stream, iter([picture[:200]])))
    with pytest.raises(InputError, match="257 rows, found 258"):
        list(codec.payloads(stream, iter([picture, picture[:1]])))
    for wrong in (picture[:, :300], picture.astype(np.float32), picture[..., 0], None):
        with pytest.raises(InputError, match=r"rows: expected uint8 of n x 333 x 3, found"):
            list(codec.payloads(stream, iter([wrong])))


# --- regions


@pytest.mark.parametrize(
    "region", [(0, 0, 333, 257), (64, 64, 64, 64), (70, 3, 1, 1), (300, 200, 33, 57), (5, 130, 200, 40)]
)
def test_regions(codec: Codec, picture: Pixels, region: tuple[int, int, int, int]) -> None:
    left, top, width, height = region
    here = np.s_[top : top + height, left : left + width]
    for data in (codec.compress(picture, 5, tile=64), codec.compress(picture, 5), apart(codec, picture, 5, 64)):
        part = codec.decompress_region(parse(data), *region)
        assert part.flags.c_contiguous
        assert difference(part, codec.decompress(data)[here]) <= 1


def test_a_region_reads_no_tile_that_it_does_not_need(codec: Codec, photograph: Pixels) -> None:
    """Tiles of 64 and 4 latent positions around: a region inside one tile needs the 9 around it, and no other."""
    data = bytearray(codec.compress(photograph[:448, :448], 5, tile=64))
    whole = codec.decompress(bytes(data))
    stream = open_stream(io.BytesIO(data))
    lengths = [len(tile) for tile in stream.tiles]
    start = len(data) - sum(lengths)
    for number, length in enumerate(lengths):
        row, column = divmod(number, 7)
        if max(abs(row - 3), abs(column - 3)) > 1:
            position = start + sum(lengths[:number])
            data[position : position + length] = bytes(length)
    damaged = open_stream(io.BytesIO(data))
    part = codec.decompress_region(damaged, 200, 200, 40, 40)
    assert difference(part, whole[200:240, 200:240]) <= 1
    with pytest.raises(BitstreamError, match="checksum of tile 0"):
        codec.decompress_region(damaged, 0, 0, 40, 40)


@pytest.mark.parametrize(
    "region",
    [(0, 0, 0, 1), (0, 0, 1, 0), (-1, 0, 5, 5), (0, 0, 334, 1), (0, 250, 5, 8), (333, 0, 1, 1), (0.0, 0, 1, 1)],
)
def test_regions_that_are_none(codec: Codec, picture: Pixels, region: Any) -> None:
    stream = parse(codec.compress(picture, 1))
    with pytest.raises(InputError, match="region: expected"):
        codec.decompress_region(stream, *region)


# --- the stream


def test_the_flag(codec: Codec, picture: Pixels) -> None:
    data = bytearray(codec.compress(picture, 5, tile=256))
    assert data[5] == 4
    with pytest.raises(InputError, match="one tile"):
        replace(parse(bytes(data)), tile=0, tiles=(b"",))


def test_a_writer_of_too_few_tiles_or_too_many(codec: Codec) -> None:
    stream = codec.describe((70, 70), 4, tile=64)
    for count in (3, 5):
        with pytest.raises(BitstreamError, match=f"expected 4, found {count}"):
            write_stream(io.BytesIO(), stream, iter([b"x"] * count))


def test_a_file_that_shrinks_while_it_is_read(codec: Codec, picture: Pixels) -> None:
    file = io.BytesIO(codec.compress(picture, 5, tile=64))
    stream = open_stream(file)
    file.truncate(1000)
    with pytest.raises(BitstreamError, match="tile 29"):
        stream.tiles[29]


@pytest.mark.parametrize("cut", [0, 10, 30, 270, -1])
def test_a_file_that_was_cut(codec: Codec, picture: Pixels, cut: int) -> None:
    data = codec.compress(picture, 5, tile=64)
    with pytest.raises(BitstreamError):
        open_stream(io.BytesIO(data[:cut]))
    with pytest.raises(BitstreamError, match="file size"):
        open_stream(io.BytesIO(data + b"x"))


# --- blocks


def test_steps_are_alike_and_whole_units() -> None:
    assert list(steps(0, 1088, 1024)) == [(0, 512), (512, 1088)]
    assert list(steps(64, 64 + 640, 256)) == [(64, 256), (256, 448), (448, 704)]
    for size in range(64, 64 * 40, 64):
        for side in (64, 128, 384, 1024):
            found = list(steps(0, size, side))
            assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
            assert found[-1][1] == size
            assert all(0 < stop - start <= side and stop % 64 == 0 for start, stop in found)


def test_blocks_cover_an_area_once() -> None:
    covered = np.zeros((640, 384), int)
    for block in blocks(Area(top=64, bottom=640, left=128, right=384), 128):
        covered[block.top : block.bottom, block.left : block.right] += 1
    assert covered.sum() == covered[64:, 128:].size == (covered == 1).sum()


def side(height: int, width: int, tiled: bool, memory: float) -> int:
    return block_side(model_config("conv", "small"), height=height, width=width, tiled=tiled, memory=int(memory))


def test_the_side_of_blocks_follows_memory() -> None:
    assert bytes_per_pixel(model_config("conv", "small")) == pytest.approx(630, abs=5)
    assert side(512, 768, False, 4e9) == 768
    assert side(2160, 3840, False, 16e9) == 3840
    assert side(2160, 3840, False, 4e9) == 768
    assert side(2160, 3840, True, 16e9) == 768
    assert side(700, 700, True, 16e9) == 704
    assert side(2160, 3840, False, 1e9) == 512
    assert side(2160, 3840, False, 1) == 64


def test_a_memory_limit(bundle_path: Path, picture: Pixels, codec: Codec) -> None:
    """A whole picture in small blocks: the same stream, and the same pixels up to rounding."""
    with Codec.open(bundle_path, "onnxruntime", threads=1, memory_limit=2**20) as small:
        data = small.compress(picture, 5)
        assert data == codec.compress(picture, 5)
        assert difference(small.decompress(data), codec.decompress(data)) <= 1


def test_streams_say_where_their_tiles_lie() -> None:
    grid = tile_grid(333, 257, 64)
    stream = Stream(
        width=333,
        height=257,
        variant="conv",
        preset="tiny",
        quality=4,
        tile=64,
        fingerprint=bytes(8),
        tiles=(b"",) * 30,
    )
    assert [stream.part(number) for number in range(30)] == grid
