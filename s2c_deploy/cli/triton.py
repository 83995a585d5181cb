"""``triton`` and ``engines trtexec``: a bundle for other people's servers and tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2c_deploy.cli.options import (
    BackendOption,
    BundleOption,
    JsonOption,
    MaxPixelsOption,
    ThreadsOption,
)
from s2c_deploy.cli.output import say, say_json
from s2c_deploy.contract import MAX_TILE_PIXELS
from s2c_deploy.formats.finding import bundle_to_write_with


def triton(
    folder: Annotated[Path, typer.Argument(help="Model repository; models beside ours stay.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    instances: Annotated[int, typer.Option(min=1, help="Processes per model.")] = 1,
    threads: ThreadsOption = 0,
    quality: Annotated[float, typer.Option("--quality", "-q", help="Of requests that name none, 1 to 8.")] = 4,
    max_pixels: MaxPixelsOption = None,
    no_copy: Annotated[
        bool, typer.Option("--no-copy", help="Name the bundle by its path instead of copying it into the models.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a Triton model repository with s2c_compress and s2c_decompress.

    s2c-deploy triton models/ --bundle engines/conv-small --instances 2 --threads 1

    tritonserver --model-repository models/
    """
    from s2c_deploy.files import check_folder_writable
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.triton.repository import TritonOptions, check_free, write_repository

    options = TritonOptions(
        backend=backend,
        instances=instances,
        threads=threads,
        quality=quality,
        max_pixels=MAX_TILE_PIXELS if max_pixels is None else max_pixels,
        copy=not no_copy,
    )
    check_free(folder)
    check_folder_writable(folder)
    opened = open_bundle(bundle_to_write_with(bundle))
    made = write_repository(opened, folder, options)
    if as_json:
        record = {"models": list(map(str, made)), "fingerprint": opened.fingerprint.hex()}
        say_json(record)
        return
    for path in made:
        say(f"{path}: {opened.config.name}, fingerprint {opened.fingerprint.hex()[:16]}")
    say(f"tritonserver --model-repository {folder}")
