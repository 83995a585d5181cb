"""``Image.save("x.s2c")``: what the stream holds, what is refused and how, and what a failure leaves behind."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest
from forging import forge_tables
from PIL import ExifTags, ImageCms, ImageOps
from pillow_plugin import registered

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import Stream, parse


@pytest.fixture(autouse=True)
def plugin(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    with registered(backend="onnxruntime", threads=1):
        yield


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture
def picture(small_photograph: Pixels) -> Pil.Image:
    """70 x 50."""
    return Pil.fromarray(small_photograph[:50, :70])


def saved(picture: Pil.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "S2C", **options)
    return file.getvalue()


def parsed(picture: Pil.Image, **options: Any) -> Stream:
    return parse(saved(picture, **options))


def test_the_codecs_own_stream(picture: Pil.Image, codec: Codec, tmp_path: Path) -> None:
    pixels = np.asarray(picture)
    assert saved(picture) == codec.compress(pixels)
    assert saved(picture, quality=6.5, tile=64, optimize=True, dpi=(3, 3)) == codec.compress(pixels, 6.5, tile=64)
    numbers: dict[str, Any] = {"quality": np.float32(2), "tile": np.int64(64)}
    assert saved(picture, **numbers) == codec.compress(pixels, 2, tile=64)
    for name in ("a.s2c", "a.S2C"):
        picture.save(tmp_path / name, quality=2)
        assert (tmp_path / name).read_bytes() == codec.compress(pixels, 2)


def test_into_an_open_file(picture: Pil.Image, tmp_path: Path) -> None:
    with open(tmp_path / "a", "w+b") as file:
        file.write(b"before")
        picture.save(file, "s2c")
        assert not file.closed
        file.write(b"behind")
    whole = (tmp_path / "a").read_bytes()
    assert whole == b"before" + saved(picture) + b"behind"
    with pytest.raises(ValueError, match="unknown file extension"):
        picture.save(io.BytesIO())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "YCbCr", "RGBA", "LA", "PA", "RGBa", "La"])
def test_modes(mode: str, picture: Pil.Image, codec: Codec) -> None:
    via = {"PA": "P", "RGBa": "RGBA", "La": "LA"}.get(mode, mode)
    converted = picture.convert(via).convert(mode)
    straight = converted.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    assert saved(converted) == codec.compress(np.asarray(straight.convert("RGB")))


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_rounded(mode: str, codec: Codec) -> None:
    wide = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(">u2" if mode == "I;16B" else "<u2")
    grey = np.rint(wide.astype(float) / 257).astype(np.uint8)
    picture = Pil.frombytes(mode, (64, 64), wide.tobytes())
    assert saved(picture) == codec.compress(np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "HSV", "F", "I"])
@pytest.mark.parametrize("there", [False, True])
def test_modes_that_no_stream_can_hold(mode: str, there: bool, tmp_path: Path) -> None:
    """As Pillow's own formats refuse them; a file that was not there is not left behind, as with these."""
    for suffix, other in ((".s2c", mode), (".jpg", "LAB")):
        target = tmp_path / f"a{suffix}"
        if there:
            target.touch()
        with pytest.raises(OSError, match=rf"cannot write mode {other} as"):
            Pil.new(other, (64, 64)).save(target)
        assert target.exists() == there


def test_transparency(picture: Pil.Image) -> None:
    clear = picture.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 254))
    palette = picture.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    keyed = picture.copy()
    keyed.info["transparency"] = keyed.getpixel((0, 0))
    deep = Pil.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64))
    deep.info["transparency"] = 4095
    for transparent in (clear, clear.convert("LA"), clear.convert("RGBa"), palette, keyed, deep):
        with pytest.raises(OSError, match=f"cannot write mode {transparent.mode} as S2C: it is transparent"):
            saved(transparent)
    deep.info["transparency"] = 4096  # of no pixel
    assert saved(deep)


