"""Memory, streams and graphs of CUDA's runtime, through cuda-python: as few calls as a runner needs.

A call that fails is an EngineError with the call's name and CUDA's own message.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.errors import DependencyError, EngineError


def load_cuda() -> ModuleType:
    """``cuda.bindings.runtime``; DependencyError where it is missing, EngineError where it cannot be imported."""
    try:
        return import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise DependencyError("cuda-bindings", extra="tensorrt") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"cuda-bindings is installed but cannot be imported: {error}") from error


def call(runtime: ModuleType, name: str, *arguments: Any) -> Any:
    """One call of the runtime: what it returns beside its status, or EngineError."""
    status, *results = getattr(runtime, name)(*arguments)
    if int(status) != 0:
        _, text = runtime.cudaGetErrorString(status)
        message = text.decode(errors="replace") if isinstance(text, bytes) else str(status)
        raise EngineError(f"{name}: {message}", hint="is there a GPU and a driver new enough? s2c-deploy doctor")
    return results[0] if len(results) == 1 else results or None


def used_memory(runtime: ModuleType) -> int:
    """Bytes of the device that are taken, by whomever."""
    free, total = call(runtime, "cudaMemGetInfo")
    return int(total) - int(free)


def _freeing(runtime: ModuleType, pairs: Sequence[tuple[str, Any]]) -> Callable[[], None]:
    """Gives back what the calls got, in order; a failure to free is nobody's business any more."""

    def free() -> None:
        for name, handle in pairs:
            getattr(runtime, name)(handle)

    return free


class Buffer:
    """One tensor's memory twice: on the device, and pinned on the host.  Grows, never shrinks."""

    def __init__(self, runtime: ModuleType, dtype: npt.DTypeLike = np.float32) -> None:
        self._runtime, self.dtype = runtime, np.dtype(dtype)
        self._count = 0
        self._close: Callable[[], object] = lambda: None
        self.device = self._host = 0

    def reserve(self, count: int) -> None:
        """Room for ``count`` values; addresses and contents are new where it had less."""
        if count <= self._count:
            return
        self.close()
        size = count * self.dtype.itemsize
        device = call(self._runtime, "cudaMalloc", size)
        try:
            host = call(self._runtime, "cudaHostAlloc", size, 0)
        except EngineError:
            self._runtime.cudaFree(device)
            raise
        self.device, self._host, self._count = int(device), int(host), count
        self._close = weakref.finalize(self, _freeing(self._runtime, [("cudaFree", device), ("cudaFreeHost", host)]))

    def view(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The pinned memory's first values as an array; valid until the buffer grows or closes."""
        count = int(np.prod(shape, dtype=np.int64))
        memory = (ctypes.c_char * (count * self.dtype.itemsize)).from_address(self._host)
        return np.frombuffer(memoryview(memory), self.dtype).reshape(shape)

    def close(self) -> None:
        self._close()
        self._count = self.device = self._host = 0


class Stream:
    """A stream of its own, on which copies, kernels and recorded graphs run in order."""

    def __init__(self, runtime: ModuleType) -> None:
        self._runtime = runtime
        handle = call(runtime, "cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self.handle = int(handle)
        self._close = weakref.finalize(self, _freeing(runtime, [("cudaStreamDestroy", handle)]))

    def copy_in(self, buffer: Buffer, count: int) -> None:
        """Host to device, ``count`` values."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(buffer.device, buffer._host, count * buffer.dtype.itemsize, kind)

    def copy_out(self, buffer: Buffer, count: int) -> None:
        """Device to host, ``count`` values."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(buffer._host, buffer.device, count * buffer.dtype.itemsize, kind)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        call(self._runtime, "cudaMemcpyAsync", target, source, size, kind, self.handle)

    def synchronize(self) -> None:
        call(self._runtime, "cudaStreamSynchronize", self.handle)

    @contextmanager
    def recording(self) -> Iterator[list[Recording]]:
        """What is enqueued inside is not run but recorded; the list then holds the recording."""
        made: list[Recording] = []
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(self._runtime, "cudaStreamBeginCapture", self.handle, mode)
        try:
            yield made
        except BaseException:
            # Ends the capture, which has failed with what failed inside.
            _, graph = self._runtime.cudaStreamEndCapture(self.handle)
            if graph is not None and int(graph) != 0:
                self._runtime.cudaGraphDestroy(graph)
            # The failure is on record as the runtime's last error, too: the next call must not find it.
            self._runtime.cudaGetLastError()
            raise
        graph = call(self._runtime, "cudaStreamEndCapture", self.handle)
        try:
            made.append(Recording(self._runtime, call(self._runtime, "cudaGraphInstantiate", graph, 0)))
        finally:
            self._runtime.cudaGraphDestroy(graph)

    def close(self) -> None:
        self._close()


class DeviceArray:
    """An output that stays on the device, where the next graph reads it; ``np.asarray`` brings it to the host.

    It is of one call: current says whether its runner has not been called since, and if it has, EngineError.
    """

    def __init__(self, buffer: Buffer, stream: Stream, shape: tuple[int, ...], current: Callable[[], bool]) -> None:
        self.shape, self.dtype = shape, buffer.dtype
        self._buffer, self._stream, self._current = buffer, stream, current

    @property
    def address(self) -> int:
        self._check()
        return self._buffer.device

    def _check(self) -> None:
        if not self._current():
            raise EngineError("an output that was left on the device is of an earlier call: it is there no more")

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        self._check()
        self._stream.copy_out(self._buffer, int(np.prod(self.shape, dtype=np.int64)))
        self._stream.synchronize()
        return self._buffer.view(self.shape).astype(dtype or self.dtype)


class Stopwatch:
    """The time between two points of a stream, as the device sees it."""

    def __init__(self, runtime: ModuleType, stream: Stream) -> None:
        self._runtime, self._stream = runtime, stream
        events = [call(runtime, "cudaEventCreate") for _ in range(2)]
        self._start, self._end = events
        self._close = weakref.finalize(self, _freeing(runtime, [("cudaEventDestroy", event) for event in events]))

    def start(self) -> None:
        call(self._runtime, "cudaEventRecord", self._start, self._stream.handle)

    def stop(self) -> float:
        """Milliseconds since ``start``, once the device is through with what was enqueued between."""
        call(self._runtime, "cudaEventRecord", self._end, self._stream.handle)
        call(self._runtime, "cudaEventSynchronize", self._end)
        return float(call(self._runtime, "cudaEventElapsedTime", self._start, self._end))

    def close(self) -> None:
        self._close()


class Recording:
    """A CUDA graph: what was enqueued once, with its addresses and shapes, to be run again by a single call."""

    def __init__(self, runtime: ModuleType, executable: Any) -> None:
        self._runtime, self._executable = runtime, executable
        self._close = weakref.finalize(self, _freeing(runtime, [("cudaGraphExecDestroy", executable)]))

    def launch(self, stream: Stream) -> None:
        call(self._runtime, "cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        self._close()
