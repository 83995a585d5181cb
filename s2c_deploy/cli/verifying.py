"""``verify``: exactness of a bundle, proven from its files and tried on every engine."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2c_deploy.cli.building import comma_list
from s2c_deploy.cli.coding import JsonOption
from s2c_deploy.cli.evaluating import parse_qualities
from s2c_deploy.cli.exporting import PHOTOGRAPHS
from s2c_deploy.errors import DependencyError, EngineError

if TYPE_CHECKING:
    from s2c_deploy.bundle import Bundle


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    backends: Annotated[str, typer.Option(help="Engines, with commas between. [default: all that run here]")] = "",
    images: Annotated[Path, typer.Option(help="Folder of pictures to code.")] = PHOTOGRAPHS,
    quality: Annotated[str, typer.Option("--quality", "-q", help="As 1..8 or 1,3,5.5.")] = "1,3,5,8",
    as_json: JsonOption = False,
) -> None:
    """Prove a bundle exact from its ONNX files, and decode every engine's streams on every other.

    s2c-deploy verify engines/conv-small

    s2c-deploy verify engines/conv-small --backends torch,onnxruntime,openvino --images kodak/
    """
    if find_spec("onnx") is None:
        raise DependencyError("onnx", extra="export")
    levels = parse_qualities([quality])
    from rich.console import Console
    from rich.progress import Progress

    from s2c_deploy.bundle import exact_graphs, open_bundle
    from s2c_deploy.image import list_images, read_image
    from s2c_deploy.proof import EXACT_LIMIT, prove_graph
    from s2c_deploy.verify import cross_decode

    opened = open_bundle(bundle)
    chosen = _backends(backends, opened)
    proofs = {name: prove_graph(opened.graph(name)) for name in exact_graphs(opened.config)}
    pictures = [read_image(path).pixels for path in list_images(images)]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("verifying")

        def advance(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        agreements = cross_decode(opened, pictures, levels, chosen, progress=advance)
        bar.update(task, visible=False)
    record: dict[str, Any] = {
        "bundle": str(bundle),
        "fingerprint": opened.fingerprint.hex(),
        "pictures": len(pictures),
        "qualities": levels,
        "proof": {
            "limit": EXACT_LIMIT,
            "layers": sum(map(len, proofs.values())),
            "largest_sum": max(layer.bound for layers in proofs.values() for layer in layers),
        },
        "agreements": [vars(agreement) for agreement in agreements],
        "agrees": all(agreement.agrees for agreement in agreements),
    }
    typer.echo(json.dumps(record, indent=1) if as_json else _report(record))
    for agreement in agreements:
        if not agreement.agrees:
            raise EngineError(
                f"streams of {agreement.encoder} decoded with {agreement.decoder}: {agreement.differing_outputs} "
                f"outputs and {agreement.differing_symbols} symbols differ",
                hint="do not decode with this engine, and report its version",
            )


def _backends(text: str, bundle: Bundle) -> list[str]:
    from s2c_deploy.networks import can_run
    from s2c_deploy.runtime import BACKENDS, choose_backend

    if text:
        return [choose_backend(name) for name in comma_list(text)]
    return [name for name in BACKENDS if can_run(bundle, name)]


def _report(record: dict[str, Any]) -> str:
    proof = record["proof"]
    lines = [
        f"{record['bundle']}, fingerprint {record['fingerprint'][:16]}",
        f"proof from the ONNX files: {proof['layers']} sums, the largest reaches {proof['largest_sum']:.0f}, "
        f"below 2^24 = {proof['limit']}",
        f"{record['pictures']} pictures at qualities {', '.join(f'{q:g}' for q in record['qualities'])}:",
        f"{'encoded with':<22}{'decoded with':<34}{'outputs':>14}{'differ':>9}{'symbols differ':>16}{'failed':>8}",
    ]
    for a in record["agreements"]:
        counts = f"{a['outputs']:>14,}{a['differing_outputs']:>9,}{a['differing_symbols']:>16,}"
        lines.append(f"{a['encoder']:<22}{a['decoder']:<34}{counts}{a['failed']:>5}/{a['streams']}")
    return "\n".join(lines)
