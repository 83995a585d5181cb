"""OpenVINO on the CPU."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.forks import GATE
from s2c_deploy.runtime.openvino_int8 import multiply_bytes_in_place
from s2c_deploy.runtime.openvino_norms import normalise_in_place
from s2c_deploy.runtime.openvino_planes import convolve_whole_in_place
from s2c_deploy.runtime.runner import Runner, TensorSpec, cannot_load
from s2c_deploy.runtime.silent import import_openvino

ov = import_openvino()

#: Kernels that the plugin keeps by shape, a graph: unbounded they are 4 MB for every new size of picture.
_KEPT_SHAPES = "8"
_starting = threading.Lock()
#: By process: a forked one has none of the threads of its parent's.
_cores: dict[int, Any] = {}


def _core() -> Any:
    """The library, started once a process and never ended.

    It gives the thread that starts it a stack for signals, and takes the memory away where another one ends it, or
    several end in another order than they began: the next Ctrl-C would then be a segmentation fault.
    """
    with _starting:
        if os.getpid() not in _cores:
            _cores[os.getpid()] = ov.Core()
        return _cores[os.getpid()]


class OpenVinoRunner(Runner):
    """Runs the graph in float32 or bfloat16; threads: 0 lets the library choose.

    int8: of an exact graph, with convolutions on INT8 kernels; EngineError where an operand is larger than a byte.
    Threads that call at once get an infer request each; requests are kept for the next calls.
    """

    backend = "openvino"

    def __init__(self, graph: OnnxGraph, *, threads: int = 0, precision: str = "float32", int8: bool = False) -> None:
        # The CPU plugin's own default is bfloat16 where the processor has it, which would break the exact graphs.
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        # Bound to cores, as is its default, the threads of every process stand on the same ones, whatever else is idle.
        self._config: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_SHAPES,
        }
        if threads:
            self._config["INFERENCE_NUM_THREADS"] = threads
        self._graph, self._int8 = graph, int8
        self._compiling = threading.Lock()
        self._compiled: _Compiled | None = self._compile()
        # A processor without bfloat16 gets float32 instead, and is not told.
        found = self._compiled.model.get_property("INFERENCE_PRECISION_HINT")
        if found != {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}[precision]:
            raise EngineError(
                f"OpenVINO: expected precision {precision}, found {found.get_type_name()} on this processor",
                hint="ask for the precision that it has",
            )
        self.precision = precision
        self.provider = f"openvino {ov.__version__.split('-')[0]} CPU" + ", INT8" * int8
        self.inputs, self.outputs = self._compiled.inputs, self._compiled.outputs

    def _compile(self) -> _Compiled:
        try:
            with GATE.inside():  # a process that is forked meanwhile gets a library that crashes
                core = _core()
                source = core.read_model(self._graph.data, b"")
                normalise_in_place(source)
                convolve_whole_in_place(source)
                if self._int8:
                    multiply_bytes_in_place(source)
                model = core.compile_model(source, "CPU", self._config)
        except Exception as error:
            raise cannot_load(self._graph.name, "OpenVINO", error) from error
        # Compiling merges tensors and with them their names; the order of inputs and outputs stays the file's.
        return _Compiled(
            model=model,
            inputs=tuple(_spec(port) for port in source.inputs),
            outputs=tuple(_spec(port) for port in source.outputs),
            idle=deque(),
        )

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        with self._compiling:
            if self._compiled is None:
                self._compiled = self._compile()
            compiled = self._compiled
        ordered = {i: inputs[spec.name] for i, spec in enumerate(self.inputs)}
        try:
            with GATE.inside():
                request = _idle_request(compiled)
                results = request.infer(ordered, share_inputs=True, share_outputs=False)
        except BaseException:
            # A model of which one call failed, for want of memory say, may fail every later one: they get another.
            with self._compiling:
                if self._compiled is compiled:
                    self._compiled = None
            raise
        named = {spec.name: results[i] for i, spec in enumerate(self.outputs)}
        compiled.idle.append(request)
        return named


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    """A compiled model."""

    model: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    #: Its requests that no thread is using; any may take one from here, and puts it back.
    idle: deque[Any]


def _idle_request(compiled: _Compiled) -> Any:
    """One that no other thread is using."""
    try:
        return compiled.idle.pop()
    except IndexError:  # all are in use
        return compiled.model.create_infer_request()


def _spec(port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return TensorSpec(name=port.get_any_name(), shape=shape)
