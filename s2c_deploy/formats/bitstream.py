"""The ``.s2c`` container, version 1: what surrounds the entropy coder's bytes.  Layout: docs/bitstream.md.

Needs no torch and no engine.  Reading checks every field before it allocates anything that a field asks for.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

from s2c_deploy.contract import MAX_PIXELS
from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError, InputError
from s2c_deploy.formats.grid import MAX_SIDE, TILE_UNIT, Tile, check_size, tile_at, tile_count

MAGIC = b"\xf5S2C"
VERSION = 1
VARIANTS = ("identity", "conv", "attention", "hybrid")
PRESETS = ("custom", "tiny", "small", "base", "large")
FINGERPRINT_SIZE = 8
MAX_SECTION = 0xFFFFFFFF
MAX_METADATA = 16 * 2**20
DEFAULT_MAX_PIXELS = MAX_PIXELS
MIN_QUALITY, MAX_QUALITY, QUALITY_STEPS = 1.0, 8.0, 32

HEADER = struct.Struct("<4s4B3H8s")
ENTRY = struct.Struct("<II")
CRC = struct.Struct("<I")
_FLAG_ICC, _FLAG_EXIF, _FLAG_SEAMLESS = 1, 2, 4
_MAX_STEP = round((MAX_QUALITY - MIN_QUALITY) * QUALITY_STEPS)
DAMAGED = "the file is damaged: fetch or copy it again"


def quality_step(quality: float) -> int:
    """The header's step 0..224 nearest to ``quality`` in 1..8; halves go up.  :class:`InputError` outside."""
    try:
        value = math.nan if isinstance(quality, str | bytes | bool) else float(quality)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not MIN_QUALITY <= value <= MAX_QUALITY:
        raise InputError(f"quality {quality!r:.40} is not one of 1 to 8", hint="pass a number from 1 to 8")
    return math.floor((value - MIN_QUALITY) * QUALITY_STEPS + 0.5)


def step_quality(step: int) -> float:
    """The quality of a header step: 1 + step/32, exact in float32.  :class:`InputError` outside 0..224."""
    if not 0 <= step <= _MAX_STEP:
        raise InputError(f"quality step {step} is out of range", hint=f"pass an integer from 0 to {_MAX_STEP}")
    return MIN_QUALITY + step / QUALITY_STEPS


def round_quality(quality: float) -> float:
    """``quality`` as the stream will carry it; encode with this value, since the decoder knows no other."""
    return step_quality(quality_step(quality))


def refuse_large(width: int, height: int, tile: int, max_pixels: int | None) -> None:
    """BitstreamError for a stream's picture that :func:`check_size` finds too large; InputError for no such limit."""
    known = max_pixels is None or (hasattr(max_pixels, "__index__") and not isinstance(max_pixels, bool))
    if not known or (max_pixels is not None and max_pixels < 1):
        raise InputError(f"max_pixels: expected None or 1 or more, found {max_pixels!r:.80}")
    if (problem := check_size(width, height, tile, max_pixels)) is not None:
        expected, found, hint = problem
        raise BitstreamError("dimensions", expected=expected, found=found, hint=hint)


