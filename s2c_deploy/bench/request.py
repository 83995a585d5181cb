"""What a benchmark is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2c_deploy.bench.cases import Source
from s2c_deploy.bench.row import Row


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure."""

    #: Its folder.
    bundle: Path
    rows: tuple[Row, ...]
    #: Rows that are not tried, with the reasons.
    left_out: dict[str, str]
    sources: tuple[Source, ...]
    #: From 1 to 8.
    qualities: tuple[float, ...] = (4.0,)
    #: Every row runs once with each count; 0 is the engine's choice.
    threads: tuple[int, ...] = (0,)
    #: Folder of the model that the bundle was exported from: PyTorch's own rows need it.
    weights: Path | None = None
    #: Of every case, over all rounds.
    min_seconds: float = 3.0
    #: Calls of every case, over all rounds.
    min_count: int = 10
    rounds: int = 5
    #: Time encoding, too.
    encode: bool = False
    #: Measure also with a process per core.
    throughput: bool = False

    def as_record(self) -> dict[str, Any]:
        names = ("qualities", "threads", "min_seconds", "min_count", "rounds", "encode", "throughput")
        record: dict[str, Any] = {name: getattr(self, name) for name in names}
        return record | {"rows": [row.name for row in self.rows], "weights": self.weights and self.weights.name}
