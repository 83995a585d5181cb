"""Which engines can run here, and how to open one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from s2c_deploy.errors import DependencyError, EngineError, InputError
from s2c_deploy.runtime.runner import Runner

#: Backend: (module, distributions that provide it, extra that installs it), fastest on a CPU first.
_MODULES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "openvino": ("openvino", ("openvino",), "openvino"),
    "onnxruntime": ("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "cpu"),
    "torch": ("torch", ("torch",), "export"),
    "tensorrt": ("tensorrt", ("tensorrt",), "tensorrt"),
}
BACKENDS = tuple(_MODULES)
#: Of a float graph's arithmetic; exact graphs know float32 only.
PRECISIONS = ("float32", "bfloat16")
#: No TensorRT runner yet: listed so that asking for it says so.
_RUNNABLE = ("openvino", "onnxruntime", "torch")


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """version: of the installed package, or None; usable: it can run graphs here; advice: what to do if not."""

    name: str
    version: str | None
    usable: bool
    advice: str


def backend_status(name: str) -> BackendStatus:
    """What is installed for one backend, without importing it."""
    module, distributions, extra = _MODULES[name]
    version = None
    if util.find_spec(module) is not None:
        versions = [v for d in distributions if (v := _version(d)) is not None]
        version = versions[0] if versions else "unknown"
    usable = version is not None and name in _RUNNABLE
    if name not in _RUNNABLE:
        advice = "this version of s2c-deploy has no TensorRT runner yet; use onnxruntime or openvino"
    else:
        advice = "" if usable else f"pip install 's2c-deploy[{extra}]'"
    return BackendStatus(name=name, version=version, usable=usable, advice=advice)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def choose_backend(name: str) -> str:
    """``auto`` to the fastest usable backend; any other name is checked.

    InputError for an unknown name, DependencyError when its package is missing, EngineError when this version
    cannot run it.
    """
    if name == "auto":
        for candidate in _RUNNABLE:
            if backend_status(candidate).usable:
                return candidate
        raise DependencyError("no engine (onnxruntime, openvino or torch)", extra="cpu")
    if name not in _MODULES:
        raise InputError(f"backend: expected auto, {', '.join(BACKENDS)}, found {name!r}")
    status = backend_status(name)
    if name not in _RUNNABLE:
        raise EngineError(f"backend {name} cannot run here", hint=status.advice)
    if not status.usable:
        raise DependencyError(_MODULES[name][0], extra=_MODULES[name][2])
    return name


def open_runner(
    graph: Path, *, backend: str, threads: int = 0, channels_last: bool = False, precision: str = "float32"
) -> Runner:
    """A runner of an .onnx file on one of the usable backends (``choose_backend``).

    threads: 0 lets the engine choose; channels_last: PyTorch's memory layout (other engines choose their own);
    precision: one of PRECISIONS.  EngineError when the engine cannot run the graph in that precision here.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected {' or '.join(PRECISIONS)}, found {precision!r}")
    if backend == "openvino":
        from s2c_deploy.runtime.openvino_runner import OpenVinoRunner

        return OpenVinoRunner(graph, threads=threads, precision=precision)
    if backend == "onnxruntime":
        from s2c_deploy.runtime.onnxruntime_runner import OnnxRuntimeRunner

        if precision != "float32":
            raise EngineError(f"ONNX Runtime has no {precision} on a CPU", hint="use openvino, or float32")
        return OnnxRuntimeRunner(graph, threads=threads)
    if backend == "torch":
        if util.find_spec("onnx") is None:
            raise DependencyError("onnx", extra="export")
        from s2c_deploy.runtime.torch_runner import TorchRunner

        return TorchRunner(graph, threads=threads, channels_last=channels_last, precision=precision)
    raise InputError(f"backend: expected {', '.join(_RUNNABLE)}, found {backend!r}")
