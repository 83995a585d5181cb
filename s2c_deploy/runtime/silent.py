"""Engines' libraries without the telemetry that importing them starts: nothing of ours contacts anybody."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_SWITCH = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """ONNX Runtime, which from 1.30 on keeps an id of the machine in the user's cache folder and sends events from a
    thread of its own (which a forked process then waits for when it ends).  A setting of the user's own counts."""
    with _variable(_SWITCH, "1"):
        library = import_module("onnxruntime")
    if os.environ.get(_SWITCH, "1") != "0" and hasattr(library, "disable_telemetry_events"):
        library.disable_telemetry_events()  # where something else has imported it before
    return library


def import_openvino() -> Any:
    """OpenVINO, which sends an event to its maker's analytics through a package that it can do without."""
    name = "openvino_telemetry"
    if "openvino" in sys.modules or name in sys.modules:
        return import_module("openvino")
    sys.modules[name] = None  # type: ignore[assignment]  # what Python takes for a module that cannot be imported
    try:
        return import_module("openvino")
    finally:
        del sys.modules[name]


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for as long as the block lasts, where it has none."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
