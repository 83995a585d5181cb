"""Whether a place may be written: what is there now must not be a picture or a stream that somebody still needs."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from s2c_deploy.errors import InputError
from s2c_deploy.files import check_writable, status_of

#: What is written.
Writes = Literal["stream", "picture", "report"]
_STREAM = ".s2c"
#: Formats with a signature: nothing else is taken for a picture by its content.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "PSD", "ICO", "MPO")


def check_replaceable(path: Path, writes: Writes) -> None:
    """InputError where a file at ``path`` is of another kind than what is written, with --force too.

    A stream may take the place of anything called .s2c, and of no picture; a picture that of no stream; a report
    that of neither.
    """
    if not os.path.isfile(path):
        return
    named = path.suffix.lower()
    if writes == "stream" and named == _STREAM:
        return
    found = content_of(path)
    if writes == "picture":
        wrong = found == "stream"
    else:
        from s2c_deploy.image import READ_SUFFIXES

        wrong = found is not None or named in READ_SUFFIXES or named == _STREAM
    if wrong:
        what = found or ("stream" if named == _STREAM else "picture")
        raise InputError(
            f"{path} is a {what}, and a {writes} would replace it",
            hint="name another target; several pictures need a folder, as in: a.jpg b.jpg out/",
        )


def content_of(path: Path) -> Literal["stream", "picture"] | None:
    """What a regular file holds, by its first bytes."""
    size = picture_size(path)
    if size is not None:
        return "picture"
    from s2c_deploy.bitstream import MAGIC

    try:
        with path.open("rb") as file:
            return "stream" if file.read(len(MAGIC)) == MAGIC else None
    except OSError:
        return None


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels as a picture file's header says; None where it is none.  No pixels are decoded."""
    if not os.path.isfile(path):  # a named pipe gives what it has but once
        return None
    import warnings

    import PIL.Image as Pil

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pil.open(path, formats=_FORMATS) as picture:
                width, height = picture.size
                return int(width), int(height)
    except Pil.DecompressionBombError:
        return (Pil.MAX_IMAGE_PIXELS or 0, 2)
    except Exception:  # whatever Pillow raises for what is no picture
        return None


def check_reports(
    outputs: Sequence[Path], *, force: bool, inputs: Collection[Path] = (), pictures: Collection[Path] = ()
) -> None:
    """Everything that would only fail after the measuring.

    inputs: what is read, which no output may replace; pictures: those of the outputs that are pictures themselves.
    InputError.
    """
    for path in outputs:
        if os.path.isdir(path):
            raise InputError(f"{path} is a folder", hint="name a file to write")
        if not os.path.isdir(path.parent):
            raise InputError(f"cannot write {path}: no folder {path.parent}", hint="create it first")
        if os.path.lexists(path) and not force:
            raise InputError(f"{path} exists", hint="overwrite it with --force, or name another file")
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise InputError("two outputs into one file", hint="name a file for each")
    read = identities(inputs)
    for path in outputs:
        if (same := read.get(identity(path))) is not None:
            raise InputError(f"{path} is {same}, which is an input", hint="name another file")
        check_replaceable(path, "picture" if path in pictures else "report")
        check_writable(path)


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder, a bundle's say; nothing where it cannot be listed, which whoever opens it will say."""
    try:
        return [folder / name for name in os.listdir(folder)]
    except OSError:
        return []


def identity(path: Path) -> tuple[int, int] | None:
    """What makes two paths one file, links followed; None where there is none.  InputError."""
    status = status_of(path)
    return None if status is None else (status.st_dev, status.st_ino)


def identities(paths: Collection[Path]) -> dict[tuple[int, int] | None, Path]:
    """Paths by identity; those that are not there are left out.  InputError."""
    found = {identity(path): path for path in paths}
    found.pop(None, None)
    return found
