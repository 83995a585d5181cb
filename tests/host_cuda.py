"""CUDA's runtime and a TensorRT of one graph, both in host memory: what tests of a runner's bookkeeping need.

Not a GPU and no TensorRT: memory is the process's own, a stream runs what it is given at once, or records it, and an
execution context computes with ONNX Runtime.  Addresses, sizes and order are as real as on a device: a wrong one reads
wrong bytes, a freed one is refused, and a recording keeps the shapes and addresses that it was made with.
"""

# ruff: noqa: N802, N815
from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from s2c_deploy.runtime.profiles import Profile

ERRORS = {0: b"no error", 2: b"out of memory", 400: b"invalid resource handle", 900: b"operation not permitted"}


class HostCuda:
    """The calls of ``cuda.bindings.runtime`` that the package uses, with their signatures and results.

    room: bytes that can be had; calls: names of all calls so far; capturable: whether recording works.
    """

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, *, room: int = 1 << 30, capturable: bool = True) -> None:
        self.room, self.capturable = room, capturable
        self.memory: dict[int, Any] = {}
        self.recorded: list[Callable[[], None]] | None = None
        self.calls: list[str] = []
        self.streams = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cuda") and callable(value := object.__getattribute__(self, name)):
            self.calls.append(name)
            return value
        return object.__getattribute__(self, name)

    def enqueue(self, work: Callable[[], None]) -> None:
        if self.recorded is None:
            work()
        else:
            self.recorded.append(work)

    def place(self, address: int, size: int) -> Any:
        """Memory at an address; KeyError where none of that size is."""
        memory = self.memory[address]
        assert size <= ctypes.sizeof(memory)
        return memory

    def _allocate(self, size: int) -> tuple[int, int | None]:
        if size > self.room:
            return 2, None
        self.room -= size
        memory = (ctypes.c_char * size)()
        address = ctypes.addressof(memory)
        self.memory[address] = memory
        return 0, address

    def _free(self, address: int) -> tuple[int]:
        self.room += ctypes.sizeof(self.memory.pop(address))
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int | None]:
        return self._allocate(size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int | None]:
        return self._allocate(size)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return 0, self.room, 1 << 40

    def cudaFree(self, address: int) -> tuple[int]:
        return self._free(address)

    def cudaFreeHost(self, address: int) -> tuple[int]:
        return self._free(address)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self.streams += 1
        return 0, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.streams -= 1
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0 if self.recorded is None else 900,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        self.enqueue(lambda: ctypes.memmove(self.place(target, size), self.place(source, size), size) and None)
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recorded = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        recorded, self.recorded = self.recorded, None
        return 0, _Graph(recorded or [])

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        return (0, graph) if self.capturable else (900, None)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:
        for work in graph.work:
            work()
        return (0,)

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:
        graph.work = []
        return (0,)

    def cudaEventCreate(self) -> tuple[int, list[float]]:
        return 0, [0.0]

    def cudaEventRecord(self, event: list[float], stream: int) -> tuple[int]:
        self.enqueue(lambda: event.__setitem__(0, time.perf_counter()))
        return (0,)

    def cudaEventSynchronize(self, event: list[float]) -> tuple[int]:
        return (0,)

    def cudaEventElapsedTime(self, start: list[float], end: list[float]) -> tuple[int, float]:
        return 0, 1e3 * (end[0] - start[0])

    def cudaEventDestroy(self, event: list[float]) -> tuple[int]:
        return (0,)

    def cudaGetLastError(self) -> tuple[int]:
        return (0,)

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, ERRORS[status]


class _Graph:
    def __init__(self, work: list[Callable[[], None]]) -> None:
        self.work = work

    def __int__(self) -> int:
        return 1


class _Mode(IntEnum):
    INPUT = 1
    OUTPUT = 2


class Context:
    """An execution context of a graph: shapes and addresses are taken when a call is enqueued."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.shapes, self.addresses = engine, dict(engine.fixed), {}
        self.profile = 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        self.shapes = dict(self.engine.fixed)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shapes[name] = shape
        return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        zeros = {key: np.zeros(self.shapes[key], np.float32) for key in self.engine.inputs}
        return tuple(self.engine.compute(zeros)[name].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address != 0

    def execute_async_v3(self, stream: int) -> bool:
        shapes, addresses = dict(self.shapes), dict(self.addresses)

        def work() -> None:
            inputs = {name: self._array(addresses[name], shapes[name]) for name in self.engine.inputs}
            for name, result in self.engine.compute(inputs).items():
                self._array(addresses[name], result.shape, result.dtype)[...] = result

        self.engine.cuda.enqueue(work)
        return not self.engine.broken

    def _array(self, address: int, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
        count = int(np.prod(shape))
        memory = self.engine.cuda.place(address, count * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, count).reshape(shape)


class Engine:
    """An engine of an .onnx file with optimization profiles; broken: every call is refused."""

    def __init__(self, cuda: HostCuda, graph: Path, inputs: list[dict[str, Any]], profiles: list[Profile]) -> None:
        self.cuda, self.broken = cuda, False
        self._session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        self._shapes = [profile.shapes(inputs) for profile in profiles]
        self.inputs = [node.name for node in self._session.get_inputs()]
        self.outputs = [node.name for node in self._session.get_outputs()]
        nodes = (*self._session.get_inputs(), *self._session.get_outputs())
        self._types = {node.name: node.type.removeprefix("tensor(").rstrip(")") for node in nodes}
        self._dims = {node.name: tuple(d if isinstance(d, int) else -1 for d in node.shape) for node in nodes}
        self.fixed = {name: self._dims[name] for name in self.inputs if -1 not in self._dims[name]}
        self.num_io_tensors, self.num_optimization_profiles = len(nodes), len(profiles)

    def compute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.outputs, self._session.run(self.outputs, inputs), strict=True))

    def create_execution_context(self, config: Any = None) -> Context:
        self.config = config
        return Context(self)

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace()

    def get_tensor_name(self, number: int) -> str:
        return [*self.inputs, *self.outputs][number]

    def get_tensor_dtype(self, name: str) -> str:
        return self._types[name]

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if name in self.inputs else _Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._dims[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return list(self._shapes[profile][name])


class _Logger:
    ERROR, INTERNAL_ERROR = "error", "internal error"


def module_of(engine: Engine, **names: Any) -> Any:
    """A stand-in for the module ``tensorrt`` whose runtime deserializes any bytes to this engine; names: what else the
    module has."""
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: engine)
    return SimpleNamespace(
        ILogger=_Logger,
        Runtime=lambda log: runtime,
        DataType=SimpleNamespace(FLOAT="float", UINT8="uint8"),
        TensorIOMode=_Mode,
        **names,
    )
