"""A picture file, opened, checked before anything is allocated for it, and read, with every error explained."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Lock
from typing import Any, BinaryIO

import PIL.Image as Pil
from PIL import UnidentifiedImageError
from PIL.ImageFile import ImageFile

from s2c_deploy.bitstream import MAX_METADATA, MAX_SIDE
from s2c_deploy.errors import InputError, OutOfMemoryError, S2CError
from s2c_deploy.pictures import jpeg as jpeg_file
from s2c_deploy.pictures import png as png_file
from s2c_deploy.pictures.bmp import FILE_HEADER, fourth_bytes
from s2c_deploy.pictures.isobmff import exif_block, without_exif
from s2c_deploy.pictures.metadata import (
    Metadata,
    jpeg_metadata,
    other_metadata,
    png_metadata,
    profile_too_large,
)
from s2c_deploy.pictures.samples import Rows, Samples, assemble, partly_covered, plain_rows, png_rows, with_alpha
from s2c_deploy.pictures.tags import reads_too_much
from s2c_deploy.pictures.webp import declare_alpha, hides_alpha, is_webp, webp_size

# not all that Pillow knows: EPS would start Ghostscript, JPEG 2000 allocates what a header asks for
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "PPM", "GIF", "TGA")
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_HEAD = 32


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A file to read.  :class:`InputError` if there is none, or a folder, a named pipe, a device in its place."""
    # without O_NONBLOCK, opening a named pipe would wait for somebody who writes
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}", hint="check the path") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except ValueError as error:  # a zero byte in the name, characters that no file name can hold
        raise InputError(f"no file can be called {os.fspath(path)!r}: {error}", hint="check the path") from None
    if not stat.S_ISREG(mode := os.fstat(number).st_mode):
        os.close(number)
        what = "Is a directory" if stat.S_ISDIR(mode) else "it is not a regular file"
        raise InputError(f"cannot read {path}: {what}", hint="name a picture file")
    return open(number, "rb")


def read_picture(
    file: BinaryIO, *, path: str, color: tuple[int, int, int] | None, max_pixels: int, drop_icc: bool
) -> tuple[Samples, Metadata]:
    """Upright uint8 (height, width, 3), and what comes with it.

    path: what messages call the file; color: what transparent pixels are composited onto.  Raises
    :class:`InputError` and :class:`OutOfMemoryError` as :func:`s2c_deploy.image.read_image` says.
    """
    check = _SizeCheck(path, max_pixels)
    with _explained(file, check):
        head = file.read(_HEAD)
        file.seek(0)
        if head.startswith(png_file.SIGNATURE):
            rows, size, metadata = _read_png(file, check, drop_icc)
        else:
            rows, size, metadata = _read_other(file, head, check, drop_icc)
        pixels = assemble(rows, size, orientation=metadata.orientation, color=color, path=path)
    return pixels, metadata


class _SizeCheck:
    """Refuses pictures that are too large, and remembers the size for later messages."""

    def __init__(self, path: str, max_pixels: int) -> None:
        self.path = path
        self.max_pixels = max_pixels
        self.size = ""

    def __call__(self, width: int, height: int) -> None:
        self.size = f", {width}x{height} pixels"
        if min(width, height) < 1:
            raise InputError(f"{self.path} is damaged: {width}x{height} pixels", hint="fetch or make it again")
        if max(width, height) > MAX_SIDE:
            raise InputError(f"{self.path} is too large: {width}x{height} pixels", hint=f"sides go up to {MAX_SIDE}")
        if width * height > self.max_pixels:
            raise InputError(
                f"{self.path} is too large: {width}x{height} pixels",
                hint=f"at most {self.max_pixels} pixels are read",
            )


def _read_png(file: BinaryIO, check: _SizeCheck, drop_icc: bool) -> tuple[Rows, tuple[int, int], Metadata]:
    try:
        png = png_file.read_png(file, max_metadata=MAX_METADATA, drop_icc=drop_icc)
    except png_file.ProfileTooLargeError:
        raise profile_too_large(check.path) from None
    check(png.width, png.height)
    _check_frames(png.frames, check.path)
    metadata = png_metadata(png, path=check.path, drop_icc=drop_icc)
    picture = Pil.open(png.open(), formats=["PNG"])
    picture.load()
    return png_rows(picture, png, check.path), picture.size, metadata


