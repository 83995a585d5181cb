"""Pictures in and out of files, made on the fly and expected pixel by pixel."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest
from PIL import ImageCms

from s2c_deploy import image
from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.formats import bitstream
from s2c_deploy.formats.bitstream import MAX_METADATA
from s2c_deploy.image import (
    Image,
    check_suffix,
    decode_image,
    encode_image,
    left_out,
    read_image,
    writable_suffixes,
    write_image,
)
from s2c_deploy.pictures.exif import upright_exif

# a header that says which colour space its data is in: all that read_image looks at
RGB_ICC = bytes(16) + b"RGB XYZ " + bytes(104)
GREY_ICC = bytes(16) + b"GRAYXYZ " + bytes(104)
R, G, B, K, W, Y = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255), (255, 255, 0)
# two rows of three, upright
UPRIGHT = [[R, G, B], [K, W, Y]]
# the rows as stored, by EXIF orientation: where the stored row 0 and column 0 are in the upright picture
STORED = {
    1: [[R, G, B], [K, W, Y]],  # top, left
    2: [[B, G, R], [Y, W, K]],  # top, right
    3: [[Y, W, K], [B, G, R]],  # bottom, right
    4: [[K, W, Y], [R, G, B]],  # bottom, left
    5: [[R, K], [G, W], [B, Y]],  # left, top
    6: [[B, Y], [G, W], [R, K]],  # right, top
    7: [[Y, B], [W, G], [K, R]],  # right, bottom
    8: [[K, R], [W, G], [Y, B]],  # left, bottom
}


def exif_block(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """A TIFF block: a camera's name, an orientation, and a tail that stays only if nothing is rewritten."""
    value = struct.pack(order + ("H2x" if kind == 3 else "I"), orientation)
    entries = struct.pack(order + "HHI4s", 0x010F, 2, 4, b"Cam\0")
    entries += struct.pack(order + "HHI", 0x0112, kind, 1) + value
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return mark + struct.pack(order + "IH", 8, 2) + entries + struct.pack(order + "I", 0) + b"maker note"


def save(path: Path, rows: Any, mode: str | None = None, dtype: Any = np.uint8, **options: Any) -> Path:
    picture = Pil.fromarray(np.array(rows, dtype))
    assert mode is None or picture.mode == mode
    picture.save(path, **options)
    return path


def kind(path: Path) -> tuple[str | None, str]:
    with Pil.open(path) as opened:
        return opened.format, opened.mode


def rows_of(got: Image) -> Any:
    assert got.pixels.dtype == np.uint8
    assert got.pixels.flags.c_contiguous
    assert got.pixels.flags.writeable
    return [[tuple(pixel) for pixel in row] for row in got.pixels.tolist()]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path, **options)
    assert caught.value.hint
    assert path.name in str(caught.value) or "colour" in str(caught.value)
    return str(caught.value)


# --- kinds of picture


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp"])
def test_rgb(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    got = read_image(save(tmp_path / name, UPRIGHT, **options))
    assert rows_of(got) == UPRIGHT
    assert (got.width, got.height, got.icc, got.exif) == (3, 2, None, None)


def test_path_as_text(tmp_path: Path) -> None:
    assert read_image(str(save(tmp_path / "a.png", UPRIGHT))).width == 3


def test_a_file_s_bytes(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Pil.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3)).save(tmp_path / "a.png", icc_profile=icc)
    data, expected = (tmp_path / "a.png").read_bytes(), image.read_image(tmp_path / "a.png")
    found = image.decode_image(data)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert found.icc == expected.icc == icc
    for bad, message in ((b"", "no picture|not a picture"), (data[:-30], "the file is damaged"), (b"GIF8", "the file")):
        with pytest.raises(InputError, match=message):
            image.decode_image(bad)
    with pytest.raises(InputError, match="at most 7 pixels"):
        image.decode_image(data, max_pixels=7)


def test_grey(tmp_path: Path) -> None:
    got = read_image(save(tmp_path / "a.png", [[0, 7], [200, 255]], "L", icc_profile=GREY_ICC))
    assert rows_of(got) == [[(0,) * 3, (7,) * 3], [(200,) * 3, (255,) * 3]]
    assert got.icc is None


