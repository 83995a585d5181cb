"""``export``: a trained model's folder to a bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2c_deploy.cli.built import build_targets, made_lines, made_record
from s2c_deploy.cli.options import (
    PHOTOGRAPHS,
    CapabilityOption,
    ForceOption,
    JsonOption,
    ProfileOption,
    comma_list,
    released,
)
from s2c_deploy.cli.output import printable, say, say_json
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.formats.finding import ENGINES

if TYPE_CHECKING:
    from s2c_deploy.formats.bundle import Bundle
    from s2c_deploy.models.checkpoint import Checkpoint
    from s2c_deploy.tensorrt.build import Made


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What is to be exported, how, and where to."""

    #: A model's folder, or a file of weights.
    source: Path
    #: Of a file's model.
    variant: str
    #: Of a file's model; what a folder must hold.
    preset: str | None
    #: Of a file's model that was trained for one trade-off.
    lmbda: float | None
    #: Folder of the bundle; None: named after the model.
    out: Path | None
    #: Photographs for the parity gate.
    images: Path
    precision: str
    #: Inputs and outputs of the FP16 graphs.
    io: str
    #: Those to build engines with.
    libraries: tuple[str, ...]
    compute_capabilities: tuple[str, ...]
    profiles: tuple[str, ...]
    #: Folder of a Triton model repository, if there is to be one.
    triton: Path | None
    #: Replace a bundle that is there.
    force: bool