def _read_other(
    file: BinaryIO, head: bytes, check: _SizeCheck, drop_icc: bool
) -> tuple[Rows, tuple[int, int], Metadata]:
    if is_webp(head):
        if (size := webp_size(head)) is not None:
            check(*size)  # Pillow allocates the canvas when it opens the file
        data = file.read()
        file = io.BytesIO(declare_alpha(data) if hides_alpha(data) else data)
    jpeg = jpeg_file.read_jpeg(file) if head.startswith(jpeg_file.SIGNATURE) else None
    if reads_too_much(file):
        raise InputError(f"{check.path} is damaged: values of its tags overlap", hint="fetch or make it again")
    file.seek(0)
    picture, damaged = _open(file if jpeg is None else jpeg.pixels, head)
    check(*picture.size)
    _check_frames(getattr(picture, "n_frames", 1), check.path)
    _check_tiles(picture, check)
    covered = picture.tile[0].extents if picture.format == "GIF" and picture.tile else None
    picture.load()
    if jpeg is not None:
        metadata = jpeg_metadata(jpeg, picture, path=check.path, drop_icc=drop_icc)
    else:
        metadata = other_metadata(picture, file, path=check.path, drop_icc=drop_icc)
        metadata = replace(metadata, left_out=metadata.left_out + damaged)
    rows = plain_rows(picture, check.path)
    if picture.format in ("BMP", "DIB"):
        alpha = fourth_bytes(file, FILE_HEADER if picture.format == "BMP" else 0, picture.size)
        rows = rows if alpha is None else with_alpha(rows, alpha)
    if covered is not None and covered != (0, 0, *picture.size):
        rows = partly_covered(rows, covered)
    return rows, picture.size, metadata


def _open(file: BinaryIO, head: bytes) -> tuple[ImageFile, tuple[str, ...]]:
    """A picture, and the names of metadata that it could only be opened without."""
    if head[4:8] != b"ftyp":
        return Pil.open(file, formats=FORMATS), ()
    # AVIF: libavif does not open files whose EXIF is damaged, and Pillow reads it when it opens one
    data = file.read()
    file.seek(0)
    with suppress(ValueError):
        block = exif_block(data)
        if block is not None and reads_too_much(io.BytesIO(block)):
            return Pil.open(io.BytesIO(without_exif(data)), formats=["AVIF"]), ("EXIF, damaged",)
    try:
        return Pil.open(file, formats=FORMATS), ()
    except Pil.DecompressionBombError:
        raise
    except Exception:
        with suppress(Exception):
            return Pil.open(io.BytesIO(without_exif(data)), formats=["AVIF"]), ("EXIF, damaged",)
        raise


def _check_frames(frames: int, path: str) -> None:
    if frames > 1:
        raise InputError(f"{path} has {frames} frames", hint="extract one: only still pictures are coded")


def _check_tiles(picture: Pil.Image, check: _SizeCheck) -> None:
    """A TIFF's tiles are allocated whole, even where they are larger than the picture."""
    tags: Any = getattr(picture, "tag_v2", {})
    width, length = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    if isinstance(width, int) and isinstance(length, int) and width * length > max(check.max_pixels, 2**20):
        raise InputError(
            f"{check.path} is too large: tiles of {width}x{length} pixels",
            hint=f"at most {check.max_pixels} pixels are read",
        )


class _Quiet:
    """No warnings: of large pictures, where max_pixels decides, and of damage, which is raised or does not matter.

    The filters of warnings belong to the process: of threads that read at once, the first sets them and the last puts
    them back.  Each by itself would put back what another had set.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._readers += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._saved.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def _explained(file: BinaryIO, check: _SizeCheck) -> Iterator[None]:
    """Turn what Pillow raises while reading into this package's errors."""
    path = check.path
    try:
        with _QUIET:
            try:
                yield
            except UnidentifiedImageError:
                raise _unidentified(file, path) from None
    except S2CError:
        raise
    except MemoryError:
        raise _out_of_memory(check) from None
    except Pil.DecompressionBombError:
        limit = 2 * (Pil.MAX_IMAGE_PIXELS or 0)
        raise InputError(f"{path} is too large", hint=f"Pillow reads at most {limit} pixels") from None
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
        if "out of memory" in str(error).lower():
            raise _out_of_memory(check) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
        raise InputError(f"{path} is damaged: {error}", hint="fetch or make it again") from error


def _out_of_memory(check: _SizeCheck) -> OutOfMemoryError:
    return OutOfMemoryError(f"reading {check.path}{check.size}", hint="make it smaller, or close other programs")


def _unidentified(file: BinaryIO, path: str) -> InputError:
    """Pillow keeps to itself why it did not take a file whose first bytes are of a known format."""
    file.seek(0)
    head = file.read(_HEAD)
    for name in FORMATS:
        factory, accept = Pil.OPEN[name]
        file.seek(0)
        try:
            if accept is None or not accept(head):  # TGA has no first bytes of its own
                continue
        except Exception:  # of a file of less than four bytes
            continue
        try:
            factory(file, "")
        except Exception as error:  # SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error
            return InputError(
                f"{path} is a picture of kind {name} that cannot be read: {error}",
                hint="if other programs open it, save it there as 8-bit PNG; else fetch or make it again",
            )
    return InputError(f"{path} is not a picture of a known format", hint=f"known: {', '.join(FORMATS)}")