def test_bilevel(tmp_path: Path) -> None:
    Pil.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert kind(tmp_path / "a.png")[1] == "1"
    assert rows_of(read_image(tmp_path / "a.png")) == [[K, W, W]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_16_bits(tmp_path: Path, name: str) -> None:
    # v / 257 to the nearest: 128 is still below a half of 257, 129 above
    path = save(tmp_path / name, [[0, 128, 129, 256, 385, 386, 32767, 65406, 65407, 65535]], "I;16", np.uint16)
    got = read_image(path)
    assert got.pixels[0, :, 0].tolist() == [0, 0, 1, 1, 1, 2, 127, 254, 255, 255]
    assert (got.pixels == got.pixels[:, :, :1]).all()


def test_big_endian_grey_of_16_bits(tmp_path: Path) -> None:
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1)]
    entries += [(278, 3, 1), (279, 4, 4)]
    directory = b"".join(
        struct.pack(">HHI", tag, kind, 1) + struct.pack(">H2x" if kind == 3 else ">I", value)
        for tag, kind, value in entries
    )
    data = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + bytes(4)
    (tmp_path / "a.tif").write_bytes(data + struct.pack(">HH", 257, 257 * 200))
    assert len(data) == 122
    assert kind(tmp_path / "a.tif")[1] == "I;16B"
    assert read_image(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [1, 200]


def test_pgm_of_16_bits(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 257, 65535))
    assert read_image(tmp_path / "a.pgm").pixels[0, :, 0].tolist() == [1, 255]


def test_palette(tmp_path: Path) -> None:
    Pil.fromarray(np.array(UPRIGHT, np.uint8)).quantize(8).save(tmp_path / "a.png")
    assert kind(tmp_path / "a.png")[1] == "P"
    assert rows_of(read_image(tmp_path / "a.png")) == UPRIGHT


def test_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    save(tmp_path / "a.png", [[(1, 2, 3, 255), (4, 5, 6, 255)]], "RGBA")
    save(tmp_path / "b.png", [[(9, 255), (8, 255)]], "LA")
    assert rows_of(read_image(tmp_path / "a.png")) == [[(1, 2, 3), (4, 5, 6)]]
    assert rows_of(read_image(tmp_path / "b.png")) == [[(9, 9, 9), (8, 8, 8)]]
    assert rows_of(read_image(tmp_path / "a.png", background="red")) == [[(1, 2, 3), (4, 5, 6)]]


def test_alpha_is_refused_or_flattened(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[(10, 20, 30, 254), (100, 0, 200, 128), (1, 2, 3, 0)]], "RGBA")
    assert "--background white" in refusal(path)
    # 100 * 128/255 + 255 * 127/255 = 177.2; 127; 227.4; and 10 * 254/255 + 1 = 10.96, 20.9, 30.9
    assert rows_of(read_image(path, background="white")) == [[(11, 21, 31), (177, 127, 227), W]]
    assert rows_of(read_image(path, background="#00ff00"))[0][2] == G


def test_grey_alpha_is_refused_or_flattened(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[(50, 255), (50, 0)]], "LA")
    assert "transparent" in refusal(path)
    assert rows_of(read_image(path, background="blue")) == [[(50, 50, 50), B]]


def test_transparent_palette_entry(tmp_path: Path) -> None:
    picture = Pil.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=1)
    assert "transparent" in refusal(tmp_path / "a.png")
    assert rows_of(read_image(tmp_path / "a.png", background="lime")) == [[R, G]]


@pytest.mark.parametrize(("dtype", "clear"), [(np.uint8, 7), (np.uint16, 7 * 257)])
def test_transparent_grey_level(tmp_path: Path, dtype: Any, clear: int) -> None:
    rows = np.array([[0, clear]], dtype)
    Pil.fromarray(rows).save(tmp_path / "a.png", transparency=clear)
    assert "transparent" in refusal(tmp_path / "a.png")
    assert rows_of(read_image(tmp_path / "a.png", background="white")) == [[K, W]]


