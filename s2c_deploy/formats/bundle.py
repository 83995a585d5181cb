"""A bundle: the folder that holds everything an engine needs to run one model (docs/bundle.md).

    engines/conv-small/
        manifest.json        what this is, every file's size and SHA-256
        *.onnx               g_a h_a h_s g_s and two context graphs per latent group; lighter versions of g_s
        tables.npz           frequency tables, gains, z indexes
        known_answers.npz    inputs and expected outputs of every graph

Nothing of a bundle is used before its sizes and hashes have been checked against the manifest.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.arrays import FloatArray
from s2c_deploy.contract import ENGINE_TARGETS, SCALE_LEVELS
from s2c_deploy.entropy.tables import FrequencyTables
from s2c_deploy.errors import BundleError, InputError, OutOfMemoryError
from s2c_deploy.formats.fingerprints import fingerprint, stream_fingerprints
from s2c_deploy.formats.manifest import (
    KNOWN_ANSWERS,
    MANIFEST,
    MAX_ARRAY_BYTES,
    TABLES,
    check_files,
    described_model,
    file_entries,
    is_float,
    is_int8,
    is_lighter,
    read_listed,
    read_manifest,
)
from s2c_deploy.formats.npz import npz_bytes, parse_npz
from s2c_deploy.formats.numbers import check_numbers, graph_numbers, names_of, table_numbers
from s2c_deploy.formats.onnx_graph import OnnxGraph, check_graph
from s2c_deploy.inside import read_file
from s2c_deploy.presets import FULL, ModelConfig
from s2c_deploy.replace import check_place, new_folder

__all__ = [
    "Bundle",
    "Gains",
    "chosen_graphs",
    "copy_files",
    "exact_graphs",
    "fingerprint",
    "graph_names",
    "load_arrays",
    "npz_bytes",
    "open_bundle",
    "write_bundle",
]


def graph_names(config: ModelConfig) -> list[str]:
    """The graphs of a bundle, in the order of decoding after those of the encoder."""
    contexts = [f"context_{k}_{part}" for k in range(len(config.groups)) for part in ("anchor", "nonanchor")]
    return ["g_a", "h_a", "h_s", *contexts, "g_s"]


def chosen_graphs(bundle: Bundle, asked: Sequence[str]) -> list[str]:
    """Those asked for of the graphs that engines are built of, all where none is named, lighter versions of g_s last;
    InputError for unknown names.  What multiplies bytes is for CPUs."""
    names = [*graph_names(bundle.config), *bundle.half_syntheses[1:]]
    if unknown := sorted(set(asked) - set(names)):
        raise InputError(f"graphs: expected some of {', '.join(names)}, found {', '.join(unknown)}")
    return [name for name in names if not asked or name in asked]


def exact_graphs(config: ModelConfig) -> list[str]:
    """The graphs that must agree bit for bit on every engine."""
    return [name for name in graph_names(config) if not is_float(name)]


@dataclass(frozen=True, kw_only=True)
class Gains:
    """What a quality means, of L levels.

    Levels between whole ones are interpolated geometrically; z_indexes are those of the nearest level.
    """

    #: L x M, of y.
    gain: FloatArray
    #: L x M, of y_hat in 1/16 steps.
    inverse_gain: FloatArray
    #: L x N, of z.
    hyper_gain: FloatArray
    #: L x N: the table of each hyper-latent channel.
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
            if not ((array >= 2.0**-32).all() and (array <= 2.0**32).all()):
                raise BundleError(f"{TABLES}: {name}: expected values between 2^-32 and 2^32")
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
    """A checked bundle."""

    path: Path
    config: ModelConfig
    #: 32 bytes that streams are bound to.
    fingerprint: bytes
    #: The parsed JSON.
    manifest: Mapping[str, Any]
    tables: FrequencyTables
    gains: Gains

    @property
    def lighter_graphs(self) -> list[str]:
        """Graphs of lighter versions of g_s, for the same latents: g_s.fast."""
        return sorted(filter(is_lighter, self.manifest["graphs"]))

    @property
    def synthesis_graphs(self) -> list[str]:
        """Every g_s, the model's own first."""
        return ["g_s", *self.lighter_graphs]

    @property
    def half_syntheses(self) -> list[str]:
        """Those that may have FP16 versions: they do not multiply bytes."""
        return [graph for graph in self.synthesis_graphs if not is_int8(graph)]

    @property
    def syntheses(self) -> list[str]:
        """The names to choose a g_s by: full, and those of the lighter ones."""
        return [FULL, *(graph.removeprefix("g_s.") for graph in self.lighter_graphs)]

    def synthesis_graph(self, name: str) -> str:
        """The graph of a g_s by its name; InputError names those that there are."""
        if name not in self.syntheses:
            raise InputError(
                f"synthesis: expected {' or '.join(self.syntheses)} of {self.path}, found {name!r:.80}",
                hint="precisions are chosen apart from it: --precision" if name in ("float32", "bfloat16") else None,
            )
        return "g_s" if name == FULL else f"g_s.{name}"

    def graph(self, name: str, precision: str = "float32") -> Path:
        """Where the .onnx file of a graph is; at float16, of its FP16 version where there is one.

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

    def read_graph(self, name: str, precision: str = "float32") -> OnnxGraph:
        """A graph's bytes for an engine: those that were hashed, with operators, inputs and outputs that were checked.

        BundleError for what docs/bundle.md rejects, and where the file is another one than the manifest lists.
        """
        file = self.graph(name, precision).name
        graph = OnnxGraph(name=file, data=read_listed(self.path, self.manifest, file))
        described = self.manifest["graphs"][name]
        check_graph(graph, described, half_io=file != described["file"])
        if described["exact"] and "numbers" in self.manifest:
            check_numbers(f"{self.path / file}", graph_numbers(graph, name), self.manifest["numbers"])
        return graph

    def reads(self, fingerprint: bytes) -> bool:
        """Whether a stream that carries these 8 bytes is of this bundle: of its numbers or, from a bundle of schema 1,
        of its files."""
        return fingerprint.hex() in stream_fingerprints(self.manifest)

    def known_answers(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs and expected outputs of every graph, as they were hashed, of small pictures; BundleError."""
        arrays = _arrays(self.path / KNOWN_ANSWERS, read_listed(self.path, self.manifest, KNOWN_ANSWERS))
        for name, array in arrays.items():
            positions = math.prod(array.shape[:1] + array.shape[2:])
            if array.ndim != 4 or not 0 < positions <= _MOST_POSITIONS:
                raise BundleError(
                    f"{KNOWN_ANSWERS}: {name!r:.80}: expected batch x channels x height x width of 1 to "
                    f"{_MOST_POSITIONS} positions, found {array.shape}"
                )
        return arrays


