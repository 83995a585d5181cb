"""The directories of a TIFF structure, which are in TIFF files and in EXIF blocks, without the values far from them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 0x8769, 0x8825, 0xA005
_INNER = frozenset({EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY})
# bytes of one value, by type
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MAX_DIRECTORIES = 1000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a TIFF's directory."""

    tag: int
    #: The type of its values.
    kind: int
    #: Of all its values, in bytes.
    size: int
    #: 4 or, in BigTIFF, 8 bytes: the values if they fit, else their place.
    field: bytes
    #: Where in the file the field is.
    field_at: int


class Directories:
    """Of a seekable file with a TIFF header; ValueError for other files and for directories that are cut."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        head = self._read(0, 16 if self.size >= 16 else 8)
        self.order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        # the version is also found in the other byte order, which Pillow accepts
        self.big = head[2:4] in (b"\x2b\0", b"\0\x2b")
        if not self.order or (not self.big and head[2:4] not in (b"*\0", b"\0*")) or (self.big and len(head) < 16):
            raise ValueError("no TIFF header")
        self.first = self.number(head[8:16] if self.big else head[4:8])

    def number(self, field: bytes) -> int:
        return int.from_bytes(field, "little" if self.order == "<" else "big")

    def read(self, place: int) -> tuple[list[Entry], int]:
        """The entries of the directory at ``place``, and the place of the next one, 0 for none."""
        counted, step, word = (8, 20, 8) if self.big else (2, 12, 4)
        count = self.number(self._read(place, counted))
        if count * step > self.size:
            raise ValueError(f"a directory of {count} tags")
        table = self._read(place + counted, count * step)
        entries = []
        for at in range(0, count * step, step):
            tag, kind = struct.unpack_from(self.order + "HH", table, at)
            values = self.number(table[at + 4 : at + 4 + word])
            field = table[at + 4 + word : at + step]
            size, field_at = values * _SIZES.get(kind, 0), place + counted + at + 4 + word
            entries.append(Entry(tag=tag, kind=kind, size=size, field=field, field_at=field_at))
        try:
            following = self.number(self._read(place + counted + count * step, word))
        except ValueError:  # nothing is missed but the next directory's place
            following = 0
        return entries, following

    def all(self) -> Iterator[list[Entry]]:
        """Every directory once, with those inside of others, up to a number that no sound file has."""
        places, seen = [self.first], set[int]()
        while places and len(seen) < _MAX_DIRECTORIES:
            place = places.pop()
            if place in seen or place == 0:
                continue
            seen.add(place)
            try:
                entries, following = self.read(place)
            except ValueError:
                continue
            yield entries
            places += [following, *(self.number(entry.field[:4]) for entry in entries if entry.tag in _INNER)]

    def values(self, entry: Entry) -> tuple[int, ...]:
        """An entry's whole numbers, and of a fraction its numerator and its denominator.

        Raises ValueError for values that the file does not hold, and for those of other types.
        """
        width = {3: 2, 4: 4, 5: 4, 16: 8}.get(entry.kind)
        if width is None:
            raise ValueError(f"its tag {entry.tag} is of type {entry.kind}")
        inside = entry.size <= len(entry.field)
        data = entry.field[: entry.size] if inside else self._read(self.number(entry.field), entry.size)
        return struct.unpack(f"{self.order}{len(data) // width}{'HIQ'[width // 4]}", data)

    def _read(self, place: int, size: int) -> bytes:
        if size > self.size:
            raise ValueError("a TIFF directory is cut short")
        self._file.seek(min(place, self.size))
        data = self._file.read(size)
        if len(data) < size:
            raise ValueError("a TIFF directory is cut short")
        return data


def reads_too_much(file: BinaryIO) -> bool:
    """Whether Pillow, which copies every tag's values, would copy many times the file: its values overlap.

    In sound files each byte belongs to one tag.
    """
    try:
        directories = Directories(file)
    except ValueError:
        return False
    copied = 0
    for entries in directories.all():
        for entry in entries:
            if entry.size > len(entry.field):
                copied += min(entry.size, max(directories.size - directories.number(entry.field), 0))
    return copied > 4 * directories.size + 2**20


def find(entries: list[Entry], tag: int) -> Entry | None:
    return next((entry for entry in entries if entry.tag == tag), None)
