"""A bundle: the folder that holds everything an engine needs to run one model (docs/bundle.md).

    engines/conv-small/
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.entropy.tables import FrequencyTables
from s2c_deploy.errors import BundleError, InputError
from s2c_deploy.manifest import (
    FLOAT_GRAPHS,
    MANIFEST,
    TABLES,
    check_files,
    fingerprint,
    read_manifest,
)
from s2c_deploy.presets import SCALE_LEVELS, ModelConfig

FloatArray = npt.NDArray[np.float32]


def graph_names(config: ModelConfig) -> list[str]:
    """The graphs of a bundle, in the order of decoding after those of the encoder."""
    contexts = [f"context_{k}_{part}" for k in range(len(config.groups)) for part in ("anchor", "nonanchor")]
    return ["g_a", "h_a", "h_s", *contexts, "g_s"]


def chosen_graphs(config: ModelConfig, asked: Sequence[str]) -> list[str]:
    """Those asked for, all where none is named, in the order of ``graph_names``; InputError for unknown names."""
    names = graph_names(config)
    if unknown := sorted(set(asked) - set(names)):
        raise InputError(f"graphs: expected some of {', '.join(names)}, found {', '.join(unknown)}")
    return [name for name in names if not asked or name in asked]


def exact_graphs(config: ModelConfig) -> list[str]:
    """The graphs that must agree bit for bit on every engine."""
    return [name for name in graph_names(config) if name not in FLOAT_GRAPHS]


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

    def graph(self, name: str, precision: str = "float32") -> Path:
        """The .onnx file of a graph; at float16, of its FP16 version where there is one.

        BundleError if the bundle has no FP16 graphs at all.
        """
        graphs = self.manifest["graphs"]
        if precision == "float16":
            if "float16" not in self.manifest:
                raise BundleError(
                    f"{self.path}: expected FP16 graphs, found none", hint="export it with --precision float16"
                )
            graphs = graphs | self.manifest["float16"]["graphs"]
        return self.path / str(graphs[name]["file"])


def copy_files(bundle: Path, manifest: Mapping[str, Any], target: Path) -> None:
    """Copies what the manifest lists, and the manifest, into a new folder; engines are not of it.  OSError."""
    target.mkdir(parents=True)
    for name in (MANIFEST, *manifest["files"]):
        shutil.copyfile(bundle / name, target / name)


def open_bundle(path: Path) -> Bundle:
    """Reads and checks a bundle: schema, every file's size and SHA-256, tables, gains, fingerprint.

    Raises InputError if there is no bundle at ``path``, BundleError if it is damaged or newer than this reader.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    config = _model_config(manifest["model"])
    graphs = manifest["graphs"]
    if missing := set(graph_names(config)) - set(graphs):
        raise BundleError(
            f"{MANIFEST}: graphs: expected {', '.join(sorted(missing))} too, found {sorted(graphs)}"
        )
    if floats := [name for name in exact_graphs(config) if not graphs[name]["exact"]]:
        raise BundleError(f"{MANIFEST}: graphs: expected {', '.join(floats)} to be exact, found that they are not")
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
