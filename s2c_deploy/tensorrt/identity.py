"""What an engine is: written beside it as JSON, and kept, out of others' reach, by the user who built it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2c_deploy.errors import TamperedEngineError
from s2c_deploy.inside import read_file

SCHEMA = 1
MAX_SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One engine: what it was built from, with what, and for what."""

    #: Its name, for people.
    bundle: str
    #: Of the bundle.
    fingerprint: str
    graph: str
    #: Of the .onnx file.
    graph_sha256: str
    #: The library.
    target: str
    library_version: str
    #: What it was built for, as is ``os``.
    compute_capability: str
    os: str
    #: Of the machine that built it; None where it had none.
    gpu: str | None
    #: Of that machine; None where it had none.
    driver: str | None
    #: float32 or float16.
    precision: str
    #: "MIN_OPT_MAX" each, in the engine's order.
    profiles: tuple[str, ...]
    flags: tuple[str, ...]
    hardware_compatibility: str
    #: Of the engine's bytes.
    sha256: str
    #: Of the engine, in bytes.
    size: int

    def to_json(self) -> str:
        fields = dataclasses.asdict(self)
        return json.dumps({"schema": SCHEMA, **fields}, indent=1) + "\n"


def read_identity(folder: Path, *parts: str) -> Identity:
    """The identity in a sidecar below a bundle, or in the user's records; no link is followed below ``folder``.

    TamperedEngineError for anything else.
    """
    path = folder.joinpath(*parts)
    try:
        return _parsed(json.loads(read_file(folder, *parts, limit=MAX_SIDECAR_BYTES)))
    except (OSError, ValueError, RecursionError) as error:
        raise TamperedEngineError(
            f"{path}: expected the identity of an engine: {error}", hint="build the engine again"
        ) from error


def _parsed(data: Any) -> Identity:
    if not isinstance(data, dict):
        raise ValueError(f"found {type(data).__name__}, no object")
    if data.get("schema") != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, found {data.get('schema')!r:.40}")
    return Identity(**{field.name: _field(data, field.name) for field in dataclasses.fields(Identity)})


def _field(data: Mapping[str, Any], name: str) -> Any:
    if name not in data:
        raise ValueError(f"{name}: found none")
    value = data[name]
    if name in ("profiles", "flags"):
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if isinstance(value, list) else value
    elif name == "size":
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    elif name in ("sha256", "graph_sha256", "fingerprint"):
        good = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
    else:
        good = isinstance(value, str) or (value is None and name in ("gpu", "driver"))
    if name == "compute_capability":
        good = isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", value) is not None
    if not good:
        raise ValueError(f"{name}: found {value!r:.60}")
    return value
