"""Which engines can run here, and how to open one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from s2c_deploy.errors import DependencyError, EngineError, InputError
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.host import this_host
from s2c_deploy.runtime.runner import Runner


@dataclass(frozen=True, kw_only=True)
class _Backend:
    """What a backend needs to run."""

    #: All that it imports.
    modules: tuple[str, ...]
    #: Those that provide the first of the modules.
    distributions: tuple[str, ...]
    #: The extra of this package that installs it.
    extra: str
    #: It runs on a GPU.
    gpu: bool = False
    #: It runs built engines, rather than .onnx files.
    engines: bool = False


_CUDA = "cuda.bindings"
#: Those that ``auto`` chooses from first, fastest on a CPU first.
_BACKENDS = {
    "openvino": _Backend(modules=("openvino",), distributions=("openvino",), extra="openvino"),
    "onnxruntime": _Backend(modules=("onnxruntime",), distributions=("onnxruntime", "onnxruntime-gpu"), extra="cpu"),
    "torch": _Backend(modules=("torch",), distributions=("torch",), extra="export"),
    "tensorrt": _Backend(
        modules=("tensorrt", _CUDA), distributions=("tensorrt",), extra="tensorrt", gpu=True, engines=True
    ),
    "tensorrt-rtx": _Backend(
        modules=("tensorrt_rtx", _CUDA), distributions=("tensorrt-rtx",), extra="rtx", gpu=True, engines=True
    ),
    "onnxruntime-cuda": _Backend(modules=("onnxruntime",), distributions=("onnxruntime-gpu",), extra="gpu", gpu=True),
    "onnxruntime-tensorrt": _Backend(
        modules=("onnxruntime",), distributions=("onnxruntime-gpu",), extra="gpu", gpu=True
    ),
}
BACKENDS = tuple(_BACKENDS)
#: Backends that run built engines (docs/engines.md), in the order that ``auto`` prefers them.
ENGINE_BACKENDS = tuple(name for name, backend in _BACKENDS.items() if backend.engines)
GPU_BACKENDS = tuple(name for name, backend in _BACKENDS.items() if backend.gpu)
#: Of a float graph's arithmetic; exact graphs know float32 only.  auto: float32, or what an engine was built in.
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_NO_GPU = "it needs an NVIDIA GPU, and the CUDA driver shows none; use onnxruntime or openvino"


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """Whether a backend can run here."""

    name: str
    #: Of the installed package, or None.
    version: str | None
    #: It can run graphs here.
    usable: bool
    #: What to do if not.
    advice: str


def backend_status(name: str) -> BackendStatus:
    """What is installed for one backend, without importing it, and whether a GPU is there where it needs one."""
    backend = _BACKENDS[name]
    version, missing = None, _missing(backend)
    if backend.modules[0] not in missing:
        versions = [v for d in backend.distributions if (v := installed_version(d)) is not None]
        version = versions[0] if versions else "unknown"
    if missing:
        advice = f"pip install 's2c-deploy[{backend.extra}]'"
    else:
        advice = _NO_GPU if backend.gpu and this_host().compute_capability is None else ""
    return BackendStatus(name=name, version=version, usable=not advice, advice=advice)


def _missing(backend: _Backend) -> list[str]:
    """Modules that cannot be found.  Two distributions share the module onnxruntime: only one of them knows GPUs."""
    missing = [module for module in backend.modules if not _found(module)]
    if not missing and backend.gpu and not backend.engines and installed_version(backend.distributions[0]) is None:
        missing = list(backend.modules)
    return missing


def _found(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def installed_version(distribution: str) -> str | None:
    """Of a package as pip names it; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def choose_backend(name: str) -> str:
    """``auto`` to the fastest usable backend that runs any bundle's .onnx files on the CPU; any other name is checked.

    InputError for an unknown name, DependencyError when its package is missing, EngineError when it needs a GPU and
    there is none.
    """
    if name == "auto":
        for candidate, backend in _BACKENDS.items():
            if not backend.gpu and backend_status(candidate).usable:
                return candidate
        raise DependencyError("no engine (onnxruntime, openvino or torch)", extra="cpu")
    if name not in _BACKENDS:
        raise InputError(f"backend: expected auto, {', '.join(BACKENDS)}, found {name!r}")
    backend = _BACKENDS[name]
    if missing := _missing(backend):
        # What pip calls them.
        package = "onnxruntime-gpu" if backend.extra == "gpu" else missing[0].replace(".", "-")
        raise DependencyError(package, extra=backend.extra)
    status = backend_status(name)
    if not status.usable:
        raise EngineError(f"backend {name} cannot run here", hint=status.advice)
    return name


def open_runner(
    graph: OnnxGraph | Path,
    *,
    backend: str,
    threads: int = 0,
    channels_last: bool = False,
    precision: str = "auto",
    int8: bool = False,
) -> Runner:
    """A runner of a graph on one of the usable backends (``choose_backend``) that run .onnx files.

    graph: in memory, as ``Bundle.read_graph`` gives it, or a file of the user's own, which is trusted as it is;
    threads: 0 lets the engine choose; channels_last: PyTorch's memory layout (other engines choose their own);
    precision: one of PRECISIONS; int8: an exact graph's convolutions on OpenVINO's INT8 kernels.  EngineError when the
    engine cannot run the graph in that precision here.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected {' or '.join(PRECISIONS)}, found {precision!r}")
    if backend not in BACKENDS or backend in ENGINE_BACKENDS:
        files = [name for name in BACKENDS if name not in ENGINE_BACKENDS]
        raise InputError(f"backend: expected {', '.join(files)}, found {backend!r}")
    precision = "float32" if precision == "auto" else precision
    if precision == "float16":
        raise EngineError(f"{backend} runs no FP16 graphs", hint="FP16 is what TensorRT engines are built in")
    graph = OnnxGraph.read(graph) if isinstance(graph, Path) else graph
    if backend == "openvino":
        from s2c_deploy.runtime.openvino_runner import OpenVinoRunner

        return OpenVinoRunner(graph, threads=threads, precision=precision, int8=int8)
    if int8:
        raise EngineError(f"{backend} has no INT8 kernels for exact graphs", hint="use openvino, or float32")
    if backend == "torch":
        if util.find_spec("onnx") is None:
            raise DependencyError("onnx", extra="export")
        from s2c_deploy.runtime.torch_runner import TorchRunner

        return TorchRunner(graph, threads=threads, channels_last=channels_last, precision=precision)
    from s2c_deploy.runtime.onnxruntime_runner import OnnxRuntimeRunner

    if precision != "float32":
        raise EngineError(f"ONNX Runtime has no {precision} on a CPU", hint="use openvino, or float32")
    return OnnxRuntimeRunner(graph, backend=backend, threads=threads)
