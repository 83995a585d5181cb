"""The manifest of a bundle: what is in the folder, and the first checks (docs/bundle.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from s2c_deploy.errors import BundleError, InputError
from s2c_deploy.presets import EXACT_LIMIT

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
TABLES = "tables.npz"
KNOWN_ANSWERS = "known_answers.npz"
#: The graphs that are not exact, and may have FP16 versions.
FLOAT_GRAPHS = ("g_a", "h_a", "g_s")
#: Bounds before anything is read: a manifest is a few kB, the largest graph some hundred MB.
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 4 << 30


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the bundle at ``path``, its structure checked, its files not yet."""
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(f"no bundle at {path}", hint="make one: s2c-deploy export --variant conv")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{file}: expected at most {MAX_MANIFEST_BYTES} bytes, found {file.stat().st_size}")
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: expected JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{file}: expected an object, found {type(manifest).__name__}")
    version = manifest.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"{file}: schema_version: expected 1..{SCHEMA_VERSION}, found {version!r}")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema_version: expected at most {SCHEMA_VERSION}, found {version}",
            hint="upgrade s2c-deploy, or export the bundle again",
        )
    for key, kind in _STRUCTURE.items():
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{file}: {key}: expected {kind.__name__}, found {manifest.get(key)!r:.80}")
    _check_entries(file, manifest)
    return manifest


_STRUCTURE: dict[str, type] = {
    "name": str,
    "model": dict,
    "fingerprint": str,
    "weights_sha256": str,
    "files": dict,
    "graphs": dict,
    "exactness": dict,
    "tools": dict,
}


def _check_entries(file: Path, manifest: Mapping[str, Any]) -> None:
    for name, entry in manifest["files"].items():
        plain = (
            PurePosixPath(name).name == name and "\\" not in name and name not in ("", ".", "..", MANIFEST)
        )
        if not plain:
            raise BundleError(f"{file}: files: expected plain file names, found {name!r:.80}")
        size, digest = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if not (isinstance(size, int) and 0 <= size <= MAX_FILE_BYTES and isinstance(digest, str)):
            raise BundleError(f"{file}: files: {name}: expected a size and a sha256, found {entry!r:.80}")
    for name, graph in manifest["graphs"].items():
        listed = isinstance(graph, dict) and graph.get("file") in list(manifest["files"])
        if not (listed and isinstance(graph.get("exact"), bool) and isinstance(graph.get("precision"), str)):
            raise BundleError(
                f"{file}: graphs: {name}: expected a listed file, exact and precision, found {graph!r:.80}"
            )
    if "float16" in manifest:
        _check_float16(file, manifest)
    for name in (TABLES, KNOWN_ANSWERS):
        if name not in manifest["files"]:
            raise BundleError(f"{file}: files: expected {name}, found {', '.join(sorted(manifest['files']))}")
    layers = manifest["exactness"].get("layers")
    proofs = list(layers.values()) if isinstance(layers, dict) else []
    bounds = [proof.get("bound") if isinstance(proof, dict) else None for proof in proofs]
    if not bounds or not all(isinstance(bound, int | float) and 0 <= bound < EXACT_LIMIT for bound in bounds):
        raise BundleError(f"{file}: exactness: expected bounds below 2^24 of every layer, found {layers!r:.80}")


def _check_float16(file: Path, manifest: Mapping[str, Any]) -> None:
    half = manifest["float16"]
    graphs = half.get("graphs") if isinstance(half, dict) else None
    if not isinstance(graphs, dict):
        raise BundleError(f"{file}: float16: expected graphs, found {half!r:.80}")
    for name, graph in graphs.items():
        if name not in FLOAT_GRAPHS:
            raise BundleError(
                f"{file}: float16: graphs: expected {', '.join(FLOAT_GRAPHS)}, found {name!r:.80}"
            )
        if not (isinstance(graph, dict) and graph.get("file") in list(manifest["files"])):
            raise BundleError(f"{file}: float16: graphs: {name}: expected a listed file, found {graph!r:.80}")


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """BundleError unless every file that the manifest lists is there with its size and SHA-256."""
    for name, entry in sorted(manifest["files"].items()):
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{file}: expected a file of {entry['size']} bytes, found none")
        if file.stat().st_size != entry["size"]:
            raise BundleError(f"{file}: expected {entry['size']} bytes, found {file.stat().st_size}")
        with file.open("rb") as opened:
            digest = hashlib.sha256()
            while block := opened.read(1 << 20):
                digest.update(block)
        found = digest.hexdigest()
        if found != entry["sha256"]:
            raise BundleError(
                f"{file}: expected SHA-256 {entry['sha256']}, found {found}", hint="export the bundle again"
            )


def fingerprint(manifest: Mapping[str, Any]) -> bytes:
    """SHA-256 that binds a stream to what decodes it: the integer graphs, the tables and the model's weights.

    g_a, h_a and g_s enter through the weights, not their files: exported again, or at another precision, they
    still read the same streams.
    """
    files = manifest["files"]
    exact = sorted(str(graph["file"]) for graph in manifest["graphs"].values() if graph["exact"])
    lines = [f"{name} {files[name]['sha256']}" for name in (*exact, TABLES)]
    lines.append(f"weights {manifest['weights_sha256']}")
    return hashlib.sha256("\n".join(lines).encode()).digest()
