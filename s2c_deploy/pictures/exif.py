"""EXIF blocks: their orientation, the colour space they name, and the tags that fit into a TIFF file."""

from __future__ import annotations

import io
import struct

from PIL import ExifTags
from PIL.Image import Exif

from s2c_deploy.pictures.tags import (
    EXIF_DIRECTORY,
    INTEROP_DIRECTORY,
    Directories,
    find,
    reads_too_much,
)

EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION, _COLOUR_SPACE, _INTEROP_INDEX = 0x0112, 0xA001, 0x0001
_SRGB, _ADOBE_RGB = 1, 2
_SUB_DIRECTORIES = frozenset({ExifTags.IFD.Exif.value, ExifTags.IFD.GPSInfo.value})
# tags of a TIFF file that describe the picture; the others describe how that file stores it
_DESCRIPTIVE_TAGS = (
    frozenset(
        tag.value
        for tag in (
            ExifTags.Base.ImageDescription,
            ExifTags.Base.Make,
            ExifTags.Base.Model,
            ExifTags.Base.XResolution,
            ExifTags.Base.YResolution,
            ExifTags.Base.ResolutionUnit,
            ExifTags.Base.Software,
            ExifTags.Base.DateTime,
            ExifTags.Base.Artist,
            ExifTags.Base.Copyright,
        )
    )
    | _SUB_DIRECTORIES
)


def upright_exif(block: bytes) -> tuple[bytes | None, int]:
    """The block with every orientation of its first directory set to 1 in place, and the first valid one.

    All else stays byte for byte: rewriting would lose the thumbnail and break the offsets inside maker notes.
    A block without a readable first directory gives None and 1.
    """
    block = block.removeprefix(EXIF_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    patched, orientation = bytearray(block), None
    try:
        if order is None:
            return None, 1
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI4x", block, entry)
            if tag != _ORIENTATION or values != 1 or kind not in (3, 4):
                continue
            layout = order + ("H" if kind == 3 else "I")
            (value,) = struct.unpack_from(layout, block, entry + 8)
            struct.pack_into(layout, patched, entry + 8, 1)
            if orientation is None and 1 <= value <= 8:
                orientation = value
    except struct.error:
        return None, 1
    return bytes(patched), orientation or 1


def says_adobe_rgb(exif: bytes) -> bool:
    """Whether a block names Adobe RGB, as cameras do: DCF's interoperability index R03, or colour space 2.

    A block that cannot be read that far says nothing.
    """
    try:
        directories = Directories(io.BytesIO(exif))
        outer = find(directories.read(directories.first)[0], EXIF_DIRECTORY)
        if outer is None:
            return False
        entries, _ = directories.read(directories.number(outer.field))
        space = find(entries, _COLOUR_SPACE)
        inner = find(entries, INTEROP_DIRECTORY)
        named = None if space is None else directories.number(space.field[: min(space.size, 4)])
        if inner is None:
            return named == _ADOBE_RGB
        index = find(directories.read(directories.number(inner.field))[0], _INTEROP_INDEX)
    except ValueError:
        return False
    return named == _ADOBE_RGB or (index is not None and index.field == b"R03\0" and named != _SRGB)


def descriptive(exif: Exif, *, interop: bool = True) -> bytes | None:
    """The tags of a TIFF file that describe its picture, as an EXIF block; ``interop``: with the index of DCF."""
    kept = Exif()
    for tag in _DESCRIPTIVE_TAGS & set(exif):
        kept[tag] = dict(exif.get_ifd(tag)) if tag in _SUB_DIRECTORIES else exif[tag]
    details = kept.get(ExifTags.IFD.Exif)
    if isinstance(details, dict) and INTEROP_DIRECTORY in details:
        # it is a place in the file, which nothing is at in a block that is written anew
        del details[INTEROP_DIRECTORY]
        if interop and (inner := exif.get_ifd(INTEROP_DIRECTORY)):
            details[INTEROP_DIRECTORY] = dict(inner)
    return kept.tobytes().removeprefix(EXIF_PREFIX) if len(kept) else None


def tiff_tags(exif: bytes) -> tuple[bytes | None, bool]:
    """The part of a block that can become tags of a TIFF file, and whether it is all that the block says."""
    block = Exif()
    if reads_too_much(io.BytesIO(exif)):
        return None, False
    try:
        block.load(EXIF_PREFIX + exif)
        kept = descriptive(block, interop=False)  # Pillow writes no such directory into a TIFF file
        more = bool(block.get_ifd(ExifTags.IFD.IFD1)) or INTEROP_DIRECTORY in block.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # Pillow raises struct.error, ValueError, KeyError, ... on damaged blocks
        return None, False
    return kept, not more and set(block) <= _DESCRIPTIVE_TAGS | {_ORIENTATION}


def has_inner_directories(exif: bytes) -> bool:
    """Whether a block that can be read has a directory of EXIF or of GPS."""
    directories = Directories(io.BytesIO(exif))
    entries, _ = directories.read(directories.first)
    return any(entry.tag in _SUB_DIRECTORIES for entry in entries)
