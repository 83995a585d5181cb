"""A JPEG file's segments: Pillow gets those that decide about pixels, the profile and EXIF are read here.

So no comment, XMP, preview or thumbnail, in whatever state it is, keeps a sound picture from being read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

from s2c_deploy.pictures.splice import Parts, keep, splice

SIGNATURE = b"\xff\xd8\xff"
_SCAN, _COMMENT = 0xDA, 0xFE
_APPLICATION = range(0xE0, 0xF0)
# what says how colours are coded: marker, how the data begin, how many bytes they have at least
_CODING = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """icc, exif: as they are, the latter without ``Exif\\0\\0``; damaged: names of those that cannot be put together;
    pixels: the file without comments and application segments, but those that say how colours are coded.
    """

    icc: bytes | None
    exif: bytes | None
    damaged: tuple[str, ...]
    pixels: BinaryIO


def read_jpeg(file: BinaryIO) -> Jpeg:
    """Walk the segments of a seekable file that starts with :data:`SIGNATURE`, up to the first scan.

    Never raises for what it finds: a file that is no JPEG reaches Pillow as it is.
    """
    size = file.seek(0, io.SEEK_END)
    parts: Parts = [(0, 2)]
    profile: dict[int, bytes] = {}
    exif: list[bytes] = []
    pieces, at = set(), 2
    while at + 4 <= size:
        file.seek(at)
        head = file.read(4)
        marker = head[1]
        if head[0] != 0xFF or marker in (0, 0xFF) or marker in _ALONE:
            at += 1  # fill bytes and junk, as Pillow skips them
            continue
        end = at + 2 + int.from_bytes(head[2:], "big")
        if marker == _SCAN or end > size or end < at + 4:
            break
        if not (marker in _APPLICATION or marker == _COMMENT):
            keep(parts, at, end)
        elif marker in (0xE0, 0xE1, 0xE2, 0xEE):
            data = file.read(end - at - 4)
            start, least = _CODING.get(marker, (b"", end))
            if data.startswith(start) and len(data) >= least:
                keep(parts, at, end)
            elif marker == 0xE1 and data.startswith(_EXIF):
                exif.append(data[len(_EXIF) :])
            elif marker == 0xE2 and data.startswith(_ICC) and len(data) >= 14:
                profile[data[12]] = data[14:]
                pieces.add(data[13])
        at = end
    keep(parts, at, size)
    whole = len(pieces) == 1 and sorted(profile) == list(range(1, next(iter(pieces)) + 1))
    return Jpeg(
        icc=b"".join(profile[number] for number in sorted(profile)) if whole else None,
        exif=b"".join(exif) or None,
        damaged=("ICC profile",) if profile and not whole else (),
        pixels=splice(file, parts),
    )
