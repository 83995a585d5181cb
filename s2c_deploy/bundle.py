"""A bundle: the folder that holds everything an engine needs to run one model (docs/bundle.md).

    engines/conv-tiny/
        manifest.json        what this is, every file's size and SHA-256
        *.onnx               g_a h_a h_s g_s and two context graphs per latent group
        tables.npz           frequency tables, gains, z indexes
        known_answers.npz    inputs and expected outputs of every graph

Nothing of a bundle is used before its sizes and hashes have been checked against the manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.entropy.tables import FrequencyTables
from s2c_deploy.errors import BundleError, InputError
from s2c_deploy.presets import ModelConfig

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
TABLES = "tables.npz"
KNOWN_ANSWERS = "known_answers.npz"
#: Bounds before anything is read: a manifest is a few kB, the largest graph some hundred MB.
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 4 << 30
#: The context graphs give indexes of 0..63; the sums of an exact layer stay below 2^24.
SCALE_LEVELS, EXACT_LIMIT = 64, 2**24

FloatArray = npt.NDArray[np.float32]


def graph_names(config: ModelConfig) -> list[str]:
    """The graphs of a bundle, in the order of decoding after those of the encoder."""
    contexts = [f"context_{k}_{part}" for k in range(len(config.groups)) for part in ("anchor", "nonanchor")]
    return ["g_a", "h_a", "h_s", *contexts, "g_s"]


def exact_graphs(config: ModelConfig) -> list[str]:
    """The graphs that must agree bit for bit on every engine."""
    return [name for name in graph_names(config) if name not in ("g_a", "h_a", "g_s")]


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Quality levels L: gain and inverse_gain, float32 L x M; hyper_gain, float32 L x N; z_indexes, uint8 L x N.

    Levels between whole ones are interpolated geometrically; z_indexes are those of the nearest level.
    """

    gain: FloatArray
    inverse_gain: FloatArray
    hyper_gain: FloatArray
    z_indexes: npt.NDArray[np.uint8]

    def validate(self, config: ModelConfig, tables: int) -> None:
        """BundleError when a shape, a dtype or a value does not fit the model."""
        m, n = config.latent_channels, config.hyper_channels
        for name, width in (("gain", m), ("inverse_gain", m), ("hyper_gain", n)):
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape != (config.levels, width):
                raise BundleError(
                    f"{TABLES}: {name}: expected float32 {(config.levels, width)}, found {array.dtype} {array.shape}"
                )
            if not (np.isfinite(array).all() and (array > 0).all()):
                raise BundleError(f"{TABLES}: {name}: expected finite positive values")
        z = self.z_indexes
        if z.dtype != np.uint8 or z.shape != (config.levels, n) or int(z.max()) >= tables:
            raise BundleError(
                f"{TABLES}: z_indexes: expected uint8 {(config.levels, n)} below {tables}, found {z.dtype} {z.shape}"
            )

    def at(self, quality: float) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.uint8]]:
        """gain, hyper_gain and inverse_gain as 1 x C x 1 x 1, and z_indexes of N, of a quality in 1..L."""
        position = min(max(quality - 1.0, 0.0), len(self.gain) - 1.0)
        low = min(int(position), len(self.gain) - 2) if len(self.gain) > 1 else 0
        part = position - low

        def between(table: FloatArray) -> FloatArray:
            high = table[min(low + 1, len(table) - 1)]
            row = table[low] ** (1 - part) * high**part
            return np.asarray(row, np.float32).reshape(1, -1, 1, 1)

        z_indexes = self.z_indexes[low + int(part >= 0.5)]
        return between(self.gain), between(self.hyper_gain), between(self.inverse_gain), z_indexes


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A checked bundle.  fingerprint: 32 bytes that streams are bound to; manifest: the parsed JSON."""

    path: Path
    config: ModelConfig
    fingerprint: bytes
    manifest: Mapping[str, Any]
    tables: FrequencyTables
    gains: Gains

    def graph(self, name: str) -> Path:
        """The .onnx file of a graph."""
        return self.path / str(self.manifest["graphs"][name]["file"])


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


def open_bundle(path: Path) -> Bundle:
    """Reads and checks a bundle: schema, every file's size and SHA-256, tables, gains, fingerprint.

    Raises InputError if there is no bundle at ``path``, BundleError if it is damaged or newer than this reader.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    config = _model_config(manifest["model"])
    names = set(manifest["graphs"])
    if missing := set(graph_names(config)) - names:
        raise BundleError(
            f"{MANIFEST}: graphs: expected {', '.join(sorted(missing))} too, found {sorted(names)}"
        )
    found = fingerprint(manifest)
    if manifest.get("fingerprint") != found.hex():
        raise BundleError(
            f"{MANIFEST}: fingerprint: expected {found.hex()} from its files, found {manifest.get('fingerprint')}"
        )
    arrays = load_arrays(path / TABLES)
    tables = FrequencyTables.from_arrays(arrays)
    if tables.count < SCALE_LEVELS:
        raise BundleError(f"{TABLES}: sizes: expected {SCALE_LEVELS} tables or more, found {tables.count}")
    try:
        gains = Gains(**{name: arrays[name] for name in ("gain", "inverse_gain", "hyper_gain", "z_indexes")})
    except KeyError as error:
        raise BundleError(
            f"{TABLES}: expected an array {error}, found {', '.join(sorted(arrays))}"
        ) from error
    gains.validate(config, tables.count)
    return Bundle(path=path, config=config, fingerprint=found, manifest=manifest, tables=tables, gains=gains)


