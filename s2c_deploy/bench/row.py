"""What a row of a benchmark is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.parity import LIMITS, OTHER_SYMBOLS, Limits
from s2c_deploy.bench.stages import StageClock
from s2c_deploy.presets import FULL

Kind = Literal["engine", "pytorch", "reference"]


class Pipeline(Protocol):
    """Pixels to bytes and back, with a clock inside."""

    clock: StageClock

    def encode(self, pixels: Pixels, quality: float) -> bytes: ...

    def decode(self, data: bytes) -> Pixels: ...

    def close(self) -> None: ...


#: Opens a row: bundle folder, model folder or None, threads.
Opener = Callable[[Path, Path | None, int], Pipeline]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to run the codec."""

    name: str
    kind: Kind
    description: str
    #: Goes to another process: it is a function of a module.
    open: Opener
    #: What the provider of every graph must name, else the row is reported as what really ran.
    wants: str
    #: Of g_s.
    precision: str = "float32"
    #: Which of the bundle's g_s.
    synthesis: str = FULL
    #: It cannot read the others' streams, and codes the pictures itself.
    own_streams: bool = False
    #: It runs on a GPU.
    gpu: bool = False
    #: Why it cannot run here, or None.
    obstacle: str | None = None
    #: Why ``auto`` leaves it out, though it can run; or None.
    reluctance: str | None = None

    @property
    def limits(self) -> Limits:
        """How far its pictures may be from the encoder's."""
        return OTHER_SYMBOLS if self.own_streams else LIMITS[self.precision]


@dataclass(frozen=True, kw_only=True)
class TorchWay:
    """How PyTorch runs the model's modules."""

    #: The memory layout.
    channels_last: bool = False
    #: Of g_s, by autocast.
    precision: str = "float32"
    #: Whether g_s is compiled.
    compiled: bool = False
