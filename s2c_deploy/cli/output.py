"""What commands print.  Names come from strangers: nothing that is printed here can move a terminal's cursor."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer

from s2c_deploy.errors import InputError
from s2c_deploy.progress import Progress
from s2c_deploy.report.table import Table

_GAP = "  "


def printable(text: str) -> str:
    """The text on one line: control characters, newlines and bytes that are no UTF-8 with backslashes."""
    return "".join(c if c.isprintable() or c == "\N{IDEOGRAPHIC SPACE}" else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # a byte of a name that is no UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")


def say(line: str, *, err: bool = False) -> None:
    """A line to stdout, at once.  InputError where nothing can be written there, BrokenPipeError where nobody reads.

    err: to stderr; one that cannot be written is nobody's failure.
    """
    _echo(printable(line), err)


def say_script(text: str) -> None:
    """Lines that a shell is to read, unchanged, to stdout; errors as ``say``."""
    _echo(text, False)


def say_json(value: Any, *, err: bool = False) -> None:
    """JSON that is valid UTF-8, whatever the names in it; errors as ``say``."""
    _echo(json.dumps(_valid(value), indent=1), err)


def warn(line: str) -> None:
    """A line to stderr; a stderr that cannot be written is nobody's failure."""
    _echo(printable(line), True)


def flush_stdout() -> None:
    """What is left, now: at Python's exit a full disk would be a traceback.  Errors as ``say``."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


def _echo(text: str, err: bool) -> None:
    try:
        typer.echo(text, err=err)
    except ValueError:  # closed
        if not err:
            raise
    except OSError as error:
        if err:
            _discard(sys.stderr)
        elif isinstance(error, BrokenPipeError):
            raise
        else:
            raise unwritable(error) from error


def unwritable(error: OSError) -> InputError:
    """The system's refusal of what was written to stdout."""
    return InputError(f"cannot write standard output: {error.strerror}", hint="make room, or write it elsewhere")


def _valid(value: Any) -> Any:
    if isinstance(value, dict):
        return {_valid(key): _valid(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(part) for part in value]
    if isinstance(value, str) and not value.isascii():
        return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    return value


def write_stdout(data: bytes) -> None:
    """Bytes to standard output.  InputError where it cannot take them."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        discard_stdout()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot write standard output: {reason}", hint="name a file instead of -") from error


def check_binary_stdout() -> None:
    """InputError where standard output is a terminal."""
    if sys.stdout is None or sys.stdout.closed:
        raise InputError("standard output is closed", hint="redirect it: > FILE, or name a file instead of -")
    if sys.stdout.isatty():
        raise InputError("standard output is a terminal", hint="redirect it: > FILE, or name a file instead of -")


def discard_stdout() -> None:
    """Sends what a broken stdout still holds to nowhere, so that Python's exit stays quiet."""
    _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def progress_bar(
    description: str, total: int | None = None, *, hidden: bool = False, unit: str = ""
) -> Iterator[Progress]:
    """A bar on stderr while the block runs, where that is a terminal; yields advance(done, total, step).

    unit: what is counted, where how many of them a second and the time left are of use.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    # Not as markup: steps hold names of files.
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    if unit:
        columns += [TextColumn("{task.fields[rate]}", markup=False), TextColumn("left"), TimeRemainingColumn()]
    # Lines for stdout go by way of the bar only where both are on one terminal.
    redirect = bool(sys.stdout and sys.stdout.isatty())
    quiet = hidden or not console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=quiet, redirect_stdout=redirect) as bar:
        task = bar.add_task(description, total=total, rate="")
        started = time.monotonic()

        def advance(done: int, total: int | None, step: str) -> None:
            rate = f"{done / max(time.monotonic() - started, 1e-3):.1f} {unit}/s"
            bar.update(task, description=printable(step), completed=done, total=total, rate=rate)

        yield advance


def show_tables(tables: Sequence[Table]) -> None:
    """Prints tables that have rows: aligned columns, whole in a pipe; on a terminal no wider than it is."""
    width = _width()
    for table in tables:
        if table.rows:
            for line in [*table_lines(table, width), ""]:
                say(line)


def show_notes(notes: Sequence[str]) -> None:
    """Prints sentences, each on a line of its own; on a terminal they go on below between words."""
    width = _width()
    for note in map(printable, notes):
        lines = [note] if width is None else textwrap.wrap(note, width, break_long_words=False, break_on_hyphens=False)
        for line in lines:
            say(line)


def _width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None


def table_lines(table: Table, width: int | None = None) -> list[str]:
    """A table's title, head and rows.  width: where they would be longer, words of the last column go on below, and
    columns of numbers stand in a further block that repeats the first; no word is broken."""
    words = table.columns[0] == "name"
    cells = [tuple(map(printable, row)) for row in (table.columns, *table.rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(table.columns))]
    title = [table.title] if width is None else textwrap.wrap(table.title, width, break_long_words=False)
    if words:
        return [*title, *_words(cells, widths, width)]
    lines = title
    for number, block in enumerate(_blocks(widths, width)):
        lines += [""] if number else []
        lines += [
            _GAP.join(row[k].rjust(widths[k]) if k else row[k].ljust(widths[k]) for k in block).rstrip()
            for row in cells
        ]
    return lines


def _blocks(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Numbers of the columns that stand side by side."""
    blocks, used = [[0]], widths[0]
    for k in range(1, len(widths)):
        more = len(_GAP) + widths[k]
        if width is not None and used + more > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(k)
        used += more
    return blocks


def _words(cells: Sequence[tuple[str, ...]], widths: Sequence[int], width: int | None) -> list[str]:
    lines = []
    for *first, last in cells:
        start = "".join(cell.ljust(widths[k]) + _GAP for k, cell in enumerate(first))
        if width is None:
            lines.append((start + last).rstrip())
            continue
        beside = len(start) + 20 <= width
        indent = " " * (len(start) if beside else 2)
        wrapped = textwrap.wrap(last, width - len(indent), break_long_words=False, break_on_hyphens=False) or [""]
        lines += [(start + wrapped.pop(0)).rstrip()] if beside else [start.rstrip()]
        lines += [indent + part for part in wrapped]
    return lines


def show_record(record: Mapping[str, Any], as_json: bool) -> None:
    """A record, a line a field, or as JSON."""
    if as_json:
        say_json(record)
        return
    for name, value in record.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        say(f"{name.replace('_', ' '):<20} {shown}")
