"""Small files that ask for much: they are refused, or read, in no time and with the true reason."""

from __future__ import annotations

import contextlib
import io
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import chunk, png, refusal, saved

from s2c_deploy.errors import InputError
from s2c_deploy.image import decode_image, read_image
from s2c_deploy.pictures.isobmff import whole_size
from s2c_deploy.pictures.jpeg import MAX_SCANS, MAX_SEGMENTS, read_jpeg

PIXELS = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)


def sparse(path: Path, head: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


# --- sizes


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "TGA"])
def test_files_beyond_4_gib_are_not_read(tmp_path: Path, name: str) -> None:
    path = sparse(tmp_path / "a", saved(PIXELS, name), 40 * 2**30)
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"too large: 42949672960 bytes"):
        read_image(path)
    assert time.perf_counter() - started < 2


class Counted(io.FileIO):
    """A file that counts what is read of it."""

    total = 0

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self.total += count or 0
        return count


def bytes_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How much of a file is read until it is refused or read."""
    file = Counted(path, "r")
    monkeypatch.setattr("s2c_deploy.image.open_regular", lambda _: io.BufferedReader(file, 512))
    with contextlib.suppress(InputError):
        read_image(path)
    return file.total


@pytest.mark.parametrize("name", ["WEBP", "AVIF"])
def test_what_lies_behind_the_picture_is_not_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(PIXELS, name, quality=90)
    path = sparse(tmp_path / "a", data, 2**28)
    np.testing.assert_array_equal(read_image(path).pixels, decode_image(data).pixels)
    assert bytes_read(path, monkeypatch) < 10 * len(data) + 2**14


def test_webp_that_is_shorter_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(PIXELS, "WEBP")
    longer = data[:4] + struct.pack("<I", 2**29) + data[8:]
    assert "it says it has 536870920 bytes" in refusal(longer)
    assert bytes_read(sparse(tmp_path / "a", longer, 2**28), monkeypatch) < 2**12


def test_avif_whose_boxes_end_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(PIXELS, "AVIF")
    at = data.index(b"mdat") - 4
    longer = data[:at] + struct.pack(">I", 2**29) + data[at + 4 :]
    assert "a box b'mdat' of 536870912 bytes" in refusal(longer)
    assert bytes_read(sparse(tmp_path / "a", longer, 2**28), monkeypatch) < 2**13
    assert whole_size(io.BytesIO(data)) == len(data)
    assert whole_size(io.BytesIO(data + b"some junk behind")) == len(data)
    wide = data[:at] + struct.pack(">I4sQ", 1, b"mdat", len(data) - at + 8) + data[at + 8 :]
    assert whole_size(io.BytesIO(wide)) == len(wide)


@pytest.mark.parametrize("name", ["WEBP", "AVIF"])
def test_what_is_read_whole_has_a_limit(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, size = saved(PIXELS, name), 3 * 2**30
    if name == "WEBP":
        larger = data[:4] + struct.pack("<I", size - 8) + data[8:]
    else:
        at = data.index(b"mdat") - 4
        larger = data[:at] + struct.pack(">I", size - at) + data[at + 4 :]
    path = sparse(tmp_path / "a", larger, size)
    with pytest.raises(InputError, match=f"a picture of {size} bytes"):
        read_image(path)
    assert bytes_read(path, monkeypatch) < 2**13


def test_webp_of_very_many_chunks() -> None:
    extended = saved(np.dstack([PIXELS, PIXELS[:, :, :1]]), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    assert extended[12:16] == b"VP8X"
    body = bytes([*extended[:20], extended[20] & ~0x10, *extended[21:30]]) + b"junk\0\0\0\0" * 200_000
    data = body[:4] + struct.pack("<I", len(body) - 8) + body[8:]
    assert "more than 100000 chunks" in refusal(data)


def test_png_of_very_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2c_deploy.pictures.png.MAX_CHUNKS", 1000)  # as they are, making them takes seconds
    text = chunk(b"tEXt", b"")
    assert decode_image(png(PIXELS, *[text] * 997)).width == 50
    assert "more than 1000 chunks" in refusal(png(PIXELS, *[text] * 998))


# --- JPEG


def progressive(times: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    data = saved(PIXELS, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return bytes(data[:-2]) + last * times + b"\xff\xd9"


def test_jpeg_of_very_many_scans() -> None:
    np.testing.assert_array_equal(decode_image(progressive(100)).pixels.shape, PIXELS.shape)
    scans = progressive(0).count(b"\xff\xda")
    assert decode_image(progressive(MAX_SCANS - scans)).width == 50
    started = time.perf_counter()
    assert f"more than {MAX_SCANS} scans" in refusal(progressive(MAX_SCANS - scans + 1))
    assert "scans" in refusal(progressive(100_000))
    assert time.perf_counter() - started < 5


def test_scans_are_counted_behind_whatever_stands_between_them() -> None:
    data = progressive(0)
    comment = b"\xff\xfe\0\6\xff\xd9\xff\xda"  # what looks like the end is inside of a segment
    last = data[data.rindex(b"\xff\xda") : -2]
    assert "scans" in refusal(data[:-2] + (comment + b"\xff\xff" + last) * 600 + b"\xff\xd9")
    # and what looks like scans is inside, or behind the end
    assert decode_image(data[:-2] + b"\xff\xfe\7\xd2" + b"\xff\xda" * 1000 + b"\xff\xd9").width == 50
    assert decode_image(data + b"\xff\xda\0\2" * 1000).width == 50


def test_jpeg_of_very_many_segments() -> None:
    data = saved(PIXELS, "JPEG")
    empty = b"\xff\xe5\0\2"
    assert decode_image(data[:2] + empty * 5000 + data[2:]).width == 50
    assert f"more than {MAX_SEGMENTS} segments" in refusal(data[:2] + empty * (MAX_SEGMENTS + 1) + data[2:])
    between = data[:-2] + empty * (MAX_SEGMENTS + 1) + data[-2:]
    assert "segments" in refusal(between)


@pytest.mark.parametrize("fill", [b"\xff", b"\0", b"\xff\xd0", b"\xff\0"])
def test_megabytes_of_fill_bytes(fill: bytes) -> None:
    data = saved(PIXELS, "JPEG")
    whole = data[:2] + b"\xff" + fill * (8 * 2**20 // len(fill)) + data[2:]
    started = time.perf_counter()
    found = read_jpeg(io.BytesIO(whole))
    assert time.perf_counter() - started < 1  # byte by byte it is seconds
    assert found.pixels.read() == data
    np.testing.assert_array_equal(decode_image(whole).pixels, decode_image(data).pixels)


# --- what is not applied


def test_avif_that_is_to_be_cropped() -> None:
    data = saved(PIXELS, "AVIF")
    assert "only a part is to be shown" in refusal(data.replace(b"pixi", b"clap"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once(orientation: int) -> None:
    """By the file's own properties, whatever its EXIF says."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :, 0], pixels[:, :12, 2] = 255, 255
    block = struct.pack(">2sHIHHHIHHHHIHHI", b"MM", 42, 8, 2, 0x112, 3, 1, orientation, 0, 0x11C, 3, 1, 6, 0, 0)
    data = saved(pixels, "AVIF", exif=block, quality=95, subsampling="4:4:4")
    at = data.index(struct.pack(">HHI", 0x11C, 3, 1))
    flip = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    turned = {5: 1, 6: 4, 7: 3, 8: 2}
    upright = flip.get(orientation)
    if upright is None:
        upright = flip[turned[orientation]].swapaxes(0, 1)
    for found in (data, data[:at] + struct.pack(">H", 0x112) + data[at + 2 :]):
        result = decode_image(found).pixels.astype(int)
        assert result.shape == upright.shape
        assert abs(result - upright).max() < 9


def test_avif_of_premultiplied_colours() -> None:
    pixels = np.dstack([PIXELS // 4 + 90, np.full((40, 50), 128, np.uint8)])
    straight, multiplied = (
        decode_image(saved(pixels, "AVIF", quality=100, alpha_premultiplied=how), background="white").pixels.astype(int)
        for how in (False, True)
    )
    assert abs(straight - multiplied).max() < 6
