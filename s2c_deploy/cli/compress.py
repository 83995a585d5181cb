"""``compress``: pictures to ``.s2c`` streams."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.files.encoding import Settings, encode, parse_target
from s2c_deploy.cli.files.folder_run import (
    READ_AHEAD_PIXELS,
    Outcome,
    Record,
    ahead_or_not,
    attempt_all,
    record_of,
    run_jobs,
)
from s2c_deploy.cli.files.huge import compress_in_strips, is_read_in_strips
from s2c_deploy.cli.files.jobs import Choice, Job, plan
from s2c_deploy.cli.files.reading import read_stdin_picture
from s2c_deploy.cli.files.targets import picture_size
from s2c_deploy.cli.options import (
    BackendOption,
    BackgroundOption,
    BundleOption,
    EffortOption,
    FollowLinksOption,
    ForceOption,
    JsonOption,
    MaxPixelsOption,
    MemoryLimitOption,
    RecursiveOption,
    SkipExistingOption,
    ThreadsOption,
    check_background,
    parse_size,
)
from s2c_deploy.cli.output import warn, write_stdout
from s2c_deploy.cli.process.stopping import Stop
from s2c_deploy.contract import MAX_PIXELS
from s2c_deploy.errors import OutOfMemoryError
from s2c_deploy.formats.finding import bundle_to_write_with

if TYPE_CHECKING:
    from s2c_deploy.codec.codec import Codec
    from s2c_deploy.image import Image


def compress(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="Pictures or folders of them, then a .s2c file or a folder for the streams; - is standard input and "
            "output. A TARGET that ends in / is made.",
        ),
    ],
    quality: Annotated[
        float | None,
        typer.Option("--quality", "-q", help="1 (small) to 8 (good), in steps of 1/32.", show_default="4"),
    ] = None,
    effort: EffortOption = 0,
    target_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The best quality of at most so many bytes, as 20K.", show_default="none"),
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="The best quality of at most so many bits a pixel.", show_default="none")
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(help="The quality nearest to a PSNR in dB.", show_default="none")
    ] = None,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 0,
    tile: Annotated[
        int, typer.Option(help="Code tiles of this side apart (a multiple of 64), for bounded memory; 0: none.")
    ] = 0,
    background: BackgroundOption = None,
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata",
            help="Leave out EXIF, which may hold places, times and names of people. The ICC profile stays: colours "
            "depend on it.",
        ),
    ] = False,
    drop_icc: Annotated[
        bool, typer.Option("--drop-icc", help="Leave out the ICC profile; unless it is sRGB's, colours change.")
    ] = False,
    max_pixels: MaxPixelsOption = None,
    memory_limit: MemoryLimitOption = None,
    recursive: RecursiveOption = False,
    follow_links: FollowLinksOption = False,
    skip_existing: SkipExistingOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compress pictures to .s2c streams.

    Without TARGET, each stream lies beside its picture.

    s2c-deploy compress photo.png photo.s2c

    s2c-deploy compress --quality 6 photos/ streams/

    s2c-deploy compress --target-size 50K photo.png

    s2c-deploy compress --effort 5 photo.png

    s2c-deploy compress a.png b.jpg streams/ --strip-metadata

    s2c-deploy compress --tile 1024 scan.tif scan.s2c

    s2c-deploy compress - - < photo.png > photo.s2c
    """
    target = parse_target(quality, target_size, target_bpp, target_psnr)
    quality = 4 if quality is None else quality
    _check_options(quality, tile, background, backend, effort)
    memory = parse_size("--memory-limit", memory_limit)
    choice = Choice(
        writes="stream",
        suffix=".s2c",
        force=force,
        skip_existing=skip_existing,
        recursive=recursive,
        follow_links=follow_links,
    )
    planned = plan(paths, choice)
    from s2c_deploy.codec.codec import Codec
    from s2c_deploy.image import decode_image, read_image

    most = MAX_PIXELS if max_pixels is None else max_pixels

    def read(job: Job) -> Image:
        if job.source is None:
            image = decode_image(read_stdin_picture(), background=background, max_pixels=most, drop_icc=drop_icc)
        else:
            image = read_image(job.source, background=background, max_pixels=most, drop_icc=drop_icc)
        if image.dropped:
            warn(f"{job.source_name}: left out: {', '.join(image.dropped)}")
        return replace(image, exif=None) if strip_metadata else image

    if not planned.jobs:  # all there already: no engine is needed to say so
        run_jobs(planned, lambda jobs, stop: iter(()), doing="compressing", as_json=as_json)
        return
    settings = Settings(
        quality=quality,
        tile=tile,
        effort=effort,
        target=target,
        max_pixels=max_pixels,
        drop_icc=drop_icc,
        strip_metadata=strip_metadata,
    )
    found = bundle_to_write_with(bundle)
    with Codec.open(found, backend, threads=threads, max_pixels=max_pixels, memory_limit=memory) as codec:
        codec.load(decoder=False)

        def read_ahead(job: Job) -> tuple[Job, Image | None]:
            return job, None if _pixels(job) > READ_AHEAD_PIXELS else read(job)

        def encode(item: tuple[Job, Image | None]) -> Record:
            job, image = item
            del item
            if image is None and job.source is not None and job.target is not None:
                pixels = _pixels(job)
                if is_read_in_strips(job.source, pixels, tile, max_pixels=max_pixels, memory=memory):
                    return compress_in_strips(codec, job, settings)
            return _encode(codec, job, read(job) if image is None else image, settings)

        def stages(jobs: Iterable[Job], stop: Stop) -> Iterator[Outcome]:
            return attempt_all(encode, ahead_or_not(attempt_all(read_ahead, jobs, stop)), stop)

        run_jobs(planned, stages, doing="compressing", as_json=as_json)


def _pixels(job: Job) -> int:
    """Of a picture file, by its head; 0 where that does not say."""
    width, height = (0, 0) if job.source is None else picture_size(job.source) or (0, 0)
    return width * height


def _encode(codec: Codec, job: Job, image: Image, settings: Settings) -> Record:
    from s2c_deploy.files import write_bytes

    started = time.perf_counter()
    try:
        data, told = encode(codec, job, image, settings)
    except (MemoryError, OutOfMemoryError) as error:
        tile = settings.tile
        hint = "--tile 512 codes it in parts" if not tile else f"a --tile smaller than {tile}, or more memory"
        raise OutOfMemoryError(f"compressing {image.width}x{image.height} pixels", hint=hint) from error
    seconds = time.perf_counter() - started
    if job.target is None:
        write_stdout(data)
    else:
        job.make_parent()
        write_bytes(job.target, data, follow_links=job.follow_links, replace=job.replace)
    record = record_of(
        job, backend=codec.backend, width=image.width, height=image.height, size=len(data), seconds=seconds
    )
    return record | told


def _check_options(quality: float, tile: int, background: str | None, backend: str, effort: int) -> None:
    """InputError for what would else fail at the first picture."""
    from s2c_deploy.codec.search import check_effort
    from s2c_deploy.formats.bitstream import round_quality
    from s2c_deploy.formats.grid import tile_grid
    from s2c_deploy.runtime import choose_backend

    check_effort(effort)
    round_quality(quality)
    tile_grid(1, 1, tile)
    check_background(background)
    choose_backend(backend)
