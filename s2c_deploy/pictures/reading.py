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
from typing import BinaryIO

import PIL.Image as Pil
from PIL import UnidentifiedImageError
from PIL.ImageFile import ImageFile

from s2c_deploy.errors import InputError, OutOfMemoryError, S2CError
from s2c_deploy.formats.bitstream import MAX_METADATA
from s2c_deploy.formats.grid import MAX_SIDE
from s2c_deploy.pictures import jpeg as jpeg_file
from s2c_deploy.pictures import png as png_file
from s2c_deploy.pictures.bmp import FILE_HEADER, check_runs, fourth_bytes
from s2c_deploy.pictures.isobmff import exif_block, is_avif, is_cropped, whole_size, without_exif
from s2c_deploy.pictures.metadata import (
    Metadata,
    jpeg_metadata,
    other_metadata,
    png_metadata,
    profile_too_large,
)
from s2c_deploy.pictures.samples import Rows, Samples, assemble, partly_covered, plain_rows, png_rows, with_alpha
from s2c_deploy.pictures.tags import reads_too_much
from s2c_deploy.pictures.tga import has_no_alpha
from s2c_deploy.pictures.tiff import is_tiff, read_tiff
from s2c_deploy.pictures.webp import declare_alpha, hides_alpha, is_webp, riff_size, webp_size

# not all that Pillow knows: EPS would start Ghostscript, JPEG 2000 allocates what a header asks for
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "PPM", "GIF", "TGA")
#: Bytes; RIFF, TIFF and bitmaps count no further, and no picture of MAX_SIDE a side that is in use needs them.
MAX_FILE = 2**32
#: Bytes of a WebP or AVIF, which are read whole: four for each pixel that their libraries take.
MAX_WHOLE = 2**30
_LEAST_TILE = 2**20
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
        raise InputError(f"cannot read {path}: {what}", hint="name a file")
    return open(number, "rb")


def read_picture(
    file: BinaryIO, *, path: str, color: tuple[int, int, int] | None, max_pixels: int, drop_icc: bool
) -> tuple[Samples, Metadata]:
    """Upright uint8 (height, width, 3), and what comes with it.

    path: what messages call the file; color: what transparent pixels are composited onto.  Raises
    :class:`InputError` and :class:`OutOfMemoryError` as :func:`s2c_deploy.image.read_image` says.
    """
    check = SizeCheck(path, max_pixels)
    with explained(file, check):
        length = file.seek(0, io.SEEK_END)
        if length > MAX_FILE:
            hint = f"picture files of up to {MAX_FILE} bytes are read"
            raise InputError(f"{path} is too large: {length} bytes", hint=hint)
        file.seek(0)
        head = file.read(_HEAD)
        file.seek(0)
        if head.startswith(png_file.SIGNATURE):
            rows, size, metadata = _read_png(file, check, drop_icc)
        else:
            rows, size, metadata = _read_other(file, head, check, drop_icc)
        pixels = assemble(rows, size, orientation=metadata.orientation, color=color, path=path)
    return pixels, metadata


class SizeCheck:
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


def open_png(file: BinaryIO, check: SizeCheck, *, drop_icc: bool) -> tuple[png_file.Png, Metadata]:
    """A still PNG's chunks, all of them checked, and what they say; no pixel is decoded.  Errors come as they are."""
    try:
        png = png_file.read_png(file, max_metadata=MAX_METADATA, drop_icc=drop_icc)
    except png_file.ProfileTooLargeError:
        raise profile_too_large(check.path) from None
    check(png.width, png.height)
    _check_frames(png.frames, check.path)
    return png, png_metadata(png, path=check.path, drop_icc=drop_icc)


def _read_png(file: BinaryIO, check: SizeCheck, drop_icc: bool) -> tuple[Rows, tuple[int, int], Metadata]:
    png, metadata = open_png(file, check, drop_icc=drop_icc)
    picture = Pil.open(png.open(), formats=["PNG"])
    picture.load()
    return png_rows(picture, png, check.path), picture.size, metadata


