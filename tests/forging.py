"""Bundles changed as somebody who means harm would: the manifest agrees with what was put there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from s2c_deploy.formats.bundle import load_arrays, npz_bytes
from s2c_deploy.formats.fingerprints import fingerprint
from s2c_deploy.formats.manifest import MANIFEST, TABLES
from s2c_deploy.formats.numbers import describe, graph_numbers, table_numbers
from s2c_deploy.formats.onnx_graph import OnnxGraph


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest, and nothing else."""
    manifest = json.loads((path / MANIFEST).read_text())
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def forge(path: Path, name: str, data: bytes, **numbers: object) -> None:
    """Replaces a file and makes the manifest agree with it, as somebody who means harm would."""
    (path / name).write_bytes(data)

    def agree(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["numbers"].update(numbers)
        manifest["fingerprint"] = fingerprint(manifest).hex()

    edit(path, agree)


def forge_tables(path: Path, **changes: object) -> None:
    with np.load(path / "tables.npz") as arrays:
        tables = {name: arrays[name] for name in arrays.files}
    for name, value in changes.items():
        if value is None:
            del tables[name]
        else:
            tables[name] = value(tables[name].copy()) if callable(value) else value
    try:
        numbers = describe(table_numbers(tables))
    except (KeyError, ValueError):  # not even these
        numbers = {}
    forge(path, "tables.npz", npz_bytes(tables), **numbers)


def as_schema_1(path: Path) -> Path:
    """The bundle as it was written before there were numbers in manifests."""

    def change(manifest: dict[str, Any]) -> None:
        del manifest["numbers"]
        manifest["schema_version"] = 1
        manifest["fingerprint"] = fingerprint(manifest).hex()

    edit(path, change)
    return path


def seal(path: Path) -> None:
    """Makes the manifest agree with changed files and the numbers in them, so that it is another bundle."""

    def agree(manifest: dict[str, Any]) -> None:
        for name, entry in manifest["files"].items():
            data = (path / name).read_bytes()
            entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        numbers = table_numbers(load_arrays(path / TABLES))
        for name, graph in manifest["graphs"].items():
            if graph["exact"]:
                numbers |= graph_numbers(OnnxGraph.read(path / graph["file"]), name)
        manifest["numbers"] = describe(numbers)
        manifest["fingerprint"] = fingerprint(manifest).hex()

    edit(path, agree)
