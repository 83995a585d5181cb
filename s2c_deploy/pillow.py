"""A plugin for Pillow: ``Image.open`` and ``Image.save`` know ``.s2c`` files once ``register_s2c_opener`` was called.

    from PIL import Image
    from s2c_deploy import register_s2c_opener

    register_s2c_opener()
    picture = Image.open("photo.s2c")
    picture.save("again.s2c", quality=5)

It behaves as Pillow's own formats do, also in what it raises: OSError and UnidentifiedImageError for files, ValueError
for save options and closed files, DecompressionBombError for sizes, MemoryError.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, BinaryIO, cast

import numpy as np
import PIL.Image as Pil
from PIL import ImageFile, UnidentifiedImageError

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.checks import whole
from s2c_deploy.codec.search import check_effort
from s2c_deploy.codec.shared import Opening, bundle_folder, decoder, encoder
from s2c_deploy.errors import BitstreamError, InputError, OutOfMemoryError, S2CError
from s2c_deploy.formats.bitstream import MAGIC, Stream, parse, round_quality
from s2c_deploy.formats.grid import check_size, tile_grid
from s2c_deploy.formats.head import Head, read_head, read_up_to
from s2c_deploy.pictures.exif import EXIF_PREFIX, upright_exif
from s2c_deploy.pictures.icc import GREY_SPACE, RGB_SPACE, rgb_from_grey
from s2c_deploy.pictures.samples import assemble, plain_rows
from s2c_deploy.presets import FULL

FORMAT = "S2C"
MIME_TYPE = "image/x-s2c"
SUFFIX = ".s2c"
#: Modes that can be saved, 16-bit grey among them; of those with alpha, pictures that are opaque.
_DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_MODES = _DEEP | {"1", "L", "P", "RGB", "RGBX", "YCbCr"} | {"LA", "La", "PA", "RGBA", "RGBa"}
_CLOSED = "Operation on closed image"

_opening = Opening()


def register_s2c_opener(
    *,
    bundle: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    threads: int = 0,
    synthesis: str = FULL,
    precision: str = "auto",
    max_pixels: int | None = None,
) -> None:
    """Makes ``.s2c`` one of Pillow's formats in this process, ``"S2C"``.  Nothing is opened before it is needed.

    bundle: the folder of the one to read and write with; by default the first that has a stream's fingerprint, and to
    write the one that the command ``compress`` takes.  backend, threads, synthesis, precision, max_pixels: as
    :meth:`Codec.open`.  Called again, it replaces what was said before.  A process that is *spawned* has to call it
    too: best where the module begins that uses Pillow.  Raises InputError for values of other types.
    """
    global _opening
    _opening = Opening(
        bundle=bundle_folder(bundle),
        backend=backend,
        threads=threads,
        synthesis=synthesis,
        precision=precision,
        max_pixels=max_pixels,
    )
    Pil.register_open(FORMAT, S2CImageFile, _accept)
    Pil.register_save(FORMAT, _save)
    Pil.register_save_all(FORMAT, _save_all)
    Pil.register_extension(FORMAT, SUFFIX)
    Pil.register_mime(FORMAT, MIME_TYPE)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


class S2CImageFile(ImageFile.ImageFile):
    """An ``.s2c`` file as ``Image.open`` gives it: RGB.  Size and metadata are there at once, pixels after ``load``."""

    format = FORMAT
    format_description = "S2C learned image compression"
    #: As of the class where an object was unpickled, which is loaded.
    _head: Head | None = None
    _start = 0

    def _open(self) -> None:
        file = cast(BinaryIO, self.fp)
        self._start = file.tell()
        try:
            head = read_head(file)
        except BitstreamError as error:
            raise UnidentifiedImageError(str(error)) from error
        self._head = head
        self._mode = "RGB"
        self._size = head.width, head.height
        if head.icc is not None:
            self.info["icc_profile"] = head.icc
        if head.exif is not None and head.exif_start is not None:
            # as Pillow has JPEG's, so that it can be handed to any format's save
            self.info["exif"] = EXIF_PREFIX + head.exif
            self._exif_offset = self._start + head.exif_start

    def load(self) -> Any:
        """Reads the whole file and decodes it; the networks are opened for the first picture of a process."""
        if self._head is not None and self._im is None:
            opening = _opening
            with _pillow_errors():
                stream = self._read(self._head, opening)
                codec = decoder(opening, stream.fingerprint, f"{stream.variant}-{stream.preset}")
                pixels = codec.decompress_stream(stream)
            self.im = Pil.fromarray(pixels).im
            self._head = None
            self.readonly = 0
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = None
        return super().load()

    def verify(self) -> None:
        """Reads the whole file and checks every checksum; decodes nothing."""
        try:
            if self._head is not None:
                with _pillow_errors():
                    self._read(self._head, _opening)
        finally:
            super().verify()

    def _read(self, head: Head, opening: Opening) -> Stream:
        if self.fp is None:
            raise ValueError(_CLOSED)
        problem = check_size(head.width, head.height, head.tile, opening.max_pixels)
        if problem is not None:
            expected, found, hint = problem
            raise Pil.DecompressionBombError(f"expected {expected}, found {found} ({hint})")
        self.fp.seek(self._start)
        # a byte more than there should be: parse says what is wrong with it
        stream = parse(read_up_to(cast(BinaryIO, self.fp), head.size + 1), max_pixels=opening.max_pixels)
        if (stream.width, stream.height) != (head.width, head.height):
            raise OSError(f"the file has changed since it was opened: now it holds {stream.width}x{stream.height}")
        return stream


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """This package's errors as Pillow's users catch them, in the same words."""
    try:
        yield
    except OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except S2CError as error:
        raise OSError(str(error)) from error


def _save(im: Pil.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Pillow's options: quality, tile, effort, icc_profile (by default the picture's own), exif (by default none) and
    bundle."""
    options = im.encoderinfo
    quality, tile, effort = _numbers(options)
    opening = _opening
    if "bundle" in options:
        with _value_errors():
            opening = replace(opening, bundle=bundle_folder(options["bundle"]))
    icc = _icc(options, im)
    exif, orientation = _exif(options)
    with _pillow_errors():
        codec, pixels = encoder(opening), _pixels(im, orientation)
        data = codec.compress(pixels, quality, tile=tile, icc=icc, exif=exif, effort=effort)
    fp.write(data)


