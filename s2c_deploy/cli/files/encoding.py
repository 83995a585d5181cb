"""A picture in memory to its stream, as the options of ``compress`` ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from s2c_deploy.cli.files.jobs import Job
from s2c_deploy.cli.options import parse_size
from s2c_deploy.cli.output import progress_bar
from s2c_deploy.errors import InputError

if TYPE_CHECKING:
    from s2c_deploy.codec.codec import Codec
    from s2c_deploy.image import Image


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a quality is looked for to reach."""

    kind: Literal["bytes", "bits a pixel", "decibels"]
    value: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of ``compress``, for every picture."""

    #: Where there is no target.
    quality: float
    target: Target | None
    tile: int
    effort: int
    #: None: the default of pictures in memory; for those in strips, what a stream can hold.
    max_pixels: int | None
    drop_icc: bool
    strip_metadata: bool


def parse_target(
    quality: float | None, size: str | None, bits_per_pixel: float | None, decibels: float | None
) -> Target | None:
    """InputError where more than one of quality and targets is asked for, or what no stream can have."""
    given = {
        "--quality": quality,
        "--target-size": size,
        "--target-bpp": bits_per_pixel,
        "--target-psnr": decibels,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} contradict each other", hint="take one of them")
    for name, value in (("--target-bpp", bits_per_pixel), ("--target-psnr", decibels)):
        if value is not None and not 0 < value < 1000:
            raise InputError(f"{name}: expected a number above 0, found {value}")
    if (most := parse_size("--target-size", size)) is not None:
        return Target(kind="bytes", value=most)
    if bits_per_pixel is not None:
        return Target(kind="bits a pixel", value=bits_per_pixel)
    return None if decibels is None else Target(kind="decibels", value=decibels)


def encode(codec: Codec, job: Job, image: Image, settings: Settings) -> tuple[bytes, dict[str, Any]]:
    """The stream, and what is told of it beside what is told of all.

    Ctrl-C during a search leaves no stream: one that ends early would be another than the same command's.
    """
    from s2c_deploy.codec.search import GRADIENT, Search
    from s2c_deploy.codec.targets import Request, compress_as, compress_to_psnr, compress_to_size

    searching = settings.effort >= GRADIENT
    with progress_bar(f"searching {job.source_name}", 100, hidden=not searching, unit="%") as advance:

        def told(done: float, tiles: int, left: float) -> None:
            advance(int(100 * done / tiles), 100, f"searching {job.source_name}: cost {100 * (left - 1):+.1f} %")

        search = Search(told=told)
        request = Request(tile=settings.tile, icc=image.icc, exif=image.exif, effort=settings.effort)
        target = settings.target
        if target is None:
            hit = compress_as(codec, image.pixels, settings.quality, request, search)
        elif target.kind == "decibels":
            hit = compress_to_psnr(codec, image.pixels, target.value, request, search)
        else:
            bytes_a_unit = 1 if target.kind == "bytes" else image.width * image.height / 8
            hit = compress_to_size(codec, image.pixels, int(target.value * bytes_a_unit), request, search)
    record: dict[str, Any] = {"quality": hit.quality} if target is not None else {}
    if searching:
        cost = {"before": round(search.before), "after": round(search.after)}
        record["search"] = {"effort": settings.effort, "steps": search.steps, "cost_in_bits": cost}
    return hit.data, record
