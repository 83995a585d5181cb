"""Pillow's formats and ``.s2c``, under the same expectations where they agree."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image as Pil
import pytest
from PIL import ExifTags, ImageFile, ImageSequence, UnidentifiedImageError, features
from pillow_plugin import registered

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec

ALIKE = pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".s2c"])
EXIF = Pil.Exif()
EXIF[ExifTags.Base.Make] = "Maker"


@pytest.fixture(autouse=True)
def plugin(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    with registered(backend="onnxruntime", threads=1):
        yield


@pytest.fixture(scope="module")
def stream(bundle_path: Path, small_photograph: Pixels) -> bytes:
    """96 x 70 pixels."""
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        picture = np.ascontiguousarray(small_photograph[:70, :96])
        return codec.compress(picture, 3, icc=_profile(), exif=EXIF.tobytes().removeprefix(b"Exif\0\0"))


@pytest.fixture(scope="module")
def decoded(bundle_path: Path, stream: bytes) -> Pixels:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        return codec.decompress(stream)


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def path(stream: bytes, tmp_path: Path) -> Path:
    (tmp_path / "a.s2c").write_bytes(stream)
    return tmp_path / "a.s2c"


def written(suffix: str, stream: bytes) -> bytes:
    """The same picture in another format."""
    if suffix == ".s2c":
        return stream
    file = io.BytesIO()
    with Pil.open(io.BytesIO(stream)) as picture:
        picture.save(file, Pil.registered_extensions()[suffix])
    return file.getvalue()


LAZY = """
import sys
from PIL import Image
from s2c_deploy import register_s2c_opener
register_s2c_opener(bundle="nowhere")
with Image.open(sys.argv[1]) as picture:
    print(picture.size, picture.mode, picture.format, len(picture.info["icc_profile"]), picture.getexif()[271])
    try:
        picture.load()
    except OSError as error:
        print(error)
