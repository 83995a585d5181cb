"""``batch``: folders of many pictures, by several processes or by a Ray cluster, and a table of the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2c_deploy.cli.options import (
    BackendOption,
    BackgroundOption,
    BundleOption,
    EffortOption,
    FollowLinksOption,
    ForceOption,
    JsonOption,
    MaxPixelsOption,
    PrecisionOption,
    SynthesisOption,
    check_background,
    check_precision,
    picture_suffix,
)
from s2c_deploy.cli.output import progress_bar, say, say_json, warn
from s2c_deploy.cli.process.stopping import Stop, Stopped, stops_after_this
from s2c_deploy.errors import InputError
from s2c_deploy.presets import FULL

if TYPE_CHECKING:
    from s2c_deploy.batch.request import Request
    from s2c_deploy.batch.run import Maker, Prepared, Result
    from s2c_deploy.batch.table import Row

batch = typer.Typer(
    help="Many pictures at once: folders or s3:// addresses, processes or a Ray cluster, and a table of the results.",
    no_args_is_help=True,
)
_PLACES = "a folder, or an address such as s3://bucket/prefix"
SourceArgument = Annotated[str, typer.Argument(metavar="SRC", help=f"What is read, with its subfolders: {_PLACES}.")]
TargetArgument = Annotated[
    str, typer.Argument(metavar="DST", help=f"Where results and the table batch.parquet go: {_PLACES}.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes, or Ray's actors.", show_default="as many as there are processors, or GPUs of a backend"
    ),
]
ThreadsOption = Annotated[
    int, typer.Option(min=1, help="Threads of each process's engine; Ray reserves as many processors.")
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on the Ray cluster at host:port; auto finds one that runs here, local starts one.",
        show_default="processes of this machine",
    ),
]
StripOption = Annotated[
    bool, typer.Option("--strip-metadata", help="Leave out EXIF, which may hold places, times and names of people.")
]
QualityOption = Annotated[float, typer.Option("--quality", "-q", help="1 (small) to 8 (good), in steps of 1/32.")]
TileOption = Annotated[int, typer.Option(help="Code tiles of this side apart (a multiple of 64); 0: none.")]


@batch.command("compress")
def compress(
    source: SourceArgument,
    target: TargetArgument,
    quality: QualityOption = 4,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    ray: RayOption = None,
    tile: TileOption = 0,
    effort: EffortOption = 0,
    background: BackgroundOption = None,
    strip_metadata: StripOption = False,
    drop_icc: Annotated[
        bool, typer.Option("--drop-icc", help="Leave out the ICC profile; unless it is sRGB's, colours change.")
    ] = False,
    max_pixels: MaxPixelsOption = None,
    follow_links: FollowLinksOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compress every picture below SRC to a .s2c stream of the same name below DST.

    Asked for again, it does what is missing, what has changed and what has failed.

    s2c-deploy batch compress photos/ streams/ --quality 6

    s2c-deploy batch compress s3://bucket/photos s3://bucket/streams --ray 10.0.0.1:6379
    """
    check_background(background)
    from s2c_deploy.batch.request import Request

    request = Request(
        operation="compress",
        source=source,
        target=target,
        bundle=bundle,
        backend=backend,
        threads=threads,
        quality=quality,
        tile=tile,
        effort=effort,
        background=background,
        strip_metadata=strip_metadata,
        drop_icc=drop_icc,
        max_pixels=max_pixels,
        follow_links=follow_links,
        force=force,
    )
    _run(request, workers, ray, as_json)


