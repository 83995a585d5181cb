"""What every engine looks like from outside."""

from __future__ import annotations

import ctypes
import os
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import EngineError, OutOfMemoryError, S2CError
from s2c_deploy.lifetime import NotCopied

if TYPE_CHECKING:
    from typing_extensions import Self

#: An output of g_s where its graph rounds by itself: uint8, batch x H x W x 3.
PIXELS = "pixels"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    #: With None where a dimension is dynamic.
    shape: tuple[int | None, ...]
    #: float32 but for an engine's outputs in bytes.
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            want in (None, have) for want, have in zip(self.shape, shape, strict=True)
        )


#: How engines say that an allocation failed; none has an exception of its own for it.
_MEMORY_WORDS = re.compile(
    r"bad_?alloc|(out of|not enough|insufficient|failed to allocate|can't allocate|cannot allocate|could not allocate"
    r"|unable to allocate) memory|failed to allocate|bfc_?arena|can't alloc|failed to map segment"
    r"|resource temporarily unavailable|could not create a (memory|primitive)",
    re.IGNORECASE,
)


def lacks_memory(error: BaseException) -> bool:
    """Whether an engine's exception means that memory did not suffice."""
    return isinstance(error, MemoryError) or bool(_MEMORY_WORDS.search(str(error)))


class CallTimes(NamedTuple):
    """Seconds of one call on a device.  Where ``enqueue`` is the larger, the device waits for the host."""

    #: From its first copy to its last, by the device's clock.
    device: float
    #: Until the host had enqueued it.
    enqueue: float


def cannot_load(graph: str, library: str, error: Exception) -> S2CError:
    """A library's exception at loading a graph: OutOfMemoryError where memory did not suffice, else EngineError."""
    if lacks_memory(error):
        return OutOfMemoryError(f"{graph} on {library}")
    return EngineError(f"{library} cannot load {graph}: {error}")


_alive: weakref.WeakSet[Runner] = weakref.WeakSet()


def _keep_for_ever() -> None:
    """In a forked process, whose engines' threads are not there: freeing an engine would wait for them, or crash."""
    for runner in list(_alive):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(runner))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)


class Runner(NotCopied, ABC):
    """One graph on one engine.

    backend: the name asked for; provider: what really runs, as the engine reports it; precision: of its arithmetic.
    On a CPU several threads may call it at once; on a GPU it belongs to one thread at a time.  It holds an engine's
    memory, so it cannot be copied or pickled.
    """

    backend: str
    provider: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __new__(cls, *_args: object, **_options: object) -> Self:
        runner = super().__new__(cls)
        _alive.add(runner)
        return runner

    def __call__(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Runs the graph.  Arrays are C-contiguous float32; outputs of their TensorSpec's dtype.

        An engine on a GPU may keep outputs there that the next graph wants (``DeviceArray``).  EngineError on a wrong
        name, dtype or shape, and when the engine fails; OutOfMemoryError when memory does not suffice.
        """
        names = {spec.name for spec in self.inputs}
        if not isinstance(inputs, Mapping) or not all(hasattr(array, "dtype") for array in inputs.values()):
            raise EngineError(f"inputs: expected arrays by name, found {type(inputs).__name__}")
        if set(inputs) != names:
            raise EngineError(f"inputs: expected {sorted(names)}, found {sorted(inputs)}")
        for spec in self.inputs:
            array = inputs[spec.name]
            if array.dtype != np.float32 or not spec.admits(array.shape):
                raise EngineError(
                    f"input {spec.name}: expected float32 {spec.shape}, found {array.dtype} {array.shape}"
                )
        self._check_alike(inputs)
        try:
            return self._run(inputs)
        except S2CError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            if lacks_memory(error):
                raise OutOfMemoryError(f"{shapes} on {self.provider}") from error
            raise EngineError(f"{self.provider} cannot run on {shapes}: {error}") from error

    def _check_alike(self, inputs: Mapping[str, FloatArray]) -> None:
        """Batch, height and width are the same in all inputs that leave them open.  Not every engine minds: OpenVINO
        takes kernels that it has for the larger input and reads past the end of the smaller one."""
        for axis in (0, 2, 3):
            free = [s.name for s in self.inputs if len(s.shape) > axis and s.shape[axis] is None]
            if len({inputs[name].shape[axis] for name in free}) > 1:
                found = ", ".join(f"{name} {inputs[name].shape}" for name in free)
                raise EngineError(f"inputs: expected one batch, height and width, found {found}, of {self.backend}")

    @abstractmethod
    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]: ...

    def batch(self, rows: int, columns: int) -> int:
        """How many pictures one call had better take whose inputs have these rows and columns.  On a CPU one: threads
        have one each."""
        return 1

    def watch(self) -> None:
        """Begins to time calls on the device, where the engine runs on one; ``take_times`` has them."""
        return

    def take_times(self) -> list[CallTimes]:
        """The calls timed since the last time asked; none where there is no device."""
        return []

    def close(self) -> None:
        """Frees what the engine holds; the default has nothing to free."""
        return

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
