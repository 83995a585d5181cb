"""JPEG, WebP, GIF, AVIF, TIFF and bitmaps: what Pillow stumbles over or passes over in silence."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest
from picture_files import png, refusal, rows_of, saved, tiff
from PIL import ImageCms

from s2c_deploy.image import decode_image

ROWS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(0, 0, 0), (255, 255, 255), (9, 99, 199)]]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = b"II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x010F, 2, 4, b"Cam\0", 0)


# --- JPEG


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(*segments: bytes, **options: Any) -> bytes:
    data = saved(np.full((8, 8, 3), (200, 100, 50)), "JPEG", quality=95, **options)
    return data[:2] + b"".join(segments) + data[2:]


PLAIN = decode_image(jpeg()).pixels


@pytest.mark.parametrize(
    "segments",
    [
        (segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1"),),
        (segment(0xE2, b"MPF\0junk"),),
        (segment(0xE2, b"MPF\0II*\0" + struct.pack("<IH", 8, 60000)),),
        (segment(0xE0, b"JFIF\0"),),
        (segment(0xEE, b"Adobe"),),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"),),
        (segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60000)),) * 40,
        (segment(0xFE, b"comment"),),
        (segment(0xE5, b""),),
        (b"\xff\xff\xff", segment(0xFE, b"")),
    ],
    ids=["8BIM", "MPF", "MPF count", "JFIF", "Adobe", "XMP", "extended XMP", "comment", "empty", "fill"],
)
def test_jpeg_segments_that_are_no_part_of_the_picture(segments: tuple[bytes, ...]) -> None:
    found = decode_image(jpeg(*segments))
    np.testing.assert_array_equal(found.pixels, PLAIN)
    assert (found.icc, found.exif, found.dropped) == (None, None, ())


def parts(profile: bytes, size: int, count: int | None = None) -> list[bytes]:
    pieces = [profile[at : at + size] for at in range(0, len(profile), size)]
    total = len(pieces) if count is None else count
    return [segment(0xE2, b"ICC_PROFILE\0" + bytes([at + 1, total]) + piece) for at, piece in enumerate(pieces)]


def test_jpeg_profile_in_any_order_and_place() -> None:
    for found in (parts(PROFILE, 100), parts(PROFILE, 100)[::-1]):
        assert decode_image(jpeg(*found)).icc == PROFILE
    data = jpeg()
    scan = data.index(b"\xff\xda")  # behind the frame's header
    assert decode_image(data[:scan] + b"".join(parts(PROFILE, 300)) + data[scan:]).icc == PROFILE


@pytest.mark.parametrize("bad", [parts(PROFILE, 100)[1:], parts(PROFILE, 100)[:-1], parts(PROFILE, 100, count=9)])
def test_jpeg_profile_of_which_parts_are_missing(bad: list[bytes]) -> None:
    found = decode_image(jpeg(*bad))
    assert (found.icc, found.dropped) == (None, ("ICC profile, damaged",))
    np.testing.assert_array_equal(found.pixels, PLAIN)


def test_jpeg_exif() -> None:
    assert decode_image(jpeg(segment(0xE1, b"Exif\0\0" + EXIF))).exif == EXIF
    long = EXIF + bytes(100_000)
    split = [segment(0xE1, b"Exif\0\0" + long[at : at + 60_000]) for at in (0, 60_000)]
    assert decode_image(jpeg(*split)).exif == long
    assert decode_image(jpeg(segment(0xE1, b"Exif\0\0junk"))).dropped == ("EXIF, damaged",)


def test_jpeg_says_how_its_colours_are_coded() -> None:
    rgb = saved(np.full((8, 8, 3), (200, 100, 50)), "JPEG", quality=95, keep_rgb=True)
    assert abs(decode_image(rgb).pixels.astype(int) - (200, 100, 50)).max() < 3
    assert "kind CMYK" in refusal(saved_cmyk())


def saved_cmyk() -> bytes:
    file = io.BytesIO()
    Pil.new("CMYK", (8, 8)).save(file, "JPEG")
    return file.getvalue()


def test_the_true_reason() -> None:
    deep = jpeg().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c")
    assert "kind JPEG that cannot be read: cannot handle 12-bit layers" in refusal(deep)
    odd = tiff(1, 1, bytes(8), {258: (3, struct.pack("<H", 64)), 262: (3, struct.pack("<H", 1)), 277: (3, b"\1\0")})
    assert "kind TIFF that cannot be read: unknown pixel mode" in refusal(odd)
    assert "not a picture of a known format" in refusal(b"plain text")


# --- WebP


def webp(lossless: bool) -> bytes:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255
    return saved(pixels, "WEBP", lossless=lossless, exif=EXIF)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("declared", [True, False])
def test_webp_with_alpha(lossless: bool, declared: bool) -> None:
    data = bytearray(webp(lossless))
    assert data[12:16] == b"VP8X"
    assert data[20] & 0x10
    if not declared:
        data[20] &= ~0x10
    assert "transparent in places" in refusal(bytes(data))
    found = decode_image(bytes(data), background="white").pixels
    assert found[0].max() < 5
    assert found[-1].min() == 255


def test_webp_frame_that_does_not_cover_the_picture() -> None:
    frame = saved(np.full((4, 4, 3), 77), "WEBP", lossless=True)[12:]
    body = struct.pack("<3s3s3s3s3sB", b"", b"", b"\3\0\0", b"\3\0\0", b"", 0) + frame
    canvas = b"VP8X" + struct.pack("<IB3x", 10, 2) + b"\7\0\0\7\0\0"
    inner = canvas + b"ANIM" + struct.pack("<IIH", 6, 0xFFFFFFFF, 0) + b"ANMF" + struct.pack("<I", len(body)) + body
    data = b"RIFF" + struct.pack("<I", len(inner) + 4) + b"WEBP" + inner
    assert "transparent in places" in refusal(data)
    found = decode_image(data, background="#ff0000").pixels
    assert found[0, 0].tolist() == [77, 77, 77]
    assert found[7, 7].tolist() == [255, 0, 0]


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"lossless": True, "exif": EXIF}])
def test_webp_size_is_checked_before_the_canvas_is_allocated(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(np.zeros((40, 50, 3)), "WEBP", **options)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile._open", lambda self: pytest.fail("opened"))
    assert "50x40 pixels" in refusal(data, max_pixels=1999)


# --- GIF


def gif(left: int, clear: int | None = None) -> bytes:
    """A canvas of 3 x 1, a frame of one pixel, of the palette's second colour."""
    control = b"" if clear is None else b"!\xf9\4\1\0\0" + bytes([clear]) + b"\0"
    frame = b"," + struct.pack("<4HB", left, 0, 1, 1, 0) + bytes([2, 2, 0x4C, 1, 0])
    return b"GIF89a" + struct.pack("<HHBBB", 3, 1, 0x80, 0, 0) + bytes([255, 0, 0, 0, 255, 0]) + control + frame + b";"


