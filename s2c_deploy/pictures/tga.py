"""Targa: whether the fourth byte, or the sixteenth bit, of a pixel says how transparent it is."""

from __future__ import annotations

import io
from typing import BinaryIO

import PIL.Image as Pil

from s2c_deploy.errors import InputError

_HEADER, _FOOTER, _SIGNATURE = 18, 26, b"TRUEVISION-XFILE.\0"
_MAPPED = frozenset({1, 9})
_ATTRIBUTES = 494  # where in the extension area their type is
_USEFUL, _PREMULTIPLIED = 3, 4


def has_no_alpha(picture: Pil.Image, file: BinaryIO, path: str) -> bool:
    """Whether what Pillow takes for alpha is none, of a Targa picture after load().

    The header says how many bits of a pixel are attributes, the extension area of version 2 what they mean.
    Raises :class:`InputError` for transparency whose meaning is not certain.
    """
    file.seek(0)
    head = file.read(_HEADER)
    meaning = _meaning(file)
    depth, bits = head[7] if head[2] in _MAPPED else head[16], head[17] & 15
    grey = picture.mode == "LA"  # or 16-bit grey, where no bit is an attribute
    nothing = bits == 0 and not grey if meaning is None else meaning not in (_USEFUL, _PREMULTIPLIED)
    if nothing or not picture.has_transparency_data:
        return True
    low, high = picture.convert("RGBA").getchannel("A").getextrema()
    uncertain = depth == 16 and (not grey or bits == 0)
    if uncertain and low == high:
        return True
    if uncertain or (meaning == _PREMULTIPLIED and low != 255):
        what = "16-bit Targa" if uncertain else "Targa of premultiplied colours"
        raise InputError(
            f"{path} is a {what} with transparency, of which programs disagree how it is meant",
            hint="save it as 32-bit PNG first",
        )
    return False


def _meaning(file: BinaryIO) -> int | None:
    """The type of the attributes by the extension area, where there is one."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - _FOOTER, 0))
    footer = file.read(_FOOTER)
    place = int.from_bytes(footer[:4], "little")
    if not footer.endswith(_SIGNATURE) or len(footer) < _FOOTER or not place:
        return None
    file.seek(place + _ATTRIBUTES)
    return (file.read(1) or b"\0")[0]
