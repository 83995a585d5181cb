"""The files that a command writes beside what it prints: refused before the measuring, written after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2c_deploy.cli.files.targets import Writes, check_replaceable, files_in, identities, identity
from s2c_deploy.cli.output import say, warn
from s2c_deploy.cli.process.failing import show_traceback
from s2c_deploy.errors import InputError, S2CError
from s2c_deploy.failure import as_failure
from s2c_deploy.files import check_writable


@dataclass(frozen=True, kw_only=True)
class Report:
    """A file that a command is asked to write beside what it prints."""

    path: Path
    kind: Writes


def reports_of(paths: Mapping[Writes, Path | None]) -> list[Report]:
    """Those that are asked for."""
    return [Report(path=path, kind=kind) for kind, path in paths.items() if path is not None]


def check_reports(outputs: Sequence[Report], *, force: bool, inputs: Collection[Path] = ()) -> None:
    """Everything that would only fail after the measuring.

    inputs: what is read, which no output may replace: files, and folders with all that lies in them.  InputError.
    """
    for output in outputs:
        path = output.path
        if os.path.isdir(path):
            raise InputError(f"{path} is a folder", hint="name a file to write")
        if not os.path.isdir(path.parent):
            raise InputError(f"cannot write {path}: no folder {path.parent}", hint="create it first")
        if os.path.lexists(path) and not force:
            raise InputError(f"{path} exists", hint="overwrite it with --force, or name another file")
    if len({os.path.realpath(output.path) for output in outputs}) < len(outputs):
        raise InputError("two outputs into one file", hint="name a file for each")
    if outputs:
        _check_no_input(outputs, inputs)
    for output in outputs:
        check_replaceable(output.path, output.kind)
        check_writable(output.path)


def _check_no_input(outputs: Sequence[Report], inputs: Collection[Path]) -> None:
    from s2c_deploy.listing import is_inside

    folders = [path for path in inputs if os.path.isdir(path)]
    read = identities([*inputs, *(file for folder in folders for file in files_in(folder))])
    for output in outputs:
        path = output.path
        if (same := read.get(identity(path))) is not None:
            raise InputError(f"{path} is {same}, which is an input", hint="name another file")
        for folder in folders:
            if os.path.lexists(path) and is_inside(os.path.realpath(path), os.path.realpath(folder)):
                raise InputError(f"{path} lies in {folder}, which is an input", hint="name another file")


def write_reports(writers: Sequence[tuple[Path, Callable[[Path], None]]]) -> None:
    """Writes every report that can be written, after everything has been shown; then raises the first failure."""
    failure: S2CError | None = None
    for path, write in writers:
        try:
            write(path)
        except Exception as error:  # figures that took hours are not lost with one file
            failed = as_failure(error, f"writing {path}")
            show_traceback(error)
            if failure is not None:
                warn(f"error: {failed}")
            failure = failure or failed
        else:
            say(f"written: {path}")
    if failure is not None:
        raise failure