@pytest.mark.parametrize("left", [0, 1, 2])
def test_gif_frame_that_does_not_cover_the_picture(left: int) -> None:
    expected = [(0, 0, 255)] * 3
    expected[left] = (0, 255, 0)
    for data in (gif(left), gif(left, clear=0)):
        assert "transparent in places" in refusal(data)
        assert rows_of(decode_image(data, background="blue")) == [expected]
    assert rows_of(decode_image(gif(left, clear=1), background="blue")) == [[(0, 0, 255)] * 3]


# --- AVIF


def test_avif_with_damaged_exif() -> None:
    block = Pil.Exif()
    block[0x010F] = "Cam"
    data = saved(np.full((8, 8, 3), 99), "AVIF", exif=block)
    assert decode_image(data).dropped == ()
    assert b"Cam\0" in (decode_image(data).exif or b"")
    at = data.index(b"MM\0*")
    found = decode_image(data[:at] + b"junk" + data[at + 4 :])
    assert (found.exif, found.dropped) == (None, ("EXIF, damaged",))
    np.testing.assert_array_equal(found.pixels, decode_image(data).pixels)


@pytest.mark.filterwarnings("ignore:Tag data larger")  # as it is written
def test_avif_with_exif_whose_values_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    size, count = 2**20, 50
    place = 10 + 12 * count + 4
    entries = b"".join(struct.pack("<HHII", 0x9000 + tag, 7, size, place) for tag in range(count))
    hostile = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4) + bytes(size)
    data = saved(np.full((8, 8, 3), 99), "AVIF", exif=hostile)
    monkeypatch.setattr(Pil.Exif, "load", lambda *_: pytest.fail("copies them all"))
    assert decode_image(data).dropped == ("EXIF, damaged",)


# --- TIFF


def grey_tiff(values: bytes, *, bits: int, photometric: int, width: int = 2, order: str = "<") -> bytes:
    layout = {258: bits, 262: photometric, 277: 1}
    return tiff(width, 1, values, {tag: (3, struct.pack(order + "H", value)) for tag, value in layout.items()}, order)


def test_tiff_grey_levels() -> None:
    assert decode_image(grey_tiff(struct.pack("<HH", 0, 1000), bits=16, photometric=1)).pixels[0, :, 0].tolist() == [
        0,
        4,
    ]
    # white is zero
    negative = grey_tiff(struct.pack("<HH", 0, 64535), bits=16, photometric=0)
    assert decode_image(negative).pixels[0, :, 0].tolist() == [255, 4]
    assert decode_image(grey_tiff(bytes([0, 251]), bits=8, photometric=0)).pixels[0, :, 0].tolist() == [255, 4]
    # 12 bits, of which 4095 is white
    assert decode_image(grey_tiff(b"\xff\xf8\0", bits=12, photometric=1)).pixels[0, :, 0].tolist() == [255, 128]


