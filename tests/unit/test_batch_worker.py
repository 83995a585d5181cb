"""What a worker of a batch makes of a file, and what it says of those that it cannot do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forging import forge_tables
from PIL import Image as Pil

from s2c_deploy.arrays import Pixels
from s2c_deploy.batch.request import Operation, Request, Task
from s2c_deploy.batch.table import Row
from s2c_deploy.batch.worker import Worker
from s2c_deploy.codec.codec import Codec
from s2c_deploy.formats.bitstream import pack, parse
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import read_image


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        yield codec


@pytest.fixture
def picture(small_photograph: Pixels, tmp_path: Path) -> Pixels:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    pixels = np.ascontiguousarray(small_photograph[:40, :64])
    exif = Pil.Exif()
    exif[0x010E] = "a secret"
    Pil.fromarray(pixels).save(tmp_path / "in" / "a.png", exif=exif)
    return pixels


def asked(folder: Path, bundle: Path, operation: Operation, **more: Any) -> Request:
    request = Request(
        operation=operation, source=str(folder / "in"), target=str(folder / "out"), backend="onnxruntime", bundle=bundle
    )
    return replace(request, **more)


def done(request: Request, *names: str) -> list[Row]:
    """Rows of files, all called a.EXTENSION or so, by one worker."""
    fingerprint = None
    if request.operation != "decompress":
        assert request.bundle is not None
        fingerprint = open_bundle(request.bundle).fingerprint.hex()
    worker = Worker(request, fingerprint)
    try:
        tasks = [Task(source=name, target=f"{name}{request.suffix}", size=1, modified=1) for name in names]
        return [worker.do(task) for task in tasks]
    finally:
        worker.close()


def test_metadata_goes_along_unless_it_is_stripped(picture: Pixels, bundle_path: Path, tmp_path: Path) -> None:
    for strip in (False, True):
        (row,) = done(asked(tmp_path, bundle_path, "compress", strip_metadata=strip), "a.png")
        stream = parse((tmp_path / "out" / "a.png.s2c").read_bytes())
        assert (row.error, b"a secret" in (stream.exif or b"")) == (None, not strip)


def test_files_that_cannot_be_read(picture: Pixels, bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "folder.png").mkdir()
    (tmp_path / "in" / "device.png").symlink_to("/dev/zero")
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:-40])
    Pil.new("RGBA", (8, 8), (0, 0, 0, 128)).save(tmp_path / "in" / "clear.png")
    Pil.new("RGB", (100, 100)).save(tmp_path / "in" / "large.png")
    names = ("gone.png", "folder.png", "device.png", "cut.png", "clear.png", "large.png", "a.png")
    *failed, good = done(asked(tmp_path, bundle_path, "compress", max_pixels=64 * 64), *names)
    told = ("no such file", "directory", "is a device", "", "background", "4096")
    for row, words in zip(failed, told, strict=True):
        assert row.error is not None, row
        assert words in row.error
        assert (row.exit_code, row.bytes) == (3, None)
        assert row.worker
    assert (good.error, good.width, good.height) == (None, 64, 40)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png.s2c"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(picture: Pixels, bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "a.png").chmod(0)
    (row,) = done(asked(tmp_path, bundle_path, "compress"), "a.png")
    assert "ermission" in (row.error or "")


def test_a_target_that_changes_meanwhile(picture: Pixels, bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "out" / "sub").write_bytes(b"a file where a folder should be")
    (row,) = done(asked(tmp_path, bundle_path, "compress"), "sub/a.png")
    assert (row.exit_code, (tmp_path / "out" / "sub").read_bytes()) == (3, b"a file where a folder should be")


def test_streams_that_cannot_be_read(picture: Pixels, codec: Codec, tmp_path: Path) -> None:
    stream = codec.compress(picture)
    (tmp_path / "in" / "good.s2c").write_bytes(stream)
    (tmp_path / "in" / "cut.s2c").write_bytes(stream[:-1])
    (tmp_path / "in" / "stranger.s2c").write_bytes(pack(replace(parse(stream), fingerprint=b"stranger")))
    names = ("cut.s2c", "stranger.s2c", "good.s2c")
    for request in (
        asked(tmp_path, codec.bundle.path, "decompress", suffix=".png"),
        asked(tmp_path, codec.bundle.path, "transcode"),
    ):
        cut, stranger, good = done(request, *names)
        assert (cut.exit_code, stranger.exit_code, good.error) == (4, 4, None)
        assert "fingerprint" in (stranger.error or "")
    decoded = read_image(tmp_path / "out" / "good.s2c.png").pixels
    np.testing.assert_array_equal(decoded, codec.decompress(stream))
    assert (tmp_path / "out" / "good.s2c.s2c").read_bytes() == codec.compress(decoded)


def test_a_stream_of_another_bundle_is_transcoded(
    picture: Pixels, codec: Codec, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream's own bundle is found where bundles are looked for; the other one has another fingerprint."""
    other = tmp_path / "other"
    shutil.copytree(bundle_path, other)
    forge_tables(other, z_indexes=lambda indexes: np.minimum(indexes + 1, 63))
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    (tmp_path / "in" / "a.s2c").write_bytes(codec.compress(picture, 8))
    (row,) = done(asked(tmp_path, other, "transcode", quality=3.0), "a.s2c")
    assert row.error is None
    made = parse((tmp_path / "out" / "a.s2c.s2c").read_bytes())
    assert made.fingerprint == open_bundle(other).fingerprint[:8] != open_bundle(bundle_path).fingerprint[:8]
