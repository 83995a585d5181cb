"""Pictures read in strips: what read_image gives, or a reason why not; and never the whole of them in memory."""

from __future__ import annotations

import gc
import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest
from conftest import require
from picture_files import GREY, GREY_ALPHA, PALETTE, RGBA, SRGB_PROFILE, chunk, png, saved, tiff

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.image import read_image
from s2c_deploy.pictures.strips_reading import open_strips

pyvips: Any = require("pyvips")
LIMIT = 2**32
DRAWN = np.random.default_rng(5)
SHORT = struct.Struct("<H")


def shorts(*values: int) -> tuple[int, bytes]:
    return 3, struct.pack(f"<{len(values)}H", *values)


RGB_TAGS = {258: shorts(8, 8, 8), 262: shorts(2), 277: shorts(3)}
D50_TAG = {318: (5, struct.pack("<4I", 3457, 10000, 3585, 10000))}


def drawn(*shape: int) -> Pixels:
    return DRAWN.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def picture() -> Pixels:
    """160 x 190: smooth enough for JPEG, and several strips and tiles of every kind of file."""
    small = Pil.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return np.asarray(small.resize((190, 160), Pil.Resampling.BICUBIC))


def read(path: Path, *, count: int = 50, **options: Any) -> Pixels:
    """All rows, after checking how they come."""
    with open_strips(path, max_pixels=LIMIT, **options) as strips:
        found = list(strips.rows(count))
    for strip in found:
        assert strip.dtype == np.uint8
        assert strip.flags.c_contiguous
    assert [len(strip) for strip in found[:-1]] == [count] * (len(found) - 1)
    assert 0 < len(found[-1]) <= count
    return np.concatenate(found)


def assert_as_read_image(path: Path, **options: Any) -> None:
    whole = read_image(path, **options)
    with open_strips(path, max_pixels=LIMIT, **options) as strips:
        assert (strips.width, strips.height) == (whole.width, whole.height)
        assert (strips.icc, strips.exif, strips.dropped) == (whole.icc, whole.exif, whole.dropped)
    np.testing.assert_array_equal(read(path, **options), whole.pixels)


def placed(folder: Path, data: bytes, suffix: str = ".bin") -> Path:
    """Bytes in a file, whose suffix says nothing."""
    path = folder / f"picture{suffix}"
    path.write_bytes(data)
    return path


def refusal(path: Path, **options: Any) -> str:
    """What is said when it is opened, or when its rows are read; there is always a hint."""
    with pytest.raises(InputError) as caught, open_strips(path, **({"max_pixels": LIMIT} | options)) as strips:
        list(strips.rows())
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"tiffinfo": {278: 160}}),
    ],
)
def test_files_of_pillow(picture: Pixels, tmp_path: Path, file_format: str, options: Any, mode: str) -> None:
    path = tmp_path / "picture"
    made = Pil.fromarray(picture).convert(mode)
    made.save(path, file_format, **options)
    assert_as_read_image(path)
    np.testing.assert_array_equal(read(path), np.asarray(made.convert("RGB")))


