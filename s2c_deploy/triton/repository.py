"""A model repository for the Triton Inference Server: s2c_compress and s2c_decompress, on the Python backend.

    DIR/s2c_compress/config.pbtxt  1/model.py  1/bundle/
    DIR/s2c_decompress/config.pbtxt  1/model.py  1/bundle/

Each model's folder holds all it needs, as Triton fetches models one by one from some kinds of storage.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from s2c_deploy.contract import MAX_TILE_PIXELS
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import round_quality
from s2c_deploy.formats.bundle import Bundle, copy_files
from s2c_deploy.formats.manifest import MAX_FILE_BYTES
from s2c_deploy.inside import names_in, read_file, write_file
from s2c_deploy.runtime import BACKENDS
from s2c_deploy.tensorrt.library import TARGETS

#: Model: (direction, inputs, outputs), tensors as (name, type, dimensions, optional).
_MODELS: dict[str, tuple[str, list[tuple[str, str, str, bool]], list[tuple[str, str, str, bool]]]] = {
    "s2c_compress": (
        "compress",
        [
            ("image", "TYPE_UINT8", "-1, -1, 3", True),
            ("file", "TYPE_STRING", "1", True),
            ("quality", "TYPE_FP32", "1", True),
        ],
        [("stream", "TYPE_STRING", "1", False)],
    ),
    "s2c_decompress": (
        "decompress",
        [("stream", "TYPE_STRING", "1", False)],
        [
            ("image", "TYPE_UINT8", "-1, -1, 3", False),
            ("icc", "TYPE_STRING", "1", False),
            ("exif", "TYPE_STRING", "1", False),
        ],
    ),
}
MODELS = tuple(_MODELS)


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """How the models run.  InputError for values that cannot be."""

    #: As ``Codec.open`` takes it.
    backend: str = "auto"
    #: Processes per model, each with a codec of its own.
    instances: int = 1
    #: Of each; 0 lets the engine choose.
    threads: int = 0
    #: Where a request names none.
    quality: float = 4
    #: Larger pictures are errors.
    max_pixels: int = MAX_TILE_PIXELS
    #: The bundle into each model; else its absolute path is written down.
    copy: bool = True

    def __post_init__(self) -> None:
        if self.backend not in ("auto", *BACKENDS):
            raise InputError(f"backend: expected auto, {', '.join(BACKENDS)}, found {self.backend!r}")
        for name, value, low in (
            ("instances", self.instances, 1),
            ("threads", self.threads, 0),
            ("max_pixels", self.max_pixels, 1),
        ):
            if value < low:
                raise InputError(f"{name}: expected {low} or more, found {value}")
        round_quality(self.quality)


def write_repository(bundle: Bundle, folder: Path, options: TritonOptions | None = None) -> list[Path]:
    """Writes both models into a model repository, beside those that are there; returns their folders.

    InputError where one of that name exists or nothing can be written; nothing half-written stays.
    """
    options = options if options is not None else TritonOptions()
    targets = check_free(folder)
    # Hidden until it is whole: Triton, polling the folder, must not see half a model.
    whole = folder.absolute()
    part = whole.with_name(f".{whole.name}.{secrets.token_hex(6)}.part")
    try:
        part.mkdir(parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        for target in targets:
            _write_model(bundle, part / target.name, options)
        for target in targets:
            (part / target.name).rename(target)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}", hint="choose another place") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return targets


def check_free(folder: Path) -> list[Path]:
    """The folders that ``write_repository`` will make; InputError if one is there."""
    targets = [folder / name for name in MODELS]
    # A link that leads nowhere is no free name either.
    if there := [str(target) for target in targets if os.path.lexists(target)]:
        raise InputError(f"{' and '.join(there)} exist", hint="delete them, or name another folder")
    return targets


def _write_model(bundle: Bundle, folder: Path, options: TritonOptions) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("model.py"), folder / "1" / "model.py")
    place = str(bundle.path.resolve())
    if options.copy:
        place = "bundle"
        _copy_bundle(bundle, folder / "1" / place)
    (folder / "config.pbtxt").write_text(config_text(folder.name, bundle, options, place))


def _copy_bundle(bundle: Bundle, target: Path) -> None:
    """The files that the manifest lists, and engines: whether those may be loaded is decided where they will run."""
    copy_files(bundle.path, bundle.manifest, target)
    for library in TARGETS:
        for graph in bundle.manifest["graphs"]:
            for name, mode in names_in(bundle.path, library, graph):
                if stat.S_ISREG(mode):  # a link may lead to a file that nobody meant to publish
                    data = read_file(bundle.path, library, graph, name, limit=MAX_FILE_BYTES)
                    write_file(target, library, graph, name, data=data)


def config_text(name: str, bundle: Bundle, options: TritonOptions, place: str) -> str:
    """config.pbtxt of a model.  place: of the bundle, absolute or beside model.py."""
    direction, inputs, outputs = _MODELS[name]
    parameters = {
        "direction": direction,
        "bundle": place,
        "fingerprint": bundle.fingerprint.hex(),
        "backend": options.backend,
        "threads": options.threads,
        "quality": options.quality,
        "max_pixels": options.max_pixels,
    }
    lines = [
        f"# {bundle.config.name}; written by s2c-deploy triton.",
        f'name: "{name}"',
        'backend: "python"',
        "# Pictures differ in size, so a request is one picture: instances, not batches, fill a machine.",
        "max_batch_size: 0",
        *(f"input [ {_tensor(*tensor)} ]" for tensor in inputs),
        *(f"output [ {_tensor(*tensor)} ]" for tensor in outputs),
        "# KIND_CPU is where tensors come in; a backend that needs a GPU finds it by itself.",
        f"instance_group [ {{ count: {options.instances} kind: KIND_CPU }} ]",
        *(_parameter(key, str(value)) for key, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def _tensor(name: str, kind: str, dimensions: str, optional: bool) -> str:
    end = " optional: true" if optional else ""
    return f'{{ name: "{name}" data_type: {kind} dims: [ {dimensions} ]{end} }}'


def _parameter(key: str, value: str) -> str:
    # Bytes of a text proto's string: what is no printable ASCII is written in octal digits.
    data = os.fsencode(value)
    escaped = "".join(chr(b) if 32 <= b < 127 and b not in b'\\"' else f"\\{b:03o}" for b in data)
    return f'parameters {{ key: "{key}" value: {{ string_value: "{escaped}" }} }}'
