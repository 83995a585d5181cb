"""WebP: the size, before anything is allocated for it, and transparency that the header does not declare."""

from __future__ import annotations

import struct

# what a file may have before it is taken for hostile; sound ones have a handful, animations one for each frame
_MAX_CHUNKS = 100_000
_HEADER = 8
FLAGS = 20
ALPHA_FLAG = 0x10


def is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height by the first 30 bytes of a file; None where they do not say."""
    kind = head[12:16]
    if len(head) < 30:
        return None
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def riff_size(head: bytes, size: int) -> int:
    """The bytes that a file of ``size`` says it has.  ValueError where it lacks more than a last, unused one."""
    said = int.from_bytes(head[4:8], "little") + _HEADER
    if said > size + 1:
        raise ValueError(f"it says it has {said} bytes, and has {size}")
    return said


def hides_alpha(data: bytes) -> bool:
    """Whether pixels are transparent although the flag that Pillow trusts is not set.

    So in a file with an alpha chunk, or with one frame that does not cover the whole picture.  Raises ValueError
    for a file of more chunks than any sound one has.
    """
    if data[12:16] != b"VP8X" or len(data) < 30 or data[FLAGS] & ALPHA_FLAG:
        return False
    canvas, at, seen = webp_size(data), 12, 0
    while at + 8 <= len(data):
        seen += 1
        if seen > _MAX_CHUNKS:
            raise ValueError(f"more than {_MAX_CHUNKS} chunks")
        name, length = struct.unpack_from("<4sI", data, at)
        frame = data[at + 8 : at + 32] if name == b"ANMF" else b""
        if len(frame) == 24:
            size = int.from_bytes(frame[6:9], "little") + 1, int.from_bytes(frame[9:12], "little") + 1
            if size != canvas or frame[16:20] == b"ALPH":
                return True
        if name == b"ALPH":
            return True
        at += 8 + length + length % 2
    return False


def declare_alpha(data: bytes) -> bytes:
    """The file with its flag set."""
    return data[:FLAGS] + bytes([data[FLAGS] | ALPHA_FLAG]) + data[FLAGS + 1 :]