def check_file_size(expected: int, found: int) -> None:
    """BitstreamError unless a file has as many bytes as its section table says."""
    if expected != found:
        hint = "the file was cut short" if expected > found else "something was appended to the file"
        raise BitstreamError("file size", expected=f"{expected} bytes", found=f"{found} bytes", hint=hint)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Everything a ``.s2c`` file says.  Making one checks it: :class:`InputError` for what cannot be written."""

    width: int
    height: int
    variant: str
    preset: str
    #: A multiple of 1/32 in 1..8 (``round_quality``).
    quality: float
    #: In pixels, 0 for one tile.
    tile: int
    #: The first 8 bytes of the bundle's.
    fingerprint: bytes
    #: Entropy payloads in the order of ``tile_grid``; ``stream_file`` has them read when they are asked for.
    tiles: Sequence[bytes]
    icc: bytes | None = None
    #: A TIFF block, without ``Exif\\0\\0`` in front.
    exif: bytes | None = None
    #: Of several tiles: whether their latents are parts of one latent, over which g_s runs; else each is a picture.
    seamless: bool = False

    def part(self, number: int) -> Tile:
        """Where a tile lies, by its number in ``tiles``."""
        return tile_at(self.width, self.height, self.tile, number)

    def __post_init__(self) -> None:
        expected = tile_count(self.width, self.height, self.tile)
        if self.seamless and expected < 2:
            raise InputError("a seamless stream of one tile", hint="seamless: False")
        for name, value, known in (("variant", self.variant, VARIANTS), ("preset", self.preset, PRESETS)):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}", hint=f"known: {', '.join(known)}")
        if round_quality(self.quality) != self.quality:
            raise InputError(f"quality {self.quality} is not a multiple of 1/32", hint="use round_quality()")
        if len(self.fingerprint) != FINGERPRINT_SIZE:
            raise InputError(
                f"a fingerprint of {len(self.fingerprint)} bytes", hint=f"pass the first {FINGERPRINT_SIZE}"
            )
        if len(self.tiles) != expected:
            raise InputError(
                f"{len(self.tiles)} tile payloads for a grid of {expected}",
                hint="one for each of tile_grid()",
            )
        for name, data in (("ICC profile", self.icc), ("EXIF block", self.exif)):
            if data is not None and not 1 <= len(data) <= MAX_METADATA:
                raise InputError(
                    f"the {name} has {len(data)} bytes",
                    hint=f"1 to {MAX_METADATA} can be kept; leave it out: --drop-icc, --strip-metadata, or pass None",
                )
        for index, payload in enumerate(self.tiles if isinstance(self.tiles, tuple) else ()):
            if len(payload) > MAX_SECTION:
                raise InputError(
                    f"the payload of tile {index} has {len(payload)} bytes",
                    hint=f"it may have {MAX_SECTION} at most",
                )


def pack(stream: Stream) -> bytes:
    """The bytes of a ``.s2c`` file."""
    sections = [*stream_metadata(stream), *stream.tiles]
    head = pack_head(stream, [(len(data), crc32c(data)) for data in sections])
    return b"".join([head, *sections])


def stream_metadata(stream: Stream) -> list[bytes]:
    """The sections before the tiles."""
    return [data for data in (stream.icc, stream.exif) if data]


def pack_head(stream: Stream, entries: Iterable[tuple[int, int]]) -> bytes:
    """What stands before the sections, of which the entries are length and checksum."""
    flags = sum(
        flag
        for flag, there in ((_FLAG_ICC, stream.icc), (_FLAG_EXIF, stream.exif), (_FLAG_SEAMLESS, stream.seamless))
        if there
    )
    model = VARIANTS.index(stream.variant) << 4 | PRESETS.index(stream.preset)
    head = b"".join(
        [
            HEADER.pack(
                MAGIC,
                VERSION,
                flags,
                model,
                quality_step(stream.quality),
                stream.width,
                stream.height,
                stream.tile // TILE_UNIT,
                stream.fingerprint,
            ),
            *(ENTRY.pack(*entry) for entry in entries),
        ]
    )
    return head + CRC.pack(crc32c(head))


def parse(data: bytes, *, max_pixels: int | None = None) -> Stream:
    """Read and check a whole ``.s2c`` file.

    Raises :class:`BitstreamError` for every malformed input, and for a picture of more than ``max_pixels``
    (:func:`check_size`); :class:`InputError` for what is no contiguous bytes.
    Holds at most one copy of ``data`` and about 300 bytes per section; the number of sections is bounded by
    the picture's size and by ``len(data) / 9``.  Whether the fingerprint is the right one is for the caller
    to say.
    """
    view = _view(data)
    header = read_header(view)
    header.check_table(view)
    variant, preset, quality = read_model(header.model, header.step)
    refuse_large(header.width, header.height, header.tile, max_pixels)
    names = [*header.metadata, *(f"tile {index}" for index in range(header.tiles))]
    sections = dict(zip(names, _read_sections(view, names, header.table_end), strict=True))
    return Stream(
        width=header.width,
        height=header.height,
        variant=variant,
        preset=preset,
        quality=quality,
        tile=header.tile,
        fingerprint=header.fingerprint,
        seamless=header.seamless,
        icc=sections.pop("icc", None),
        exif=sections.pop("exif", None),
        tiles=tuple(sections.values()),
    )


def _view(data: object) -> memoryview:
    """The bytes of what is bytes, or like bytes and in one piece."""
    try:
        return memoryview(data).cast("B")  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        hint = "read the file first: Path(name).read_bytes()" if isinstance(data, str | PathLike) else "pass bytes"
        raise InputError(f"stream: expected its bytes, found {type(data).__name__}", hint=hint) from None


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fixed part; ``metadata`` names the sections before the tiles, the CRC is at ``table_end``."""

    model: int
    step: int
    width: int
    height: int
    tile: int
    fingerprint: bytes
    seamless: bool
    metadata: list[str]
    tiles: int

    @property
    def table_end(self) -> int:
        return HEADER.size + (len(self.metadata) + self.tiles) * ENTRY.size

    def check_table(self, view: memoryview) -> None:
        """BitstreamError unless the section table is there and it and the header have their checksum."""
        # every section has a table entry: a number of them that cannot be there stops here
        need = self.table_end + CRC.size
        if need > len(view):
            expected = f"{need} bytes or more for {self.tiles} tiles"
            raise BitstreamError("section table", expected=expected, found=f"{len(view)} bytes", hint=DAMAGED)
        check_crc("header", view[: self.table_end], *CRC.unpack_from(view, self.table_end))


