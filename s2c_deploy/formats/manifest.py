"""The manifest of a bundle: what is in the folder, and the first checks (docs/bundle.md)."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2c_deploy.contract import EXACT_LIMIT
from s2c_deploy.errors import BundleError, InputError, OutOfMemoryError
from s2c_deploy.inside import open_file, read_file
from s2c_deploy.presets import PRESETS, ModelConfig
from s2c_deploy.replace import recover

#: 1: the fingerprint is of files; 2: of numbers.
SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
TABLES = "tables.npz"
KNOWN_ANSWERS = "known_answers.npz"
#: The graphs that are not exact, and may have FP16 versions; besides them, lighter versions of g_s.
FLOAT_GRAPHS = ("g_a", "h_a", "g_s")
#: How a lighter g_s is called: g_s.fast.
_LIGHTER = re.compile(r"g_s\.[a-z0-9]{1,16}(-[a-z0-9]{1,15})?")
#: Bounds before anything is read: a manifest is a few kB, the largest graph some hundred MB.
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 2 << 30
MAX_ARRAY_BYTES = 256 << 20

#: Larger models than anybody trains; a manifest that asks for more is not believed.
_MOST_CHANNELS, _MOST_LEVELS = 1 << 16, 64
#: Arrays of ``numbers``, and what each is described by.
_MOST_NUMBERS, _NUMBER_KEYS = 1000, {"dtype", "shape", "sha256"}
#: What a manifest's strings may be made of: they are printed, and file names name files.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WORD = re.compile(r"[ -~]{1,128}")
#: Names of arrays and of their types.
_KEY = re.compile(r"[A-Za-z0-9_.]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_float(graph: str) -> bool:
    """Whether a graph of this name is one that need not be exact."""
    return graph in FLOAT_GRAPHS or is_lighter(graph)


def is_lighter(graph: str) -> bool:
    """Whether a graph of this name is a lighter g_s."""
    return _LIGHTER.fullmatch(graph) is not None


def is_int8(graph: str) -> bool:
    """Whether a graph of this name is a g_s whose convolutions multiply bytes."""
    return is_lighter(graph) and graph.endswith("int8")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the bundle at ``path``, its structure checked, its files not yet.

    InputError where there is none or it cannot be read, BundleError for one that docs/bundle.md rejects.
    """
    file = path / MANIFEST
    try:
        recover(path)
        data = read_file(path, MANIFEST, limit=MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no bundle at {path}", hint="make one: s2c-deploy export --variant conv") from None
    except (PermissionError, ValueError) as error:  # ValueError: a null character in the path
        raise InputError(f"cannot read {file}: {error}", hint="name a bundle that you may read") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"no bundle at {str(path)!r:.80}: {error.strerror}", hint="check the path") from None
        raise BundleError(f"{file}: {error.strerror}", hint="fetch or export the bundle again") from error
    manifest = _parsed(file, data)
    version = manifest.get("schema_version")
    if type(version) is not int or version < 1:
        raise BundleError(f"{file}: schema_version: expected 1..{SCHEMA_VERSION}, found {version!r:.40}")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema_version: expected at most {SCHEMA_VERSION}, found {version!r:.40}",
            hint="upgrade s2c-deploy, or export the bundle again",
        )
    for key, kind in _STRUCTURE.items():
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{file}: {key}: expected {kind.__name__}, found {manifest.get(key)!r:.80}")
    _check_words(file, manifest)
    _check_entries(file, manifest)
    if version > 1:
        _check_listed_numbers(file, manifest.get("numbers"))
    return manifest