@batch.command("decompress")
def decompress(
    source: SourceArgument,
    target: TargetArgument,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    ray: RayOption = None,
    suffix: Annotated[str, typer.Option(help="Picture format.")] = ".png",
    synthesis: SynthesisOption = FULL,
    precision: PrecisionOption = "auto",
    strip_metadata: StripOption = False,
    max_pixels: MaxPixelsOption = None,
    follow_links: FollowLinksOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decompress every .s2c stream below SRC to a picture of the same name below DST.

    The bundle that made a stream is found by its fingerprint.

    s2c-deploy batch decompress streams/ pictures/ --suffix .webp
    """
    from s2c_deploy.batch.request import Request
    from s2c_deploy.image import check_suffix

    suffix = picture_suffix(suffix)
    check_suffix(suffix)
    request = Request(
        operation="decompress",
        source=source,
        target=target,
        suffix=suffix,
        bundle=bundle,
        backend=backend,
        threads=threads,
        synthesis=synthesis,
        precision=precision,
        strip_metadata=strip_metadata,
        max_pixels=max_pixels,
        follow_links=follow_links,
        force=force,
    )
    _run(request, workers, ray, as_json)


@batch.command("transcode")
def transcode(
    source: SourceArgument,
    target: TargetArgument,
    quality: QualityOption = 4,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    ray: RayOption = None,
    tile: TileOption = 0,
    effort: EffortOption = 0,
    synthesis: SynthesisOption = FULL,
    precision: PrecisionOption = "auto",
    strip_metadata: StripOption = False,
    max_pixels: MaxPixelsOption = None,
    follow_links: FollowLinksOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn every .s2c stream below SRC into one of another quality, or another bundle, below DST.

    Streams are decoded with the bundle that made them, found by its fingerprint, and coded with --bundle.

    s2c-deploy batch transcode streams/ thumbnails/ --quality 2
    """
    from s2c_deploy.batch.request import Request

    request = Request(
        operation="transcode",
        source=source,
        target=target,
        bundle=bundle,
        backend=backend,
        threads=threads,
        quality=quality,
        tile=tile,
        effort=effort,
        synthesis=synthesis,
        precision=precision,
        strip_metadata=strip_metadata,
        max_pixels=max_pixels,
        follow_links=follow_links,
        force=force,
    )
    _run(request, workers, ray, as_json)


def _run(request: Request, workers: int | None, ray: str | None, as_json: bool) -> None:
    """typer.Exit unless every file is done."""
    _check_options(request, ray)
    from s2c_deploy.batch.run import Result, prepare
    from s2c_deploy.listing import describe_left_out

    prepared = prepare(request)
    if said := describe_left_out([prepared.plan.listing]):
        warn(said)
    result, stop = Result(), Stop()
    if prepared.plan.tasks:
        with _maker(prepared, workers, ray) as make, stops_after_this() as stop:
            _carry_out(prepared, make, result, stop)
    _report(prepared, result, stop, as_json)


def _check_options(request: Request, ray: str | None) -> None:
    """InputError for what would else fail at the first file."""
    from s2c_deploy.codec.search import check_effort
    from s2c_deploy.formats.grid import tile_grid
    from s2c_deploy.runtime import choose_backend
    from s2c_deploy.runtime.backends import BACKENDS

    tile_grid(1, 1, request.tile)
    check_effort(request.effort)
    check_precision(request.precision)
    if ray is None:
        choose_backend(request.backend)
    elif request.backend not in ("auto", *BACKENDS):  # whether it can run is for the cluster's machines to say
        raise InputError(f"backend: expected auto, {', '.join(BACKENDS)}, found {request.backend!r}")


@contextmanager
def _maker(prepared: Prepared, workers: int | None, ray: str | None) -> Iterator[Maker]:
    """What makes rows of tasks: processes of this machine, or a cluster's actors."""
    request, fingerprint = prepared.request, prepared.fingerprint
    if ray is None:
        from s2c_deploy.batch.processes import in_processes
        from s2c_deploy.host import usable_processors

        count = workers or max(1, usable_processors() // request.threads)
        yield lambda tasks, stopping: in_processes(request, fingerprint, tasks, count, stopping)
        return
    from s2c_deploy.batch.cluster import connected, on_ray, pool_of

    with connected(ray):
        pool = pool_of(request, workers, len(prepared.plan.tasks))
        yield lambda tasks, stopping: on_ray(request, fingerprint, tasks, pool, stopping)


def _carry_out(prepared: Prepared, make: Maker, result: Result, stop: Stop) -> None:
    from s2c_deploy.batch.run import carry_out

    doing = {"compress": "compressing", "decompress": "decompressing", "transcode": "transcoding"}
    total = len(prepared.plan.tasks)
    with progress_bar(doing[prepared.request.operation], total, unit="pictures") as advance:

        def told(row: Row) -> None:
            if row.error is not None:
                warn(f"error: {row.path}: {row.error}")
            advance(result.done + len(result.failed), total, doing[prepared.request.operation])

        try:
            carry_out(prepared, make, result, told, lambda: stop.requested is not None)
        except Stopped as stopped:  # the second signal
            stop.requested = stopped.number


def _report(prepared: Prepared, result: Result, stop: Stop, as_json: bool) -> None:
    """Says what became of it; typer.Exit unless all is done: 128 and the signal, or the first error's code."""
    from s2c_deploy.batch.table import NAME
    from s2c_deploy.listing import shortened

    plan, table = prepared.plan, f"{prepared.target.shown}/{NAME}"
    if as_json:
        say_json(_record(prepared, result, stop, table))
    else:
        total = len(plan.tasks) + plan.skipped
        parts = [f"{result.done} of {total} done" + (f" in {result.seconds:.1f} s" if plan.tasks else "")]
        parts += [f"{plan.skipped} were done before"] if plan.skipped else []
        parts += ["stopped; the same command goes on"] if stop.requested is not None else []
        names = [row.path for row in result.failed]
        parts += [f"{len(names)} failed: {shortened(names)}; the same command tries them again"] if names else []
        say(f"{', '.join(parts)}; {table}")
    if stop.requested is not None:
        raise typer.Exit(128 + stop.requested)
    if result.failed:
        raise typer.Exit(result.failed[0].exit_code or 1)


def _record(prepared: Prepared, result: Result, stop: Stop, table: str) -> dict[str, Any]:
    plan = prepared.plan
    left_out: list[dict[str, Any]] = [
        {"path": str(entry.path), "reason": entry.reason} for entry in plan.listing.left_out
    ]
    if plan.listing.hidden:
        left_out.append({"reason": "hidden", "files": plan.listing.hidden})
    return {
        "operation": prepared.request.operation,
        "table": table,
        "files": len(plan.tasks) + plan.skipped,
        "done": result.done,
        "done_before": plan.skipped,
        "failed": [{"path": row.path, "error": row.error, "exit_code": row.exit_code} for row in result.failed],
        "left_out": left_out,
        "stopped": stop.requested is not None,
        "seconds": round(result.seconds, 3),
        "pictures_per_second": round(result.done / result.seconds, 3) if result.seconds else None,
    }
