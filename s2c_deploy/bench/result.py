"""A benchmark as a record: what was run, what it gave, and every raw sample; to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from s2c_deploy.bench.parity import Parity
from s2c_deploy.bench.statistics import Summary, summarize
from s2c_deploy.errors import InputError
from s2c_deploy.files import read_bytes, write_text

SCHEMA = 1
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A case as it was run."""

    name: str
    width: int
    height: int
    quality: float
    #: Their names.
    pictures: tuple[str, ...]
    #: Of each stream.
    sha256: tuple[str, ...]
    #: Bytes of all streams together.
    size: int
    #: Of all pictures together.
    pixels: int

    @property
    def bpp(self) -> float:
        return 8 * self.size / self.pixels


@dataclass(frozen=True, kw_only=True)
class Series:
    """Samples of one case, call by call."""

    case: str
    operation: str
    #: The whole call.
    seconds: tuple[float, ...]
    #: The round that each call was made in.
    rounds: tuple[int, ...]
    #: Seconds of each stage.
    stages: Mapping[str, tuple[float, ...]]
    #: Of stages that ran on a device: see ``CallTimes``.
    device: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    #: Of these stages, too: see ``CallTimes``.
    enqueue: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        return summarize(self.seconds, self.rounds)

    @property
    def covered(self) -> float:
        """The stages' sum over the headline, median of the calls: 1 where the clock missed nothing."""
        sums = zip(self.seconds, *self.stages.values(), strict=True)
        return float(median(sum(parts) / seconds for seconds, *parts in sums))


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Pictures per second of ``processes`` processes at once, one thread each."""

    case: str
    processes: int
    pictures: int
    pictures_per_second: float


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """One row.  Megabytes are 10^6 bytes."""

    name: str
    kind: str
    description: str
    threads: int
    #: What really ran, as the engine reports it.
    ran: tuple[str, ...] = ()
    precision: str = ""
    #: How that differs from what was asked for, or None.
    fallback: str | None = None
    #: Why it has no times, or None.
    failure: str | None = None
    load_seconds: float | None = None
    first_seconds: float | None = None
    loaded_megabytes: float | None = None
    peak_megabytes: float | None = None
    #: Memory on the device, without the CUDA context itself.
    device_megabytes: float | None = None
    #: Of its own streams by case, where it cannot read the shared ones.
    bytes: Mapping[str, int] | None = None
    parity: tuple[Parity, ...] = ()
    series: tuple[Series, ...] = ()
    throughput: tuple[Throughput, ...] = ()

    @property
    def label(self) -> str:
        """The row's name; what really ran beside it where that is something else."""
        return f"{self.name} (ran {', '.join(self.ran)}, {self.precision})" if self.fallback else self.name

    def of(self, case: str, operation: str = "decode") -> Series | None:
        """Its samples of a case; none where it lost them."""
        return next((s for s in self.series if (s.case, s.operation) == (case, operation)), None)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A whole run."""

    request: Mapping[str, Any]
    environment: Mapping[str, Any]
    #: What made the streams.
    encoder: str
    cases: tuple[Measured, ...]
    rows: tuple[RowResult, ...]
    #: Rows that were not tried, with their reasons.
    left_out: Mapping[str, str]

    @property
    def operations(self) -> tuple[str, ...]:
        return ("decode", "encode") if self.request.get("encode") else ("decode",)


def write_result(benchmark: Benchmark, path: Path) -> None:
    """Everything, raw samples included, as JSON."""
    write_text(path, json.dumps(as_record(benchmark), indent=1, allow_nan=False) + "\n")


def as_record(benchmark: Benchmark) -> dict[str, Any]:
    """A benchmark as JSON's types, with the version of their arrangement."""
    return {"schema": SCHEMA, **asdict(benchmark)}


def read_result(path: Path) -> Benchmark:
    """A record that ``write_result`` wrote; InputError for anything else."""
    try:
        record = json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected the JSON of s2c-deploy bench: {error}") from error
    return from_record(record, path)


def from_record(record: Any, path: Path) -> Benchmark:
    """The inverse of ``as_record``; path: of the file that it comes from, for the error's words."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise InputError(
            f"{path}: schema: expected {SCHEMA}, found {found!r}", hint="write it with s2c-deploy bench --json"
        )
    try:
        rows = tuple(_row(row) for row in record["rows"])
        cases = tuple(_made(Measured, case) for case in record["cases"])
        parts = {name: record[name] for name in ("request", "environment", "encoder", "left_out")}
        return Benchmark(cases=cases, rows=rows, **parts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: expected the JSON of s2c-deploy bench: {error!r}") from error


def _row(record: Any) -> RowResult:
    parts = dict(record)
    parts["parity"] = tuple(_made(Parity, entry) for entry in parts["parity"])
    parts["throughput"] = tuple(_made(Throughput, entry) for entry in parts["throughput"])
    parts["series"] = tuple(_series(entry) for entry in parts["series"])
    return _made(RowResult, parts)


def _series(record: Any) -> Series:
    # Results of before have nothing of devices.
    stages, device, enqueue = (
        {str(name): tuple(map(float, values)) for name, values in record.get(kind, {}).items()}
        for kind in ("stages", "device", "enqueue")
    )
    seconds, rounds = tuple(map(float, record["seconds"])), tuple(map(int, record["rounds"]))
    if len(seconds) != len(rounds) or not seconds or min(seconds) <= 0:
        raise ValueError(f"series of {record['case']}: expected positive seconds with a round each")
    return Series(
        case=record["case"],
        operation=record["operation"],
        seconds=seconds,
        rounds=rounds,
        stages=stages,
        device=device,
        enqueue=enqueue,
    )


def _made(kind: type[_T], record: Any) -> _T:
    """A dataclass from JSON's types, lists as tuples."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if strangers := set(record) - names:
        raise ValueError(f"{kind.__name__}: unexpected {', '.join(sorted(strangers))}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in record.items()})
