"""Arrays to ``.s2c`` bytes and back in one call, as imagecodecs has it: the codec is the process's own."""

from __future__ import annotations

import os

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.shared import Opening, bundle_folder, decoder, encoder
from s2c_deploy.formats.bitstream import parse


def encode(
    image: Pixels,
    quality: float = 4,
    *,
    tile: int = 0,
    icc: bytes | None = None,
    exif: bytes | None = None,
    effort: int = 0,
    bundle: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    threads: int = 0,
) -> bytes:
    """A picture, uint8 H x W x 3 (RGB), to a ``.s2c`` stream, as :meth:`Codec.compress`.

    bundle: a folder; by default the one that the command ``compress`` takes.  It is opened at the first call, and stays
    open; threads may call at once, and a process that was forked opens its own.  backend, threads: as
    :meth:`Codec.open`.  Raises InputError, BundleError, EngineError, DependencyError or OutOfMemoryError.
    """
    opening = Opening(bundle=bundle_folder(bundle), backend=backend, threads=threads)
    return encoder(opening).compress(image, quality, tile=tile, icc=icc, exif=exif, effort=effort)


def decode(
    data: bytes,
    *,
    bundle: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    threads: int = 0,
    max_pixels: int | None = None,
) -> Pixels:
    """A ``.s2c`` stream, bytes or like bytes, to its picture, uint8 H x W x 3 (RGB), as :meth:`Codec.decompress`.

    bundle: a folder; by default the first that has the stream's fingerprint, as for the command ``decompress``.
    backend, threads, max_pixels: as :meth:`Codec.open`.  Raises BitstreamError, and what :func:`encode` raises.
    """
    opening = Opening(bundle=bundle_folder(bundle), backend=backend, threads=threads)
    stream = parse(data, max_pixels=max_pixels)
    return decoder(opening, stream.fingerprint, f"{stream.variant}-{stream.preset}").decompress_stream(stream)
