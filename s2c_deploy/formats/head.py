"""What a ``.s2c`` file says before its payloads, which are left unread: size, model, colour profile, EXIF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import (
    CRC,
    DAMAGED,
    ENTRY,
    HEADER,
    Header,
    check_crc,
    check_metadata_size,
    read_header,
    read_model,
)

_PART = 2**20


@dataclass(frozen=True, kw_only=True)
class Head:
    """The front of a stream, its checksums checked; the fields are those of ``Stream``."""

    width: int
    height: int
    variant: str
    preset: str
    quality: float
    #: In pixels, 0 for one tile.
    tile: int
    #: The first 8 bytes of the bundle's.
    fingerprint: bytes
    icc: bytes | None
    #: A TIFF block, without ``Exif\\0\\0`` in front.
    exif: bytes | None
    #: Where that block begins, in bytes from the stream's first; None without one.
    exif_start: int | None
    seamless: bool
    #: Lengths and checksums of the tiles' sections: ``bitstream.ENTRY`` after ENTRY.
    entries: bytes
    #: Where the first of them begins, in bytes from the stream's first.
    start: int
    #: Bytes of the whole stream, as its section table has it: 4 GiB a section at most.
    size: int


def read_head(file: BinaryIO) -> Head:
    """Reads a stream from where the file stands to its first payload: with ICC profile and EXIF 40 MiB at most.

    Raises :class:`BitstreamError` for a front that is malformed, damaged or cut short.  What it says of the size is
    not bounded: a reader that allocates pixels asks ``check_size``.
    """
    front = read_up_to(file, HEADER.size)
    header = read_header(memoryview(front))
    front += read_up_to(file, header.table_end + CRC.size - len(front))
    view = memoryview(front)
    header.check_table(view)
    variant, preset, quality = read_model(header.model, header.step)
    metadata, starts = _read_metadata(file, view, header)
    start = len(front) + sum(map(len, metadata.values()))
    entries = front[HEADER.size + len(metadata) * ENTRY.size : header.table_end]
    return Head(
        width=header.width,
        height=header.height,
        variant=variant,
        preset=preset,
        quality=quality,
        tile=header.tile,
        fingerprint=header.fingerprint,
        icc=metadata.get("icc"),
        exif=metadata.get("exif"),
        exif_start=starts.get("exif"),
        seamless=header.seamless,
        entries=entries,
        start=start,
        size=start + sum(length for length, _ in ENTRY.iter_unpack(entries)),
    )


def _read_metadata(file: BinaryIO, view: memoryview, header: Header) -> tuple[dict[str, bytes], dict[str, int]]:
    """The sections before the tiles, and where they begin."""
    found: dict[str, bytes] = {}
    starts: dict[str, int] = {}
    start = len(view)
    for index, name in enumerate(header.metadata):
        length, crc = ENTRY.unpack_from(view, HEADER.size + index * ENTRY.size)
        check_metadata_size(name, length)
        part = read_up_to(file, length)
        if len(part) != length:
            raise BitstreamError(name, expected=f"{length} bytes", found=f"{len(part)} bytes", hint=DAMAGED)
        check_crc(name, memoryview(part), crc)
        found[name], starts[name] = part, start
        start += length
    return found, starts


def read_up_to(file: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer only at the end.

    In parts: an unbuffered file may give no more, and one that ends before what it promises must not cost memory.
    """
    parts = []
    while size > 0 and (part := file.read(min(size, _PART))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
