"""TIFF files of every layout of samples that Pillow knows: read rightly, or refused with the reason."""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from s2c_deploy.errors import InputError
from s2c_deploy.image import decode_image

WIDTH, HEIGHT, ROWS, TILE = 20, 19, 4, 16
RAW, DEFLATE = 1, 8
INVERTED, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
REVERSED = np.array([int(f"{value:08b}"[::-1], 2) for value in range(256)], np.uint8)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """places: "one" strip, "strips" or "tiles"; more: tags that are added or replaced, as numbers of 16 bits."""

    bits: int = 8
    photometric: int = RGB
    extra: tuple[int, ...] = ()
    order: str = "<"
    fill: int = 1
    planar: int = 1
    compression: int = RAW
    predictor: int = 1
    places: str = "one"
    sample_format: int = 1
    missing: int = 0
    more: tuple[tuple[int, tuple[int, ...]], ...] = ()


def stored(part: Any, layout: Layout) -> bytes:
    values = part.astype(np.int64)
    if layout.predictor == 2:
        values[:, 1:] = (values[:, 1:] - part[:, :-1]) & ((1 << layout.bits) - 1)
    rows = values.reshape(len(values), -1)
    if layout.bits >= 16:
        return bytes(rows.astype(f"{layout.order}u{layout.bits // 8}").tobytes())
    bits = (rows[:, :, None] >> np.arange(layout.bits - 1, -1, -1) & 1).astype(np.uint8)
    return np.packbits(bits.reshape(len(rows), -1), axis=1).tobytes()


def compressed(part: Any, layout: Layout) -> bytes:
    data = stored(part, layout)
    data = zlib.compress(data) if layout.compression == DEFLATE else data
    return REVERSED[np.frombuffer(data, np.uint8)].tobytes() if layout.fill == 2 else data


def parts(pixels: Any, layout: Layout) -> list[bytes]:
    channels = pixels.shape[2]
    planes = [pixels] if layout.planar == 1 else [pixels[:, :, at : at + 1] for at in range(channels)]
    found = []
    for plane in planes:
        height, width = plane.shape[:2]
        if layout.places == "tiles":
            whole = np.pad(plane, ((0, -height % TILE), (0, -width % TILE), (0, 0)))
            corners = itertools.product(range(0, height, TILE), range(0, width, TILE))
            found += [whole[top : top + TILE, left : left + TILE] for top, left in corners]
        else:
            rows = height if layout.places == "one" else ROWS
            found += [plane[top : top + rows] for top in range(0, height, rows)]
    data = [compressed(part, layout) for part in found]
    return data[: len(data) - layout.missing]


def write(pixels: Any, layout: Layout) -> bytes:
    """pixels: integers (height, width, samples)."""
    height, width, samples = pixels.shape
    data = parts(pixels, layout)
    ends = 8 + np.cumsum([0, *map(len, data)])
    tags = {256: [width], 257: [height], 258: [layout.bits] * samples, 259: [layout.compression]}
    tags |= {262: [layout.photometric], 277: [samples], 284: [layout.planar], 339: [layout.sample_format] * samples}
    tags |= {266: [layout.fill], 317: [layout.predictor]}
    if layout.extra:
        tags[338] = list(layout.extra)
    tags |= {322: [TILE], 323: [TILE]} if layout.places == "tiles" else {278: [height if layout.places == "one" else 4]}
    tags |= {tag: list(values) for tag, values in layout.more}
    offsets, lengths = (324, 325) if layout.places == "tiles" else (273, 279)
    body = b"".join(data) + bytes(sum(map(len, data)) % 2)
    far_at, far, table = 8 + len(body) + 2 + 12 * (len(tags) + 2) + 4, b"", b""
    for tag, values in sorted((tags | {offsets: ends[:-1].tolist(), lengths: [*map(len, data)]}).items()):
        kind, letter = (4, "I") if tag in (offsets, lengths) else (3, "H")
        packed = struct.pack(f"{layout.order}{len(values)}{letter}", *values)
        table += struct.pack(layout.order + "HHI", tag, kind, len(values))
        table += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(layout.order + "I", far_at + len(far))
        far += packed + bytes(len(packed) % 2) if len(packed) > 4 else b""
    head = b"II*\0" if layout.order == "<" else b"MM\0*"
    count = struct.pack(layout.order + "H", len(tags) + 2)
    return head + struct.pack(layout.order + "I", 8 + len(body)) + body + count + table + bytes(4) + far


