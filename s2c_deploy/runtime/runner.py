"""What every engine looks like from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from s2c_deploy.errors import EngineError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """name; shape, with None where a dimension is dynamic.  Every tensor is float32."""

    name: str
    shape: tuple[int | None, ...]

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            want in (None, have) for want, have in zip(self.shape, shape, strict=True)
        )


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
        """Runs the graph.  Arrays are C-contiguous float32; EngineError on a wrong name, dtype or shape, and when the
        engine fails."""
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

    def close(self) -> None:
        """Frees what the engine holds; the default has nothing to free."""
        return

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
