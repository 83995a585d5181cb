"""Training pictures, decoded once into one memory map.

Beside ``NAME.u8`` lies ``NAME.u8.json``, which tells what is in it, and ``NAME.u8.lock``, which stays empty.  The
index is believed only where it is whole itself, of the pictures as they are now, and of that very file of pixels; else
the pictures are decoded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.files import atomic_write, cannot_read, cannot_write, make_folder, status_of, write_text
from s2c_deploy.image import READ_SUFFIXES, read_image
from s2c_deploy.listing import Listing, check_found, list_folder

_VERSION = 2
SUFFIX = ".u8"
#: Unusable pictures that a message names.
_MOST_NAMED = 20
#: A line of the index per picture takes some 100 bytes.
_MOST_INDEX = 2**28
#: Name, bytes and time of the last change of every picture.
States = list[list[Any]]


@dataclass(frozen=True, kw_only=True)
class PictureCache:
    """Decoded pictures, one after another."""

    #: A flat uint8 memory map.
    pixels: npt.NDArray[np.uint8]
    names: tuple[str, ...]
    #: (height, width) of every picture, in the order of ``names``.
    shapes: tuple[tuple[int, int], ...]
    #: Where each picture begins in ``pixels``.
    offsets: tuple[int, ...]

    def picture(self, i: int) -> npt.NDArray[np.uint8]:
        """H x W x 3 view of picture i."""
        h, w = self.shapes[i]
        return self.pixels[self.offsets[i] : self.offsets[i] + h * w * 3].reshape(h, w, 3)


def open_cache(folder: Path, cache: Path) -> PictureCache:
    """Decodes every picture of ``folder`` into ``cache``, a file whose name ends in .u8, once.

    That is done again when names, sizes or dates in the folder have changed, and when the cache is damaged or of
    another version.  InputError when there is no picture, when some cannot be used (all are named: damaged ones, those
    with transparency or several frames, and what else ``read_image`` refuses), and when the cache cannot be written;
    OutOfMemoryError where memory does not hold a picture.
    """
    if cache.suffix != SUFFIX:
        raise InputError(f"{cache}: expected a name that ends in {SUFFIX}", hint="a file of yours might be overwritten")
    files = _pictures(folder)
    listing = [[path.name, found.st_size, found.st_mtime_ns] for path, found in files.items()]
    make_folder(cache.parent)
    check_lock(lock_of(cache))
    with _locked(lock_of(cache)):
        shapes = _known_shapes(cache, listing)
        if shapes is None:
            shapes = _decode(list(files), cache)
            _write_index(cache, listing, shapes)
    ends = np.cumsum([h * w * 3 for h, w in shapes], dtype=np.int64)
    try:
        pixels = np.memmap(cache, dtype=np.uint8, mode="r", shape=(int(ends[-1]),))
    except (OSError, ValueError) as error:
        raise cannot_read(cache, error) from error
    return PictureCache(
        pixels=pixels,
        names=tuple(path.name for path in files),
        shapes=tuple(shapes),
        offsets=(0, *(int(end) for end in ends[:-1])),
    )


def list_pictures(folder: Path) -> Listing:
    """What a folder has to train with, and what is left out: subfolders, hidden files, links to nothing.

    Links may lead out of the folder: it is the user's own choice of pictures.  InputError where there is no picture.
    """
    found = status_of(folder)
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise InputError(f"no pictures in {folder}", hint="give a folder of photographs")
    listing = list_folder(folder, follow_links=True)
    check_found(listing, "pictures", READ_SUFFIXES)
    return listing


def _pictures(folder: Path) -> dict[Path, os.stat_result]:
    """The folder's pictures by name, each with its status."""
    statuses = {path: status_of(path) for path in list_pictures(folder).files}
    if gone := [path.name for path, status in statuses.items() if status is None]:
        raise InputError(f"{folder}: {_some(gone)}: gone meanwhile", hint="run the command again")
    return {path: status for path, status in statuses.items() if status is not None}


def index_of(cache: Path) -> Path:
    """What tells what is in a cache."""
    return cache.with_name(f"{cache.name}.json")


def lock_of(cache: Path) -> Path:
    """Which process may write a cache; never written to."""
    return cache.with_name(f"{cache.name}.lock")


def check_lock(lock: Path) -> None:
    """InputError where something else than an empty file has its name."""
    found = status_of(lock)
    if found is not None and (not stat.S_ISREG(found.st_mode) or found.st_size):
        raise InputError(f"{lock}: expected an empty file", hint="rename it, or name another --cache")


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Of several processes that start at once, one decodes and the others wait."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        raise cannot_write(lock, error) from error
    with open(descriptor, "rb"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise cannot_write(lock, error) from error
        yield


def _known_shapes(cache: Path, listing: States) -> list[tuple[int, int]] | None:
    """What the index says of these pictures, or None where it cannot be trusted or is of others."""
    pixels, index = status_of(cache), status_of(index_of(cache))
    for path, found in ((cache, pixels), (index_of(cache), index)):
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: expected a regular file", hint="delete it, or name another --cache")
    if pixels is None or index is None or index.st_size > _MOST_INDEX:
        return None
    try:
        told = json.loads(index_of(cache).read_text(encoding="utf-8"))
        shapes = [(int(h), int(w)) for h, w in told["shapes"]]
        whole = told == _index(listing, shapes, pixels)
    except OSError as error:
        raise cannot_read(index_of(cache), error) from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return shapes if whole and sum(h * w * 3 for h, w in shapes) == pixels.st_size else None


def _index(listing: States, shapes: list[tuple[int, int]], pixels: os.stat_result) -> dict[str, Any]:
    """Of pictures, and of the file of pixels that was written from them: its bytes and its date."""
    told: dict[str, Any] = {
        "version": _VERSION,
        "listing": listing,
        "shapes": [list(shape) for shape in shapes],
        "pixels": [pixels.st_size, pixels.st_mtime_ns],
    }
    return told | {"sha256": hashlib.sha256(json.dumps(told).encode()).hexdigest()}


def _write_index(cache: Path, listing: States, shapes: list[tuple[int, int]]) -> None:
    """Last: it vouches for a whole cache."""
    pixels = status_of(cache)
    if pixels is None:
        raise InputError(f"{cache} is gone", hint="run the command again; nothing else may write there")
    write_text(index_of(cache), json.dumps(_index(listing, shapes, pixels)))


def _decode(files: list[Path], cache: Path) -> list[tuple[int, int]]:
    shapes: list[tuple[int, int]] = []
    unusable: list[str] = []
    with atomic_write(cache) as temporary, temporary.open("wb") as out:
        for path in track(files, description="decoding", console=Console(stderr=True)):
            try:
                shapes.append(_decode_one(path, out))
            except InputError as error:
                unusable.append(error.message)
        if unusable:
            raise InputError(
                f"{len(unusable)} of {len(files)} pictures cannot be decoded: {_some(unusable)}",
                hint="remove them from the folder",
            )
    return shapes


def _decode_one(path: Path, out: BinaryIO) -> tuple[int, int]:
    try:
        pixels = read_image(path).pixels
    except MemoryError as error:
        raise OutOfMemoryError(f"decoding {path}") from error
    except OSError as error:  # not to be taken for one of the cache
        raise cannot_read(path, error) from error
    out.write(pixels.data)
    return pixels.shape[0], pixels.shape[1]


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return "; ".join(names[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