def meaning(pixels: Any, layout: Layout) -> Any:
    """RGB on black, of 16-bit colour the high byte."""
    peak = (1 << layout.bits) - 1
    if layout.photometric == PALETTE:
        levels = np.array(dict(layout.more)[320]).reshape(3, -1).T // 256
        colours, own = levels[pixels[:, :, 0]], 1
    elif layout.photometric == RGB:
        colours, own = pixels[:, :, :3] >> layout.bits - 8, 3
    else:
        grey = peak - pixels[:, :, 0] if layout.photometric == INVERTED else pixels[:, :, 0]
        colours, own = np.stack([(grey * 510 + peak) // (2 * peak)] * 3, axis=2), 1
    if layout.extra[:1] in ((2,), (999,)) or (layout.photometric == RGB and pixels.shape[2] == 4 and not layout.extra):
        alpha = pixels[:, :, own] >> max(layout.bits - 8, 0)
        colours = (colours * alpha[:, :, None] + 127) // 255
    return colours


def samples(layout: Layout, channels: int) -> Any:
    pixels = np.random.default_rng(5).integers(0, 1 << layout.bits, (HEIGHT, WIDTH, channels))
    if layout.extra[:1] == (1,):  # premultiplied colours are no higher than their alpha
        own = 3 if layout.photometric == RGB else 1
        pixels[:, :, :own] = np.minimum(pixels[:, :, :own], pixels[:, :, own : own + 1])
    return pixels


def palette(bits: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    levels = np.random.default_rng(6).integers(0, 65536, 3 << bits)
    return ((320, tuple(levels.tolist())),)


KINDS = [
    *(Layout(bits=bits, photometric=kind) for bits in (1, 2, 4, 8, 12, 16) for kind in (INVERTED, BLACK_IS_ZERO)),
    *(Layout(bits=bits, photometric=PALETTE, more=palette(bits)) for bits in (1, 2, 4, 8)),
    *(Layout(bits=8, photometric=BLACK_IS_ZERO, extra=(kind,)) for kind in (0, 1, 2)),
    *(Layout(bits=bits, extra=extra) for bits in (8, 16) for extra in ((), (0,), (1,), (2,))),
    *(Layout(bits=8, extra=extra) for extra in ((0, 0), (1, 0), (2, 0), (999,))),
]
REASONS = ("planar TIFF (", "unknown pixel mode", "in a way that is not read here")


def read_or_refused(data: bytes) -> tuple[Any, str]:
    try:
        return decode_image(data, background="black").pixels, ""
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.bits} bits, {kind.photometric}, {kind.extra}")
def test_every_layout(kind: Layout) -> None:
    channels = len(kind.extra) + (3 if kind.photometric == RGB else 1)
    pixels, read = samples(kind, channels), 0
    every = itertools.product("<>", (1, 2), (1, 2), ("one", "strips", "tiles"), (RAW, DEFLATE), (1, 2))
    for order, fill, planar, places, compression, predictor in every:
        if predictor == 2 and (compression != DEFLATE or kind.bits not in (8, 16)):
            continue
        layout = replace(
            kind, order=order, fill=fill, planar=planar, places=places, compression=compression, predictor=predictor
        )
        found, reason = read_or_refused(write(pixels, layout))
        if found is None:
            assert any(known in reason for known in REASONS), (layout, reason)
            # what is common is read
            assert fill == 2 or kind.bits == 12 or planar == 2, (layout, reason)
            continue
        read += 1
        assert found.shape == (HEIGHT, WIDTH, 3)
        wrong = abs(found.astype(int) - meaning(pixels, layout)) > 1
        # dividing by a small alpha and multiplying again rounds twice
        assert wrong.mean() < (0.05 if kind.extra[:1] == (1,) else 1e-9), layout
    assert read >= (6 if kind.photometric == BLACK_IS_ZERO else 0) if kind.bits == 12 else read >= 12


def refusal(pixels: Any, layout: Layout) -> str:
    with pytest.raises(InputError) as caught:
        decode_image(write(pixels, layout), background="black")
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("order", "<>")
def test_signed_grey(bits: int, order: str) -> None:
    layout = Layout(bits=bits, photometric=BLACK_IS_ZERO, sample_format=2, order=order)
    assert f"TIFF of signed {bits}-bit samples" in refusal(samples(layout, 1), layout)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("places", ["strips", "tiles"])
@pytest.mark.parametrize("compression", [RAW, DEFLATE])
def test_parts_without_a_place(planar: int, places: str, compression: int) -> None:
    for missing in (1, 2):
        layout = Layout(planar=planar, places=places, compression=compression, missing=missing)
        assert "damaged" in refusal(samples(layout, 3), layout)
    assert "expected 3" in refusal(samples(Layout(), 3), Layout(planar=2, missing=2))


def changed(tag: int, values: bytes, data: bytes) -> bytes:
    """A little-endian file with another field of a tag, which has one value."""
    at = data.rindex(struct.pack("<HHI", tag, 4, 1))
    return data[: at + 8] + values + data[at + 12 :]


def test_parts_that_lie_nowhere_or_are_too_short() -> None:
    data = write(samples(Layout(), 3), Layout())
    for tag, value, reason in ((273, 0, "lies nowhere"), (279, 1139, "has 1139 bytes, expected 1140")):
        with pytest.raises(InputError, match=reason):
            decode_image(changed(tag, struct.pack("<I", value), data))
    assert decode_image(changed(279, struct.pack("<I", 0), data)).width == WIDTH  # some programs write none


@pytest.mark.parametrize("levels", [(320, (0, 255) * 3), (320, (0,) * 9)], ids=["8 bits", "too long"])
def test_palettes(levels: tuple[int, tuple[int, ...]]) -> None:
    layout = Layout(bits=1, photometric=PALETTE, more=(levels,))
    assert "palette" in refusal(samples(layout, 1), layout)


def test_uncompressed_ycbcr() -> None:
    grey = np.full((4, 4, 3), 128)
    grey[:, :, 0] = 77
    whole = Layout(photometric=YCBCR, more=((530, (1, 1)),))
    assert (decode_image(write(grey, whole)).pixels == 77).all()
    assert "subsampled" in refusal(grey, replace(whole, more=((530, (2, 2)),)))
    assert "subsampled" in refusal(grey, replace(whole, more=()))  # as it is where nothing is said


def test_tags_that_readers_understand_differently() -> None:
    pixels = samples(Layout(), 3)
    data = write(pixels, Layout())
    at = data.rindex(struct.pack("<HHI", 284, 3, 1))
    as_byte = data[:at] + struct.pack("<HHIB3x", 284, 1, 1, 2) + data[at + 12 :]
    with pytest.raises(InputError, match="tag 284 is of type 1"):
        decode_image(as_byte)
    twice = data[:at] + struct.pack("<HHIH2x", 277, 3, 1, 1) + data[at + 12 :]
    with pytest.raises(InputError, match="tag 277 comes twice"):
        decode_image(twice)
    at = data.rindex(struct.pack("<HHI", 262, 3, 1))
    silent = data[:at] + struct.pack("<HHIH2x", 263, 3, 1, 1) + data[at + 12 :]
    with pytest.raises(InputError, match="does not say"):
        decode_image(silent)
