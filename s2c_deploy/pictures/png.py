"""A PNG file's chunks: those that decide about pixels go to Pillow, those about colour are read here.

Text is skipped, however much there is and whatever state it is in: it is no part of the picture.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from s2c_deploy.pictures.splice import Parts, keep, splice

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">II5B")
_BLOCK = 2**20
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# read whole, and how long they may be: EXIF and profile as they come, the others have fixed lengths
_COLOUR_CHUNKS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_GREY, _RGB, _PALETTE = 0, 2, 3
_MAX_CHUNK = 2**31 - 1
#: Chunks after which reading stops: a file of 4 GiB has fewer, unless they are smaller than any program makes them.
MAX_CHUNKS = 2**20


class DamagedPngError(Exception):
    """What is wrong with the chunks, in words."""


class ProfileTooLargeError(Exception):
    """An iCCP chunk that unpacks to more than the limit."""


@dataclass(frozen=True, kw_only=True)
class Png:
    """What a PNG's chunks say."""

    #: In pixels.
    width: int
    #: In pixels.
    height: int
    #: Bits a sample.
    depth: int
    #: With or without alpha.
    grey: bool
    #: 1 for a still picture.
    frames: int
    #: The transparent grey level or colour, in the file's own samples.
    key: tuple[int, ...] | None
    #: Primaries, transfer, matrix, full-range flag.
    cicp: tuple[int, int, int, int] | None
    srgb: bool
    #: Of the file: 0.45455 for a display's 2.2.
    gamma: float | None
    #: White, red, green, blue: x and y each.
    chromaticities: tuple[float, ...] | None
    #: The embedded profile, as it is.
    icc: bytes | None
    #: The EXIF block, as it is.
    exif: bytes | None
    #: Names of chunks about colour or EXIF that cannot be read.
    damaged: tuple[str, ...]
    #: What of ``file`` Pillow need see.
    parts: Parts
    file: BinaryIO

    def open(self) -> BinaryIO:
        """The file without all that Pillow need not see.  What this gave before must not be read any more."""
        return splice(self.file, self.parts)


def read_png(file: BinaryIO, *, max_metadata: int, drop_icc: bool) -> Png:
    """Walk the chunks of a seekable file that starts with :data:`SIGNATURE`.

    Holds the profile and EXIF, each of at most ``max_metadata`` bytes, and a few numbers for each run of chunks
    that Pillow sees.  Raises :class:`DamagedPngError`, and :class:`ProfileTooLargeError` unless ``drop_icc``.
    """
    walk = _Walk(file, max_metadata=max_metadata, drop_icc=drop_icc)
    walk.run()
    if walk.header is None:
        raise DamagedPngError("it has no header")
    width, height, depth, kind, *_ = walk.header
    found, damaged = walk.found, list(walk.damaged)
    for name, size in _COLOUR_CHUNKS.items():
        if name in found and len(found[name]) != size:
            del found[name]
            damaged.append(name.decode())
    gamma, corners = found.get(b"gAMA"), found.get(b"cHRM")
    cicp = found.get(b"cICP")
    return Png(
        width=width,
        height=height,
        depth=depth,
        grey=kind in (0, 4),
        frames=_frames(found.get(b"acTL"), walk.frames, walk.animated_first),
        key=_key(found.get(b"tRNS"), depth, kind),
        cicp=(cicp[0], cicp[1], cicp[2], cicp[3]) if cicp else None,
        srgb=b"sRGB" in found,
        gamma=int.from_bytes(gamma, "big") / 100000 if gamma and any(gamma) else None,
        chromaticities=tuple(value / 100000 for value in struct.unpack(">8i", corners)) if corners else None,
        icc=found.get(b"iCCP"),
        exif=found.get(b"eXIf"),
        damaged=tuple(damaged),
        parts=walk.kept,
        file=file,
    )


def _frames(animation: bytes | None, controls: int, animated_first: bool) -> int:
    """Of an animation, and the still picture before it where that is not its first frame.

    An animation without any frame's control chunk is none: the still picture is what there is.
    """
    count = int.from_bytes(animation[:4], "big") if animation is not None and len(animation) == 8 else 0
    return count + (not animated_first) if count and controls else 1


def _key(chunk: bytes | None, depth: int, kind: int) -> tuple[int, ...] | None:
    if chunk is None or kind not in (_GREY, _RGB):
        return None
    values = 1 if kind == _GREY else 3
    if len(chunk) < 2 * values:
        raise DamagedPngError("its chunk tRNS is cut short")
    # only as many bits count as a sample has
    return tuple(value & (1 << depth) - 1 for value in struct.unpack_from(f">{values}H", chunk))


