"""A JPEG file's segments: Pillow gets those that decide about pixels, the profile and EXIF are read here.

So no comment, XMP, preview or thumbnail, in whatever state it is, keeps a sound picture from being read.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import BinaryIO

from s2c_deploy.pictures.splice import Parts, keep, splice

SIGNATURE = b"\xff\xd8\xff"
#: Scans after which reading stops: each costs as much as the whole picture; programs write up to a few dozen.
MAX_SCANS = 500
#: Segments in front of the first scan after which reading stops.
MAX_SEGMENTS = 2**16
_SCAN, _END, _COMMENT = 0xDA, 0xD9, 0xFE
_APPLICATION = range(0xE0, 0xF0)
# what says how colours are coded: marker, how the data begin, how many bytes they have at least
_CODING = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_FIRST_BLOCK, _BLOCK = 2**10, 2**20


class TooManyPartsError(Exception):
    """More scans, or segments, than a picture has; which and how many, in words."""


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """What a JPEG's segments hold."""

    #: The embedded profile, as it is.
    icc: bytes | None
    #: The EXIF block, as it is but without ``Exif\0\0`` in front.
    exif: bytes | None
    #: What has parts that cannot be put together, by name.
    damaged: tuple[str, ...]
    #: The file without comments and application segments, but those that say how colours are coded.
    pixels: BinaryIO


def read_jpeg(file: BinaryIO) -> Jpeg:
    """Walk the segments of a seekable file that starts with :data:`SIGNATURE`, and count its scans.

    Raises :class:`TooManyPartsError`, and nothing else for what it finds: a file that is no JPEG reaches Pillow as it
    is.
    """
    size = file.seek(0, io.SEEK_END)
    parts: Parts = [(0, 2)]
    profile: dict[int, bytes] = {}
    exif: list[bytes] = []
    pieces, at, segments = set(), 2, 0
    while at + 4 <= size:
        file.seek(at)
        head = file.read(4)
        marker = head[1]
        if head[0] != 0xFF or marker in (0, 0xFF) or marker in _ALONE:
            at = _next_marker(file, at + 1, size)  # over fill bytes and junk, as Pillow skips them
            continue
        segments += 1
        if segments > MAX_SEGMENTS:
            raise TooManyPartsError(f"more than {MAX_SEGMENTS} segments")
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
    _check_scans(file, at, size)
    whole = len(pieces) == 1 and sorted(profile) == list(range(1, next(iter(pieces)) + 1))
    return Jpeg(
        icc=b"".join(profile[number] for number in sorted(profile)) if whole else None,
        exif=b"".join(exif) or None,
        damaged=("ICC profile",) if profile and not whole else (),
        pixels=splice(file, parts),
    )


def _next_marker(file: BinaryIO, at: int, size: int) -> int:
    """Where the first marker with a length, or the end of the picture, stands from ``at`` on; ``size`` for nowhere."""
    length = _FIRST_BLOCK  # most often it is near
    while at < size:
        file.seek(at)
        block = file.read(length)
        length = min(2 * length, _BLOCK)
        if found := _MARKER.search(block):
            return at + found.start()
        if len(block) < 2:
            break
        at += len(block) - 1  # the last byte may begin a marker
    return size


def _check_scans(file: BinaryIO, at: int, size: int) -> None:
    """From the first scan on, as libjpeg goes from marker to marker: it looks for none inside of a segment."""
    scans = segments = 0
    while (at := _next_marker(file, at, size)) < size:
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[1] == _END:
            return
        scans += head[1] == _SCAN
        segments += 1
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            raise TooManyPartsError(f"more than {MAX_SCANS} scans or {MAX_SEGMENTS} segments")
        at += 2 + max(int.from_bytes(head[2:], "big"), 2)
