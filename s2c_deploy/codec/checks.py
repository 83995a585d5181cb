"""What callers hand to a codec, checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.picture import Size
from s2c_deploy.entropy.coder import MAX_THREADS
from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.formats.bitstream import Stream
from s2c_deploy.runtime.backends import PRECISIONS


def whole(value: Any) -> Any:
    """numpy's whole numbers as Python's; anything else as it is, for the checks to see."""
    return int(value) if isinstance(value, np.integer) else value


def check_options(
    backend: object, threads: object, synthesis: object, precision: object, max_pixels: object, memory_limit: object
) -> None:
    """InputError for values of other types than ``Codec.open`` names."""
    for name, value in (("backend", backend), ("synthesis", synthesis), ("precision", precision)):
        if not isinstance(value, str):
            raise InputError(f"{name}: expected a name, found {type(value).__name__}")
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected {', '.join(PRECISIONS)}, found {precision!r:.80}")
    if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
        raise InputError(f"threads: expected 0 to {MAX_THREADS}, found {threads!r:.80}")
    for name, value in (("max_pixels", max_pixels), ("memory_limit", memory_limit)):
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"{name}: expected None or 1 or more, found {value!r:.80}")


def check_picture(image: object) -> Size:
    """Height and width of a picture; InputError for anything but uint8 H x W x 3."""
    if (
        not isinstance(image, np.ndarray)
        or isinstance(image, np.ma.MaskedArray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
    ):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image: expected uint8 of height x width x 3, found {found}")
    return image.shape[0], image.shape[1]


def checked_rows(rows: Iterator[Pixels], size: Size) -> Iterator[Pixels]:
    """The same rows; InputError for what cannot be them, or where there are more or fewer."""
    height, width = size
    found = 0
    for some in rows:
        if not isinstance(some, np.ndarray) or some.dtype != np.uint8 or some.shape[1:] != (width, 3):
            told = f"{some.dtype} {some.shape}" if isinstance(some, np.ndarray) else type(some).__name__
            raise InputError(f"rows: expected uint8 of n x {width} x 3, found {told}")
        found += len(some)
        if found > height:
            break
        yield some
    if found != height:
        raise InputError(f"rows: expected {height} rows, found {found}")


def check_region(stream: Stream, left: int, top: int, width: int, height: int) -> tuple[int, int, int, int]:
    """A rectangle as Python's integers; InputError unless it has pixels and all are in the picture."""
    edges = tuple(whole(value) for value in (left, top, width, height))
    if any(type(value) is not int for value in edges):
        raise InputError(f"region: expected whole numbers, found {edges!r:.80}")
    left, top, width, height = edges
    inside = 0 <= left < left + width <= stream.width and 0 <= top < top + height <= stream.height
    if not inside:
        raise InputError(
            f"region: expected a rectangle inside {stream.width}x{stream.height} pixels, "
            f"found {left},{top},{width}x{height}",
            hint="left, top, width and height, in pixels from the top left corner",
        )
    return left, top, width, height


def check_metadata(**blocks: object) -> None:
    """InputError for an ICC profile or EXIF that is no bytes."""
    for name, block in blocks.items():
        if block is not None and not isinstance(block, bytes):
            raise InputError(f"{name}: expected bytes or None, found {type(block).__name__}")


@contextmanager
def memory_for(doing: str, stream: Stream) -> Iterator[None]:
    """Says what memory did not suffice for, whoever ran out of it: numpy, the coder or an engine."""
    try:
        yield
    except (MemoryError, OutOfMemoryError) as error:
        smaller = "smaller tiles" if stream.tile else "tiles: tile=1024, --tile 1024"
        raise OutOfMemoryError(
            f"{doing} {stream.width}x{stream.height} pixels",
            hint=f"free some, lower memory_limit (--memory-limit), or take {smaller}",
        ) from error
