"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from s2c_deploy.errors import EngineError
from s2c_deploy.runtime.runner import FloatArray, Runner, TensorSpec

_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeRunner(Runner):
    """Runs the .onnx file as it is; threads: 0 lets the library choose."""

    backend = "onnxruntime"
    precision = "float32"

    def __init__(self, graph: Path, *, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Every graph of a bundle is a session with threads of its own, which would spin on after a run, in the way of
        # the next graph's: decoding took 2.7 times as long on two cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(str(graph), options, providers=[_PROVIDER])
        except Exception as error:
            raise EngineError(f"ONNX Runtime cannot load {graph.name}: {error}") from error
        # The library falls back from one provider to another without a word.
        providers = self._session.get_providers()
        if providers[0] != _PROVIDER:
            raise EngineError(f"ONNX Runtime: expected {_PROVIDER}, found {', '.join(providers)}")
        self.provider = f"onnxruntime {ort.__version__} {providers[0]}"
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


def _spec(node: ort.NodeArg) -> TensorSpec:
    return TensorSpec(name=node.name, shape=tuple(d if isinstance(d, int) else None for d in node.shape))
