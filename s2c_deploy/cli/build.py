"""``build``: TensorRT engines from a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from s2c_deploy.cli.built import build_targets, made_lines, made_record
from s2c_deploy.cli.options import (
    BundleArgument,
    CapabilityOption,
    JsonOption,
    ProfileOption,
    TargetsOption,
    comma_list,
)
from s2c_deploy.cli.output import say, say_json
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.formats.finding import bundle_to_write_with


def build(
    bundle: BundleArgument = None,
    targets: TargetsOption = "",
    compute_capability: CapabilityOption = "",
    profile: ProfileOption = None,
    graphs: Annotated[str, typer.Option(help="Only these graphs, with commas between.", show_default="all")] = "",
    precision: Annotated[str, typer.Option(help="Of g_a, h_a and g_s: float16 or float32.")] = "float16",
    memory_limit: Annotated[
        int | None, typer.Option(min=1, help="Workspace in MiB.", show_default="the library's")
    ] = None,
    hardware_compatibility: Annotated[
        str, typer.Option(help="none, or a level of the installed TensorRT: ampere_plus, same_compute_capability.")
    ] = "none",
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Engines that later TensorRT versions load, too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Build again what is still good.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT engines of a bundle: FP16 for g_a, h_a and g_s, float32 for the exact graphs.

    s2c-deploy build engines/conv-small --targets tensorrt-rtx --compute-capability 8.6,8.9,12.0

    s2c-deploy build engines/conv-small --profile 64x64,768x512,2048x2048 --profile 3840x2176
    """
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.tensorrt.compile import BuildOptions

    made = build_targets(
        open_bundle(bundle_to_write_with(bundle)),
        _targets(targets),
        compute_capabilities=comma_list(compute_capability),
        profiles=profile or [],
        graphs=comma_list(graphs),
        precision=precision,
        options=BuildOptions(
            memory_limit=memory_limit << 20 if memory_limit is not None else None,
            hardware_compatibility=hardware_compatibility.lower().replace("+", "_plus").replace("-", "_"),
            version_compatible=version_compatible,
        ),
        force=force,
    )
    if as_json:
        say_json([made_record(m) for m in made])
        return
    for line in made_lines(made):
        say(line)


def _targets(text: str) -> list[str]:
    from s2c_deploy.tensorrt import TARGETS, installed_targets

    asked = comma_list(text)
    if unknown := [target for target in asked if target not in TARGETS]:
        raise InputError(f"--targets: expected {', '.join(TARGETS)}, found {', '.join(unknown)}")
    found = asked or installed_targets()
    if not found:
        raise DependencyError("neither tensorrt nor tensorrt_rtx", extra="rtx")
    return found
