"""An AVIF file's boxes (ISO/IEC 14496-12 and 23008-12): the colour and the crop of its primary picture, its EXIF."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from s2c_deploy.pictures.av1 import sequence_colour

# what a file may have of these before it is taken for hostile; sound ones have a handful
_MAX_BOXES = 10_000
_MAX_SEQUENCE_HEADER = 4096
_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_NEEDED = frozenset({b"ftyp", b"meta", b"mdat", b"moov"})


def is_avif(head: bytes) -> bool:
    """By the first bytes of a file, of which Pillow goes on to find out."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def whole_size(file: BinaryIO) -> int:
    """The bytes of a seekable file that its outermost boxes fill, found without reading what is in them.

    What lies behind the last box is no part of the picture.  Raises ValueError for pixels, or what describes them,
    that end behind the file.
    """
    size, at, seen = file.seek(0, io.SEEK_END), 0, 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, name = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        elif length == 0 and name in _NEEDED:  # up to the end
            length = size - at
        seen += 1
        if not 8 <= length <= size - at or seen > _MAX_BOXES:
            if name in _NEEDED:
                raise ValueError(f"a box {name!r} of {length} bytes where {size - at} are left")
            break
        at += length
    return at


def is_cropped(data: bytes) -> bool:
    """Whether the primary item is to be cropped (box ``clap``).  ValueError for boxes that do not fit."""
    try:
        return any(name == b"clap" for name, _ in _primary(memoryview(data))[1])
    except (struct.error, IndexError):
        raise ValueError("a box is cut short") from None


def _primary(data: memoryview) -> tuple[int, list[tuple[bytes, memoryview]], dict[bytes, memoryview]]:
    """The primary item, its properties, and the first of each kind of box in ``meta``."""
    meta = _first(_boxes(data), b"meta")
    inner = dict(reversed([*_boxes(meta[4:])])) if meta is not None else {}
    if b"pitm" not in inner or b"iprp" not in inner:
        return 0, [], inner
    (primary,) = struct.unpack_from(">I" if inner[b"pitm"][0] else ">H", inner[b"pitm"], 4)
    return primary, _properties(inner[b"iprp"], primary), inner


def primary_colour(data: bytes) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics (ITU-T H.273) of the primary item.

    By its ``nclx`` box, else by its AV1 sequence header; None where neither says.  Raises ValueError for boxes that do
    not fit into each other.
    """
    try:
        primary, properties, inner = _primary(memoryview(data))
        for name, body in properties:
            if name == b"colr" and bytes(body[:4]) == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                return primaries, transfer
        for name, body in properties:
            if name == b"av1C":
                place = _place(inner[b"iloc"], primary) if b"iloc" in inner else None
                pixels = data[place[0] : place[0] + min(place[1], _MAX_SEQUENCE_HEADER)] if place else b""
                return sequence_colour(bytes(body[4:])) or sequence_colour(pixels)
    except (struct.error, IndexError):
        raise ValueError("a box is cut short") from None
    return None


def _properties(iprp: memoryview, item: int) -> list[tuple[bytes, memoryview]]:
    """Those that belong to an item."""
    parts = [*_boxes(iprp)]
    ipco = _first(iter(parts), b"ipco")
    known = [*_boxes(ipco)] if ipco is not None else []
    indexes = _associated([body for name, body in parts if name == b"ipma"], item)
    return [known[index - 1] for index in indexes if 1 <= index <= len(known)]


def _place(iloc: memoryview, item: int) -> tuple[int, int] | None:
    """Where an item's first part lies in the file, and its length; None where it lies elsewhere."""
    version = iloc[0]
    sizes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
    offset_size, length_size, base_size, index_size = sizes
    wide = 4 if version == 2 else 2
    at = 6 + wide
    for _ in range(_number(iloc, 6, wide)):
        owner = _number(iloc, at, wide)
        at += wide
        method = _number(iloc, at, 2) & 15 if version else 0
        at += 4 if version else 2  # with the number of the file that the data are in
        base = _number(iloc, at, base_size)
        parts = _number(iloc, at + base_size, 2)
        at += base_size + 2
        if owner == item:
            offset = _number(iloc, at + index_size, offset_size)
            length = _number(iloc, at + index_size + offset_size, length_size)
            return (base + offset, length) if parts and not method else None
        at += parts * (index_size + offset_size + length_size)
    return None


def _number(view: memoryview, at: int, size: int) -> int:
    if at + size > len(view):
        raise IndexError
    return int.from_bytes(view[at : at + size], "big")


def exif_block(data: bytes) -> bytes | None:
    """The EXIF of a file, where it lies in one piece.  ValueError for boxes that do not fit into each other."""
    try:
        meta = _first(_boxes(memoryview(data)), b"meta")
        iloc = _first(_boxes(meta[4:]), b"iloc") if meta is not None else None
        for item, _ in _exif_items(meta) if meta is not None and iloc is not None else ():
            place = _place(iloc, item) if iloc is not None else None
            if place is not None:
                # four bytes in front say where the TIFF header begins
                start, end = place[0] + 4, place[0] + place[1]
                return data[start + int.from_bytes(data[start - 4 : start], "big") : end]
    except (struct.error, IndexError):
        raise ValueError("a box is cut short") from None
    return None


def without_exif(data: bytes) -> bytes:
    """The file with its EXIF made an item of an unknown kind, which readers pass over.

    Raises ValueError for boxes that do not fit into each other.
    """
    patched = bytearray(data)
    try:
        meta = _first(_boxes(memoryview(patched)), b"meta")
        for _, kind in _exif_items(meta) if meta is not None else ():
            kind[:] = b"none"
    except (struct.error, IndexError):
        raise ValueError("a box is cut short") from None
    return bytes(patched)


def _exif_items(meta: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and kind of the items that hold EXIF."""
    items = _first(_boxes(meta[4:]), b"iinf")
    for name, body in _boxes(items[6 if not items[0] else 8 :]) if items is not None else ():
        # version and flags, number, protection; then the kind
        wide = 2 if body[0] < 3 else 4
        kind = body[6 + wide : 10 + wide]
        if name == b"infe" and bytes(kind) == b"Exif":
            yield _number(body, 4, wide), kind


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Name and contents of the boxes that fill ``view``."""
    at, seen = 0, 0
    while at + 8 <= len(view):
        size, name = struct.unpack_from(">I4s", view, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, at + 8)
            head = 16
        elif size == 0:  # up to the end
            size = len(view) - at
        seen += 1
        if size < head or at + size > len(view) or seen > _MAX_BOXES:
            raise ValueError(f"a box {name!r} of {size} bytes where {len(view) - at} are left")
        yield name, view[at + head : at + size]
        at += size


def _first(boxes: Iterator[tuple[bytes, memoryview]], wanted: bytes) -> memoryview | None:
    return next((body for name, body in boxes if name == wanted), None)


def _associated(tables: list[memoryview], item: int) -> Iterator[int]:
    """The 1-based indexes of the properties that belong to an item (boxes ``ipma``)."""
    for table in tables:
        version, flags = table[0], table[3]
        (entries,) = struct.unpack_from(">I", table, 4)
        at = 8
        for _ in range(entries):
            (owner,) = struct.unpack_from(">I" if version else ">H", table, at)
            at += 4 if version else 2
            count = table[at]
            at += 1
            layout, mask = (">H", 0x7FFF) if flags & 1 else (">B", 0x7F)
            if owner == item:
                for place in range(count):
                    yield struct.unpack_from(layout, table, at + place * struct.calcsize(layout))[0] & mask
            at += count * struct.calcsize(layout)
