"""Directories of TIFF files and EXIF blocks: hostile ones are not copied a thousand times over."""

from __future__ import annotations

import io
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from picture_files import saved, tiff

from s2c_deploy.errors import InputError
from s2c_deploy.image import Image, decode_image, left_out, read_image, write_image
from s2c_deploy.pictures.tags import Directories, find, reads_too_much

GREY = {258: (3, b"\10\0"), 262: (3, b"\1\0"), 277: (3, b"\1\0")}


def overlapping(count: int, size: int) -> bytes:
    """A block of tags that all have the same megabytes as their value."""
    place = 10 + 12 * count + 4
    entries = b"".join(struct.pack("<HHII", 0x9000 + tag, 7, size, place) for tag in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4) + bytes(size)


def test_directories() -> None:
    data = tiff(3, 2, bytes(6), GREY | {0x010F: (2, b"Camera\0\0")})
    directories = Directories(io.BytesIO(data))
    entries, following = directories.read(directories.first)
    assert following == 0
    width, maker = find(entries, 256), find(entries, 0x010F)
    assert width is not None
    assert directories.number(width.field[: width.size]) == 3
    assert maker is not None
    assert data[directories.number(maker.field) :][: maker.size] == b"Camera\0\0"
    assert find(entries, 0x9999) is None


def test_big_tiff() -> None:
    entry = struct.pack("<HHQQ", 0x010F, 2, 12, 48)
    data = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1) + entry + struct.pack("<Q", 0) + bytes(20)
    directories = Directories(io.BytesIO(data))
    assert directories.big
    (found,), following = directories.read(directories.first)
    assert (found.tag, found.size, directories.number(found.field), following) == (0x010F, 12, 48, 0)


@pytest.mark.parametrize(
    "data", [b"", b"II", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"junkjunk"]
)
def test_what_is_no_directory(data: bytes) -> None:
    def read_first() -> None:
        directories = Directories(io.BytesIO(data))
        directories.read(directories.first)

    with pytest.raises(ValueError, match=r"TIFF|directory"):
        read_first()
    assert not reads_too_much(io.BytesIO(data))


def test_directories_in_a_circle() -> None:
    circle = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)
    assert not reads_too_much(io.BytesIO(circle))
    assert len(list(Directories(io.BytesIO(circle)).all())) == 1


def test_overlapping_values() -> None:
    assert reads_too_much(io.BytesIO(overlapping(2000, 2**20)))
    assert not reads_too_much(io.BytesIO(overlapping(2, 2**20)))
    inner = overlapping(2000, 2**20)
    # in a directory inside of another
    outer = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 26, 0) + inner[8:]
    assert reads_too_much(io.BytesIO(outer))


def test_hostile_exif_is_kept_but_does_not_become_tags(tmp_path: Path) -> None:
    block = overlapping(28000, 2**20)
    picture = Image(pixels=np.zeros((1, 1, 3), np.uint8), exif=block)
    started = time.perf_counter()
    assert write_image(tmp_path / "a.tif", picture) == left_out(picture, ".tif") == ("part of the EXIF",)
    assert time.perf_counter() - started < 20  # 28 GB would be copied
    assert read_image(tmp_path / "a.tif").exif is None
    write_image(tmp_path / "a.png", picture)
    assert read_image(tmp_path / "a.png").exif == block
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.tif"]


def test_hostile_tiff() -> None:
    with pytest.raises(InputError, match="values of its tags overlap"):
        decode_image(overlapping(28000, 2**20))


def test_sound_files_pass() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    for options in ({}, {"compression": "tiff_adobe_deflate"}, {"icc_profile": bytes(16) + b"RGB " + bytes(100_000)}):
        np.testing.assert_array_equal(decode_image(saved(pixels, "TIFF", **options)).pixels, pixels)
