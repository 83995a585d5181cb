"""Pictures that memory does not hold, written in strips of rows from the top down.

PNG and TIFF are encoded by libvips, in a thread of its own.  It is given the picture through a socket, as a PNG that is
not compressed, since that is what libvips reads in every build.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import numpy as np

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import InputError
from s2c_deploy.pictures.png import SIGNATURE
from s2c_deploy.pictures.tags import Directories, find
from s2c_deploy.pictures.vips import libvips, vips_errors

STRIP_SUFFIXES = (".png", ".ppm", ".tif", ".tiff")
_PNG, _PPM = ".png", ".ppm"
_HEADER_END = len(SIGNATURE) + 25  # behind IHDR, which comes first
_RGB, _ICC_TAG = 2, 34675
# bytes of rows that are handed over at a time
_PIECE = 2**22
# a TIFF counts up to 4 GiB; deflate and the directory add little to what cannot be compressed
_MAX_TIFF = 2**32 - 2**26
# of deflate, and rows of a TIFF's strip
_LEVEL, _ROWS = 6, 16
_ALL_FILTERS = 0xF8
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_strip_suffix(suffix: str) -> None:
    """:class:`InputError` unless pictures of this suffix (".png", in any case) can be written in strips."""
    if suffix.lower() not in STRIP_SUFFIXES:
        raise InputError(
            f"cannot write pictures with suffix '{suffix}' in strips", hint=f"known: {' '.join(STRIP_SUFFIXES)}"
        )


def write_strips(
    path: Path, rows: Iterator[Pixels], *, width: int, height: int, icc: bytes | None, exif: bytes | None
) -> tuple[str, ...]:
    """Write rows, uint8 (any number, width, 3), to ``path`` in the format of its suffix, as they come.

    The file is what :func:`s2c_deploy.files.atomic_write` gives: nobody else sees it before it is whole.  PNG keeps
    profile and EXIF byte for byte; TIFF (deflated, BigTIFF where 4 GiB might not suffice) keeps a sound profile,
    and says 72 pixels an inch; PPM keeps neither.  Returns what was left out, as
    :func:`s2c_deploy.image.write_image` does.

    Raises :class:`InputError` for another suffix, and for more or fewer rows than ``height``, or rows of other
    shape; :class:`DependencyError` for PNG and TIFF without pyvips; OSError where the system does not take the file,
    which ``atomic_write`` turns into InputError.  What ``rows`` raises passes through.
    """
    suffix = path.suffix.lower()
    check_strip_suffix(suffix)
    checked = _checked(rows, width, height)
    profile_kept = False
    if suffix == _PPM:
        with open(path, "wb") as file:
            file.write(b"P6\n%d %d\n255\n" % (width, height))
            for strip in checked:
                file.write(strip.data)
    elif suffix == _PNG:
        profile_kept = _encode(path, _as_png(checked, width, height), _Png(chunks=_metadata_chunks(icc, exif)))
    else:
        tiff = _Tiff(icc=icc, big=3 * width * height > _MAX_TIFF)
        profile_kept = _encode(path, _as_png(checked, width, height), tiff)
    kept = {"ICC profile": profile_kept, "EXIF": suffix == _PNG}
    found = {"ICC profile": icc, "EXIF": exif}
    return tuple(what for what, data in found.items() if data is not None and not kept[what])


def _checked(rows: Iterator[Pixels], width: int, height: int) -> Iterator[Pixels]:
    """C-contiguous.  InputError unless they make a picture of this size."""
    seen = 0
    for strip in rows:
        if strip.dtype != np.uint8 or strip.ndim != 3 or strip.shape[1:] != (width, 3):
            raise InputError(
                f"rows of shape {strip.shape} and type {strip.dtype}", hint=f"pass uint8 arrays of rows x {width} x 3"
            )
        seen += len(strip)
        if seen > height:
            break
        yield np.ascontiguousarray(strip)
    if seen != height:
        more = "or more " if seen > height else ""
        raise InputError(f"{seen} {more}rows of a picture, expected {height}", hint="pass as many as it has")


def _as_png(rows: Iterator[Pixels], width: int, height: int) -> Iterator[bytes]:
    """The bytes of a PNG, its pixels stored as they are."""
    yield SIGNATURE + _chunk(b"IHDR", struct.pack(">II5B", width, height, 8, _RGB, 0, 0, 0))
    stored = zlib.compressobj(0)
    step = max(1, _PIECE // (3 * width))
    for strip in rows:
        for top in range(0, len(strip), step):
            part = strip[top : top + step]
            lines = np.zeros((len(part), 1 + 3 * width), np.uint8)  # a line begins with its filter: none
            lines[:, 1:] = part.reshape(len(part), -1)
            if data := stored.compress(lines.data):
                yield _chunk(b"IDAT", data)
    yield _chunk(b"IDAT", stored.flush())
    yield _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _metadata_chunks(icc: bytes | None, exif: bytes | None) -> bytes:
    profile = b"" if icc is None else _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    return profile if exif is None else profile + _chunk(b"eXIf", exif)


@dataclass(frozen=True, kw_only=True)
class _Png:
    #: Profile and EXIF.
    chunks: bytes

    def save(self, image: Any, file: BinaryIO) -> bool:
        """libpng leaves out profiles that it finds wrong, and libvips writes EXIF anew, as it understands it.

        So both are written here: libvips' file starts as far behind the first byte as they need room, and then its
        header is moved to the first byte, and they behind it.  They are never left out.
        """
        number, room = file.fileno(), len(self.chunks)
        file.seek(room)
        target = libvips().Target.new_to_descriptor(number)
        image.pngsave_target(target, compression=_LEVEL, filter=_ALL_FILTERS, keep="none")
        os.pwrite(number, os.pread(number, _HEADER_END, room) + self.chunks, 0)
        return True


@dataclass(frozen=True, kw_only=True)
class _Tiff:
    #: A profile.
    icc: bytes | None
    #: BigTIFF.
    big: bool

    def save(self, image: Any, file: BinaryIO) -> bool:
        """Whether the profile is in the file: libvips leaves out those that littleCMS does not open."""
        pyvips = libvips()
        if self.icc is not None:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.icc)
        target = pyvips.Target.new_to_descriptor(file.fileno())
        options = {"compression": "deflate", "level": _LEVEL, "predictor": "horizontal", "tile_height": _ROWS}
        image.tiffsave_target(target, bigtiff=self.big, **options)
        directories = Directories(file)
        written = find(directories.read(directories.first)[0], _ICC_TAG)
        return self.icc is None or (written is not None and written.size == len(self.icc))


def _encode(path: Path, png: Iterator[bytes], encoding: _Png | _Tiff) -> bool:
    """png: the bytes of the picture.  Whether the profile was kept.

    They are made in the caller's thread, so that Ctrl-C and what it raises arrive as they always do.  A socket, and no
    pipe: shutting down one end is seen at the other even where a fork holds copies of both.
    """
    libvips()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(path, "w+b") as file:
        encoder = _Encoder(theirs, file, encoding)
        encoder.start()
        try:
            for part in png:
                if not encoder.done:
                    encoder.send(ours, part)
        finally:
            with suppress(OSError):
                ours.shutdown(socket.SHUT_WR)
            encoder.join()
        encoder.check()
        return encoder.profile_kept


class _Encoder(Thread):
    def __init__(self, source: socket.socket, file: BinaryIO, encoding: _Png | _Tiff) -> None:
        super().__init__(name="libvips", daemon=True)
        self._source = source
        self._file = file
        self._encoding = encoding
        # not the exception: its traceback holds this thread's frames, and they all that libvips has open
        self._failure: str | None = None
        #: It takes no more bytes.
        self.done = False
        self.profile_kept = False

    def run(self) -> None:
        try:
            with vips_errors():
                self._save()
        except Exception as error:
            self._failure = str(error) or type(error).__name__
        finally:
            with suppress(OSError):
                self._source.shutdown(socket.SHUT_RD)

    def _save(self) -> None:
        pyvips = libvips()
        source = pyvips.Source.new_from_descriptor(self._source.fileno())
        image = pyvips.Image.pngload_source(source, access="sequential", fail_on="error", unlimited=True)
        self.profile_kept = self._encoding.save(image, self._file)

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Raises OSError if the encoder has failed."""
        try:
            connection.sendall(data)
        except OSError:  # it needs no more, or has failed
            self.done = True
            self.join()
            self.check()

    def check(self) -> None:
        """Of an encoder that has ended: OSError if it has failed."""
        if self._failure is None:
            return
        code = next((code for code in _NO_ROOM if os.strerror(code) in self._failure), None)
        raise OSError(self._failure) if code is None else OSError(code, os.strerror(code))
