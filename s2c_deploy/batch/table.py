"""The table of a batch: a Parquet file beside the results, with a row for every file, whatever became of it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from s2c_deploy.batch.places import Place
from s2c_deploy.batch.request import Task
from s2c_deploy.errors import DependencyError, InputError, OutOfMemoryError

NAME = "batch.parquet"
_KEY, _VERSION = b"s2c-deploy", 1
#: Bytes of a table that is read, packed and unpacked; a row takes some 1,500 of memory.
_MOST = 2**31
_MOST_ROWS = 2**23
#: Seconds between two writings of the table, and how many times longer the work is than its writing at least.
_EVERY, _TIMES = 10.0, 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What became of a file.  Neither ``error`` nor ``bytes``: nothing yet."""

    #: Of the source, below SRC; bytes that are no UTF-8 as ``\\xe9``.
    path: str
    #: Of the result, below DST.
    output: str
    source_bytes: int
    #: When the source was last changed, nanoseconds since 1970.
    modified: int
    #: Of the result.
    bytes: int | None = None
    #: Pixels.
    width: int | None = None
    height: int | None = None
    #: Bits of the stream for every pixel.
    bpp: float | None = None
    #: From reading to having written.
    seconds: float | None = None
    #: Machine and process.
    worker: str | None = None
    error: str | None = None
    #: Of the error, as a command ends with it.
    exit_code: int | None = None

    @property
    def done(self) -> bool:
        return self.error is None and self.bytes is not None


def shown(name: str) -> str:
    """A name as text: bytes that are no UTF-8 with backslashes, as neither Parquet nor JSON can hold them."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def pending(task: Task) -> Row:
    """The row of a file that nothing has been done to yet."""
    return Row(path=shown(task.source), output=shown(task.target), source_bytes=task.size, modified=task.modified)


@dataclass(kw_only=True)
class Table:
    """The rows by path, and the settings that made them."""

    settings: dict[str, object]
    rows: dict[str, Row] = field(default_factory=dict)
    #: Of the file that it was read from; None: of none.
    digest: bytes | None = None

    def add(self, row: Row) -> None:
        self.rows[row.path] = row


def arrow_schema() -> Any:
    """The columns in pyarrow's types."""
    pa = _pyarrow()
    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    return pa.schema([(column.name, kinds[str(column.type).removesuffix(" | None")]) for column in fields(Row)])


def to_arrow(rows: Iterable[Row]) -> Any:
    """Rows as a pyarrow Table."""
    listed = list(rows)
    columns = {column.name: [getattr(row, column.name) for row in listed] for column in fields(Row)}
    return _pyarrow().table(columns, schema=arrow_schema())


def from_arrow(table: Any) -> list[Row]:
    """The inverse of ``to_arrow``."""
    return [Row(**row) for row in table.to_pylist()]


def read_table(place: Place) -> Table | None:
    """The table that lies in a place; None where there is none.  InputError for one that is damaged."""
    pa = _pyarrow()
    from pyarrow import parquet

    data = _read(place)
    if data is None:
        return None
    try:
        file = parquet.ParquetFile(pa.BufferReader(data), pre_buffer=False)
        _check_bounds(file.metadata, file.schema_arrow)
        # Without threads: where a process ends at once, those of pyarrow may still be about to, and abort it.
        table = file.read(use_threads=False)
        told = json.loads((table.schema.metadata or {})[_KEY])
        if told["version"] != _VERSION:
            raise ValueError(f"expected version {_VERSION}, found {told['version']!r:.20}")
        rows = from_arrow(table)
        by_path = {row.path: row for row in rows}
        made = Table(settings=dict(told["settings"]), rows=by_path, digest=hashlib.sha256(data).digest())
    except MemoryError:  # pyarrow's ArrowMemoryError is one
        raise OutOfMemoryError(f"reading {place.shown}/{NAME}") from None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{place.shown}/{NAME} is no table of a batch, or damaged: {reason:.200}",
            hint="--force does everything again, and makes it anew",
        ) from error
    if len(made.rows) < len(rows) or not all(row.path and row.output for row in rows):
        raise InputError(f"{place.shown}/{NAME} has two rows of one file, or one of none", hint="--force makes it anew")
    return made


def _check_bounds(metadata: Any, schema: Any) -> None:
    """ValueError for what would take more memory than its bytes are worth, before any of it is unpacked."""
    if schema.remove_metadata() != arrow_schema():
        raise ValueError("expected other columns")
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if metadata.num_rows > _MOST_ROWS or unpacked > _MOST:
        raise ValueError(f"expected at most {_MOST_ROWS} rows and {_MOST} bytes, found {metadata.num_rows}, {unpacked}")


def is_still(place: Place, table: Table) -> bool:
    """Whether a place has the file that a table was read from, or none as then."""
    data = _read(place)
    return table.digest == (None if data is None else hashlib.sha256(data).digest())


def _read(place: Place) -> bytes | None:
    return place.read(NAME, limit=_MOST, regular=True) if NAME in place.sizes([NAME]) else None


def write_table(place: Place, table: Table) -> None:
    """Puts the table into its place, rows by path.  InputError."""
    pa = _pyarrow()
    from pyarrow import parquet

    told = json.dumps({"version": _VERSION, "settings": table.settings})
    whole = to_arrow(table.rows[path] for path in sorted(table.rows)).replace_schema_metadata({_KEY: told})
    sink = pa.BufferOutputStream()
    parquet.write_table(whole, sink)
    place.write(NAME, sink.getvalue().to_pybytes())


class Saver:
    """Writes the table now and then, so that little is lost where the process is killed."""

    def __init__(self, place: Place, table: Table) -> None:
        self._place, self._table = place, table
        self._due = 0.0

    def now(self) -> None:
        started = time.monotonic()
        write_table(self._place, self._table)
        ended = time.monotonic()
        self._due = ended + max(_EVERY, _TIMES * (ended - started))

    def perhaps(self) -> None:
        """Where it has been long enough."""
        if time.monotonic() >= self._due:
            self.now()


#: What tables mean that were written before there was a setting.
_EARLIER = {"effort": 0}


def difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What is not the same in two settings: ``quality: 4.0 before, 6.0 now``; empty where all is."""
    was = {name: value for name, value in _EARLIER.items() if name in now} | dict(before)
    names = sorted(was.keys() | now.keys())
    return "; ".join(
        f"{name}: {was.get(name)!s:.200} before, {now.get(name)!s:.200} now"
        for name in names
        if was.get(name) != now.get(name)
    )


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise DependencyError("pyarrow", extra="batch") from error
    return pyarrow
