"""``triton`` and ``engines trtexec``: a bundle for other people's servers and tools."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from s2c_deploy.cli.bundles import bundle_to_write_with
from s2c_deploy.cli.options import (
    BackendOption,
    BundleArgument,
    BundleOption,
    JsonOption,
    MaxPixelsOption,
    ThreadsOption,
    comma_list,
)
from s2c_deploy.cli.output import say, say_json, say_script
from s2c_deploy.presets import MAX_TILE_PIXELS


def triton(
    folder: Annotated[Path, typer.Argument(help="Model repository; models beside ours stay.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    instances: Annotated[int, typer.Option(min=1, help="Processes per model.")] = 1,
    threads: ThreadsOption = 0,
    quality: Annotated[
        float, typer.Option("--quality", "-q", help="Of requests that name none, 1 to 8.")
    ] = 4,
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
    from s2c_deploy.bundle import open_bundle
    from s2c_deploy.deployment.triton import TritonOptions, check_free, write_repository
    from s2c_deploy.files import check_folder_writable

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


def trtexec(
    bundle: BundleArgument = None,
    version: Annotated[str, typer.Option(help="Of TensorRT: 8.6, 10, 11; or rtx for TensorRT-RTX.")] = "10",
    profile: Annotated[
        str, typer.Option(help="Picture sizes MIN,OPT,MAX in pixels.")
    ] = "64x64,768x512,2048x2048",
    graphs: Annotated[str, typer.Option(help="Only these graphs, with commas between.", show_default="all")] = "",
    precision: Annotated[str, typer.Option(help="Of g_a, h_a and g_s: float16 or float32.")] = "float16",
    out: Annotated[Path, typer.Option(help="Folder that the commands write engines to.")] = Path("trtexec"),
    as_json: JsonOption = False,
) -> None:
    """Print the trtexec commands that build each graph as `build` does, and time it. Nothing is run.

    s2c-deploy engines trtexec engines/conv-small --graphs g_s

    s2c-deploy engines trtexec engines/conv-small --version 11 > build-engines.sh
    """
    from s2c_deploy.bundle import open_bundle
    from s2c_deploy.deployment.trtexec import commands
    from s2c_deploy.engine.profiles import Profile

    made = commands(
        open_bundle(bundle_to_write_with(bundle)),
        out,
        version=version,
        precision=precision,
        profile=Profile.parse(profile),
        graphs=comma_list(graphs),
    )
    if as_json:
        records = [
            {"graph": c.graph, "precision": c.precision, "build": list(c.build), "time": list(c.time)} for c in made
        ]
        say_json(records)
        return
    say_script(f"mkdir -p {shlex.quote(str(out))}")
    for command in made:
        say_script(f"# {command.graph}, {command.precision}\n{command.text()}")
