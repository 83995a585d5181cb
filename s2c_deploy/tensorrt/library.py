"""TensorRT and TensorRT-RTX as installed, and what each of them can do: asked of the module, never of its version."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata, util
from typing import Any

from s2c_deploy.contract import ENGINE_TARGETS
from s2c_deploy.errors import DependencyError, EngineError, InputError

#: Target: (module, extra that installs it, its name in engine files).
_TARGETS = dict(zip(ENGINE_TARGETS, (("tensorrt", "tensorrt", "trt"), ("tensorrt_rtx", "rtx", "rtx")), strict=True))
TARGETS = ENGINE_TARGETS


@dataclass(frozen=True, kw_only=True)
class Library:
    """One of the two libraries, and its features."""

    target: str
    module: Any
    version: str
    #: Its name in engine files.
    tag: str
    #: Precision comes from the graph's types (10 and later), else from flags, layer by layer.
    strongly_typed: bool
    #: Those that it builds for without such a GPU, as "8.6"; none: for the GPU at hand only.
    compute_capabilities: tuple[str, ...]
    #: It reports the phases of a build.
    progress: bool
    #: Tactics are timed, and timings can be kept.
    timing_cache: bool
    #: Levels beside "none".
    hardware_compatibility: tuple[str, ...]


def load_library(target: str) -> Library:
    """Imports the library of a target.

    InputError for an unknown target, DependencyError where it is not installed, EngineError where importing fails.
    """
    if target not in _TARGETS:
        raise InputError(f"target: expected {', '.join(TARGETS)}, found {target!r}")
    name, extra, tag = _TARGETS[target]
    if util.find_spec(name) is None:
        raise DependencyError(name, extra=extra)
    try:
        module = import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"{name} is installed but cannot be imported: {error}") from error
    return features_of(module, target=target, tag=tag)


def installed_targets() -> list[str]:
    """Targets whose module can be found, without importing it."""
    return [target for target, (name, _, _) in _TARGETS.items() if util.find_spec(name) is not None]


def installed_version(target: str) -> str | None:
    """Version of a target's package without importing it, "unknown" where it has another name; None without one."""
    if target not in installed_targets():
        return None
    try:
        return metadata.version(target)
    except metadata.PackageNotFoundError:
        return "unknown"


def features_of(module: Any, *, target: str, tag: str) -> Library:
    """What a module offers, by its names alone: it works on 8.6, 10, 11 and RTX, and starts nothing."""
    config = module.IBuilderConfig
    ahead_of_time = hasattr(config, "num_compute_capabilities") and hasattr(module, "ComputeCapability")
    levels = getattr(module, "HardwareCompatibilityLevel", None)
    return Library(
        target=target,
        module=module,
        version=str(module.__version__),
        tag=tag,
        strongly_typed=hasattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
        compute_capabilities=_capabilities(module) if ahead_of_time else (),
        progress=hasattr(module, "IProgressMonitor") and hasattr(config, "progress_monitor"),
        # Where engines are built without the GPU there is nothing to time: the calls are there and do nothing.
        timing_cache=hasattr(config, "create_timing_cache") and not ahead_of_time,
        hardware_compatibility=()
        if levels is None or ahead_of_time
        else tuple(name.lower() for name in levels.__members__ if name != "NONE"),
    )


def _capabilities(module: Any) -> tuple[str, ...]:
    names = [name[2:] for name in module.ComputeCapability.__members__ if name.startswith("SM")]
    return tuple(f"{digits[:-1]}.{digits[-1]}" for digits in names)


@contextmanager
def quiet() -> Iterator[None]:
    """Deprecations of calls that older libraries still need are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