def _parsed(file: Path, data: bytes) -> dict[str, Any]:
    """The object in a manifest's bytes; BundleError unless it is UTF-8, has every key once and finite numbers only."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"expected every key once, found {name!r:.80} twice")
            found[name] = value
        return found

    def number(text: str) -> Any:
        raise ValueError(f"expected finite numbers, found {text}")

    def real(text: str) -> float:
        return value if math.isfinite(value := float(text)) else number(text)

    try:
        manifest = json.loads(data.decode(), object_pairs_hook=once, parse_constant=number, parse_float=real)
        json.dumps(manifest, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: expected JSON in UTF-8: {error}", hint="export the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{file}: expected an object, found {type(manifest).__name__}")
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


def _check_words(file: Path, manifest: Mapping[str, Any]) -> None:
    for key in ("fingerprint", "weights_sha256"):
        if not _SHA256.fullmatch(manifest[key]):
            raise BundleError(f"{file}: {key}: expected 64 lower-case hex digits, found {manifest[key]!r:.80}")
    words = [("name", manifest["name"])]
    words += [("tools", word) for pair in manifest["tools"].items() for word in pair]
    words += [("graphs", name) for name in manifest["graphs"]]
    for key, word in words:
        if not (isinstance(word, str) and _WORD.fullmatch(word)):
            raise BundleError(f"{file}: {key}: expected up to 128 printable ASCII characters, found {word!r:.80}")


def _check_entries(file: Path, manifest: Mapping[str, Any]) -> None:
    for name, entry in manifest["files"].items():
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(f"{file}: files: expected plain file names, found {name!r:.80}")
        size, digest = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        hashed = isinstance(digest, str) and _SHA256.fullmatch(digest)
        if not (type(size) is int and 0 <= size <= MAX_FILE_BYTES and hashed):
            raise BundleError(f"{file}: files: {name}: expected a size and a sha256, found {entry!r:.80}")
    for name, graph in manifest["graphs"].items():
        listed = isinstance(graph, dict) and _is_listed(manifest, graph.get("file"))
        if not (listed and isinstance(graph.get("exact"), bool) and graph.get("precision") == "float32"):
            raise BundleError(
                f"{file}: graphs: {name}: expected a listed file, exact, and precision float32, found {graph!r:.80}"
            )
        for side in ("inputs", "outputs"):
            _check_tensors(file, f"graphs: {name}: {side}", graph.get(side))
    if "float16" in manifest:
        _check_float16(file, manifest)
    if "syntheses" in manifest:
        _check_syntheses(file, manifest["syntheses"])
    for name in (TABLES, KNOWN_ANSWERS):
        if name not in manifest["files"]:
            raise BundleError(f"{file}: files: expected {name}, found {', '.join(sorted(manifest['files']))}")
        if manifest["files"][name]["size"] > MAX_ARRAY_BYTES:
            raise BundleError(
                f"{file}: files: {name}: expected at most {MAX_ARRAY_BYTES} bytes, "
                f"found {manifest['files'][name]['size']}"
            )
    layers = manifest["exactness"].get("layers")
    proofs = list(layers.values()) if isinstance(layers, dict) else []
    bounds: list[Any] = [proof.get("bound") if isinstance(proof, dict) else None for proof in proofs]
    shifts: list[Any] = [proof.get("smallest_shift", 0) if isinstance(proof, dict) else None for proof in proofs]
    sound = all(_is_number(shift) and shift >= 0 for shift in shifts)
    if not bounds or not sound or not all(_is_number(bound) and 0 <= bound < EXACT_LIMIT for bound in bounds):
        raise BundleError(f"{file}: exactness: expected bounds below 2^24 of every layer, found {layers!r:.80}")
    if manifest["exactness"].get("limit") != EXACT_LIMIT:
        raise BundleError(
            f"{file}: exactness: limit: expected {EXACT_LIMIT}, found {manifest['exactness'].get('limit')!r:.80}"
        )


def _check_listed_numbers(file: Path, numbers: object) -> None:
    good = isinstance(numbers, dict) and 0 < len(numbers) <= _MOST_NUMBERS
    if not good or not all(map(_is_array, numbers, numbers.values())):  # type: ignore[attr-defined, call-overload]
        raise BundleError(f"{file}: numbers: expected dtype, shape and sha256 of each, found {numbers!r:.80}")


def _is_array(name: str, entry: object) -> bool:
    if not _KEY.fullmatch(name) or not isinstance(entry, dict) or set(entry) != _NUMBER_KEYS:
        return False
    dtype, shape, digest = entry["dtype"], entry["shape"], entry["sha256"]
    named = isinstance(dtype, str) and _KEY.fullmatch(dtype) and isinstance(digest, str) and _SHA256.fullmatch(digest)
    sizes = shape if isinstance(shape, list) and len(shape) <= 8 else [0]
    return bool(named) and all(type(size) is int and 0 < size < 2**31 for size in sizes)


def described_model(fields: Mapping[str, Any]) -> ModelConfig:
    """The manifest's model; BundleError unless every field has its type and the shape is a possible one."""
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        for key in ("variant", "aggregation", "objective"):
            if not isinstance(values.get(key, ""), str):
                raise TypeError(f"{key}: expected a name, found {values[key]!r:.80}")
        config = ModelConfig(**values)
        channels = (config.latent_channels, config.hyper_channels, config.context_width)
        counts = (*config.widths, *config.depths, config.expansion, *channels)
        if not all(type(count) is int and 0 < count <= _MOST_CHANNELS for count in counts):
            raise TypeError(f"expected whole numbers from 1 to {_MOST_CHANNELS}, found {counts!r:.200}")
        if not len(config.widths) == len(config.depths) == 3:
            raise TypeError(f"expected three widths and depths, found {config.widths!r:.80} and {config.depths!r:.80}")
        if config.groups[-1] <= 0:
            raise TypeError(f"latent_channels: expected room for {len(config.groups)} groups, found {channels[0]}")
        if config.preset not in (*PRESETS, "custom") or not isinstance(config.spatial_norm, bool):
            raise TypeError(f"expected a known preset and whether there is a norm, found {config.preset!r:.80}")
        lmbdas = config.lmbdas
        if not (isinstance(lmbdas, tuple) and 0 < len(lmbdas) <= _MOST_LEVELS and all(map(_is_weight, lmbdas))):
            raise TypeError(f"lmbdas: expected 1 to {_MOST_LEVELS} positive numbers, found {lmbdas!r:.80}")
    except (TypeError, InputError, OverflowError) as error:
        raise BundleError(f"{MANIFEST}: model: {error}") from error
    return config


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_listed(manifest: Mapping[str, Any], name: object) -> bool:
    return isinstance(name, str) and name in manifest["files"]