@pytest.mark.parametrize(
    "options",
    [{"quality": q} for q in (0, 9, 75, "keep", None, float("nan"), True)]
    + [{"tile": t} for t in (1, -64, 64.0, "64", None)]
    + [{"bundle": 3}, {"exif": b"no such thing"}, {"icc_profile": b"no profile" * 20}, {"effort": True}]
    + [{"exif": "text"}, {"icc_profile": "text"}],
)
def test_options_that_are_none(options: dict[str, Any], picture: Pil.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected|not one of|not usable|integer|number|string argument"):
        picture.save(tmp_path / "a.s2c", **options)
    assert not os.listdir(tmp_path)


def test_nothing_is_left_of_what_failed(picture: Pil.Image, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        picture.save(tmp_path / "a.s2c", bundle=tmp_path / "none")
    assert not os.listdir(tmp_path)
    file = io.BytesIO(b"as it was")
    with pytest.raises(OSError, match="none"):
        picture.save(file, "S2C", bundle=tmp_path / "none")
    assert (file.getvalue(), file.tell()) == (b"as it was", 0)
    with pytest.raises(OSError, match="sides go from 1 to 65535"):
        Pil.new("RGB", (65536, 1)).save(tmp_path / "a.s2c")
    assert not os.listdir(tmp_path)
    for suffix in (".jpg", ".s2c"):
        with pytest.raises(ValueError, match="cannot write empty image"):
            Pil.new("RGB", (0, 5)).save(tmp_path / f"a{suffix}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("options", [{"threads": -1}, {"backend": []}, {"max_pixels": 0}, {"bundle": 3}])
def test_registering_with_other_types(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"), registered(**options):
        pass
    assert parsed(Pil.new("RGB", (64, 64))), "what was said before counts"


def test_over_itself(picture: Pil.Image, codec: Codec, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.s2c", quality=8)
    first = codec.decompress((tmp_path / "a.s2c").read_bytes())
    (tmp_path / "link.s2c").symlink_to("a.s2c")
    for name in ("a.s2c", "link.s2c"):
        with Pil.open(tmp_path / "a.s2c") as opened:
            opened.save(tmp_path / name, quality=1)
        assert (tmp_path / "a.s2c").read_bytes() == codec.compress(first, 1)
        first = codec.decompress((tmp_path / "a.s2c").read_bytes())


def test_several_frames(picture: Pil.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "one.s2c", save_all=True)
    assert (tmp_path / "one.s2c").read_bytes() == saved(picture)
    picture.save(tmp_path / "two.gif", save_all=True, append_images=[ImageOps.invert(picture)])
    with Pil.open(tmp_path / "two.gif") as animated:
        for options in ({"save_all": True}, {"append_images": [picture]}):
            with pytest.raises(OSError, match=r"cannot write \d frames as S2C"):
                animated.save(tmp_path / "two.s2c", **options)
        animated.seek(1)
        assert parse(saved(animated)).width == 70, "the frame at hand, as of PNG"
    assert not (tmp_path / "two.s2c").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_stream_is_upright(orientation: int, picture: Pil.Image, codec: Codec) -> None:
    exif = picture.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    upright = np.asarray(ImageOps.exif_transpose(picture))
    for given in (exif, exif.tobytes(), exif.tobytes().removeprefix(b"Exif\0\0")):
        stream = parsed(picture, exif=given)
        assert stream.exif is not None
        assert saved(picture, exif=given) == codec.compress(upright, exif=stream.exif)
    with Pil.open(io.BytesIO(saved(picture, exif=exif))) as again:
        assert again.getexif()[ExifTags.Base.Orientation] == 1
        assert again.getexif()[ExifTags.Base.Make] == "Maker"
        turned = ImageOps.exif_transpose(again)
        assert (turned.size, turned.tobytes()) == (again.size, again.tobytes())


def test_exif_goes_where_it_is_handed(picture: Pil.Image, tmp_path: Path) -> None:
    exif = Pil.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    assert parsed(picture).exif is None
    assert parsed(picture, exif=Pil.Exif()).exif is None
    picture.save(tmp_path / "a.s2c", exif=exif)
    with Pil.open(tmp_path / "a.s2c") as opened:
        assert parsed(opened).exif is None, "as with Pillow's formats"
        for name in ("b.jpg", "b.png", "b.webp", "b.avif", "b.tiff", "b.s2c"):
            opened.save(tmp_path / name, exif=opened.info["exif"])
            with Pil.open(tmp_path / name) as again:
                assert again.getexif()[ExifTags.Base.Make] == "Maker", name


def test_a_thumbnail_in_exif(picture: Pil.Image) -> None:
    """Found through the file, as Pillow finds that of a JPEG."""
    small = io.BytesIO()
    picture.resize((8, 6)).save(small, "JPEG")
    jpeg = small.getvalue()
    # an empty first directory, then one with JPEGInterchangeFormat and its length
    block = b"II*\0\x08\0\0\0" + b"\0\0" + (14).to_bytes(4, "little") + b"\x02\0"
    start = len(block) + 24 + 4
    for tag, value in ((0x0201, start), (0x0202, len(jpeg))):
        block += tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")
    block += bytes(4) + jpeg
    for before in (None, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        opened = Pil.open(io.BytesIO(saved(picture, exif=block, icc_profile=before)))
        assert [child.size for child in opened.get_child_images()] == [(8, 6)]


def test_profiles(picture: Pil.Image) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cmyk = srgb[:16] + b"CMYK" + srgb[20:]
    assert parsed(picture).icc is None
    assert parsed(picture, icc_profile=srgb).icc == srgb
    picture.info["icc_profile"] = srgb
    assert parsed(picture).icc == srgb
    assert parsed(picture, icc_profile=None).icc is None
    assert parsed(picture.convert("L")).icc == srgb
    picture.info["icc_profile"] = cmyk
    assert parsed(picture).icc is None, "which is of the colours before they were converted"
    with pytest.raises(ValueError, match="expected one for RGB or grey, found 'CMYK'"):
        saved(picture, icc_profile=cmyk)
    assert parsed(picture, icc_profile=srgb).icc == srgb


def test_another_bundle(bundle_path: Path, picture: Pil.Image, other_bundle: Callable[[], Path]) -> None:
    """Chosen when registering or when saving; and one that was exported anew where one is open."""
    other = other_bundle()
    mine, its = parsed(picture).fingerprint, parsed(picture, bundle=other).fingerprint
    assert mine != its
    with registered(bundle=other, backend="onnxruntime", threads=1):
        assert parsed(picture).fingerprint == its
        data = saved(picture)
        of_mine = io.BytesIO(saved(picture, bundle=bundle_path))
        with Pil.open(of_mine) as opened, pytest.raises(OSError, match=re.escape(its.hex())):
            opened.load()
    with Pil.open(io.BytesIO(data)) as opened, pytest.raises(OSError, match="fingerprint"):
        opened.load()  # $S2C_BUNDLE is another
    assert other_bundle() == other
    assert parsed(picture, bundle=other).fingerprint not in (mine, its)


@pytest.fixture
def other_bundle(bundle_path: Path, tmp_path: Path) -> Callable[[], Path]:
    """The bundle with other gains each time, at the same place."""
    times = iter(range(1, 9))

    def make() -> Path:
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        shutil.copytree(bundle_path, tmp_path / "other")
        factor = np.float32(2 ** next(times))
        forge_tables(tmp_path / "other", gain=lambda gain: gain * factor, inverse_gain=lambda gain: gain / factor)
        return tmp_path / "other"

    return make


def test_threads_share_one_codec(picture: Pil.Image, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = Codec.open

    def counting(*given: Any, **options: Any) -> Codec:
        opened.append(given)
        return real(*given, **options)

    monkeypatch.setattr(Codec, "open", counting)
    crops = [picture.crop((0, 0, 10 + 5 * k, 50 - k)) for k in range(12)]
    streams = [codec.compress(np.asarray(crop)) for crop in crops]

    def work(number: int) -> bool:
        k = number % len(crops)
        with Pil.open(io.BytesIO(streams[k])) as again:
            right = again.tobytes() == codec.decompress(streams[k]).tobytes()
        return right and saved(crops[k]) == streams[k]

    with registered(backend="onnxruntime", threads=1, max_pixels=10**6), ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(96)))
    assert len(opened) == 1