def read_header(view: memoryview) -> Header:
    """The fields in front, checked as far as finding the checksum needs it: ``Header.check_table`` is next."""
    size = len(view)
    if bytes(view[:4]) != MAGIC:
        found = bytes(view[:4]).hex() or "nothing"
        raise BitstreamError("magic", expected=MAGIC.hex(), found=found, hint="this is not a .s2c file")
    if size > 4 and view[4] != VERSION:
        hint = "written by a newer s2c-deploy: upgrade this one" if view[4] > VERSION else DAMAGED
        raise BitstreamError("version", expected=VERSION, found=view[4], hint=hint)
    if size < HEADER.size:
        raise BitstreamError("header", expected=f"{HEADER.size} bytes", found=f"{size} bytes", hint=DAMAGED)
    _, _, flags, model, step, width, height, units, fingerprint = HEADER.unpack_from(view)
    if flags & ~(_FLAG_ICC | _FLAG_EXIF | _FLAG_SEAMLESS):
        hint = "written by a newer s2c-deploy, or damaged: upgrade, or fetch it again"
        raise BitstreamError("flags", expected="bits 0 to 2 only", found=f"0x{flags:02x}", hint=hint)
    for name, side in (("width", width), ("height", height)):
        if not side:
            raise BitstreamError(name, expected=f"1 to {MAX_SIDE}", found=0, hint=DAMAGED)
    tiles = tile_count(width, height, units * TILE_UNIT)
    if flags & _FLAG_SEAMLESS and tiles < 2:
        raise BitstreamError("flags", expected="bit 2 with several tiles only", found="one tile", hint=DAMAGED)
    metadata = [name for bit, name in ((_FLAG_ICC, "icc"), (_FLAG_EXIF, "exif")) if flags & bit]
    return Header(
        model=model,
        step=step,
        width=width,
        height=height,
        tile=units * TILE_UNIT,
        fingerprint=fingerprint,
        seamless=bool(flags & _FLAG_SEAMLESS),
        metadata=metadata,
        tiles=tiles,
    )


def read_model(model: int, step: int) -> tuple[str, str, float]:
    """Variant, preset and quality.  Read after the checksum: what is unknown then is no damage."""
    variant, preset = model >> 4, model & 15
    hint = "written by a newer s2c-deploy, or by a broken one"
    if variant >= len(VARIANTS):
        raise BitstreamError("variant", expected=f"0 to {len(VARIANTS) - 1}", found=variant, hint=hint)
    if preset >= len(PRESETS):
        raise BitstreamError("preset", expected=f"0 to {len(PRESETS) - 1}", found=preset, hint=hint)
    if step > _MAX_STEP:
        raise BitstreamError("quality step", expected=f"0 to {_MAX_STEP}", found=step, hint=hint)
    return VARIANTS[variant], PRESETS[preset], step_quality(step)


def _read_sections(view: memoryview, names: list[str], table_end: int) -> list[bytes]:
    entries = list(ENTRY.iter_unpack(view[HEADER.size : table_end]))
    start = table_end + CRC.size
    for name, (length, _) in zip(names, entries, strict=True):
        if name in ("icc", "exif"):
            check_metadata_size(name, length)
    check_file_size(start + sum(length for length, _ in entries), len(view))
    sections = []
    for name, (length, crc) in zip(names, entries, strict=True):
        part = view[start : start + length]
        check_crc(name, part, crc)
        sections.append(bytes(part))
        start += length
    return sections


def check_metadata_size(name: str, length: int) -> None:
    if not length:
        raise BitstreamError(name, expected="at least 1 byte", found="0 bytes", hint=DAMAGED)
    if length > MAX_METADATA:
        raise BitstreamError(name, expected=f"at most {MAX_METADATA} bytes", found=f"{length} bytes")


def check_crc(name: str, part: memoryview, stored: int) -> None:
    found = crc32c(part)
    if found != stored:
        raise BitstreamError(f"checksum of {name}", expected=f"0x{stored:08x}", found=f"0x{found:08x}", hint=DAMAGED)
