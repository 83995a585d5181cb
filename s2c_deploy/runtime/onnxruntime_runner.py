"""ONNX Runtime, on one of its execution providers: the CPU's, CUDA's or TensorRT's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import DependencyError, EngineError
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.providers import BATCH, PROVIDERS, provider_options
from s2c_deploy.runtime.runner import Runner, TensorSpec, cannot_load
from s2c_deploy.runtime.silent import import_onnxruntime

ort = import_onnxruntime()

_RECORD = "session.record_ep_graph_assignment_info"


class OnnxRuntimeRunner(Runner):
    """Runs the graph as it is; threads: of the CPU, 0 lets the library choose."""

    precision = "float32"

    def __init__(self, graph: OnnxGraph, *, backend: str = "onnxruntime", threads: int = 0) -> None:
        self.backend = backend
        wanted = PROVIDERS[backend]
        if wanted[0] not in ort.get_available_providers():
            raise DependencyError(f"an ONNX Runtime with {wanted[0]}", extra="gpu")
        self._session = _session(graph, wanted, threads)
        self.provider = f"onnxruntime {ort.__version__} {_running(self._session, wanted[0])}"
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def batch(self, rows: int, columns: int) -> int:
        return 1 if self.backend == "onnxruntime" else BATCH

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


def _session(graph: OnnxGraph, wanted: tuple[str, ...], threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Every graph of a bundle is a session with threads of its own, which would spin on after a run, in the way of
    # the next graph's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(_RECORD, "1")
    # A g_s of bytes is computed in float32: the library's own kernels for them are slower, and some add pairs of
    # products in 16 bits.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        inputs = []
        if wanted[0] == "TensorrtExecutionProvider":
            reader = ort.InferenceSession(graph.data, options, providers=["CPUExecutionProvider"])
            inputs = [{"name": node.name, "shape": node.shape} for node in reader.get_inputs()]
        chosen = [(name, provider_options(name, inputs)) for name in wanted]
        session = ort.InferenceSession(graph.data, options, providers=chosen)
    except Exception as error:
        raise cannot_load(graph.name, "ONNX Runtime", error) from error
    # A session that fails while it runs would open another one on the CPU.
    session.disable_fallback()
    return session


def _running(session: Any, wanted: str) -> str:
    """The provider that got the graph, with the number of nodes that others got, as far as the library tells.

    The library falls back from one provider to another without a word.
    """
    providers = session.get_providers()
    if providers[0] != wanted:
        raise EngineError(
            f"ONNX Runtime: expected {wanted}, found {', '.join(providers)}",
            hint="its own libraries (CUDA, cuDNN, TensorRT) of the right versions must be in LD_LIBRARY_PATH",
        )
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return wanted
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    others = sum(nodes.values()) - nodes[wanted]
    if others and not nodes[wanted]:
        raise EngineError(f"ONNX Runtime: expected {wanted}, found every node on {', '.join(nodes)}")
    return f"{wanted}, but {others} nodes" if others else wanted


def _spec(node: Any) -> TensorSpec:
    return TensorSpec(name=node.name, shape=tuple(d if isinstance(d, int) else None for d in node.shape))
