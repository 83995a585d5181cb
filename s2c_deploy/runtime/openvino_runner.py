"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import openvino as ov

from s2c_deploy.errors import EngineError
from s2c_deploy.runtime.runner import FloatArray, Runner, TensorSpec


class OpenVinoRunner(Runner):
    """Runs the .onnx file in float32 or bfloat16; threads: 0 lets the library choose."""

    backend = "openvino"

    def __init__(self, graph: Path, *, threads: int = 0, precision: str = "float32") -> None:
        # The CPU plugin's own default is bfloat16 where the processor has it, which would break the exact graphs.
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        # Bound to cores, as is its default, the threads of every process stand on the same ones, whatever else is idle.
        config: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            core = ov.Core()
            source = core.read_model(str(graph))
            self._model = core.compile_model(source, "CPU", config)
        except Exception as error:
            raise EngineError(f"OpenVINO cannot load {graph.name}: {error}") from error
        # A processor without bfloat16 gets float32 instead, and is not told.
        found = self._model.get_property("INFERENCE_PRECISION_HINT")
        if found != {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}[precision]:
            raise EngineError(
                f"OpenVINO: expected precision {precision}, found {found.get_type_name()} on this processor",
                hint="ask for the precision that it has",
            )
        self.precision = precision
        self.provider = f"openvino {ov.__version__.split('-')[0]} CPU"
        # Compiling merges tensors and with them their names; the order of inputs and outputs stays the file's.
        self.inputs = tuple(_spec(port) for port in source.inputs)
        self.outputs = tuple(_spec(port) for port in source.outputs)
        self._request = self._model.create_infer_request()

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        ordered = {i: inputs[spec.name] for i, spec in enumerate(self.inputs)}
        results = self._request.infer(ordered, share_inputs=True, share_outputs=False)
        return {spec.name: results[i] for i, spec in enumerate(self.outputs)}


def _spec(port: ov.Output) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return TensorSpec(name=port.get_any_name(), shape=shape)
