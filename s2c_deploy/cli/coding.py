"""``compress`` and ``decompress``: one file, or a folder of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from s2c_deploy.cli.bundles import bundle_of_stream, bundle_to_write_with
from s2c_deploy.errors import InputError, S2CError
from s2c_deploy.presets import MAX_PIXELS

Record = dict[str, Any]
Job = tuple[Path, Path]  # source and target
Item = TypeVar("Item")
Result = TypeVar("Result")
BundleOption = Annotated[
    Path | None, typer.Option(help="Bundle folder. [default: $S2C_BUNDLE, else the one under ./engines]")
]
BackendOption = Annotated[str, typer.Option(help="auto, openvino, onnxruntime, torch or tensorrt.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Threads of the engine; 0 lets it choose.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]
MaxPixelsOption = Annotated[
    int, typer.Option(min=1, help="Refuse larger pictures before allocating anything.")
]


def compress(
    source: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    target: Annotated[
        Path | None, typer.Argument(help="A .s2c file, or a folder. [default: beside SOURCE]")
    ] = None,
    quality: Annotated[
        float, typer.Option("--quality", "-q", help="1 (small) to 8 (good), in steps of 1/32.")
    ] = 4,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 0,
    tile: Annotated[int, typer.Option(help="Code tiles of this side apart (a multiple of 64); 0: none.")] = 0,
    background: Annotated[
        str | None,
        typer.Option(help="Colour that shows through transparent pixels; without it they are refused."),
    ] = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compress pictures to .s2c streams.

    s2c-deploy compress photo.png photo.s2c

    s2c-deploy compress --quality 6 photos/ streams/
    """
    jobs = list(_jobs(source, target, ".s2c", reading_pictures=True, force=force))
    from s2c_deploy.codec import Codec
    from s2c_deploy.files import atomic_write
    from s2c_deploy.image import Image, read_image
    from s2c_deploy.pipeline import ahead

    with Codec.open(bundle_to_write_with(bundle), backend, threads=threads, max_pixels=max_pixels) as codec:
        codec.load(decoder=False)

        def read(job: Job) -> tuple[Job, Image]:
            return job, read_image(job[0], background=background, max_pixels=max_pixels)

        def encode(item: tuple[Job, Image]) -> Record:
            (path, out), image = item
            started = time.perf_counter()
            data = codec.compress(image.pixels, quality, tile=tile, icc=image.icc, exif=image.exif)
            seconds = time.perf_counter() - started
            with atomic_write(out) as temporary:
                temporary.write_bytes(data)
            return _record(path, out, codec.backend, image.width, image.height, len(data), seconds)

        outcomes = _attempt_all(encode, ahead(_attempt_all(read, jobs)))
        _run(jobs, outcomes, "compressing", as_json, several=source.is_dir())