def _check_tensors(file: Path, where: str, tensors: object) -> None:
    """Inputs or outputs of a graph: a name, a dtype, and a shape of sizes and of names for dynamic dimensions."""
    good = isinstance(tensors, list) and 0 < len(tensors) <= 16
    for tensor in tensors if isinstance(tensors, list) and good else ():
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        good = good and isinstance(shape, list) and len(shape) <= 8 and tensor.get("dtype") == "float32"
        good = good and isinstance(tensor.get("name"), str) and _WORD.fullmatch(tensor["name"]) is not None
        for size in shape if good and shape else ():
            good = good and (isinstance(size, str) or (type(size) is int and 0 < size < 2**31))
    if not good:
        raise BundleError(f"{file}: {where}: expected a name, float32 and a shape of each, found {tensors!r:.80}")


def _check_float16(file: Path, manifest: Mapping[str, Any]) -> None:
    half = manifest["float16"]
    graphs = half.get("graphs") if isinstance(half, dict) else None
    if not isinstance(graphs, dict):
        raise BundleError(f"{file}: float16: expected graphs, found {half!r:.80}")
    for name, graph in graphs.items():
        if name not in FLOAT_GRAPHS and not (is_lighter(name) and name in manifest["graphs"]):
            raise BundleError(f"{file}: float16: graphs: expected {', '.join(FLOAT_GRAPHS)}, found {name!r:.80}")
        if not (isinstance(graph, dict) and _is_listed(manifest, graph.get("file"))):
            raise BundleError(f"{file}: float16: graphs: {name}: expected a listed file, found {graph!r:.80}")
        nodes = graph.get("float32_nodes")
        described = nodes.values() if isinstance(nodes, dict) else [None]
        if not all(isinstance(node, dict) and isinstance(node.get("reason"), str) for node in described):
            raise BundleError(
                f"{file}: float16: graphs: {name}: expected float32_nodes with a reason each, found {nodes!r:.80}"
            )
    _check_losses(file, half.get("gate"))


def _check_syntheses(file: Path, syntheses: object) -> None:
    """What is said of each g_s: it is printed."""
    for name, told in syntheses.items() if isinstance(syntheses, dict) else (("", None),):
        psnr = told.get("psnr") if isinstance(told, dict) else None
        good = isinstance(psnr, dict) and all(_WORD.fullmatch(key) and _is_number(value) for key, value in psnr.items())
        counts = [told.get(key) for key in ("kmac_per_pixel", "parameters")] if isinstance(told, dict) else [None]
        if not (good and _WORD.fullmatch(name) and all(map(_is_number, counts))):
            raise BundleError(
                f"{file}: syntheses: {name!r:.40}: expected psnr by quality, kmac_per_pixel and parameters, "
                f"found {told!r:.80}"
            )


def _check_losses(file: Path, gate: object) -> None:
    losses = gate.get("loss_db") if isinstance(gate, dict) else None
    rows = list(losses.values()) if isinstance(losses, dict) else []
    if not rows or not all(isinstance(row, dict) and row and all(map(_is_number, row.values())) for row in rows):
        raise BundleError(f"{file}: float16: gate: expected loss_db in dB by quality and graph, found {losses!r:.80}")


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """BundleError unless every file that the manifest lists is there with its size and SHA-256."""
    for name, entry in sorted(manifest["files"].items()):
        file = path / name
        try:
            with open_file(path, name) as opened:
                size = os.fstat(opened.fileno()).st_size
                if size != entry["size"]:
                    raise BundleError(f"{file}: expected {entry['size']} bytes, found {size}")
                digest = hashlib.sha256()
                while block := opened.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise BundleError(
                f"{file}: expected a file of {entry['size']} bytes, found none: {error.strerror}",
                hint="fetch or export the bundle again",
            ) from error
        _check_digest(file, entry, digest.hexdigest())


def file_entries(files: Mapping[str, bytes]) -> dict[str, dict[str, object]]:
    """What a manifest lists under ``files``, by name: the size in bytes and the SHA-256 of each."""
    return {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in sorted(files.items())
    }


def read_listed(path: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a file that the manifest lists; BundleError unless they, no earlier ones, have its hash."""
    file, entry = path / name, manifest["files"][name]
    try:
        data = read_file(path, name, limit=entry["size"])
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}", hint="fetch the bundle again") from error
    except MemoryError:
        raise OutOfMemoryError(f"{file}, {entry['size']} bytes") from None
    _check_digest(file, entry, hashlib.sha256(data).hexdigest())
    return data


def _check_digest(file: Path, entry: Mapping[str, Any], found: str) -> None:
    if found != entry["sha256"]:
        raise BundleError(f"{file}: expected SHA-256 {entry['sha256']}, found {found}", hint="export the bundle again")
