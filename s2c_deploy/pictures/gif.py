"""The colour profile of a GIF file, which is in a block of its own that Pillow does not read."""

from __future__ import annotations

import io
from typing import BinaryIO

_PROFILE = b"ICCRGBG1012"
_EXTENSION, _APPLICATION = b"!", 0xFF


def gif_profile(file: BinaryIO, *, limit: int) -> bytes | None:
    """The profile of a seekable GIF file, at most ``limit`` + 1 bytes of it, where it stands before the first frame."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(13)
    if len(head) < 13:
        return None
    if head[10] & 0x80:  # the palette
        file.seek(3 << (head[10] & 7) + 1, io.SEEK_CUR)
    while file.tell() < size and file.read(1) == _EXTENSION:
        label, length = [*file.read(2), 0, 0][:2]
        name = file.read(length)
        wanted = label == _APPLICATION and name == _PROFILE
        blocks = bytearray()
        while length := (file.read(1) or b"\0")[0]:
            block = file.read(length)
            if wanted and len(blocks) <= limit:
                blocks += block
        if wanted:
            return bytes(blocks[: limit + 1])
    return None