def colour_tiff(samples: int, extra: int | None, *pixels: tuple[int, ...]) -> bytes:
    layout = {258: (3, struct.pack(f"<{samples}H", *[8] * samples)), 262: (3, b"\2\0"), 277: (3, bytes([samples, 0]))}
    if extra is not None:
        layout[338] = (3, struct.pack("<H", extra))
    return tiff(len(pixels), 1, bytes(value for pixel in pixels for value in pixel), layout)


def test_tiff_with_alpha() -> None:
    straight = colour_tiff(4, 2, (100, 50, 0, 255), (200, 0, 0, 51))
    premultiplied = colour_tiff(4, 1, (100, 50, 0, 255), (40, 0, 0, 51))
    for data in (straight, premultiplied, colour_tiff(4, None, (100, 50, 0, 255), (200, 0, 0, 51))):
        assert "transparent in places" in refusal(data)
        assert rows_of(decode_image(data, background="black")) == [[(100, 50, 0), (40, 0, 0)]]
    # a fourth sample that is said to be something else
    assert rows_of(decode_image(colour_tiff(4, 0, (100, 50, 0, 7)))) == [[(100, 50, 0)]]


def test_tiff_tiles_are_not_allocated_before_they_are_checked() -> None:
    tiles = {322: (4, struct.pack("<I", 2**16)), 323: (4, struct.pack("<I", 2**16))}
    layout = {258: (3, b"\10\0"), 262: (3, b"\1\0"), 277: (3, b"\1\0"), 324: (4, bytes(4)), 325: (4, bytes(4))}
    assert "tiles of 65536x65536" in refusal(tiff(1, 1, b"\0", layout | tiles))


@pytest.mark.parametrize("tag", [0x8769, 0x8825])
def test_tiff_with_damaged_exif(tag: int) -> None:
    layout = {258: (3, b"\10\0"), 262: (3, b"\1\0"), 277: (3, b"\1\0"), 0x010F: (2, b"Cam\0")}
    found = decode_image(tiff(1, 1, b"\x4d", layout | {tag: (4, struct.pack("<I", 2**31))}))
    assert rows_of(found) == [[(77, 77, 77)]]


# --- bitmaps


def bitmap16(alpha: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII4I", 56, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0, 0x7C00, 0x3E0, 0x1F, alpha)
    return struct.pack("<2sIII", b"BM", 74, 0, 70) + head + struct.pack("<HH", 0x7C00, 0)


def test_bitmap_of_16_bits_with_alpha() -> None:
    assert rows_of(decode_image(bitmap16(0))) == [[(255, 0, 0)]]
    assert "16-bit bitmap with transparency" in refusal(bitmap16(0x8000), background="white")


def bitmap32(*fourth: int, height: int = 1) -> bytes:
    """Pixels of 1, 2, 3 and these bytes, of which a header without masks does not say what they are."""
    pixels = b"".join(bytes([3, 2, 1, value]) for value in fourth)
    size = (len(fourth) // abs(height), height)
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, 32, 0, len(pixels), 0, 0, 0, 0)
    return struct.pack("<2sIII", b"BM", 54 + len(pixels), 0, 54) + head + pixels


def test_bitmap_of_32_bits() -> None:
    for unused in ((0, 0), (255, 255)):
        assert rows_of(decode_image(bitmap32(*unused))) == [[(1, 2, 3)] * 2]
    for height, expected in ((2, [[(1, 2, 3)], [(0, 0, 0)]]), (-2, [[(0, 0, 0)], [(1, 2, 3)]])):
        data = bitmap32(0, 255, height=height)  # from the bottom, or, below zero, from the top
        assert "transparent in places" in refusal(data)
        assert rows_of(decode_image(data, background="black")) == expected
    assert "transparent in places" in refusal(bitmap32(0, 255)[14:])
    assert "damaged" in refusal(bitmap32(0, 255)[:-1])


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "TGA", "BMP", "AVIF"])
def test_alpha_in_every_format_that_has_it(name: str) -> None:
    pixels = np.full((16, 16, 4), (100, 100, 100, 255), np.uint8)
    pixels[8:, :, 3] = 0
    options = {"lossless": True} if name == "WEBP" else {}
    data = saved(pixels, name, **options)
    assert "transparent in places" in refusal(data)
    found = decode_image(data, background="white").pixels.astype(int)
    assert abs(found[:7] - 100).max() < 4
    assert abs(found[9:] - 255).max() < 4


def test_a_file_that_is_only_its_first_bytes() -> None:
    for start in (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF\4\0\0\0WEBP",
        b"\0\0\0\x14ftypavif",
        b"GIF89a",
        b"BM",
        b"II*\0",
    ):
        for size in range(1, len(start) + 1):
            refusal(start[:size])
    assert "damaged" in refusal(png(ROWS)[:50])
