"""``export``: a trained model's folder to a bundle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from s2c_deploy.cli.bundles import ENGINES
from s2c_deploy.cli.coding import ForceOption, JsonOption
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.presets import model_config

PresetOption = Annotated[str, typer.Option(help="tiny, small, base or large.")]
WEIGHTS, PHOTOGRAPHS = Path("export"), Path("export/photographs")


def export(
    variant: Annotated[
        str, typer.Option(help="identity, conv, attention or hybrid: the folder export/VARIANT.")
    ] = "conv",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Folder with recipe.toml and weights.safetensors, or one checkpoint file. [default: export/VARIANT]"
        ),
    ] = None,
    preset: PresetOption = "tiny",
    lmbda: Annotated[
        float | None, typer.Option(help="Of a checkpoint file trained for one trade-off: its lambda.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle folder. [default: engines/VARIANT-PRESET]")] = None,
    images: Annotated[Path, typer.Option(help="Photographs for the parity gate.")] = PHOTOGRAPHS,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a trained model to a bundle: ONNX graphs, entropy tables, known answers, proofs.

    s2c-deploy export --variant conv

    s2c-deploy export --weights my-model/ --out engines/my-model --images photos/

    s2c-deploy export --weights best.pth.tar --variant hybrid --preset base --lmbda 0.013 --images photos/
    """
    from importlib.util import find_spec

    for package in ("torch", "onnx", "onnxruntime", "safetensors"):
        if find_spec(package) is None:
            raise DependencyError(package, extra="export")
    from rich.console import Console

    from s2c_deploy.export.checkpoint import load_checkpoint, load_file_checkpoint
    from s2c_deploy.export.exporter import export_bundle

    source = weights if weights is not None else WEIGHTS / variant
    if source.is_file():
        config = model_config(variant, preset, lmbdas=None if lmbda is None else (lmbda,))
        checkpoint = load_file_checkpoint(source, config)
    else:
        checkpoint = load_checkpoint(source)
    target = out if out is not None else ENGINES / checkpoint.config.name
    if target.exists() and not force:
        raise InputError(f"{target} exists", hint="replace it with --force, or name another --out")
    started = time.perf_counter()
    with Console(stderr=True).status("exporting") as status:
        bundle = export_bundle(checkpoint, target, images=images, progress=status.update)
    size = sum(entry["size"] for entry in bundle.manifest["files"].values())
    worst = max(graph["parity"]["relative_difference"] for graph in bundle.manifest["graphs"].values())
    record = {
        "bundle": str(target),
        "fingerprint": bundle.fingerprint.hex(),
        "graphs": len(bundle.manifest["graphs"]),
        "bytes": size,
        "worst_relative_difference": worst,
        "seconds": round(time.perf_counter() - started, 2),
    }
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    typer.echo(
        f"{target}: {record['graphs']} graphs, {size / 1e6:.1f} MB, fingerprint {bundle.fingerprint.hex()[:16]}, "
        f"exported in {record['seconds']} s\n"
        f"parity with PyTorch: exact graphs 0 differing values, float graphs within {worst:.1e}"
    )