def test_unknown_background(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", UPRIGHT)
    assert "unknown colour 'sky'" in refusal(path, background="sky")


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.tif"), ("CMYK", "a.jpg"), ("LAB", "a.tif"), ("F", "a.tif")])
def test_kinds_without_certain_rgb(tmp_path: Path, mode: str, name: str) -> None:
    Pil.new(mode, (4, 4)).save(tmp_path / name)
    assert f"kind {mode}" in refusal(tmp_path / name)


# --- frames


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_several_frames_are_refused(tmp_path: Path, name: str) -> None:
    frames = [Pil.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert "3 frames" in refusal(tmp_path / name)


def test_gif_of_one_frame(tmp_path: Path) -> None:
    save(tmp_path / "a.gif", UPRIGHT)
    assert rows_of(read_image(tmp_path / "a.gif")) == UPRIGHT


def test_the_first_picture_of_a_cameras_jpeg(tmp_path: Path) -> None:
    frames = [Pil.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=frames[1:])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert kind(tmp_path / "a.jpg")[0] == "MPO"
    assert rows_of(read_image(tmp_path / "a.jpg"))[0][0] == (254, 0, 0)


# --- metadata


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation(tmp_path: Path, orientation: int, order: str) -> None:
    path = save(tmp_path / "a.png", STORED[orientation], exif=b"Exif\0\0" + exif_block(orientation, order))
    got = read_image(path)
    assert rows_of(got) == UPRIGHT
    assert got.exif == exif_block(1, order)


@pytest.mark.parametrize("orientation", STORED)
def test_orientation_in_tiff(tmp_path: Path, orientation: int) -> None:
    exif = Pil.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Cam"
    got = read_image(save(tmp_path / "a.tif", STORED[orientation], exif=exif))
    assert rows_of(got) == UPRIGHT
    kept = Pil.Exif()
    kept.load(got.exif or b"")
    assert dict(kept) == {0x010F: "Cam"}


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_orientation_of_other_formats(tmp_path: Path, name: str) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, 16:] = 255  # the right half is white; turned clockwise it is the lower one
    got = read_image(save(tmp_path / name, stored, exif=b"Exif\0\0" + exif_block(6)))
    assert got.pixels.shape == (32, 16, 3)
    assert got.pixels[:14].max() < 20
    assert got.pixels[18:].min() > 235
    assert got.exif == exif_block(1)


def test_orientation_as_long_integer() -> None:
    assert upright_exif(exif_block(6, ">", kind=4)) == (exif_block(1, ">", kind=4), 6)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_out_of_range(orientation: int) -> None:
    assert upright_exif(exif_block(orientation)) == (exif_block(1), 1)


@pytest.mark.parametrize("size", [0, 3, 4, 7, 8, 9, 20, 33])
def test_damaged_exif_is_dropped(size: int) -> None:
    assert upright_exif(exif_block(6)[:size]) == (None, 1)
    assert upright_exif(b"II*\0" + b"\xff" * size) == (None, 1)
    assert upright_exif(b"junk" + exif_block(6)) == (None, 1)


def test_exif_without_orientation_is_kept() -> None:
    block = b"II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x010F, 2, 4, b"Cam\0", 0)
    assert upright_exif(block) == (block, 1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_rgb_icc_is_kept(tmp_path: Path, name: str) -> None:
    assert read_image(save(tmp_path / name, UPRIGHT, icc_profile=RGB_ICC)).icc == RGB_ICC


def test_a_real_profile_is_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_image(save(tmp_path / "a.png", UPRIGHT, icc_profile=profile)).icc == profile


# --- files that cannot be read


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "a.png")


def test_folder(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path)


def test_named_pipe_and_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")  # nobody writes: opening it must not wait
    assert "not a regular file" in refusal(tmp_path / "a.png")
    assert "not a regular file" in refusal(Path("/dev/null"))


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file can be called 'a"):
        read_image("a\0.png")
    assert "File name too long" in refusal(tmp_path / ("a" * 300 + ".png"))
    assert "Not a directory" in refusal(save(tmp_path / "a.png", UPRIGHT) / "b.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", UPRIGHT)
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".jif", ".pjpeg", ".pjp"])
def test_other_suffixes_of_jpeg(tmp_path: Path, suffix: str) -> None:
    assert suffix in image.READ_SUFFIXES
    path = save(tmp_path / "a.jpg", UPRIGHT)
    assert read_image(path.rename(tmp_path / f"a{suffix}")).width == 3


