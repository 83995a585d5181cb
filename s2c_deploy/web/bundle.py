"""Writing a web bundle: decoding graphs, tables, and a manifest with hashes and known answers (docs/browser.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import BundleError, DependencyError, ExactnessError, InputError, ParityError
from s2c_deploy.files import cannot_read, read_open
from s2c_deploy.formats.bundle import Bundle, exact_graphs, load_arrays
from s2c_deploy.formats.fingerprints import stream_fingerprints
from s2c_deploy.formats.manifest import KNOWN_ANSWERS, MANIFEST, TABLES, file_entries, is_int8
from s2c_deploy.formats.npz import npz_bytes
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.formats.receptive_field import receptive_field
from s2c_deploy.pictures.reading import open_regular
from s2c_deploy.presets import FULL
from s2c_deploy.replace import check_place, new_folder
from s2c_deploy.runtime.backends import choose_backend, open_runner
from s2c_deploy.runtime.probe import Probe, first_failure, probe_arrays, probe_from_arrays
from s2c_deploy.web.narrow import halve_floats, narrow_integers
from s2c_deploy.web.probes import describe_probe, probe_inputs

WEB_SCHEMA = 1
#: What narrowed graphs are tried on: the same library runs them in browsers.
_ENGINE = "onnxruntime"
#: What a decoder reads of tables.npz.
_TABLES = ("sizes", "freqs", "centers", "shifts", "skip_below", "inverse_gain", "z_indexes")
_MODEL = ("latent_channels", "hyper_channels", "lmbdas")
#: The g_s by default, where the bundle has it.
_FAST = "fast"
#: Of the picture of g_s's known answer, in positions of the latent: it is part of what is fetched.
_ANSWER_SIDE = 4
#: Bytes of a manifest that is read.
_MOST_MANIFEST = 2**24
#: Pixels that g_s in float16 weights may be away from the bundle's own, in levels of 255.
_MOST_LEVELS = 1.0


@dataclass(frozen=True, kw_only=True)
class WebBundle:
    """What was written."""

    path: Path
    #: Which g_s it draws with.
    synthesis: str
    #: Bytes of every file.
    files: Mapping[str, int]
    #: The largest difference of a pixel from the bundle's own g_s, in levels of 255, on its known answer.
    largest_difference: float


def write_web_bundle(bundle: Bundle, folder: Path, *, synthesis: str | None = None, force: bool = False) -> WebBundle:
    """Writes a web bundle; what is there is replaced with ``force``, and only if it is a web bundle or empty.

    synthesis: which g_s it draws with; by default fast where the bundle has it, as browsers take seconds for the full.
    InputError where nothing can be written or there is no such g_s, DependencyError without ONNX Runtime or onnx;
    ExactnessError or ParityError if a narrowed graph computes something else than the bundle's.
    """
    place = check_web_place(folder, force=force)
    choose_backend(_ENGINE)
    if find_spec("onnx") is None:
        raise DependencyError("onnx", extra="cpu")
    if synthesis is None:
        synthesis = _FAST if _FAST in bundle.syntheses else FULL
    drawing = bundle.synthesis_graph(synthesis)
    if is_int8(drawing):  # which the decoder in browsers would compute in float32
        raise InputError(f"synthesis: expected full, fast or fastest for browsers, found {synthesis}")
    files: dict[str, bytes] = {}
    graphs: dict[str, dict[str, Any]] = {}
    answers = bundle.known_answers()
    for name in exact_graphs(bundle.config):
        files[f"{name}.onnx"], graphs[name] = _exact_graph(bundle, name, answers)
    files[f"{drawing}.onnx"], graphs[drawing], known, largest = _synthesis_graph(bundle, drawing, answers)
    arrays = load_arrays(bundle.path / TABLES)
    files[TABLES] = npz_bytes({name: arrays[name] for name in _TABLES})
    files[KNOWN_ANSWERS] = npz_bytes(known)
    manifest = _manifest(bundle, file_entries(files), graphs)
    files[MANIFEST] = json.dumps(manifest, separators=(",", ":")).encode() + b"\n"
    try:
        with new_folder(place) as new:
            for name, data in files.items():
                (new / name).write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}", hint="choose another folder") from error
    sizes = {name: len(data) for name, data in files.items()}
    return WebBundle(path=folder, synthesis=synthesis, files=sizes, largest_difference=largest)


def check_web_place(folder: Path, *, force: bool) -> Path:
    """Where a web bundle will really be; InputError where none can be written, or something would be lost."""
    place = check_place(folder)
    try:
        if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
            return place
    except OSError as error:
        raise cannot_read(folder, error) from error
    if not force:
        raise InputError(f"{folder} exists", hint="choose another folder, or overwrite it with --force")
    others = _others(folder, place)
    if others:
        raise InputError(f"{folder}: expected a web bundle, found {others[0]!r:.80} too", hint="choose another folder")
    return place


def _others(folder: Path, place: Path) -> list[str]:
    """What lies in a web bundle besides: all of it is deleted, so only plain files that its manifest lists are its own,
    with names that such files have.  InputError where there is no web bundle."""
    try:
        with open_regular(place / MANIFEST) as file:
            manifest = json.loads(read_open(file, MANIFEST, limit=_MOST_MANIFEST))
        if "web_schema" not in manifest:
            raise ValueError("another manifest")
        listed = {MANIFEST, *manifest["files"]}
        with os.scandir(place) as entries:
            return sorted(entry.name for entry in entries if entry.name not in listed or not _is_ours(entry))
    except (InputError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "only web bundles are overwritten: choose another folder"
        raise InputError(f"{folder}: expected a web bundle, found something else", hint=hint) from error


def _is_ours(entry: os.DirEntry[str]) -> bool:
    named = entry.name in (MANIFEST, TABLES, KNOWN_ANSWERS) or entry.name.endswith(".onnx")
    return named and entry.is_file(follow_symlinks=False)


def _manifest(bundle: Bundle, files: Mapping[str, Any], graphs: Mapping[str, Any]) -> dict[str, Any]:
    manifest = bundle.manifest
    if "numbers" not in manifest:
        raise BundleError(f"{bundle.path}: expected schema 2, found 1", hint="export the bundle again")
    return {
        "web_schema": WEB_SCHEMA,
        "name": manifest["name"],
        "model": {key: manifest["model"][key] for key in _MODEL},
        "weights_sha256": manifest["weights_sha256"],
        "fingerprint": manifest["fingerprint"],
        "reads": list(stream_fingerprints(manifest)),
        "numbers": manifest["numbers"],
        "files": files,
        "graphs": graphs,
    }


def _exact_graph(bundle: Bundle, name: str, answers: Mapping[str, FloatArray]) -> tuple[bytes, dict[str, Any]]:
    """The file and the manifest's entry of an exact graph, once it has given every value of the bundle's own."""
    own = bundle.read_graph(name)
    described = bundle.manifest["graphs"][name]
    narrow = OnnxGraph(name=own.name, data=narrow_integers(own.data))
    with (
        open_runner(own, backend=_ENGINE, threads=1) as before,
        open_runner(narrow, backend=_ENGINE, threads=1) as after,
    ):
        if (failure := first_failure(name, after, answers, exact=True)) is not None:
            raise ExactnessError(f"narrowed: {failure}")
        inputs = probe_inputs(described)
        expected, found = before(inputs), after(inputs)
        for output, array in expected.items():
            if not np.array_equal(np.asarray(array), np.asarray(found[output])):
                raise ExactnessError(f"{name}: {output}: expected what the bundle's graph gives, found something else")
        probe = describe_probe(described, after)
    return narrow.data, {**_entry(described), "probe": probe}


def _synthesis_graph(
    bundle: Bundle, name: str, answers: Mapping[str, FloatArray]
) -> tuple[bytes, dict[str, Any], dict[str, FloatArray], float]:
    """The file, the manifest's entry and the known answers of a g_s, and how far its pixels are from the bundle's."""
    own = bundle.read_graph(name)
    half = OnnxGraph(name=own.name, data=halve_floats(own.data))
    field = receptive_field(own, "y_hat")
    probe = probe_from_arrays(name, answers)
    with open_runner(half, backend=_ENGINE, threads=1) as runner:
        found = np.asarray(runner(probe.inputs)["x_hat"])
        difference = np.abs(np.clip(found, 0, 1) - np.clip(probe.outputs["x_hat"], 0, 1)) * 255
        if not (largest := float(difference.max())) <= _MOST_LEVELS:
            raise ParityError(f"{name}: float16 weights: expected pixels within {_MOST_LEVELS:g}, found {largest:.2f}")
        y_hat = np.ascontiguousarray(probe.inputs["y_hat"][:, :, :_ANSWER_SIDE, :_ANSWER_SIDE])
        inputs = {**probe.inputs, "y_hat": y_hat}
        small = Probe(inputs=inputs, outputs={"x_hat": np.asarray(runner(inputs)["x_hat"])})
    described = bundle.manifest["graphs"][name]
    entry = {**_entry(described), "field": {"before": field.before, "after": field.after, "unit": field.unit}}
    return half.data, entry, probe_arrays({name: small}), largest


def _entry(described: Mapping[str, Any]) -> dict[str, Any]:
    return {key: described[key] for key in ("file", "exact", "inputs", "outputs")}