def _save_all(im: Pil.Image, fp: IO[bytes], filename: str | bytes) -> None:
    frames = getattr(im, "n_frames", 1) + len(list(im.encoderinfo.get("append_images") or ()))
    if frames > 1:
        raise OSError(f"cannot write {frames} frames as {FORMAT}: a stream holds one picture")
    _save(im, fp, filename)


@contextmanager
def _value_errors() -> Iterator[None]:
    """What is wrong with an option, as Pillow's formats say it."""
    try:
        yield
    except (InputError, TypeError) as error:
        raise ValueError(str(error)) from error


def _numbers(options: Mapping[str, Any]) -> tuple[float, int, int]:
    """quality, tile and effort; ValueError for others than ``Codec.compress`` takes."""
    quality, tile = options.get("quality", 4), options.get("tile", 0)
    with _value_errors():
        tile_grid(1, 1, operator.index(tile))
        effort = check_effort(whole(options.get("effort", 0)))
        return round_quality(quality), operator.index(tile), effort


def _icc(options: Mapping[str, Any], im: Pil.Image) -> bytes | None:
    """An RGB profile.  A picture's own that is for other colours, as after ``convert``, says nothing of its pixels."""
    own = "icc_profile" not in options
    with _value_errors():
        profile = bytes((im.info if own else options).get("icc_profile") or b"")
    if not profile or profile[16:20] == RGB_SPACE:
        return profile or None
    if profile[16:20] == GREY_SPACE:
        try:
            return rgb_from_grey(profile)
        except (ValueError, LookupError) as error:
            if not own:
                raise ValueError(f"icc_profile: {error}") from error
    elif not own:
        found = profile[16:20].decode("ascii", "backslashreplace")
        raise ValueError(f"icc_profile: expected one for RGB or grey, found {found!r}")
    return None


def _exif(options: Mapping[str, Any]) -> tuple[bytes | None, int]:
    """The block with its orientation set to 1, and what that was: a stream's picture is upright."""
    exif = options.get("exif")
    if isinstance(exif, Pil.Exif):
        exif = exif.tobytes() if len(exif) else None
    if not exif:
        return None, 1
    with _value_errors():
        block, orientation = upright_exif(bytes(exif))
    if block is None:
        raise ValueError("exif: expected a TIFF block or PIL.Image.Exif, found other bytes")
    return block, orientation


def _pixels(im: Pil.Image, orientation: int) -> Pixels:
    """uint8 H x W x 3, turned upright; OSError for what has no certain 8-bit RGB meaning, as Pillow's formats."""
    if 0 in im.size:
        raise ValueError(f"cannot write empty image as {FORMAT}")
    if im.mode not in _MODES:
        raise OSError(f"cannot write mode {im.mode} as {FORMAT} (convert it to RGB first)")
    transparent = OSError(
        f"cannot write mode {im.mode} as {FORMAT}: it is transparent in places (paste it onto a background first)"
    )
    if im.mode in _DEEP and "transparency" in im.info and (np.asarray(im) == im.info["transparency"]).any():
        raise transparent
    try:
        return assemble(plain_rows(im, "the picture"), im.size, orientation=orientation, color=None, path="the picture")
    except InputError as error:
        raise transparent from error
