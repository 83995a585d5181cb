"""Pictures written in strips, read back by read_image: all is there, or a word says what is missing."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest
from conftest import require
from picture_files import SRGB_PROFILE

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import BitstreamError, DependencyError, InputError
from s2c_deploy.files import atomic_write
from s2c_deploy.image import read_image
from s2c_deploy.pictures.strips_writing import STRIP_SUFFIXES, check_strip_suffix, write_strips

pyvips: Any = require("pyvips")
ALL = pytest.mark.parametrize("suffix", STRIP_SUFFIXES)
ENCODED = pytest.mark.parametrize("suffix", [".png", ".tif"])


@pytest.fixture(scope="module")
def picture() -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (301, 97, 3), dtype=np.uint8)


def cut(picture: Pixels, count: int = 64) -> Iterator[Pixels]:
    return (picture[top : top + count] for top in range(0, len(picture), count))


def write(path: Path, rows: Iterator[Pixels], *, height: int = 301, **metadata: bytes | None) -> tuple[str, ...]:
    with atomic_write(path) as temporary:
        return write_strips(temporary, rows, width=97, height=height, **({"icc": None, "exif": None} | metadata))


def exif_block() -> bytes:
    """With what programs that understand EXIF tend to lose: a maker note."""
    exif = Pil.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(200))
    return exif.tobytes().removeprefix(b"Exif\0\0")


@ALL
@pytest.mark.parametrize("count", [1, 64, 301])
def test_there_and_back(picture: Pixels, tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f"picture{suffix.upper()}"
    assert write(path, cut(picture, count)) == ()
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, picture)
    assert (found.icc, found.dropped) == (None, ())


@ALL
def test_metadata(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    path, exif = tmp_path / f"picture{suffix}", exif_block()
    missing = write(path, cut(picture), icc=SRGB_PROFILE, exif=exif)
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, picture)
    assert missing == {".png": (), ".ppm": ("ICC profile", "EXIF")}.get(suffix, ("EXIF",))
    assert found.icc == (None if suffix == ".ppm" else SRGB_PROFILE)
    if suffix == ".png":
        assert found.exif == exif
        assert path.read_bytes().count(b"eXIf") == 1
        with Pil.open(path) as opened:
            assert opened.getexif()[0x010F] == "Camera"
    else:
        assert b"Camera" not in (found.exif or b"")


@ENCODED
def test_large_metadata(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(4).bytes(12 * 2**20)
    icc = (len(SRGB_PROFILE) + len(noise)).to_bytes(4, "big") + SRGB_PROFILE[4:] + noise
    exif = exif_block() + noise
    path = tmp_path / f"picture{suffix}"
    assert write(path, cut(picture), icc=icc, exif=exif) == (() if suffix == ".png" else ("EXIF",))
    found = read_image(path)
    assert found.icc == icc
    assert suffix == ".tif" or found.exif == exif
    np.testing.assert_array_equal(found.pixels, picture)


@ENCODED
def test_a_profile_that_is_wrong(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    """As a stream may hold one: it is kept as it is, or said to be left out."""
    icc = SRGB_PROFILE[:128] + b"\xff" * 400
    path = tmp_path / f"picture{suffix}"
    missing = write(path, cut(picture), icc=icc)
    assert (missing, read_image(path).icc) == (((), icc) if suffix == ".png" else (("ICC profile",), None))


def test_kinds_of_tiff(picture: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    write(path, cut(picture))
    with Pil.open(path) as opened:
        tags: Any = getattr(opened, "tag_v2", None)
        assert (tags[259], tags[317], tags[278]) == (8, 2, 16)  # deflate, differences, rows of a strip
    assert path.read_bytes()[2] == 42


def test_big_tiff(picture: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.tif"
    monkeypatch.setattr("s2c_deploy.pictures.strips_writing._MAX_TIFF", picture.nbytes - 1)
    assert write(path, cut(picture), icc=SRGB_PROFILE) == ()
    assert path.read_bytes()[:4] == b"II+\0"
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, picture)
    assert found.icc == SRGB_PROFILE


@ALL
def test_too_few_or_too_many_rows(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    with pytest.raises(InputError, match="301 rows of a picture, expected 302"):
        write(path, cut(picture), height=302)
    for height in (300, 10):
        with pytest.raises(InputError, match=f"or more rows of a picture, expected {height}"):
            write(path, cut(picture), height=height)
    with pytest.raises(InputError, match="0 rows"):
        write(path, iter(()))
    assert list(tmp_path.iterdir()) == []


@ALL
def test_rows_that_are_none(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    for wrong in (picture[:, :-1], picture.astype(np.uint16), picture[:, :, 0]):
        with pytest.raises(InputError, match="rows of shape"):
            write(tmp_path / f"picture{suffix}", iter([wrong]))
    write(tmp_path / f"picture{suffix}", iter([picture[:300][::-1], picture[:1]]))  # not contiguous
    np.testing.assert_array_equal(read_image(tmp_path / f"picture{suffix}").pixels[:300], picture[:300][::-1])


@ALL
@pytest.mark.parametrize(
    "raised",
    [BitstreamError("payload", expected=1, found=2), KeyboardInterrupt(), OSError("theirs"), StopAsyncIteration()],
)
def test_what_rows_raise_passes_through(picture: Pixels, tmp_path: Path, suffix: str, raised: BaseException) -> None:
    def rows() -> Iterator[Pixels]:
        yield picture[:100]
        raise raised

    with pytest.raises(type(raised)) as caught:
        write_strips(tmp_path / f"picture{suffix}", rows(), width=97, height=301, icc=None, exif=None)
    assert caught.value is raised
    assert "libvips" not in [thread.name for thread in threading.enumerate()]


@ENCODED
def test_rows_are_made_in_the_callers_thread(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    """So that Ctrl-C, which Python hands to the main thread, ends the writing."""

    def rows() -> Iterator[Pixels]:
        assert threading.current_thread() is threading.main_thread()
        yield picture[:100]
        signal.raise_signal(signal.SIGINT)
        yield picture[100:]

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / f"picture{suffix}", rows())
    assert list(tmp_path.iterdir()) == []


@ALL
def test_a_full_disk(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    path.symlink_to("/dev/full")
    made = 0

    def rows() -> Iterator[Pixels]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield np.random.default_rng(made).integers(0, 256, (200, 500, 3), dtype=np.uint8)

    with pytest.raises(OSError, match="No space left") as caught:
        write_strips(path, rows(), width=500, height=200_000 % 65535, icc=None, exif=None)
    assert caught.value.errno == errno.ENOSPC
    assert made < 300


def test_names_are_no_options(picture: Pixels, tmp_path: Path) -> None:
    for name in ("a[compression=jpeg,Q=1].tif", "b[palette].png", b"\xff.png".decode("utf-8", "surrogateescape")):
        write(tmp_path / name, cut(picture))
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, picture)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".v", "", ".bmp", ".dz"])
def test_other_suffixes(picture: Pixels, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=r"\.png \.ppm \.tif \.tiff"):
        check_strip_suffix(suffix)
    with pytest.raises(InputError, match="in strips"):
        write(tmp_path / f"picture{suffix}", cut(picture))
    check_strip_suffix(".TIFF")


def test_without_libvips(picture: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    for suffix in (".png", ".tif"):
        with pytest.raises(DependencyError, match=r"s2c-deploy\[huge\]"):
            write(tmp_path / f"picture{suffix}", cut(picture))
    write(tmp_path / "picture.ppm", cut(picture))
    assert [path.name for path in tmp_path.iterdir()] == ["picture.ppm"]


def test_nothing_stays_open(picture: Pixels, tmp_path: Path) -> None:
    def count() -> int:
        # Other tests' engines may open and close files of their own meanwhile.
        names = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if os.path.lexists(fd)]
        return sum(name.startswith(str(tmp_path)) for name in names)

    def all_kinds() -> None:
        for suffix in STRIP_SUFFIXES:
            write(tmp_path / f"picture{suffix}", cut(picture), icc=SRGB_PROFILE)
            with pytest.raises(InputError):
                write(tmp_path / f"picture{suffix}", cut(picture), height=400)

    all_kinds()
    gc.collect()  # what other tests left
    before = count()
    for _ in range(3):
        all_kinds()
    assert count() <= before