#: Of a known answer: what is asked is what engines must hold in memory.
_MOST_POSITIONS = 512 * 512


def copy_files(bundle: Path, manifest: Mapping[str, Any], target: Path) -> None:
    """Copies what the manifest lists, hashed on the way, and the manifest, into a new folder; engines are not of it.

    BundleError for a file that is not as listed; OSError where nothing can be written.
    """
    target.mkdir(parents=True)
    (target / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    for name in manifest["files"]:
        (target / name).write_bytes(read_listed(bundle, manifest, name))


def open_bundle(path: Path) -> Bundle:
    """Reads and checks a bundle: schema, every file's size and SHA-256, tables, gains, fingerprint.

    Raises InputError if there is no bundle at ``path``, BundleError if it is damaged or newer than this reader.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    config = described_model(manifest["model"])
    graphs = manifest["graphs"]
    if missing := set(graph_names(config)) - set(graphs):
        raise BundleError(f"{MANIFEST}: graphs: expected {', '.join(sorted(missing))} too, found {sorted(graphs)}")
    exact = exact_graphs(config)
    names = [*graph_names(config), *filter(is_lighter, graphs)]
    if odd := [name for name in names if graphs[name]["exact"] != (name in exact)]:
        wanted = ", ".join(exact)
        raise BundleError(f"{MANIFEST}: graphs: expected {wanted}, and no others, to be exact, not so {odd[0]}")
    # Files have their graphs' names: nothing else says which is which, and two that were exchanged decode otherwise.
    if odd := [name for name in names if graphs[name]["file"] != f"{name}.onnx"]:
        found = graphs[odd[0]]["file"]
        raise BundleError(f"{MANIFEST}: graphs: {odd[0]}: expected the file {odd[0]}.onnx, found {found}")
    bound_to = fingerprint(manifest)
    if manifest["fingerprint"] != bound_to.hex():
        raise BundleError(
            f"{MANIFEST}: fingerprint: expected {bound_to.hex()} from its files, found {manifest['fingerprint']}"
        )
    arrays = _arrays(path / TABLES, read_listed(path, manifest, TABLES))
    tables = FrequencyTables.from_arrays(arrays)
    if tables.count < SCALE_LEVELS:
        raise BundleError(f"{TABLES}: sizes: expected {SCALE_LEVELS} tables or more, found {tables.count}")
    try:
        gains = Gains(**{name: arrays[name] for name in ("gain", "inverse_gain", "hyper_gain", "z_indexes")})
    except KeyError as error:
        raise BundleError(f"{TABLES}: expected an array {error}, found {', '.join(sorted(arrays))}") from error
    gains.validate(config, tables.count)
    _check_numbers(path, config, manifest, arrays)
    return Bundle(path=path, config=config, fingerprint=bound_to, manifest=manifest, tables=tables, gains=gains)


def _check_numbers(
    path: Path, config: ModelConfig, manifest: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Of schema 2: that it lists every array and no other, and the tables' own; graphs are looked at when read."""
    if manifest["schema_version"] == 1:
        return
    numbers, found = table_numbers(arrays), set(manifest["numbers"])
    names = {*numbers, *(name for graph in exact_graphs(config) for name in names_of(graph))}
    if odd := sorted(names ^ found):
        name = f"{odd[0]!r:.80}"
        says = f"expected {name}, found none" if odd[0] in names else f"expected the model's, found {name} too"
        raise BundleError(f"{MANIFEST}: numbers: {says}")
    check_numbers(f"{path / TABLES}", numbers, manifest["numbers"])


def load_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz of plain numbers, at most 256 MiB; BundleError if it is not one."""
    try:
        data = read_file(file.parent, file.name, limit=MAX_ARRAY_BYTES)
    except OSError as error:
        raise BundleError(f"{file}: expected an .npz of plain arrays: {error.strerror}") from error
    return _arrays(file, data)


def _arrays(file: Path, data: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        return parse_npz(data)
    except ValueError as error:
        raise BundleError(f"{file}: expected an .npz of plain arrays: {error}") from error
    except MemoryError:
        raise OutOfMemoryError(f"{file}, {len(data)} bytes") from None


def write_bundle(
    path: Path, files: Mapping[str, bytes], describe: Callable[[dict[str, dict[str, object]]], dict[str, Any]]
) -> None:
    """Writes a bundle to a sibling folder that then takes the place of ``path``, in one step, replacing a bundle that
    is there (``replace.new_folder``).

    describe: from the file entries (size, sha256) to the manifest without its fingerprint.  InputError where nothing
    can be written, or something else than a bundle is there.
    """
    place = check_free(path)
    manifest = describe(file_entries(files))
    manifest["fingerprint"] = fingerprint(manifest).hex()
    try:
        with new_folder(place) as new:
            for name, data in files.items():
                (new / name).write_bytes(data)
            (new / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another --out") from error


def check_free(path: Path) -> Path:
    """Where a bundle at ``path`` will really be, links followed; InputError where it cannot be written.

    What is replaced is a bundle and nothing else: a folder with any other file in it is somebody's.
    """
    place = check_place(path)
    try:
        if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
            return place
        known = {MANIFEST, *read_manifest(place)["files"], *ENGINE_TARGETS}
        others = sorted(entry.name for entry in place.iterdir() if entry.name not in known)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another --out") from error
    except (InputError, BundleError) as error:
        raise InputError(f"{path} exists and is not a bundle: {error.message}", hint="choose another --out") from error
    if others:
        raise InputError(
            f"{path} has more in it than a bundle: {', '.join(others[:5])!r:.200}",
            hint="move that away, or choose another --out",
        )
    return place