# typer takes options as parameters of the command, not as a dataclass: they are gathered below.
def export(
    variant: Annotated[
        str, typer.Option(help="identity, conv, attention or hybrid: the folder export/VARIANT.")
    ] = "conv",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Folder with recipe.toml and weights.safetensors, or one checkpoint file.",
            show_default="export/VARIANT",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="tiny, small, base or large.",
            show_default="the best released one, export/VARIANT; of a file, tiny",
        ),
    ] = None,
    lmbda: Annotated[
        float | None, typer.Option(help="Of a checkpoint file trained for one trade-off: its lambda.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle folder.", show_default="engines/VARIANT-PRESET")] = None,
    images: Annotated[Path, typer.Option(help="Photographs for the parity gate.")] = PHOTOGRAPHS,
    precision: Annotated[
        str, typer.Option(help="float16: FP16 graphs for engines, too, if no picture loses by it; or float32.")
    ] = "float16",
    io: Annotated[str, typer.Option(help="Inputs and outputs of the FP16 graphs: float32 or float16.")] = "float32",
    targets: Annotated[
        str, typer.Option(help="What to leave behind: onnx, tensorrt, tensorrt-rtx, with commas between.")
    ] = "onnx",
    compute_capability: CapabilityOption = "",
    profile: ProfileOption = None,
    triton: Annotated[
        Path | None,
        typer.Option(help="Write a Triton model repository, too; `s2c-deploy triton` has its options."),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a trained model to a bundle: ONNX graphs, entropy tables, known answers, proofs.

    s2c-deploy export --variant conv

    s2c-deploy export --variant conv --preset tiny

    s2c-deploy export --variant conv --targets onnx,tensorrt-rtx --compute-capability 8.6,8.9,12.0

    s2c-deploy export --weights my-model/ --out engines/my-model --images photos/

    s2c-deploy export --weights best.pth.tar --variant hybrid --preset base --lmbda 0.013 --images photos/
    """
    options = _Options(
        source=weights if weights is not None else released(variant, preset),
        variant=variant,
        preset=preset,
        lmbda=lmbda,
        out=out,
        images=images,
        precision=precision,
        io=io,
        libraries=tuple(_libraries(targets)),
        compute_capabilities=tuple(comma_list(compute_capability)),
        profiles=tuple(profile or ()),
        triton=triton,
        force=force,
    )
    _check_packages()
    if out is not None:
        _check_out(out, options)
    if triton is not None:
        _check_repository(triton)
    record, made = _run(options)
    if as_json:
        say_json(record)
        return
    _report(record)
    for line in made_lines(made):
        say(line)
    if triton is not None:
        say(f"tritonserver --model-repository {triton}")


def _check_packages() -> None:
    for package in ("torch", "onnx", "onnxruntime", "safetensors"):
        if find_spec(package) is None:
            raise DependencyError(package, extra="export")


def _run(options: _Options) -> tuple[dict[str, Any], list[Made]]:
    """Bundle, engines and Triton's repository; what was made, as JSON's types, and the engines."""
    from s2c_deploy.models.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(options.source, variant=options.variant, preset=options.preset, lmbda=options.lmbda)
    target = options.out if options.out is not None else ENGINES / checkpoint.config.name
    _check_out(target, options)
    bundle, seconds = _exported(checkpoint, target, options)
    record = _record(bundle, target, seconds)
    made = build_targets(
        bundle,
        options.libraries,
        compute_capabilities=options.compute_capabilities,
        profiles=options.profiles,
        precision=options.precision,
    )
    if options.libraries:
        record["engines"] = [made_record(m) for m in made]
    if options.triton is not None:
        from s2c_deploy.triton.repository import write_repository

        record["triton"] = list(map(str, write_repository(bundle, options.triton)))
    return record, made


def _exported(checkpoint: Checkpoint, target: Path, options: _Options) -> tuple[Bundle, float]:
    """The bundle and the seconds it took, with the step at hand on stderr."""
    from rich.console import Console
    from rich.text import Text

    from s2c_deploy.export.exporter import export_bundle

    started = time.perf_counter()
    with Console(stderr=True).status("exporting") as status:
        bundle = export_bundle(
            checkpoint,
            target,
            images=options.images,
            precision=options.precision,
            io=options.io,
            progress=lambda _done, _total, step: status.update(Text(printable(step))),
        )
    return bundle, time.perf_counter() - started


def _check_out(target: Path, options: _Options) -> None:
    """InputError where a bundle cannot be written, or would replace what it is made from: before the weights are even
    read."""
    from s2c_deploy.files import check_folder_writable
    from s2c_deploy.formats.bundle import check_free
    from s2c_deploy.listing import is_inside

    if os.path.lexists(target) and not options.force:
        raise InputError(f"{target} exists", hint="replace it with --force, or name another --out")
    place = check_free(target)
    for path in (options.source, options.images):
        if is_inside(os.path.realpath(path), os.path.realpath(place)):
            raise InputError(f"{path} lies in {target}, which would be replaced", hint="choose another --out")
    check_folder_writable(target)
    check_folder_writable(target.parent)  # it is made beside and renamed


def _check_repository(folder: Path) -> None:
    from s2c_deploy.files import check_folder_writable
    from s2c_deploy.triton.repository import check_free

    check_free(folder)
    check_folder_writable(folder)


def _record(bundle: Bundle, target: Path, seconds: float) -> dict[str, Any]:
    """What was exported, as JSON's types."""
    record: dict[str, Any] = {
        "bundle": str(target),
        "fingerprint": bundle.fingerprint.hex(),
        "graphs": len(bundle.manifest["graphs"]),
        "bytes": sum(entry["size"] for entry in bundle.manifest["files"].values()),
        "worst_relative_difference": max(
            graph["parity"]["relative_difference"] for graph in bundle.manifest["graphs"].values()
        ),
        "seconds": round(seconds, 2),
    }
    half = bundle.manifest.get("float16")
    if half is not None:
        record["float16"] = {
            "worst_loss_db": max(max(row.values()) for row in half["gate"]["loss_db"].values()),
            "float32_nodes": {
                # Those of the rounding to pixels are float32 by their nature.
                name: sum(node["reason"] != "pixels" for node in graph["float32_nodes"].values())
                for name, graph in sorted(half["graphs"].items())
            },
        }
    return record


def _report(record: Mapping[str, Any]) -> None:
    say(
        f"{record['bundle']}: {record['graphs']} graphs, {record['bytes'] / 1e6:.1f} MB, "
        f"fingerprint {record['fingerprint'][:16]}, exported in {record['seconds']} s"
    )
    say(
        "parity with PyTorch: exact graphs 0 differing values, "
        f"float graphs within {record['worst_relative_difference']:.1e}"
    )
    if half := record.get("float16"):
        kept = ", ".join(f"{name} {n}" for name, n in half["float32_nodes"].items())
        say(f"FP16 graphs lose at most {half['worst_loss_db']:.4f} dB; nodes left in float32: {kept}")


def _libraries(targets: str) -> list[str]:
    """The targets beside onnx; what is missing is said before the export, not after it."""
    asked = comma_list(targets)
    libraries = [target for target in asked if target != "onnx"]
    if len(libraries) == len(asked):
        raise InputError(f"--targets: expected onnx among them, found {targets!r}", hint="engines are built from it")
    if libraries:
        from s2c_deploy.tensorrt import load_library

        for target in libraries:
            load_library(target)
    return libraries
