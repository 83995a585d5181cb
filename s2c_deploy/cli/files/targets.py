"""Whether a place may be written: what is there now must be of the kind that is written, or nothing is lost with it."""

from __future__ import annotations

import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Literal

from s2c_deploy.errors import InputError
from s2c_deploy.files import status_of

#: What is written; pixels: those that training keeps.
Writes = Literal["stream", "picture", "json", "csv", "html", "plot", "pixels"]
_STREAM = ".s2c"
#: Names of the files that may be replaced; those of pictures are the formats that can be written.
_SUFFIXES: dict[Writes, frozenset[str]] = {
    "stream": frozenset({_STREAM}),
    "json": frozenset({".json"}),
    "csv": frozenset({".csv"}),
    "html": frozenset({".html", ".htm"}),
    "plot": frozenset({".png", ".svg"}),
    "pixels": frozenset({".u8"}),
}
_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}
#: Formats with a signature: nothing else is taken for a picture by its content.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "PSD", "ICO", "MPO")
#: So many bytes tell text from other things.
_HEAD = 4096
#: Files of a folder that are held against an output: a bundle has some hundreds.
_MOST_FILES = 10_000


def check_replaceable(path: Path, writes: Writes, *, follow_links: bool = True) -> None:
    """InputError unless a file at ``path`` may be replaced by what is written, which --force alone does not allow.

    An empty file may, and one of the same kind: by its content and the name that it really has, links followed.
    follow_links: False where a link is itself what is replaced, and what it leads to stays.
    """
    if not os.path.isfile(path) or (not follow_links and os.path.islink(path)):
        return
    real = Path(os.path.realpath(path))
    named, found = real.suffix.lower(), content_of(real)
    if found == "empty":
        allowed = writes != "stream" or named == _STREAM or not _is_picture_name(named)
    elif writes == "stream":
        allowed = named == _STREAM or found == "stream"
    elif writes == "picture":
        allowed = found != "stream" and _same_format(path.suffix, named)
    elif writes == "plot" and named != ".svg":
        allowed = found != "stream" and named in _SUFFIXES[writes] and _same_format(path.suffix, named)
    elif writes == "pixels":
        allowed = found not in ("stream", "picture") and named in _SUFFIXES[writes]
    else:
        allowed = found == "text" and named in _SUFFIXES[writes]
    if not allowed:
        raise InputError(_in_the_way(path, real, writes, found), hint=_advice(writes))


def _is_picture_name(suffix: str) -> bool:
    from s2c_deploy.image import READ_SUFFIXES

    return suffix in READ_SUFFIXES


def _same_format(asked: str, found: str) -> bool:
    """Whether a picture of the suffix asked for may take the place of a file with the other one."""
    asked, found = asked.lower(), found.lower()
    return _SAME.get(asked, asked) == _SAME.get(found, found)


def _in_the_way(path: Path, real: Path, writes: Writes, found: str) -> str:
    shown = f"{path}, a link to {real}," if os.path.islink(path) else str(path)
    named = real.suffix.lower()
    if found in ("stream", "picture"):
        what = f"a {found}"
    elif named == _STREAM:
        what = "a stream"
    elif _is_picture_name(named):
        what = "a picture"
    else:
        what = f"no {writes}, but {'text' if found == 'text' else 'other data'}"
        return f"{shown} is {what}, which would be lost"
    written = writes if writes in ("stream", "picture") else "report"
    return f"{shown} is {what}, and a {written} would replace it"


def _advice(writes: Writes) -> str:
    if writes in ("stream", "picture"):
        return "name another target; several pictures need a folder, as in: a.jpg b.jpg out/"
    names = " or ".join(sorted(_SUFFIXES[writes]))
    return f"delete it, or name another file; only files that end in {names} are replaced"


def content_of(path: Path) -> Literal["empty", "stream", "picture", "text", "data"]:
    """What a regular file holds, by its first bytes; one that cannot be read is data."""
    from s2c_deploy.formats.bitstream import MAGIC

    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return "data"
    if not head:
        return "empty"
    if head.startswith(MAGIC):
        return "stream"
    if picture_size(path) is not None:
        return "picture"
    return "text" if _is_text(head) else "data"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD or error.start < len(head) - 3:  # else a character that was cut
            return False
        text = head[: error.start].decode("utf-8")
    return "\0" not in text


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


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder, a bundle's say, and below it, its first ten thousand files; nothing where it cannot be
    listed, which whoever opens it will say."""
    found = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return list(islice(found, _MOST_FILES))


def identity(path: Path) -> tuple[int, int] | None:
    """What makes two paths one file, links followed; None where there is none.  InputError."""
    status = status_of(path)
    return None if status is None else (status.st_dev, status.st_ino)


def identities(paths: Collection[Path]) -> dict[tuple[int, int] | None, Path]:
    """Paths by identity; those that are not there are left out.  InputError."""
    found = {identity(path): path for path in paths}
    found.pop(None, None)
    return found
