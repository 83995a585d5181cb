"""``decompress``: ``.s2c`` streams to pictures."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.files.folder_run import (
    READ_AHEAD_PIXELS,
    Outcome,
    Record,
    ahead_or_not,
    attempt_all,
    record_of,
    run_jobs,
)
from s2c_deploy.cli.files.huge import decompress_in_strips, is_written_in_strips, open_lazily
from s2c_deploy.cli.files.jobs import Choice, Job, is_folder_name, plan
from s2c_deploy.cli.files.reading import read_stream
from s2c_deploy.cli.options import (
    BackendOption,
    BundleOption,
    FollowLinksOption,
    ForceOption,
    JsonOption,
    MaxPixelsOption,
    MemoryLimitOption,
    PrecisionOption,
    RecursiveOption,
    SkipExistingOption,
    SynthesisOption,
    ThreadsOption,
    check_precision,
    parse_size,
    picture_suffix,
)
from s2c_deploy.cli.output import warn, write_stdout
from s2c_deploy.cli.process.stopping import Stop
from s2c_deploy.errors import InputError
from s2c_deploy.presets import FULL

if TYPE_CHECKING:
    from s2c_deploy.arrays import FloatArray
    from s2c_deploy.codec.codec import Codec
    from s2c_deploy.codec.codecs import Codecs
    from s2c_deploy.formats.bitstream import Stream
    from s2c_deploy.image import Image

#: Bytes of a stream that is read into memory before any of it is decoded.
_READ_WHOLE = 2**25


def decompress(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="Streams or folders of them, then a picture (.png .ppm .tiff .jpg .webp …) or a folder for the "
            "pictures; - is standard input and output. A TARGET that ends in / is made.",
        ),
    ],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 0,
    suffix: Annotated[str, typer.Option(help="Picture format where TARGET is a folder, - or not given.")] = ".png",
    synthesis: SynthesisOption = FULL,
    precision: PrecisionOption = "auto",
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata",
            help="Write no EXIF, which may hold places, times and names of people. The ICC profile is written: "
            "colours depend on it.",
        ),
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,WIDTHxHEIGHT",
            help="Only this rectangle, in pixels from the top left; of a tiled stream at the cost of its tiles.",
            show_default="the whole picture",
        ),
    ] = None,
    max_pixels: MaxPixelsOption = None,
    memory_limit: MemoryLimitOption = None,
    recursive: RecursiveOption = False,
    follow_links: FollowLinksOption = False,
    skip_existing: SkipExistingOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decompress .s2c streams to pictures; the bundle that made a stream is found by its fingerprint.

    Without TARGET, each picture lies beside its stream.

    s2c-deploy decompress photo.s2c photo.png

    s2c-deploy decompress streams/ pictures/ --suffix .webp

    s2c-deploy decompress --synthesis fast streams/ pictures/

    s2c-deploy decompress scan.s2c part.png --region 4096,2048,512x512

    s2c-deploy decompress - - < photo.s2c > photo.png
    """
    suffix = picture_suffix(suffix)
    memory, rectangle = parse_size("--memory-limit", memory_limit), _parse_region(region)
    _check_options(paths, suffix, precision, backend)
    choice = Choice(
        writes="picture",
        suffix=suffix,
        force=force,
        skip_existing=skip_existing,
        recursive=recursive,
        follow_links=follow_links,
    )
    planned = plan(paths, choice)
    from s2c_deploy.codec.codecs import Codecs

    with ExitStack() as stack:
        opened = Codecs(
            bundle=bundle,
            backend=backend,
            threads=threads,
            synthesis=synthesis,
            precision=precision,
            memory_limit=memory,
        )
        stack.callback(opened.close)
        work = _Work(
            codecs=opened,
            suffix=suffix,
            region=rectangle,
            max_pixels=max_pixels,
            memory_limit=memory,
            strip_metadata=strip_metadata,
        )
        run_jobs(planned, work.stages, doing="decompressing", as_json=as_json)


def _check_options(paths: list[str], suffix: str, precision: str, backend: str) -> None:
    """InputError for what would else fail when the first picture is decoded."""
    from s2c_deploy.image import check_suffix
    from s2c_deploy.runtime import choose_backend

    target = paths[1] if len(paths) == 2 else "-"
    named = target != "-" and not is_folder_name(target) and not os.path.isdir(paths[0])
    check_suffix(Path(target).suffix if named else suffix)
    check_precision(precision)
    choose_backend(backend)