class _Walk:
    def __init__(self, file: BinaryIO, *, max_metadata: int, drop_icc: bool) -> None:
        self.file = file
        self.max_metadata = max_metadata
        self.drop_icc = drop_icc
        self.size = file.seek(0, io.SEEK_END)
        self.header: tuple[int, ...] | None = None
        self.found: dict[bytes, bytes] = {}
        self.damaged: list[str] = []
        self.kept: Parts = [(0, len(SIGNATURE))]
        self.frames = 0
        self.animated_first = False
        self._pixels_seen = False

    def run(self) -> None:
        at, chunks = len(SIGNATURE), 0
        while at + 8 <= self.size:
            chunks += 1
            if chunks > MAX_CHUNKS:
                raise DamagedPngError(f"it has more than {MAX_CHUNKS} chunks")
            self.file.seek(at)
            length, name = struct.unpack(">I4s", self.file.read(8))
            if length > _MAX_CHUNK or not name.isalpha():
                # garbage behind the pixels is for Pillow to judge, as a file cut short is
                keep(self.kept, at, self.size)
                return
            end = at + 12 + length
            if end > self.size:
                if self._wanted(name):
                    keep(self.kept, at, self.size)
                return
            self._take(name, at, length)
            at = end
            if name == b"IEND":
                return

    def _wanted(self, name: bytes) -> bool:
        palette = self.header is not None and self.header[3] == _PALETTE
        return name in _PIXEL_CHUNKS or (name == b"tRNS" and palette)

    def _take(self, name: bytes, at: int, length: int) -> None:
        """The file stands behind the chunk's name; the chunk is complete."""
        if self.header is None and name != b"IHDR":
            raise DamagedPngError(f"it starts with {name.decode()} in place of IHDR")
        if name == b"IHDR":
            if length != _HEADER.size or self.header is not None:
                raise DamagedPngError("its header has a wrong length or comes twice")
            data = self._read(name, length)
            if data is None:
                raise DamagedPngError("the checksum of its header is wrong")
            self.header = _HEADER.unpack(data)
        elif name[:1].isupper() and name not in _PIXEL_CHUNKS:
            raise DamagedPngError(f"it needs a chunk '{name.decode()}', which is not part of PNG")
        elif name in _PIXEL_CHUNKS:
            self._pixels_seen |= name == b"IDAT"
            self._check(name, length)
        elif name in (b"tRNS", b"acTL"):
            self._take_essential(name, length)
        elif name == b"fcTL":
            self.frames += 1
            self.animated_first |= not self._pixels_seen
        elif name in _COLOUR_CHUNKS or name in (b"iCCP", b"eXIf"):
            self._take_metadata(name, length)
        if self._wanted(name):
            keep(self.kept, at, at + 12 + length)

    def _take_essential(self, name: bytes, length: int) -> None:
        """Transparency and animation: what cannot be read of them must not pass as an opaque still picture."""
        data = self._read(name, length) if length <= 2**16 else None
        if data is None:
            raise DamagedPngError(f"its chunk {name.decode()} has a wrong checksum or length")
        if name == b"tRNS" or not self._pixels_seen:  # behind the pixels, acTL means nothing
            self.found.setdefault(name, data)

    def _take_metadata(self, name: bytes, length: int) -> None:
        if name in self.found or (name == b"iCCP" and self.drop_icc):
            return
        longest = self.max_metadata + self.max_metadata // 1000 + 4096  # a name, and what deflate adds to noise
        if name == b"iCCP" and length > longest:
            raise ProfileTooLargeError
        limit = longest if name in (b"iCCP", b"eXIf") else 2**16
        data = self._read(name, length) if length <= limit else None
        if data is not None and name == b"iCCP":
            data = self._unpack(data)
        if data is None:
            self.damaged.append(name.decode())
        else:
            self.found[name] = data

    def _unpack(self, chunk: bytes) -> bytes | None:
        """The profile: behind a name, a zero and a zero for deflate."""
        end = chunk.find(b"\0")
        if end < 0 or chunk[end : end + 2] != b"\0\0":
            return None
        inflate = zlib.decompressobj()
        try:
            profile = inflate.decompress(chunk[end + 2 :], self.max_metadata + 1)
        except zlib.error:
            return None
        if len(profile) > self.max_metadata:
            raise ProfileTooLargeError
        return profile if inflate.eof and profile else None

    def _read(self, name: bytes, length: int) -> bytes | None:
        data = self.file.read(length)
        stored = self.file.read(4)
        return data if zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big") == stored else None

    def _check(self, name: bytes, length: int) -> None:
        crc = zlib.crc32(name)
        while length:
            block = self.file.read(min(length, _BLOCK))
            if not block:
                raise DamagedPngError("it became shorter while it was read")
            crc = zlib.crc32(block, crc)
            length -= len(block)
        if crc.to_bytes(4, "big") != self.file.read(4):
            raise DamagedPngError(f"the checksum of a chunk {name.decode()} is wrong")
