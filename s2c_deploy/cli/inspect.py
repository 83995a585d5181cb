"""``inspect``: a stream or a bundle, looked at without running anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from s2c_deploy.cli.files.jobs import STANDARD
from s2c_deploy.cli.files.reading import read_stream
from s2c_deploy.cli.options import DEFAULT_BUNDLE, JsonOption, MaxPixelsOption
from s2c_deploy.cli.output import show_record
from s2c_deploy.errors import InputError
from s2c_deploy.files import status_of
from s2c_deploy.formats.finding import choose_bundle


def inspect(
    path: Annotated[
        str | None,
        typer.Argument(
            help="A .s2c stream, a bundle folder, or - for standard input.", show_default=f"bundle: {DEFAULT_BUNDLE}"
        ),
    ] = None,
    max_pixels: MaxPixelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show and check a stream or a bundle; no network is loaded.

    Without PATH, the bundle that compress would take, and where it was found.

    s2c-deploy inspect photo.s2c

    s2c-deploy inspect engines/conv-small --json
    """
    if path is None:
        found = choose_bundle(None)
        record = {"path": str(found.path), "found_in": found.place, **_bundle_record(found.path)}
    elif path == STANDARD:
        record = _stream_record(read_stream(None), max_pixels)
    elif not path:
        raise InputError("expected the name of a file or folder, found an empty one", hint="a variable may be unset")
    elif status_of(path) is None:
        raise InputError(f"no file or folder {path}")
    elif os.path.isdir(path):
        record = _bundle_record(Path(path))
    else:
        record = _stream_record(read_stream(Path(path)), max_pixels)
    if not as_json and "syntheses" in record:
        record["syntheses"] = {name: _in_words(told) for name, told in record["syntheses"].items()}
    show_record(record, as_json)


def _in_words(told: dict[str, Any]) -> str:
    decibels = [f"{value:.2f}" for value in told["psnr"].values()]
    return f"{told['kmac_per_pixel']} kMAC/px ({decibels[0]} to {decibels[-1]} dB)"


def _stream_record(data: bytes, max_pixels: int | None) -> dict[str, Any]:
    from s2c_deploy.formats.bitstream import parse

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
    from s2c_deploy.formats.bundle import open_bundle

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
        "syntheses": {name: _synthesis_record(told) for name, told in manifest.get("syntheses", {}).items()},
        "float16": _float16_record(manifest.get("float16")),
        "tools": manifest["tools"],
    }


def _synthesis_record(told: dict[str, Any]) -> dict[str, Any]:
    """A g_s: its arithmetic, and the PSNR of its pictures, measured at export on the photographs of the parity gate."""
    return {name: told[name] for name in ("kmac_per_pixel", "parameters", "psnr")}


def _float16_record(half: dict[str, Any] | None) -> dict[str, Any] | None:
    if half is None:
        return None
    losses = [loss for row in half["gate"]["loss_db"].values() for loss in row.values()]
    kept = {name: len(graph["float32_nodes"]) for name, graph in half["graphs"].items()}
    return {"worst_loss_db": max(losses), **{f"{name}_float32_nodes": count for name, count in kept.items()}}
