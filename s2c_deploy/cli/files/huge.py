"""Pictures that memory does not hold, from file to file in strips, with a bar for each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from s2c_deploy.cli.files.encoding import Settings
from s2c_deploy.cli.files.folder_run import Record, record_of
from s2c_deploy.cli.files.jobs import Job
from s2c_deploy.cli.output import progress_bar, warn
from s2c_deploy.contract import MAX_PIXELS
from s2c_deploy.errors import InputError
from s2c_deploy.files import atomic_write, check_still_free
from s2c_deploy.host import memory_to_take, return_freed_arrays

if TYPE_CHECKING:
    from s2c_deploy.codec.codec import Codec
    from s2c_deploy.formats.bitstream import Stream

Item = TypeVar("Item")
#: Bytes a pixel that reading or writing a picture takes as a whole: as Pillow has it, and as RGB.
_WHOLE = 6


def is_read_in_strips(source: Path, pixels: int, tile: int, *, max_pixels: int | None, memory: int | None) -> bool:
    """Whether a picture file is too large to be held: for the memory there is, or for the default of --max-pixels."""
    from s2c_deploy.pictures.strips_reading import is_of_rows

    if max_pixels is None and pixels > MAX_PIXELS:
        return True
    return bool(tile) and not _fits(pixels, memory) and is_of_rows(source)


def is_written_in_strips(target: Path, pixels: int, *, memory: int | None) -> bool:
    """Whether a stream's picture is too large to be held before it is written, in a format that can be written so."""
    from s2c_deploy.pictures.strips_writing import STRIP_SUFFIXES

    return (pixels > MAX_PIXELS or not _fits(pixels, memory)) and target.suffix.lower() in STRIP_SUFFIXES


def _fits(pixels: int, memory: int | None) -> bool:
    return pixels * _WHOLE <= (memory_to_take() if memory is None else memory)


def compress_in_strips(codec: Codec, job: Job, settings: Settings) -> Record:
    """A picture file to a stream, whose tiles are written as they are made.

    Errors as ``open_strips`` and ``Codec.compress``.
    """
    from s2c_deploy.formats.grid import MAX_SIDE
    from s2c_deploy.formats.stream_file import write_stream
    from s2c_deploy.pictures.strips_reading import open_strips

    assert job.source is not None
    assert job.target is not None
    if not settings.tile:
        raise InputError(
            f"{job.source_name} is too large to be coded in one piece", hint="code it in tiles: --tile 1024"
        )
    if settings.effort or settings.target is not None:
        raise InputError(
            f"{job.source_name} does not fit into memory, which --effort and targets need",
            hint="leave them out, or raise --memory-limit and --max-pixels",
        )
    return_freed_arrays()
    started = time.perf_counter()
    most = MAX_SIDE**2 if settings.max_pixels is None else settings.max_pixels
    with open_strips(job.source, max_pixels=most, drop_icc=settings.drop_icc) as picture:
        if picture.dropped:
            warn(f"{job.source_name}: left out: {', '.join(picture.dropped)}")
        stream = codec.describe(
            (picture.height, picture.width),
            settings.quality,
            tile=settings.tile,
            icc=picture.icc,
            exif=None if settings.strip_metadata else picture.exif,
            in_rows=True,
        )
        payloads = codec.payloads(stream, picture.rows())
        counted = _counted(payloads, lambda _: 1, len(stream.tiles), "tiles", doing=f"compressing {job.source_name}")
        job.make_parent()
        with atomic_write(job.target, follow_links=job.follow_links) as temporary:
            with open(temporary, "wb") as file:
                size = write_stream(file, stream, counted)
            if not job.replace:
                check_still_free(job.target, follow_links=job.follow_links)
    return _record(job, codec, stream, size, started)


def decompress_in_strips(codec: Codec, job: Job, stream: Stream, size: int, *, strip_metadata: bool) -> Record:
    """A stream of so many bytes to a picture file, written from the top down."""
    from s2c_deploy.pictures.strips_writing import write_strips

    assert job.target is not None
    return_freed_arrays()
    started = time.perf_counter()
    bands = _counted(
        codec.decompress_rows(stream), len, stream.height, "rows", doing=f"decompressing {job.source_name}"
    )
    job.make_parent()
    with atomic_write(job.target, follow_links=job.follow_links) as temporary:
        missing = write_strips(
            temporary,
            bands,
            width=stream.width,
            height=stream.height,
            icc=stream.icc,
            exif=None if strip_metadata else stream.exif,
        )
        if not job.replace:
            check_still_free(job.target, follow_links=job.follow_links)
    if missing:
        warn(f"{job.target_name}: {job.target.suffix} has no place for {', '.join(missing)}")
    return _record(job, codec, stream, size, started)


def open_lazily(source: Path, *, max_pixels: int | None) -> tuple[Stream, int]:
    """The stream in a file, whose tiles are read when they are needed, and its bytes.  The file is closed with it."""
    from s2c_deploy.formats.stream_file import open_stream
    from s2c_deploy.pictures.reading import open_regular

    file = open_regular(source)
    return open_stream(file, max_pixels=max_pixels), os.fstat(file.fileno()).st_size


def _record(job: Job, codec: Codec, stream: Stream, size: int, started: float) -> Record:
    return record_of(
        job,
        backend=codec.backend,
        width=stream.width,
        height=stream.height,
        size=size,
        seconds=time.perf_counter() - started,
    )


def _counted(
    items: Iterator[Item], worth: Callable[[Item], int], total: int, unit: str, *, doing: str
) -> Iterator[Item]:
    """The same items, with a bar; worth: what each counts of the total."""
    with progress_bar(doing, total, unit=unit) as advance:
        done = 0
        for item in items:
            done += worth(item)
            advance(done, total, doing)
            yield item
