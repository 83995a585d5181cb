"""``triton`` and ``engines trtexec``: a bundle for other people's servers and tools."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from s2c_deploy.cli.building import BundleArgument, comma_list
from s2c_deploy.cli.bundles import bundle_to_write_with
from s2c_deploy.cli.coding import BackendOption, JsonOption, MaxPixelsOption, ThreadsOption
from s2c_deploy.presets import MAX_PIXELS


def triton(
    folder: Annotated[Path, typer.Argument(help="Model repository; models beside ours stay.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder. [default: $S2C_BUNDLE, else the one under ./engines]")
    ] = None,
    backend: BackendOption = "auto",
    instances: Annotated[int, typer.Option(min=1, help="Processes per model.")] = 1,
    threads: ThreadsOption = 0,
    quality: Annotated[
        float, typer.Option("--quality", "-q", help="Of requests that name none, 1 to 8.")
    ] = 4,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
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
    from s2c_deploy.deployment.triton import TritonOptions, write_repository

    opened = open_bundle(bundle_to_write_with(bundle))
    options = TritonOptions(
        backend=backend,
        instances=instances,
        threads=threads,
        quality=quality,
        max_pixels=max_pixels,
        copy=not no_copy,
    )
    made = write_repository(opened, folder, options)
    if as_json:
        record = {"models": list(map(str, made)), "fingerprint": opened.fingerprint.hex()}
        typer.echo(json.dumps(record, indent=1))
        return
    for path in made:
        typer.echo(f"{path}: {opened.config.name}, fingerprint {opened.fingerprint.hex()[:16]}")
    typer.echo(f"tritonserver --model-repository {folder}")


def trtexec(
    bundle: BundleArgument = None,
    version: Annotated[str, typer.Option(help="Of TensorRT: 8.6, 10, 11; or rtx for TensorRT-RTX.")] = "10",
    profile: Annotated[
        str, typer.Option(help="Picture sizes MIN,OPT,MAX in pixels.")
    ] = "64x64,768x512,2048x2048",
    graphs: Annotated[str, typer.Option(help="Only these graphs, with commas between. [default: all]")] = "",
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
        typer.echo(json.dumps(records, indent=1))
        return
    typer.echo(f"mkdir -p {shlex.quote(str(out))}")
    for command in made:
        typer.echo(f"# {command.graph}, {command.precision}\n{command.text()}")
