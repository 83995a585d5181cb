"""Which TIFF files libvips and Pillow read alike, from the top down, without holding much of them."""

from __future__ import annotations

from typing import BinaryIO

from s2c_deploy.errors import InputError
from s2c_deploy.pictures.tags import Directories, Entry, find

_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION = 258, 259, 262, 266, 274
_WIDTH, _SAMPLES, _STRIP_SIZES, _PLANAR, _EXTRA, _SAMPLE_FORMAT = 256, 277, 279, 284, 338, 339
_TILE_WIDTH, _TILE_LENGTH, _TILE_SIZES = 322, 323, 325
_RAW, _JPEG = 1, 7
# LZW, deflate under both of its numbers, PackBits: nothing is lost, so all decoders agree
_COMPRESSIONS = frozenset({_RAW, 5, _JPEG, 8, 32946, 32773})
_GREY, _RGB, _YCBCR = 1, 2, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _YCBCR: 3}
_CONVERT = "convert it to 8-bit RGB first, as libvips' program does: vips colourspace IN OUT.tif srgb"
# bytes of a strip or tile as stored, and pixels of a row of tiles: both are held whole
_MAX_PART, _MAX_TILE_ROW = 2**26, 2**26


def check_strips(file: BinaryIO, path: str) -> bool:
    """Of a file that ``tiff.read_tiff`` takes, :class:`InputError` unless it can be read in strips.

    Returns whether what libvips warns of has to count as damage.  So it does in tiles, of which those that cannot be
    read become black and leave a warning, and in JPEG, where damaged data do.  Elsewhere warnings are about tags that
    mean nothing for pixels, and damage is an error.  Raises ValueError for damaged tags.
    """
    directories = Directories(file)
    entries, following = directories.read(directories.first)
    tags = _Tags(directories, entries)
    if following:
        raise InputError(f"{path} has several pages", hint="extract one: vips copy 'IN.tif[page=0]' OUT.tif")
    found = _other_kind(tags)
    if found is not None:
        raise InputError(f"{path} is a TIFF of {found}, which is not read in strips", hint=_CONVERT)
    orientation = tags.number(_ORIENTATION, 1)
    if orientation != 1:
        raise InputError(
            f"{path} is a TIFF whose orientation is {orientation}, expected 1: it cannot be turned in strips",
            hint="turn it upright first: vips autorot IN OUT.tif",
        )
    _check_parts(tags, path)
    return tags.number(_TILE_WIDTH, 0) > 0 or tags.number(_COMPRESSION, _RAW) == _JPEG


class _Tags:
    def __init__(self, directories: Directories, entries: list[Entry]) -> None:
        self._directories = directories
        self._entries = entries

    def values(self, tag: int, *default: int) -> tuple[int, ...]:
        entry = find(self._entries, tag)
        return default if entry is None else self._directories.values(entry)

    def number(self, tag: int, default: int) -> int:
        return next(iter(self.values(tag, default)), default)


def _other_kind(tags: _Tags) -> str | None:
    """In words, what a file has that is not read here."""
    photometric, samples = tags.number(_PHOTOMETRIC, -1), tags.number(_SAMPLES, 1)
    compression, extra = tags.number(_COMPRESSION, _RAW), tags.values(_EXTRA)
    bits, formats = tags.values(_BITS, 1), tags.values(_SAMPLE_FORMAT, 1)
    if set(bits) != {8}:
        return f"{max(bits, default=1)} bits a sample"
    if set(formats) != {1}:
        return f"samples of format {max(formats, default=0)} (tag 339)"
    if photometric not in _CHANNELS or (photometric == _YCBCR and compression != _JPEG):
        return f"other colours than RGB and grey (photometric {photometric}, compression {compression})"
    if compression not in _COMPRESSIONS:
        return f"compression {compression}"
    if extra not in ((), (1,), (2,)) or samples != _CHANNELS[photometric] + len(extra):
        return f"{samples} samples a pixel, of extra kinds {extra}"
    if tags.number(_PLANAR, 1) != 1 and samples > 1:
        return "planes that are stored one after another"
    return None if tags.number(_FILL_ORDER, 1) == 1 else "reversed bits"


def _check_parts(tags: _Tags, path: str) -> None:
    """That no part is large; strips that are not compressed are read row by row, however large they are."""
    width, tile_width, tile_height = (tags.number(tag, 0) for tag in (_WIDTH, _TILE_WIDTH, _TILE_LENGTH))
    tiled = tile_width > 0
    in_tiles = -(-width // tile_width) * tile_width * tile_height if tiled else 0
    sizes = tags.values(_TILE_SIZES if tiled else _STRIP_SIZES)
    largest = max(sizes, default=0) if tiled or tags.number(_COMPRESSION, _RAW) != _RAW else 0
    if in_tiles > _MAX_TILE_ROW or largest > _MAX_PART:
        found = f"tiles of {tile_height} rows" if in_tiles > _MAX_TILE_ROW else f"a part of {largest} bytes"
        raise InputError(
            f"{path} is a TIFF with {found}, which memory might not hold",
            hint="store it in small tiles first: vips tiffsave IN OUT.tif --tile --compression deflate",
        )