def _is_large(source: Path) -> bool:
    return os.path.getsize(source) > _READ_WHOLE


def _parse_region(text: str | None) -> tuple[int, int, int, int] | None:
    """Left, top, width and height; InputError for anything but X,Y,WIDTHxHEIGHT."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})x([0-9]{1,9})", text.strip())
    if found is None:
        raise InputError(f"--region: expected X,Y,WIDTHxHEIGHT in pixels, found {text!r:.80}", hint="0,0,512x512")
    left, top, width, height = map(int, found.groups())
    return left, top, width, height


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A stream and, unless it is huge or only a region is wanted, its latents."""

    job: Job
    codec: Codec
    stream: Stream
    size: int
    latents: list[FloatArray] | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """A picture; none where it has been written already, in strips."""

    job: Job
    record: Record
    image: Image | None


class _Work:
    """The stages of decoding, each in a thread of its own: symbols of one stream, g_s of the one before, the file of
    the one before that."""

    def __init__(
        self,
        *,
        codecs: Codecs,
        suffix: str,
        region: tuple[int, int, int, int] | None,
        max_pixels: int | None,
        memory_limit: int | None,
        strip_metadata: bool,
    ) -> None:
        self._codecs, self._suffix, self._region = codecs, suffix, region
        self._max_pixels, self._memory, self._strip = max_pixels, memory_limit, strip_metadata

    def stages(self, jobs: Iterable[Job], stop: Stop) -> Iterator[Outcome]:
        read = ahead_or_not(attempt_all(self._read, jobs, stop))
        return attempt_all(self._write, ahead_or_not(attempt_all(self._synthesize, read, stop)), stop)

    def _read(self, job: Job) -> _Read:
        from s2c_deploy.formats.bitstream import parse

        started = time.perf_counter()
        if job.source is not None and os.path.isfile(job.source) and (self._region or _is_large(job.source)):
            stream, size = open_lazily(job.source, max_pixels=self._max_pixels)
        else:
            data = read_stream(job.source)
            started = time.perf_counter()
            stream, size = parse(data, max_pixels=self._max_pixels), len(data)
        seconds = time.perf_counter() - started
        codec = self._codecs.of(stream)
        started = time.perf_counter()
        # The symbols of a huge picture are read when its turn comes, not during the one before: two may not fit.
        huge = self._region is not None or stream.width * stream.height > READ_AHEAD_PIXELS
        latents = None if huge else list(codec.read_latents(stream))
        seconds += time.perf_counter() - started
        return _Read(job=job, codec=codec, stream=stream, size=size, latents=latents, seconds=seconds)

    def _synthesize(self, read: _Read) -> _Decoded:
        from s2c_deploy.image import Image

        started, stream = time.perf_counter(), read.stream
        target, area = read.job.target, stream.width * stream.height
        if self._region is None and target is not None and is_written_in_strips(target, area, memory=self._memory):
            record = decompress_in_strips(read.codec, read.job, stream, read.size, strip_metadata=self._strip)
            return _Decoded(job=read.job, record=record, image=None)
        if self._region is not None:
            pixels = read.codec.decompress_region(stream, *self._region)
        else:
            latents = read.codec.read_latents(stream) if read.latents is None else read.latents
            pixels = read.codec.synthesize(stream, latents)
        record = record_of(
            read.job,
            backend=read.codec.backend,
            width=stream.width,
            height=stream.height,
            size=read.size,
            seconds=read.seconds + time.perf_counter() - started,
        )
        if self._region is not None:
            record["region"] = dict(zip(("left", "top", "width", "height"), self._region, strict=True))
        image = Image(pixels=pixels, icc=stream.icc, exif=None if self._strip else stream.exif)
        return _Decoded(job=read.job, record=record, image=image)

    def _write(self, decoded: _Decoded) -> Record:
        from s2c_deploy.files import write_bytes
        from s2c_deploy.image import encode_image, left_out

        job, image = decoded.job, decoded.image
        if image is None:
            return decoded.record
        suffix = self._suffix if job.target is None else job.target.suffix
        data = encode_image(image, suffix)
        if job.target is None:
            write_stdout(data)
        else:
            job.make_parent()
            write_bytes(job.target, data, follow_links=job.follow_links, replace=job.replace)
        if missing := left_out(image, suffix):
            warn(f"{job.target_name}: {suffix} has no place for {', '.join(missing)}")
        return decoded.record
