"""Sources: the first bytes are looked at before the others are read, and nothing is read without an end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from s2c_deploy.cli.output import warn
from s2c_deploy.errors import InputError
from s2c_deploy.files import read_bytes, read_open

#: Of a picture file on standard input.
MAX_PICTURE = 2**32
_STANDARD = "standard input"
#: Of TGA, which has no signature: colour-mapped, true colour and grey, with run lengths or without.
_TGA_KINDS = (1, 2, 3, 9, 10, 11)


def read_stream(source: Path | None) -> bytes:
    """All of a .s2c file, or of standard input.

    BitstreamError where it does not begin as one, InputError for what cannot be read or has more than 1 GiB,
    OutOfMemoryError.
    """
    if source is not None:
        return read_bytes(source, starts=_check_magic)
    try:
        return read_open(standard_input(), _STANDARD, starts=_check_magic)
    except OSError as error:
        raise InputError(f"cannot read {_STANDARD}: {error.strerror}") from error


def read_stdin_picture() -> bytes:
    """All of standard input, where it begins as a picture.  InputError, also for more than 4 GiB; OutOfMemoryError."""
    try:
        return read_open(standard_input(), _STANDARD, limit=MAX_PICTURE, starts=_check_picture)
    except OSError as error:
        raise InputError(f"cannot read {_STANDARD}: {error.strerror}") from error


def standard_input() -> BinaryIO:
    """InputError from a terminal, where nobody types a picture, and where there is none."""
    if sys.stdin is None or sys.stdin.closed:
        raise InputError(f"{_STANDARD} is closed", hint="pipe a file into it: < photo.png")
    if sys.stdin.isatty():
        raise InputError(f"{_STANDARD} is a terminal", hint="pipe a file into it: < photo.png")
    return sys.stdin.buffer


def _check_magic(head: bytes) -> None:
    from s2c_deploy.formats.bitstream import MAGIC, parse

    if not head.startswith(MAGIC):
        parse(head)  # says so


def _check_picture(head: bytes) -> None:
    import PIL.Image as Pil

    from s2c_deploy.image import decode_image
    from s2c_deploy.pictures.reading import FORMATS

    Pil.init()
    accepts = [Pil.OPEN[name][1] for name in FORMATS if name in Pil.OPEN]
    if len(head) > 2 and head[1] in (0, 1) and head[2] in _TGA_KINDS:
        return
    if not any(accept is not None and accept(head) for accept in accepts):
        decode_image(head)  # says so


def pictures_of(folder: Path, follow_links: bool) -> list[Path]:
    """The pictures of a folder; what is left out of it is said.  InputError where there is none."""
    from s2c_deploy.image import READ_SUFFIXES
    from s2c_deploy.listing import check_found, describe_left_out, list_folder

    listing = list_folder(folder, follow_links=follow_links)
    check_found(listing, "pictures", READ_SUFFIXES)
    if said := describe_left_out([listing]):
        warn(said)
    return list(listing.files)