def _model_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The manifest's model; BundleError unless every field has its type and the shape is a possible one."""
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        config = ModelConfig(**values)
        channels = (config.latent_channels, config.hyper_channels, config.context_width)
        counts = (*config.widths, *config.depths, config.expansion, *channels)
        if not all(type(count) is int and count > 0 for count in counts):
            raise TypeError(f"expected positive whole numbers, found {counts}")
        if config.groups[-1] <= 0:
            raise TypeError(f"latent_channels: expected room for {len(config.groups)} groups, found {channels[0]}")
        if not (isinstance(config.preset, str) and isinstance(config.lmbdas, tuple) and config.lmbdas):
            raise TypeError("expected the name of a preset and a list of lmbdas")
    except (TypeError, InputError) as error:
        raise BundleError(f"{MANIFEST}: model: {error}") from error
    return config


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
    for name in (TABLES, KNOWN_ANSWERS):
        if name not in manifest["files"]:
            raise BundleError(f"{file}: files: expected {name}, found {', '.join(sorted(manifest['files']))}")
    layers = manifest["exactness"].get("layers")
    proofs = list(layers.values()) if isinstance(layers, dict) else []
    bounds = [proof.get("bound") if isinstance(proof, dict) else None for proof in proofs]
    if not bounds or not all(isinstance(bound, int | float) and 0 <= bound < EXACT_LIMIT for bound in bounds):
        raise BundleError(f"{file}: exactness: expected bounds below 2^24 of every layer, found {layers!r:.80}")


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """BundleError unless every file that the manifest lists is there with its size and SHA-256."""
    for name, entry in sorted(manifest["files"].items()):
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{file}: expected a file of {entry['size']} bytes, found none")
        if file.stat().st_size != entry["size"]:
            raise BundleError(f"{file}: expected {entry['size']} bytes, found {file.stat().st_size}")
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != entry["sha256"]:
            raise BundleError(
                f"{file}: expected SHA-256 {entry['sha256']}, found {found}", hint="export the bundle again"
            )


def load_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz; BundleError if it is not one (pickled objects are refused)."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
        # A member that is no .npy comes as its bytes.
        if strays := [name for name, array in loaded.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{', '.join(strays)} is none")
        return loaded
    except Exception as error:
        raise BundleError(f"{file}: expected an .npz of plain arrays: {error}") from error


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An uncompressed .npz, the same bytes for the same arrays (they enter the fingerprint)."""
    out = io.BytesIO()
    np.savez(out, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return out.getvalue()


def write_bundle(
    path: Path, files: Mapping[str, bytes], describe: Callable[[dict[str, dict[str, object]]], dict[str, Any]]
) -> None:
    """Writes a bundle to a sibling folder and renames it to ``path``, replacing a bundle that is there.

    describe: from the file entries (size, sha256) to the manifest without its fingerprint.
    """
    if path.exists() and not (path / MANIFEST).is_file():
        raise InputError(f"{path} exists and is not a bundle", hint="choose another --out")
    entries: dict[str, dict[str, object]] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    }
    manifest = describe(entries)
    manifest["fingerprint"] = fingerprint(manifest).hex()
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        for name, data in files.items():
            (new / name).write_bytes(data)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        _swap(new, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another --out") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Renames a folder to ``path``; what was there is deleted, or stays if the renaming fails."""
    old = path.with_name(new.name + ".old")
    if replaced := path.exists():
        os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        if replaced:
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
