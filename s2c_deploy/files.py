"""Reading and writing files: nobody ever sees half of one, and what the system refuses is an error of this package."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from s2c_deploy.errors import InputError, OutOfMemoryError

AnyPath = str | os.PathLike[str]
#: Longer suffixes are no formats that a writer looks at, and would make the temporary name too long.
_LONGEST_SUFFIX = 16
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What is read whole is no larger, unless its reader says so.
MAX_BYTES = 2**30
_HEAD, _PART = 64, 2**20
#: Temporary files and folders that are in use.
_unfinished: set[Path] = set()


@contextmanager
def atomic_write(path: AnyPath, *, follow_links: bool = True) -> Iterator[Path]:
    """Yield the path of an empty file beside ``path``; rename it to ``path`` when the block ends well.

    On any error in the block the temporary file is deleted and ``path`` stays as it was.  The suffix is kept,
    for writers that look at it.  A new file gets the permissions that ``open`` would give it, a replaced one
    keeps its own.  follow_links: a symbolic link at ``path`` is followed; else it is itself what is replaced.
    Nothing is synced to disk: a crash of the program is harmless, one of the machine may not be.

    Raises :class:`InputError` if ``path`` cannot be written, also for an OSError in the block: a full disk shows
    there.  Other errors of the block pass through.
    """
    target = _place(path, follow_links)
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= _LONGEST_SUFFIX else ""
    temporary = target.with_name(f".{target.stem[:32]}.{secrets.token_hex(6)}.part{suffix}")
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            raise InputError(f"{path} is not a regular file", hint="name a file to write")
        _unfinished.add(temporary)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if os.path.isfile(target) and not os.path.islink(target):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    finally:
        _unfinished.discard(temporary)


def delete_unfinished() -> None:
    """Deletes what ``atomic_write`` is writing in any thread, and temporary folders: for who ends the process without
    waiting for them."""
    for temporary in tuple(_unfinished):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that is deleted with all that is in it when the block ends.  InputError where there can be none."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise no_room_for(os.path.join(os.environ.get("TMPDIR", "/tmp"), prefix), error) from error
    with folder as name:
        place = Path(name)
        _unfinished.add(place)
        try:
            yield place
        finally:
            _unfinished.discard(place)


def write_bytes(path: AnyPath, data: bytes, *, follow_links: bool = True, replace: bool = True) -> None:
    """A whole file, by way of ``atomic_write``.  replace: False refuses one that has appeared meanwhile.

    Raises :class:`InputError`.
    """
    with atomic_write(path, follow_links=follow_links) as temporary:
        temporary.write_bytes(data)
        if not replace:
            check_still_free(path, follow_links=follow_links)


def check_still_free(path: AnyPath, *, follow_links: bool = True) -> None:
    """:class:`InputError` where there is something by now; a link to nothing counts where it is not followed."""
    if (os.path.exists if follow_links else os.path.lexists)(path):
        raise InputError(f"{path} exists", hint="overwrite it with --force, or name another target")


def write_text(path: AnyPath, text: str) -> None:
    """A whole file of UTF-8; names that are none are written with backslashes.  Raises :class:`InputError`."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_bytes(path: AnyPath, *, limit: int = MAX_BYTES, starts: Callable[[bytes], object] | None = None) -> bytes:
    """A whole file of at most ``limit`` bytes; a named pipe is read to its end, a device is refused: it has none.

    starts: called with the first 64 bytes, or fewer where the file ends, before the others are read; it may raise.

    Raises :class:`InputError`, or :class:`OutOfMemoryError` where memory does not hold it.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(f"{path} is a device", hint="name a file")
        with open(path, "rb") as file:
            return read_open(file, str(path), limit=limit, starts=starts)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}", hint="check the path") from None
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error


def read_open(
    file: BinaryIO, name: str, *, limit: int = MAX_BYTES, starts: Callable[[bytes], object] | None = None
) -> bytes:
    """As ``read_bytes``, of a file that is open, or a pipe; name: what messages call it.  OSError as it comes."""
    head = file.read(_HEAD)
    if starts is not None:
        starts(head)
    status = os.fstat(file.fileno())
    too_long = InputError(f"{name} has more than {limit} bytes", hint="check that it is the right file")
    if stat.S_ISREG(status.st_mode) and status.st_size > limit:
        raise too_long
    parts, size = [head], len(head)
    try:
        while part := file.read(_PART):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise too_long
        return b"".join(parts)
    except MemoryError:
        raise OutOfMemoryError(f"reading {name}") from None


def status_of(path: AnyPath) -> os.stat_result | None:
    """``os.stat``, or None where there is nothing; a dangling link is nothing.

    Raises :class:`InputError` where the system will not say: a name that is too long, a folder that is closed.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error


def make_folder(path: AnyPath) -> None:
    """A folder, and those above it; one that is there stays.  Raises :class:`InputError`."""
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{path} is a file", hint="name a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot make the folder {path}: {_reason(error)}", hint="choose another place") from error


def check_writable(path: AnyPath) -> None:
    """Tries whether a file can be written at ``path``, by making one beside it and deleting it.

    Raises :class:`InputError`: before hours of work, rather than after them.
    """
    target = _place(path, True)
    if len(os.fsencode(target.name)) > 255:  # the file that is tried has a shorter name
        raise cannot_write(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"{path} is not a regular file", hint="name a file to write")
    _try_in(target.parent, path)


def check_folder_writable(path: AnyPath) -> None:
    """Tries whether files can be written in the folder ``path``, which need not exist yet.

    Raises :class:`InputError`.
    """
    folder = _place(path, True)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"{path} is a file", hint="name a folder")
    for part in folder.parts:
        if len(os.fsencode(part)) > 255:
            raise cannot_write(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
    while not os.path.lexists(folder) and folder.parent != folder:
        folder = folder.parent
    if not os.path.isdir(folder):
        raise InputError(f"cannot write {path}: {folder} is no folder", hint="choose another place")
    _try_in(folder, path)


def _try_in(folder: Path, path: AnyPath) -> None:
    probe = folder / f".{secrets.token_hex(6)}.part"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def _place(path: AnyPath, follow_links: bool) -> Path:
    try:
        return Path(os.path.realpath(path) if follow_links else os.path.abspath(path))
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error


def cannot_read(path: AnyPath, error: Exception) -> InputError:
    """The system's refusal in the words of this package."""
    return InputError(f"cannot read {path}: {_reason(error)}", hint="check the path and its permissions")


def cannot_write(path: AnyPath, error: Exception) -> InputError:
    """The system's refusal in the words of this package."""
    parent = os.path.dirname(os.path.realpath(path)) if isinstance(error, FileNotFoundError) else ""
    if parent and not os.path.isdir(parent):
        return InputError(f"cannot write {path}: no folder {os.path.dirname(path) or parent}", hint="create it first")
    no_room = isinstance(error, OSError) and error.errno in _NO_ROOM
    hint = "make room, or choose another place" if no_room else "choose another place"
    return InputError(f"cannot write {path}: {_reason(error)}", hint=hint)


def no_room_for(path: AnyPath, error: OSError) -> InputError:
    """A temporary file that the system did not take, as numpy tells it too: without a code."""
    return InputError(
        f"cannot write the temporary file {path}: {_reason(error)}",
        hint="make room there, or have TMPDIR name another folder",
    )


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
