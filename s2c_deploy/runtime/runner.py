"""What every engine looks like from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from s2c_deploy.errors import EngineError

FloatArray = npt.NDArray[np.float32]
#: An output of g_s where its graph rounds by itself: uint8, batch x H x W x 3.
PIXELS = "pixels"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """name; shape, with None where a dimension is dynamic; dtype: float32 but for an engine's outputs in bytes."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            want in (None, have) for want, have in zip(self.shape, shape, strict=True)
        )


class CallTimes(NamedTuple):
    """Seconds of one call on a device: from its first copy to its last by the device's clock; and until the host had
    enqueued it.  Where the second is the larger, the device waits for the host."""

    device: float
    enqueue: float


class Runner(ABC):
    """One graph on one engine.

    backend: the name asked for; provider: what really runs, as the engine reports it; precision: of its arithmetic.
    A runner belongs to one thread at a time.
    """

    backend: str
    provider: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __call__(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Runs the graph.  Arrays are C-contiguous float32; outputs of their TensorSpec's dtype.

        An engine on a GPU may keep outputs there that the next graph wants (``DeviceArray``).  EngineError on a wrong
        name, dtype or shape, and when the engine fails.
        """
        names = {spec.name for spec in self.inputs}
        if set(inputs) != names:
            raise EngineError(f"inputs: expected {sorted(names)}, found {sorted(inputs)}")
        for spec in self.inputs:
            array = inputs[spec.name]
            if array.dtype != np.float32 or not spec.admits(array.shape):
                raise EngineError(
                    f"input {spec.name}: expected float32 {spec.shape}, found {array.dtype} {array.shape}"
                )
        try:
            return self._run(inputs)
        except EngineError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise EngineError(f"{self.provider} cannot run on {shapes}: {error}") from error

    @abstractmethod
    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]: ...

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