def decompress(
    source: Annotated[Path, typer.Argument(help="A .s2c stream, or a folder of streams.")],
    target: Annotated[
        Path | None, typer.Argument(help="A picture (.png .ppm .tiff .jpg .webp …), or a folder.")
    ] = None,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 0,
    suffix: Annotated[
        str, typer.Option(help="Picture format when SOURCE is a folder or TARGET is not given.")
    ] = ".png",
    synthesis: Annotated[
        str, typer.Option(help="Precision of g_s: auto, float32, bfloat16 (CPUs that have it), float16 (engines).")
    ] = "auto",
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decompress .s2c streams to pictures; the bundle that made a stream is found by its fingerprint.

    s2c-deploy decompress photo.s2c photo.png

    s2c-deploy decompress streams/ pictures/ --suffix .webp
    """
    suffix = suffix if suffix.startswith(".") else f".{suffix}"
    jobs = list(_jobs(source, target, suffix, reading_pictures=False, force=force))
    from s2c_deploy.bitstream import Stream, parse
    from s2c_deploy.codec import Codec, Pixels
    from s2c_deploy.image import Image, write_image
    from s2c_deploy.pipeline import ahead
    from s2c_deploy.runtime.runner import FloatArray

    codecs: dict[Path, Codec] = {}

    def read(job: Job) -> tuple[Record, Codec, Stream, list[FloatArray]]:
        path, out = job
        data = _read(path)
        started = time.perf_counter()
        stream = parse(data, max_pixels=max_pixels)
        folder = bundle_of_stream(bundle, stream.fingerprint, f"{stream.variant}-{stream.preset}")
        if folder not in codecs:
            codecs[folder] = Codec.open(folder, backend, threads=threads, synthesis=synthesis)
            codecs[folder].check_stream(stream)
            codecs[folder].load(encoder=False)
            started = time.perf_counter()
        codec = codecs[folder]
        latents = list(codec.read_latents(stream))
        seconds = time.perf_counter() - started
        return (
            _record(path, out, codec.backend, stream.width, stream.height, len(data), seconds), codec, stream, latents
        )

    def synthesize(item: tuple[Record, Codec, Stream, list[FloatArray]]) -> tuple[Record, Stream, Pixels]:
        record, codec, stream, latents = item
        started = time.perf_counter()
        pixels = codec.synthesize(stream, latents)
        seconds = record["seconds"] + time.perf_counter() - started
        return {**record, "seconds": round(seconds, 4)}, stream, pixels

    def write(item: tuple[Record, Stream, Pixels]) -> Record:
        record, stream, pixels = item
        write_image(Path(record["target"]), Image(pixels=pixels, icc=stream.icc, exif=stream.exif))
        return record

    # Each stage in a thread of its own: symbols of one stream, g_s of the one before, the file of the one before that.
    synthesized = _attempt_all(synthesize, ahead(_attempt_all(read, jobs)))
    try:
        _run(jobs, _attempt_all(write, ahead(synthesized)), "decompressing", as_json, several=source.is_dir())
    finally:
        for codec in codecs.values():
            codec.close()


def _record(
    path: Path, out: Path, backend: str, width: int, height: int, size: int, seconds: float
) -> Record:
    return {
        "source": str(path),
        "target": str(out),
        "backend": backend,
        "width": width,
        "height": height,
        "bytes": size,
        "bpp": round(size * 8 / (width * height), 5),
        "seconds": round(seconds, 4),
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _jobs(
    source: Path, target: Path | None, suffix: str, *, reading_pictures: bool, force: bool
) -> Iterator[Job]:
    """Pairs of source and target; InputError before any work when one is missing or in the way."""
    if not source.exists():
        raise InputError(f"no file or folder {source}")
    if source.is_dir():
        pairs = _folder_jobs(source, target if target is not None else source, suffix, reading_pictures)
    else:
        out = target if target is not None else source.with_suffix(suffix)
        pairs = [(source, out / source.with_suffix(suffix).name if out.is_dir() else out)]
    for path, out in pairs:
        if out.exists() and not force:
            raise InputError(f"{out} exists", hint="overwrite it with --force, or name another target")
        yield path, out


def _folder_jobs(source: Path, target: Path, suffix: str, reading_pictures: bool) -> list[Job]:
    if reading_pictures:
        from s2c_deploy.image import list_images

        paths = list_images(source)
    else:
        paths = sorted(source.glob("*.s2c"))
        if not paths:
            raise InputError(f"no .s2c streams in {source}")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file", hint="name a folder for the results of a folder")
    target.mkdir(parents=True, exist_ok=True)
    outs = [target / path.with_suffix(suffix).name for path in paths]
    for path, out in zip(paths, outs, strict=True):
        if outs.count(out) > 1:
            raise InputError(
                f"{path} and another picture of its name would both become {out}", hint="rename one"
            )
    return list(zip(paths, outs, strict=True))


def _attempt_all(stage: Callable[[Item], Result], items: Iterable[Item | S2CError]) -> Iterator[Result | S2CError]:
    """What a stage makes of every item; in the place of one that fails, here or before, its error."""
    for item in items:
        try:
            yield item if isinstance(item, S2CError) else stage(item)
        except S2CError as error:
            yield error


def _run(
    jobs: list[Job], outcomes: Iterator[Record | S2CError], doing: str, as_json: bool, *, several: bool
) -> None:
    """Goes through what became of every job; a failing file does not stop the others, but the first failure decides
    the exit code.

    several: the jobs are those of a folder, whose JSON is a list even if there is one.
    """
    from rich.console import Console
    from rich.progress import track

    records: list[Record] = []
    failure: S2CError | None = None
    console = Console(stderr=True)
    quiet = len(jobs) == 1 or not console.is_terminal
    shown = track(jobs, description=doing, console=console, disable=quiet, transient=True)
    for (path, _), outcome in zip(shown, outcomes, strict=True):
        if not isinstance(outcome, S2CError):
            records.append(outcome)
            continue
        if not several:
            raise outcome
        failure = failure or outcome
        records.append({"source": str(path), "error": str(outcome), "exit_code": outcome.exit_code})
    if as_json:
        typer.echo(json.dumps(records if several else records[0], indent=1))
    else:
        for record in records:
            typer.echo(_line(record), err="error" in record)
    if failure is not None:
        raise typer.Exit(failure.exit_code)


def _line(record: Record) -> str:
    if "error" in record:
        return f"error: {record['source']}: {record['error']}"
    size = f"{record['width']}x{record['height']}, {record['bytes']} bytes, {record['bpp']:.4f} bpp"
    return (
        f"{record['source']} -> {record['target']}: {size}, {record['seconds']:.3f} s on {record['backend']}"
    )