@pytest.mark.parametrize("tile", [True, False])
@pytest.mark.parametrize("options", [{"compression": "jpeg", "Q": 75}, {"compression": "jpeg", "Q": 95}])
def test_jpeg_in_tiff(picture: Pixels, tmp_path: Path, tile: bool, options: Any) -> None:
    path = tmp_path / "picture.tif"
    pyvips.Image.new_from_array(picture).tiffsave(str(path), tile=tile, **options)
    assert_as_read_image(path)


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits"])
def test_tiles(picture: Pixels, tmp_path: Path, compression: str, big: bool) -> None:
    path = tmp_path / "picture.tif"
    options = {"tile": True, "tile_width": 64, "tile_height": 48, "bigtiff": big, "predictor": "none"}
    pyvips.Image.new_from_array(picture).tiffsave(str(path), compression=compression, **options)
    assert path.read_bytes()[2] == (43 if big else 42)
    assert_as_read_image(path)
    np.testing.assert_array_equal(read(path), picture)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ppm(picture: Pixels, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture"
    Pil.fromarray(picture).convert(mode).save(path, "PPM")
    data = path.read_bytes()
    path.write_bytes(data[:3] + b"# a comment\n" + data[3:] + b"behind the pixels")
    assert_as_read_image(path)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", [GREY, PALETTE])
def test_png_of_few_bits(tmp_path: Path, depth: int, kind: int) -> None:
    samples = DRAWN.integers(0, 2**depth, (17, 19))
    before = (chunk(b"PLTE", drawn(2**depth, 3).tobytes()),) if kind == PALETTE else ()
    assert_as_read_image(placed(tmp_path, png(samples, *before, depth=depth, kind=kind)))


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\1\0\0\0\0\0\0"),),
        (chunk(b"gAMA", struct.pack(">I", 100000)),),
        (chunk(b"cICP", bytes([12, 13, 0, 1])),),
        (chunk(b"gAMA", b"\0"), chunk(b"iCCP", b"x\0\0broken"), chunk(b"zTXt", b"k\0\0broken")),
        (chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)),),
    ],
)
def test_what_a_png_says(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    path = placed(tmp_path, png(DRAWN.integers(4, 256, (5, 7, 3)), *chunks))
    assert_as_read_image(path)
    assert_as_read_image(path, drop_icc=True)


def test_profile_and_exif(picture: Pixels, tmp_path: Path) -> None:
    exif = Pil.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x829A] = (1, 250)
    for file_format, options in (("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})):
        path = placed(tmp_path, saved(picture, file_format, icc_profile=SRGB_PROFILE, exif=exif, **options))
        assert_as_read_image(path)
        with open_strips(path, max_pixels=LIMIT) as strips:
            assert strips.icc == SRGB_PROFILE
            assert strips.exif is not None
            assert b"Camera" in strips.exif
        with open_strips(path, max_pixels=LIMIT, drop_icc=True) as strips:
            assert strips.icc is None
    path = placed(tmp_path, tiff(5, 4, drawn(4, 5, 3).tobytes(), RGB_TAGS | D50_TAG))
    assert_as_read_image(path)
    with open_strips(path, max_pixels=LIMIT) as strips:
        assert strips.icc is not None


def test_rows_go_on_where_they_stopped(picture: Pixels, tmp_path: Path) -> None:
    for file_format in ("PNG", "TIFF", "PPM"):
        path = placed(tmp_path, saved(picture, file_format))
        with open_strips(path, max_pixels=LIMIT) as strips:
            first = next(strips.rows(7))
            rest = list(strips.rows(100))
            assert list(strips.rows()) == []
        np.testing.assert_array_equal(np.concatenate([first, *rest]), picture)


def test_names_are_no_options(picture: Pixels, tmp_path: Path) -> None:
    for name in ("a.tif[page=2]", "a.png[fail]", b"\xff.tif"):
        path = tmp_path / (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
        path.write_bytes(saved(picture, "TIFF"))
        np.testing.assert_array_equal(read(path), picture)


REFUSED = {
    "16 bits": (png(DRAWN.integers(0, 65536, (3, 4, 3)), depth=16), "16 bits"),
    "interlaced": (None, "interlaced"),
    "alpha": (png(DRAWN.integers(0, 255, (3, 4, 4)), kind=RGBA), "transparent in places"),
    "grey alpha": (png(DRAWN.integers(0, 255, (3, 4, 2)), kind=GREY_ALPHA), "transparent in places"),
    "key": (png(np.full((3, 4, 3), 9), chunk(b"tRNS", struct.pack(">3H", 9, 9, 9))), "transparent in places"),
    "HDR": (png(DRAWN.integers(0, 256, (3, 4, 3)), chunk(b"cICP", bytes([9, 16, 0, 1]))), "PQ"),
    "turned PNG": (
        png(np.zeros((3, 4, 3)), chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")),
        "orientation is 6",
    ),
    "animated": (
        png(np.zeros((3, 4, 3)), chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", bytes(26))),
        "2 frames",
    ),
    "deep TIFF": (tiff(2, 2, bytes(24), RGB_TAGS | {258: shorts(16, 16, 16)}), "16 bits a sample"),
    "two levels": (tiff(8, 2, bytes(2), {258: shorts(1), 262: shorts(1)}), "1 bits a sample"),
    "float": (
        tiff(2, 2, bytes(16), {258: shorts(32), 262: shorts(1), 339: shorts(3)}),
        "32 bits a sample",
    ),
    "signed": (tiff(2, 2, bytes(4), {258: shorts(8), 262: shorts(1), 339: shorts(2)}), "signed"),
    "palette": (
        tiff(2, 2, bytes(4), {258: shorts(8), 262: shorts(3), 320: (3, drawn(1536).tobytes())}),
        "photometric 3",
    ),
    "white is zero": (tiff(2, 2, bytes(4), {258: shorts(8), 262: shorts(0)}), "photometric 0"),
    "CMYK": (
        tiff(2, 2, bytes(16), {258: shorts(8, 8, 8, 8), 262: shorts(5), 277: shorts(4)}),
        "photometric 5",
    ),
    "Lab": (tiff(2, 2, bytes(12), RGB_TAGS | {262: shorts(8)}), "photometric 8"),
    "YCbCr": (tiff(2, 2, bytes(12), RGB_TAGS | {262: shorts(6), 530: shorts(1, 1)}), "photometric 6"),
    "planes": (tiff(2, 2, bytes(12), RGB_TAGS | {259: shorts(5), 284: shorts(2)}), "one after another"),
    "reversed": (tiff(2, 2, bytes(12), RGB_TAGS | {266: shorts(2)}), "reversed bits"),
    "more samples": (
        tiff(2, 2, bytes(20), {258: shorts(*[8] * 5), 262: shorts(2), 277: shorts(5), 338: shorts(0, 0)}),
        "5 samples a pixel",
    ),
    "other compression": (tiff(2, 2, bytes(12), RGB_TAGS | {259: shorts(50000)}), "compression 50000"),
    "turned TIFF": (tiff(2, 2, bytes(12), RGB_TAGS | {274: shorts(3)}), "orientation is 3"),
    "wide PPM": (b"P6 2 2 65535\n" + bytes(24), "0 to 255"),
    "few levels": (b"P6 2 2 15\n" + bytes(12), "0 to 255"),
    "JPEG": (saved(np.zeros((8, 8, 3)), "JPEG"), "expected PNG, TIFF or PPM"),
    "text": (b"once upon a time", "expected PNG, TIFF or PPM"),
    "nothing": (b"", "expected PNG, TIFF or PPM"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(tmp_path: Path, kind: str) -> None:
    data, said = REFUSED[kind]
    if data is None:
        whole = bytearray(png(np.zeros((3, 4, 3))))
        whole[8:33] = chunk(b"IHDR", whole[16:28] + b"\1")
        data = bytes(whole)
    assert said in refusal(placed(tmp_path, data))


def test_pages_are_refused(picture: Pixels, tmp_path: Path) -> None:
    file = io.BytesIO()
    page = Pil.fromarray(picture)
    page.save(file, "TIFF", save_all=True, append_images=[page])
    assert "several pages" in refusal(placed(tmp_path, file.getvalue()))


def test_large_parts_are_refused(tmp_path: Path) -> None:
    one_strip = tiff(2, 2, bytes(12), RGB_TAGS | {259: shorts(5)})
    large = one_strip.replace(struct.pack("<HHII", 279, 4, 1, 12), struct.pack("<HHII", 279, 4, 1, 2**26 + 1))
    assert large != one_strip
    assert "a part of 67108865 bytes" in refusal(placed(tmp_path, large))
    tiles = {322: (4, struct.pack("<I", 16)), 323: (4, struct.pack("<I", 2**20))}
    tiles |= {324: (4, struct.pack("<I", 8)), 325: (4, struct.pack("<I", 12))}
    wide = tiff(60000, 16, bytes(12), RGB_TAGS | {259: shorts(5)} | tiles)
    assert "tiles of 1048576 rows" in refusal(placed(tmp_path, wide))


def test_sizes(tmp_path: Path, picture: Pixels) -> None:
    for file_format in ("PNG", "TIFF", "PPM"):
        path = placed(tmp_path, saved(picture, file_format))
        assert "at most 30399 pixels are read" in refusal(path, max_pixels=190 * 160 - 1)
        with open_strips(path, max_pixels=190 * 160) as strips:
            assert strips.width == 190
    assert "sides go up to 65535" in refusal(placed(tmp_path, b"P6 65536 1 255\n" + bytes(3 * 65536)))
    assert "no such file" in refusal(tmp_path / "missing.png")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("tiles", {"compression": "deflate", "tile_width": 64, "tile_height": 64}),
        ("tiles", {"compression": "none", "tile_width": 64, "tile_height": 64}),
    ],
)
def test_cut_short(picture: Pixels, tmp_path: Path, kind: str, options: Any) -> None:
    if kind == "tiles":
        data = pyvips.Image.new_from_array(picture).tiffsave_buffer(tile=True, **options)
    else:
        data = saved(picture, kind, **options)
    # of a PNG, what says that it ends is not missed
    end = data.index(b"IEND") - 4 if kind == "PNG" else len(data)
    for length in {20, 40, 200, len(data) // 4, len(data) // 2, len(data) - 500, end - 1}:
        assert "is damaged" in refusal(placed(tmp_path, data[:length]))


def test_damage_is_never_pixels(picture: Pixels, tmp_path: Path) -> None:
    """One byte of compressed data is another: read_image refuses such a file or reads it as it is read here."""
    image = pyvips.Image.new_from_array(picture)
    files = [
        saved(picture, "PNG"),
        saved(picture, "TIFF", compression="tiff_adobe_deflate"),
        image.tiffsave_buffer(compression="deflate", tile=True, tile_width=64, tile_height=64),
        image.tiffsave_buffer(compression="lzw", tile=True, tile_width=64, tile_height=64),
    ]
    places = np.random.default_rng(2)
    refused = 0
    for data in files:
        for _ in range(12):
            damaged = bytearray(data)
            damaged[places.integers(600, len(data) - 600)] ^= 1 << places.integers(8)
            path = placed(tmp_path, bytes(damaged))
            try:
                whole = read_image(path).pixels
            except InputError:
                assert "is damaged" in refusal(path)
                refused += 1
            else:
                np.testing.assert_array_equal(read(path), whole)
    assert refused >= 36


def test_errors_of_the_block_pass_through(picture: Pixels, tmp_path: Path) -> None:
    for file_format in ("PNG", "PPM"):
        path = placed(tmp_path, saved(picture, file_format))
        with pytest.raises(ZeroDivisionError), open_strips(path, max_pixels=LIMIT):
            raise ZeroDivisionError


def test_without_libvips(picture: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    for file_format in ("PNG", "TIFF"):
        path = placed(tmp_path, saved(picture, file_format))
        with pytest.raises(DependencyError, match=r"pyvips.*s2c-deploy\[huge\]"), open_strips(path, max_pixels=LIMIT):
            pass
    path = placed(tmp_path, saved(picture, "PPM"))
    np.testing.assert_array_equal(read(path), picture)


def test_a_library_that_is_missing(picture: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyvips.py").write_text("raise OSError('cannot load library libvips.so.42')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyvips")
    path = placed(tmp_path, saved(picture, "PNG"))
    with pytest.raises(DependencyError), open_strips(path, max_pixels=LIMIT):
        pass


def test_nothing_stays_open(picture: Pixels, tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    paths = [tmp_path / "picture.png", tmp_path / "picture.tif"]
    for path in paths:
        Pil.fromarray(picture).save(path)
        read(path)
    gc.collect()  # what other tests left
    before = count()
    for path in paths * 5:
        read(path)
    assert count() <= before


def test_larger_than_pillow_decodes(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    sent = pyvips.Image.black(30000, 7000).copy(interpretation="b-w")
    sent.tiffsave(str(path), compression="lzw", tile=True)
    assert 2 * (Pil.MAX_IMAGE_PIXELS or 0) < 30000 * 7000
    with open_strips(path, max_pixels=LIMIT) as strips:
        assert (strips.width, strips.height) == (30000, 7000)
        assert not next(strips.rows(16)).any()


def test_memory(tmp_path: Path) -> None:
    """144 MB of pixels are written and read, and a process grows by less than half of that."""
    code = """
import sys
from pathlib import Path
import numpy as np
import pyvips
from s2c_deploy.pictures.strips_reading import open_strips
from s2c_deploy.pictures.strips_writing import write_strips

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def rows():
    strip = np.zeros((100, 4000, 3), np.uint8)
    for top in range(0, 12000, 100):
        strip[:] = top // 100
        yield strip

path, before = Path(sys.argv[1]), peak()
write_strips(path, rows(), width=4000, height=12000, icc=None, exif=None)
with open_strips(path, max_pixels=2**32) as strips:
    assert all((strip == at).all() for at, strip in enumerate(strips.rows(100)))
print((peak() - before) // 1024)
"""
    for suffix in (".tif", ".png"):
        command = [sys.executable, "-c", code, str(tmp_path / f"picture{suffix}")]
        many_cores = os.environ | {"VIPS_CONCURRENCY": "64"}  # for which libvips would keep rows
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=many_cores)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 72