@pytest.mark.parametrize("data", [b"", b"hello", b"\xf5S2C" + bytes(100), b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_not_a_picture(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert "not a picture" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.pcx", "a.jp2", "a.eps"])
def test_formats_that_are_not_opened(tmp_path: Path, name: str) -> None:
    assert "not a picture of a known format" in refusal(save(tmp_path / name, UPRIGHT))


def test_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    path = save(tmp_path / "a.png", UPRIGHT)
    monkeypatch.setattr(Pil, "open", fail)
    with pytest.raises(OutOfMemoryError, match=r"not enough memory for reading .*a\.png, 3x2 pixels"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.ppm", "a.gif"])
def test_truncated_at_every_byte(tmp_path: Path, name: str) -> None:
    """An error or the picture (when only padding is cut): never another exception, never half a picture."""
    noise = np.arange(16 * 16 * 3, dtype=np.uint32) * 2654435761 % 251
    rows = noise.astype(np.uint8).reshape(16, 16, 3)
    whole = read_image(save(tmp_path / name, rows)).pixels
    data = (tmp_path / name).read_bytes()
    refused = 0
    for size in range(0, len(data), 7):
        (tmp_path / name).write_bytes(data[:size])
        try:
            got = read_image(tmp_path / name).pixels
        except InputError:
            refused += 7
        else:
            np.testing.assert_array_equal(got, whole)
    assert refused > 0.9 * len(data)


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", UPRIGHT)
    before, both, opened = list(warnings.filters), Barrier(2, timeout=30), Pil.open

    def open_together(*arguments: Any, **options: Any) -> Any:
        both.wait()  # so that the second begins before the first ends
        return opened(*arguments, **options)

    monkeypatch.setattr(Pil, "open", open_together)
    with ThreadPoolExecutor(2) as pool:
        assert [found.width for found in pool.map(read_image, [path, path])] == [3, 3]
    assert list(warnings.filters) == before


def test_too_many_pixels(tmp_path: Path) -> None:
    assert bitstream.DEFAULT_MAX_PIXELS == image.MAX_PIXELS
    path = save(tmp_path / "a.png", UPRIGHT)
    assert read_image(path, max_pixels=6).width == 3
    assert "3x2 pixels" in refusal(path, max_pixels=5)


@pytest.mark.parametrize("side", [11000, 14000])
def test_decompression_bomb(tmp_path: Path, side: int) -> None:
    # of the first Pillow warns, the second it refuses: here both are one InputError, and nothing is allocated
    (tmp_path / "a.ppm").write_bytes(b"P6 %d %d 255\n" % (side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "too large" in refusal(tmp_path / "a.ppm", max_pixels=2**26)


def test_sides_that_no_stream_holds(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 65536 1 255\n" + bytes(65536))
    assert "sides go up to 65535" in refusal(tmp_path / "a.pgm")
    (tmp_path / "a.pgm").write_bytes(b"P5 65535 1 255\n" + bytes(65535))
    assert read_image(tmp_path / "a.pgm").width == 65535


def test_pillow_s_own_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 2)
    (tmp_path / "a.ppm").write_bytes(b"P6 3 2 255\n" + bytes(18))
    assert "Pillow reads at most 4 pixels" in refusal(tmp_path / "a.ppm")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_memory_for_reading(tmp_path: Path, name: str) -> None:
    """As Pillow decodes it, as RGB, and strips: not several copies."""
    script = (
        "import resource, sys\n"
        "import PIL.Image, s2c_deploy.image as image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "pixels = image.read_image(sys.argv[1], background='white').pixels\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / pixels[..., 0].size)\n"
    )
    pixels = np.full((3000, 4000, 3 if name == "a.jpg" else 4), 200, np.uint8)
    path = save(tmp_path / name, pixels)
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10  # bytes a pixel: 4 and 3, 1 for a bitmap's alpha, and what is small


# --- writing


def picture(**metadata: Any) -> Image:
    return Image(pixels=np.array(UPRIGHT, np.uint8), **metadata)


@pytest.mark.parametrize("name", ["a.png", "a.ppm", "a.bmp", "a.tif", "a.tiff", "a.webp", "A.PNG"])
def test_lossless_formats(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, picture())
    assert rows_of(read_image(tmp_path / name)) == UPRIGHT
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg"])
def test_jpeg(tmp_path: Path, name: str) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2, 0] = 255  # colour stripes of one pixel: only 4:4:4 keeps them
    write_image(tmp_path / name, Image(pixels=pixels))
    got = read_image(tmp_path / name).pixels
    assert abs(got.astype(int) - pixels).max() < 25


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_metadata_round_trip(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, picture(icc=RGB_ICC, exif=exif_block(1)))
    got = read_image(tmp_path / name)
    assert (got.icc, got.exif) == (RGB_ICC, exif_block(1))


def test_metadata_in_tiff(tmp_path: Path) -> None:
    # as tags of the file: of 0x0111, where the pixels lie, nothing may come from the EXIF block
    hostile = struct.pack("<HHIIHHI4sI", 0x0111, 4, 1, 0xFFFFFF, 0x010F, 2, 4, b"Cam\0", 0)
    write_image(tmp_path / "a.tif", picture(icc=RGB_ICC, exif=b"II*\0" + struct.pack("<IH", 8, 2) + hostile))
    got = read_image(tmp_path / "a.tif")
    assert rows_of(got) == UPRIGHT
    assert got.icc == RGB_ICC
    kept = Pil.Exif()
    kept.load(got.exif or b"")
    assert dict(kept) == {0x010F: "Cam"}


@pytest.mark.parametrize("inner", [{0x8769: {0x829A: 0.5, 0x9003: "2024:01:01 00:00:00"}}, {0x8825: {1: "N"}}])
def test_a_camera_s_directories_in_tiff(tmp_path: Path, inner: dict[int, Any]) -> None:
    block = Pil.Exif()
    block[0x010F] = "Cam"
    for tag, values in inner.items():
        block[tag] = values
    full = picture(icc=RGB_ICC, exif=block.tobytes().removeprefix(b"Exif\0\0"))
    assert write_image(tmp_path / "a.tif", full) == ()
    got = read_image(tmp_path / "a.tif")
    assert (rows_of(got), got.icc, got.dropped) == (UPRIGHT, RGB_ICC, ())
    kept = Pil.Exif()
    kept.load(got.exif or b"")
    assert kept[0x010F] == "Cam"
    for tag, values in inner.items():
        assert dict(kept.get_ifd(tag)) == values


@pytest.mark.parametrize("name", ["a.ppm", "a.bmp"])
def test_metadata_is_left_out_where_there_is_no_place(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, picture(icc=RGB_ICC, exif=exif_block(1)))
    got = read_image(tmp_path / name)
    assert (got.icc, got.exif, rows_of(got)) == (None, None, UPRIGHT)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    full = picture(icc=RGB_ICC, exif=exif_block(1))
    for suffix in (".ppm", ".bmp"):
        assert write_image(tmp_path / f"a{suffix}", full) == left_out(full, suffix) == ("ICC profile", "EXIF")
        assert left_out(picture(), suffix) == ()
        assert left_out(picture(exif=exif_block(1)), suffix.upper()) == ("EXIF",)
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        assert write_image(tmp_path / f"a{suffix}", full) == left_out(full, suffix) == ()


def test_part_of_exif_that_tiff_leaves_out(tmp_path: Path) -> None:
    private = struct.pack("<HHII", 0xC000, 4, 1, 7)  # a tag that is none of a picture's description
    block = b"II*\0" + struct.pack("<IHHHI4s", 8, 2, 0x010F, 2, 4, b"Cam\0") + private + bytes(4)
    full = picture(exif=block)
    assert write_image(tmp_path / "a.tif", full) == left_out(full, ".tiff") == ("part of the EXIF",)
    assert left_out(picture(exif=b"junk"), ".tif") == ("part of the EXIF",)
    assert rows_of(read_image(tmp_path / "a.tif")) == UPRIGHT


@pytest.mark.parametrize("suffix", writable_suffixes())
def test_encoding_is_writing(tmp_path: Path, suffix: str) -> None:
    full = picture(icc=RGB_ICC, exif=exif_block(1))
    write_image(tmp_path / f"a{suffix}", full)
    assert encode_image(full, suffix) == (tmp_path / f"a{suffix}").read_bytes()
    assert encode_image(full, suffix.upper()) == encode_image(full, suffix)


def test_suffixes() -> None:
    assert writable_suffixes() == (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
    for suffix in writable_suffixes():
        check_suffix(suffix)
        check_suffix(suffix.upper())
    for suffix in ("", ".xyz", "png"):
        with pytest.raises(InputError, match=r"known: \.bmp"):
            check_suffix(suffix)
        with pytest.raises(InputError, match=r"known: \.bmp"):
            encode_image(picture(), suffix)


def test_memory_and_disk_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def save(*_: object, **__: object) -> None:
            raise error

        return save

    monkeypatch.setattr(Pil.Image, "save", fail(MemoryError()))
    with pytest.raises(OutOfMemoryError, match=r"writing .*a\.png, 3x2 pixels"):
        write_image(tmp_path / "a.png", picture())
    monkeypatch.setattr(Pil.Image, "save", fail(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"cannot write .*a\.png: No space left on device"):
        write_image(tmp_path / "a.png", picture())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="no such limit")
@pytest.mark.parametrize("suffix", writable_suffixes())
def test_a_file_that_the_system_does_not_let_grow(tmp_path: Path, suffix: str) -> None:
    """As on a full disk; the reason is the system's, and no library says anything by itself."""
    script = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "import s2c_deploy.image as image\n"
        "from s2c_deploy.errors import InputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "pixels = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)\n"
        "try:\n"
        "    image.write_image(sys.argv[1], image.Image(pixels=pixels))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", script, tmp_path / f"a{suffix}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stderr, "File too large" in done.stdout) == ("", True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.s2c"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"known: \.bmp \.jpeg \.jpg \.png \.ppm \.tif \.tiff \.webp"):
        write_image(tmp_path / name, picture())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "side"), [("JPEG", 65_500), ("WEBP", 16_383)])
@pytest.mark.parametrize("upright", [True, False])
def test_sides_that_the_format_cannot_hold(
    tmp_path: Path, name: str, side: int, upright: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    suffix = {"JPEG": ".jpg", "WEBP": ".webp"}[name]
    (tmp_path / f"a{suffix}").write_bytes(b"old")
    pixels = np.zeros((side, 2, 3) if upright else (2, side, 3), np.uint8)
    assert decode_image(encode_image(Image(pixels=pixels), suffix)).pixels.shape == pixels.shape
    larger = np.zeros((side + 1, 1, 3) if upright else (1, side + 1, 3), np.uint8)
    with pytest.raises(InputError, match=rf"pixels, and {name} takes {side} a side \(try \.png\)"):
        write_image(tmp_path / f"a{suffix}", Image(pixels=larger))
    assert (tmp_path / f"a{suffix}").read_bytes() == b"old"
    assert os.listdir(tmp_path) == [f"a{suffix}"]
    assert capfd.readouterr() == ("", "")  # nor does the library say anything by itself


def test_metadata_that_jpeg_cannot_hold() -> None:
    exif = exif_block(1)
    longest = exif + bytes(65_533 - 6 - len(exif))
    long_icc = RGB_ICC + bytes(255 * 65_519 - len(RGB_ICC))
    for icc, block, missing in (
        (RGB_ICC, longest, ()),
        (RGB_ICC, longest + b"\0", ("EXIF",)),
        (long_icc, longest, ()),
        (long_icc + b"\0", longest, ("ICC profile",)),
        (long_icc + b"\0", longest + b"\0", ("ICC profile", "EXIF")),
    ):
        full = picture(icc=icc, exif=block)
        for suffix in (".jpg", ".jpeg"):
            assert left_out(full, suffix) == missing
            got = decode_image(encode_image(full, suffix))
            assert got.icc == (None if "ICC profile" in missing else icc)
            assert got.exif == (None if "EXIF" in missing else block)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_as_much_metadata_as_a_stream_has(suffix: str) -> None:
    noise = np.random.default_rng(8).bytes(MAX_METADATA - len(RGB_ICC))  # deflate adds to it
    full = picture(icc=RGB_ICC + noise, exif=exif_block(1) + noise)
    got = decode_image(encode_image(full, suffix))
    assert got.icc == full.icc
    if suffix != ".tif":  # there, only tags
        assert (left_out(full, suffix), got.exif) == ((), full.exif)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 3, 3), np.float32),
        np.zeros((2, 3), np.uint8),
        np.zeros((2, 3, 4), np.uint8),
        np.zeros((0, 3, 3), np.uint8),
        np.zeros((2, 6, 3), np.uint8)[:, ::2],
    ],
    ids=["float", "grey", "RGBA", "empty", "strided"],
)
def test_image_refuses(pixels: Any) -> None:
    with pytest.raises(InputError):
        Image(pixels=pixels)
