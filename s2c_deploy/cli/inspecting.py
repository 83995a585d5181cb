"""``inspect``, ``info`` and ``doctor``: look without running anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from s2c_deploy.cli.jobs import STANDARD
from s2c_deploy.cli.options import JsonOption, MaxPixelsOption
from s2c_deploy.cli.output import PlainTable, say, say_json, show_tables
from s2c_deploy.cli.reading import read_stream
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.files import status_of


def inspect(
    path: Annotated[str, typer.Argument(help="A .s2c stream, a bundle folder, or - for standard input.")],
    max_pixels: MaxPixelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show and check a stream or a bundle; no network is loaded.

    s2c-deploy inspect photo.s2c

    s2c-deploy inspect engines/conv-small --json
    """
    if path == STANDARD:
        record = _stream_record(read_stream(None), max_pixels)
    elif not path:
        raise InputError("expected the name of a file or folder, found an empty one", hint="a variable may be unset")
    elif status_of(path) is None:
        raise InputError(f"no file or folder {path}")
    elif os.path.isdir(path):
        record = _bundle_record(Path(path))
    else:
        record = _stream_record(read_stream(Path(path)), max_pixels)
    _print(record, as_json)


def _stream_record(data: bytes, max_pixels: int | None) -> dict[str, Any]:
    from s2c_deploy.bitstream import parse

    stream = parse(data, max_pixels=max_pixels)
    payload = sum(map(len, stream.tiles))
    metadata = len(stream.icc or b"") + len(stream.exif or b"")
    return {
        "kind": "stream",
        "model": f"{stream.variant}-{stream.preset}",
        "fingerprint": stream.fingerprint.hex(),
        "width": stream.width,
        "height": stream.height,
        "quality": stream.quality,
        "tile": stream.tile,
        "tiles": len(stream.tiles),
        "bytes": len(data),
        "bpp": round(len(data) * 8 / (stream.width * stream.height), 5),
        "payload_bytes": payload,
        "metadata_bytes": metadata,
        "header_bytes": len(data) - payload - metadata,
    }


def _bundle_record(path: Path) -> dict[str, Any]:
    from s2c_deploy.bundle import open_bundle

    bundle = open_bundle(path)
    manifest = bundle.manifest
    return {
        "kind": "bundle",
        "model": bundle.config.name,
        "fingerprint": bundle.fingerprint.hex(),
        "schema_version": manifest["schema_version"],
        "quality_levels": bundle.config.levels,
        "bytes": sum(entry["size"] for entry in manifest["files"].values()),
        "largest_integer_sum": max(layer["bound"] for layer in manifest["exactness"]["layers"].values()),
        "exact_limit": manifest["exactness"]["limit"],
        "graphs": {
            name: "exact integers" if graph["exact"] else graph["precision"]
            for name, graph in manifest["graphs"].items()
        },
        "float16": _float16_record(manifest.get("float16")),
        "tools": manifest["tools"],
    }


def _float16_record(half: dict[str, Any] | None) -> dict[str, Any] | None:
    if half is None:
        return None
    losses = [loss for row in half["gate"]["loss_db"].values() for loss in row.values()]
    kept = {name: len(graph["float32_nodes"]) for name, graph in half["graphs"].items()}
    return {"worst_loss_db": max(losses), **{f"{name}_float32_nodes": count for name, count in kept.items()}}


def info(
    variant: Annotated[str, typer.Option(help="identity, conv, attention or hybrid.")] = "conv",
    preset: Annotated[str, typer.Option(help="tiny, small, base or large.")] = "tiny",
    aggregation: Annotated[str, typer.Option(help="mlp, conv_ffn, glu or glu_dw.")] = "glu",
    as_json: JsonOption = False,
) -> None:
    """Parameters and cost of a model, counted from its modules.

    s2c-deploy info --variant hybrid --preset large
    """
    from importlib.util import find_spec

    from s2c_deploy.presets import model_config

    config = model_config(variant, preset, aggregation=aggregation)
    if find_spec("torch") is None:
        raise DependencyError("torch", extra="export")
    from s2c_deploy.models.cost import count_cost

    costs = count_cost(config)
    parameters, kmac = sum(c.parameters for c in costs), sum(c.kmac_per_pixel for c in costs)
    if as_json:
        parts = {c.name: {"parameters": c.parameters, "kmac_per_pixel": c.kmac_per_pixel} for c in costs}
        total = {"parameters": parameters, "kmac_per_pixel": kmac}
        _print({"model": config.name, "config": config.to_dict(), "transforms": parts, "total": total}, True)
        return
    rows = [(c.name, f"{c.parameters:,}", f"{c.kmac_per_pixel:.2f}") for c in costs]
    rows.append(("total", f"{parameters:,}", f"{kmac:.2f}"))
    title = f"S2C-{variant.capitalize()} {preset}, {aggregation}"
    show_tables([PlainTable(title=title, columns=("transform", "parameters", "kMAC/px"), rows=tuple(rows))])


def doctor(as_json: JsonOption = False) -> None:
    """What is installed, which engines can run here, and what to install for the rest.

    s2c-deploy doctor
    """
    import os
    import platform

    from s2c_deploy import __version__
    from s2c_deploy.cli.bundles import known_bundles
    from s2c_deploy.entropy.native import library
    from s2c_deploy.errors import S2CError
    from s2c_deploy.runtime import BACKENDS, backend_status, choose_backend

    try:
        library()
        coder = "ok"
    except S2CError as error:
        coder = str(error)
    try:
        chosen = choose_backend("auto")
    except S2CError as error:
        chosen = f"none: {error}"
    record = {
        "s2c-deploy": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "native coder": coder,
        "backend auto": chosen,
        "backends": {
            name: {"version": status.version, "usable": status.usable, "advice": status.advice}
            for name, status in ((name, backend_status(name)) for name in BACKENDS)
        },
        "engine builders": _engine_builders(),
        "bundles": [str(path) for path in known_bundles()],
    }
    if as_json:
        _print(record, True)
        return
    for name in ("s2c-deploy", "python", "machine", "native coder", "backend auto"):
        say(f"{name:<14} {record[name]}")
    for name in BACKENDS:
        status = backend_status(name)
        state = "can run" if status.usable else "cannot run"
        say(
            f"  {name:<20} {status.version or 'not installed':<14} {state:<11} {status.advice}".rstrip()
        )
    for name, version in _engine_builders().items():
        extra = name.replace("tensorrt-", "")
        say(f"  {name:<20} {version or 'not installed':<14} builds engines" + _advice(version, extra))
    bundles = ", ".join(map(str, known_bundles())) or "none under ./engines: s2c-deploy export --variant conv"
    say(f"{'bundles':<14} {bundles}")


def _engine_builders() -> dict[str, str | None]:
    """Target: version of the installed library, not imported; None where there is none."""
    from s2c_deploy.engine.library import TARGETS, installed_version

    return {target: installed_version(target) for target in TARGETS}


def _advice(version: str | None, extra: str) -> str:
    return "" if version else f": pip install 's2c-deploy[{extra}]'"


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(record)
        return
    for name, value in record.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        say(f"{name.replace('_', ' '):<20} {shown}")