def _read_other(
    file: BinaryIO, head: bytes, check: SizeCheck, drop_icc: bool
) -> tuple[Rows, tuple[int, int], Metadata]:
    if is_webp(head):
        file = _webp(file, head, check)
    elif is_avif(head):
        file = _avif(file, check.path)
    jpeg = _jpeg(file, check.path) if head.startswith(jpeg_file.SIGNATURE) else None
    if reads_too_much(file):
        raise InputError(f"{check.path} is damaged: values of its tags overlap", hint="fetch or make it again")
    tiff = read_tiff(file, check.path, check, max(check.max_pixels, _LEAST_TILE)) if is_tiff(head) else None
    file = tiff.open(file) if tiff is not None else file
    file.seek(0)
    picture, damaged = _open(file if jpeg is None else jpeg.pixels)
    check(*picture.size)
    _check_frames(getattr(picture, "n_frames", 1), check.path)
    covered = picture.tile[0].extents if picture.format == "GIF" and picture.tile else None
    bitmap = {"BMP": FILE_HEADER, "DIB": 0}.get(picture.format or "")
    if bitmap is not None:
        _check_bitmap(file, bitmap, picture.size, check.path)
    picture.load()
    if jpeg is not None:
        metadata = jpeg_metadata(jpeg, picture, path=check.path, drop_icc=drop_icc)
    else:
        metadata = other_metadata(picture, file, path=check.path, drop_icc=drop_icc)
        metadata = replace(metadata, left_out=metadata.left_out + damaged)
    opaque = picture.format == "TGA" and has_no_alpha(picture, file, check.path)
    rows = plain_rows(picture, check.path, negative=tiff is not None and tiff.inverted, opaque=opaque)
    if bitmap is not None:
        alpha = fourth_bytes(file, bitmap, picture.size)
        rows = rows if alpha is None else with_alpha(rows, alpha)
    if covered is not None and covered != (0, 0, *picture.size):
        rows = partly_covered(rows, covered)
    return rows, picture.size, metadata


def _webp(file: BinaryIO, head: bytes, check: SizeCheck) -> BinaryIO:
    """The file as Pillow reads it rightly; its header is checked before anything is read or allocated."""
    size = riff_size(head, file.seek(0, io.SEEK_END))
    if (pixels := webp_size(head)) is not None:
        check(*pixels)  # Pillow allocates the canvas when it opens the file
    data = _whole(file, size, check.path)
    return io.BytesIO(declare_alpha(data) if hides_alpha(data) else data)


def _whole(file: BinaryIO, size: int, path: str) -> bytes:
    if size > MAX_WHOLE:
        hint = f"of WebP and AVIF, {MAX_WHOLE} bytes are read at most"
        raise InputError(f"{path} is too large: a picture of {size} bytes", hint=hint)
    file.seek(0)
    return file.read(size)


def _jpeg(file: BinaryIO, path: str) -> jpeg_file.Jpeg:
    try:
        return jpeg_file.read_jpeg(file)
    except jpeg_file.TooManyPartsError as error:
        raise InputError(
            f"{path} is a JPEG of {error}, which no sound picture has and which would take very long to read",
            hint="if other programs open it, save it there again",
        ) from None


def _avif(file: BinaryIO, path: str) -> io.BytesIO:
    """The file without what lies behind its boxes, which are checked before anything is read."""
    data = _whole(file, whole_size(file), path)
    cropped = False
    with suppress(ValueError):  # of damaged boxes Pillow says more
        cropped = is_cropped(data)
    if cropped:
        raise InputError(
            f"{path} is an AVIF of which only a part is to be shown (box 'clap'), which is not applied here",
            hint="crop it in another program, and save it as PNG",
        )
    return io.BytesIO(data)


def _open(file: BinaryIO) -> tuple[ImageFile, tuple[str, ...]]:
    """A picture, and the names of metadata that it could only be opened without."""
    if not isinstance(file, io.BytesIO) or not is_avif(file.getvalue()[:_HEAD]):
        return Pil.open(file, formats=FORMATS), ()
    # libavif does not open files whose EXIF is damaged, and Pillow reads it when it opens one
    data = file.getvalue()
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


def _check_bitmap(file: BinaryIO, start: int, size: tuple[int, int], path: str) -> None:
    place = file.tell()
    try:
        check_runs(file, start, size)
    except ValueError as error:
        raise InputError(
            f"{path} is a bitmap that leaves pixels out, which then have no certain colour: {error}",
            hint="if other programs show it rightly, save it there as PNG",
        ) from None
    file.seek(place)


def _check_frames(frames: int, path: str) -> None:
    if frames > 1:
        raise InputError(f"{path} has {frames} frames", hint="extract one: only still pictures are coded")


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
def explained(file: BinaryIO, check: SizeCheck) -> Iterator[None]:
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
        if "raw mode" in str(error):  # sound, but Pillow cannot unpack samples that are stored so
            raise InputError(
                f"{path} stores its samples in a way that is not read here: {error}",
                hint="if other programs open it, save it there as 8-bit PNG",
            ) from error
        raise InputError(f"{path} is damaged: {error}", hint="fetch or make it again") from error


def _out_of_memory(check: SizeCheck) -> OutOfMemoryError:
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