print([name for name in ("onnxruntime", "openvino", "torch", "zarr", "numcodecs") if name in sys.modules])
"""


def test_opening_opens_no_network(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LAZY, path], capture_output=True, text=True, timeout=100, check=True)
    said, failed, modules = done.stdout.splitlines()
    assert said == f"(96, 70) RGB S2C {len(_profile())} Maker"
    assert "nowhere" in failed
    assert modules == "[]"


def test_pixels_are_the_codecs(path: Path, decoded: Pixels) -> None:
    for source in (path, str(path), os.fsencode(path)):
        with Pil.open(source) as picture:
            np.testing.assert_array_equal(np.asarray(picture), decoded)
            assert picture.get_format_mimetype() == "image/x-s2c"
            assert type(picture).format_description
    assert Pil.registered_extensions()[".s2c"] == "S2C"
    assert Pil.MIME["S2C"] == "image/x-s2c"


@ALIKE
def test_files_are_closed_by_whoever_opened_them(suffix: str, stream: bytes, tmp_path: Path) -> None:
    name = tmp_path / f"a{suffix}"
    name.write_bytes(written(suffix, stream))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = Pil.open(name)
        picture.load()  # closes it
        del picture
        Pil.open(name).verify()
        with Pil.open(name):
            pass
        with open(name, "rb") as file:
            file.seek(5)
            with Pil.open(file) as picture:
                picture.load()
            assert not file.closed, "the caller's"
            with Pil.open(file) as picture:
                assert picture.size == (96, 70), "wherever it stood"


@ALIKE
def test_closed_pictures(suffix: str, stream: bytes, tmp_path: Path) -> None:
    name = tmp_path / f"a{suffix}"
    name.write_bytes(written(suffix, stream))
    picture = Pil.open(name)
    picture.close()
    with pytest.raises(ValueError, match="Operation on closed image"):
        picture.load()
    with Pil.open(name) as loaded:
        loaded.load()
    loaded.load()
    assert loaded.getpixel((0, 0))
    loaded.close()
    with pytest.raises(ValueError, match="Operation on closed image"):
        loaded.getpixel((0, 0))


def test_left_and_verified_pictures_say_that_they_are_closed(path: Path) -> None:
    with Pil.open(path) as left:
        pass
    verified = Pil.open(path)
    verified.verify()
    for picture in (left, verified):
        with pytest.raises(ValueError, match="Operation on closed image"):
            picture.load()
        assert picture.size == (96, 70)


@ALIKE
def test_one_frame(suffix: str, stream: bytes) -> None:
    picture = Pil.open(io.BytesIO(written(suffix, stream)))
    assert [frame.size for frame in ImageSequence.Iterator(picture)] == [(96, 70)]
    assert len(ImageSequence.all_frames(picture)) == 1
    assert (picture.tell(), getattr(picture, "n_frames", 1), getattr(picture, "is_animated", False)) == (0, 1, False)
    picture.seek(0)
    with pytest.raises(EOFError):
        picture.seek(1)
    picture.load()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".s2c"])
def test_drafts_and_thumbnails(suffix: str, stream: bytes) -> None:
    picture = Pil.open(io.BytesIO(written(suffix, stream)))
    assert picture.draft("L", (10, 10)) is None
    assert (picture.mode, picture.size) == ("RGB", (96, 70))
    whole = picture.copy()
    picture.thumbnail((48, 48))
    whole.thumbnail((48, 48))
    assert picture.size == (48, 35)
    assert picture.tobytes() == whole.tobytes()


@ALIKE
@pytest.mark.parametrize("loaded", [False, True])
def test_copies(suffix: str, loaded: bool, stream: bytes) -> None:
    data = written(suffix, stream)
    with Pil.open(io.BytesIO(data)) as right:
        right.load()
    for make in (copy.copy, copy.deepcopy, lambda picture: pickle.loads(pickle.dumps(picture)), Pil.Image.copy):
        picture = Pil.open(io.BytesIO(data))
        if loaded:
            picture.load()
        twin = make(picture)
        twin.load()
        assert twin.tobytes() == right.tobytes() == picture.tobytes()
        twin.putpixel((0, 0), (1, 2, 3))
        picture.putpixel((0, 0), (4, 5, 6))
        assert (twin.getpixel((0, 0)), picture.getpixel((0, 0))) == ((1, 2, 3), (4, 5, 6))


@ALIKE
def test_fed_in_parts(suffix: str, stream: bytes) -> None:
    data = written(suffix, stream)
    parser = ImageFile.Parser()
    for at in range(0, len(data), 37):
        parser.feed(data[at : at + 37])
    picture = parser.close()
    with Pil.open(io.BytesIO(data)) as right:
        assert picture.tobytes() == right.tobytes()
    cut = ImageFile.Parser()
    cut.feed(data[: len(data) // 2])
    with pytest.raises(OSError, match=r".+"):
        cut.close()


@ALIKE
def test_what_cannot_seek(suffix: str, stream: bytes, tmp_path: Path) -> None:
    data = written(suffix, stream)
    reading, writing = os.pipe()
    with open(writing, "wb") as end:
        end.write(data)
    with open(reading, "rb") as pipe, Pil.open(pipe) as picture:
        assert picture.tobytes()
    (tmp_path / "a").write_bytes(data)
    with open(tmp_path / "a", "rb", buffering=0) as raw, Pil.open(raw) as picture:
        assert picture.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".s2c"])  # a WebP is read whole when it is opened
def test_a_file_that_its_owner_has_closed(suffix: str, stream: bytes) -> None:
    file = io.BytesIO(written(suffix, stream))
    picture = Pil.open(file)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        picture.load()


def test_too_many_pixels(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 96 * 70 - 1)
    with pytest.warns(Pil.DecompressionBombWarning):
        Pil.open(io.BytesIO(stream))
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 96 * 70 // 2 - 1)
    with pytest.raises(Pil.DecompressionBombError):
        Pil.open(io.BytesIO(stream))
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", None)
    with registered(max_pixels=96 * 70 - 1):
        picture = Pil.open(io.BytesIO(stream))
        assert picture.size == (96, 70)
        for use in (picture.load, picture.verify):
            with pytest.raises(Pil.DecompressionBombError, match="max_pixels"):
                use()


def test_a_failure_to_load_may_pass(
    stream: bytes, decoded: Pixels, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("S2C_BUNDLE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    picture = Pil.open(io.BytesIO(stream))
    for _ in range(2):
        with pytest.raises(OSError, match="none"):
            picture.load()
    (tmp_path / "engines").mkdir()
    shutil.copytree(bundle_path, tmp_path / "engines" / "b")
    monkeypatch.delenv("S2C_BUNDLE")
    np.testing.assert_array_equal(np.asarray(picture), decoded)


def test_a_file_that_changed_between(path: Path, bundle_path: Path) -> None:
    with open(path, "rb", buffering=0) as file, Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        picture = Pil.open(file)
        path.write_bytes(codec.compress(np.zeros((64, 64, 3), np.uint8)))
        with pytest.raises(OSError, match="has changed"):
            picture.load()


def test_every_cut_and_every_flipped_byte(stream: bytes) -> None:
    """As Pillow's users catch it, at opening, verifying or loading."""
    damaged = [stream[:size] for size in range(len(stream))] + [stream + b"x"]
    for at in range(len(stream)):
        other = bytearray(stream)
        other[at] ^= 0x55
        damaged.append(bytes(other))
    for data in damaged:
        for name in ("load", "verify"):
            with pytest.raises(OSError, match=r".+"):  # UnidentifiedImageError is one
                getattr(Pil.open(io.BytesIO(data)), name)()


def test_what_comes_behind_is_not_read(stream: bytes) -> None:
    """A file of any length costs no more than its stream."""

    class Counted(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            part = super().read(size)
            self.count += len(part)
            return part

    file = Counted(stream + bytes(10**6))
    with Pil.open(file) as picture, pytest.raises(OSError, match="something was appended"):
        picture.load()
    assert file.count < 10 * len(stream), "which other formats may have looked at, too"


def test_pillows_own_list_of_formats() -> None:
    out = io.StringIO()
    features.pilinfo(out, supported_formats=True)
    assert re.search(r"S2C image/x-s2c\nExtensions: \.s2c\nFeatures: open, save, save_all", out.getvalue())


def test_a_damaged_front_is_not_identified(stream: bytes) -> None:
    for data, why in ((stream[:30], "section table"), (stream[:4] + b"\x02" + stream[5:], "upgrade")):
        with pytest.raises(UnidentifiedImageError, match=why):
            Pil.open(io.BytesIO(data))
    with Pil.open(io.BytesIO(stream[:-1])) as picture, pytest.raises(OSError, match="cut short"):
        picture.load()
