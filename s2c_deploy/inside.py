"""Files below a folder that came from elsewhere: a bundle, its engines, a model repository.

Whoever made such a folder chose its names and what stands behind them: a link to a file of the user's, a named pipe
that never ends, a device.  So nothing here follows a link below the folder, at any depth, and nothing but regular files
is read or replaced.  Each step is taken from an open folder (``dir_fd``), so that what was looked at is what is used,
even if somebody exchanges folders meanwhile.  The folder's own path is the user's word, and may be a link.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: Not blocking: opening a named pipe must not wait for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Ends the name of a file that is being written.
PART = ".part"


def kind_of(mode: int) -> str:
    """What ``st_mode`` says a file is, in words."""
    kinds = {stat.S_IFREG: "a regular file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link"}
    return kinds.get(stat.S_IFMT(mode), "a pipe, a socket or a device")


def read_file(folder: Path, *parts: str, limit: int) -> bytes:
    """The bytes of ``folder/part/…/name``, at most ``limit`` of them.

    OSError, with a sentence as its ``strerror``: no such file, a link or anything but a regular file on the way, or
    more than ``limit`` bytes.
    """
    with open_file(folder, *parts) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(data) > limit:
        raise OSError(errno.EFBIG, f"expected at most {limit} bytes, found {max(size, len(data))}", parts[-1])
    return data


@contextmanager
def open_file(folder: Path, *parts: str) -> Iterator[BinaryIO]:
    """A regular file below ``folder``, opened for reading; OSError as ``read_file``."""
    with _opened(folder, parts[:-1]) as place, _open(place, parts[-1]) as file:
        yield file


def size_of(folder: Path, *parts: str) -> int:
    """Bytes of a regular file; OSError as ``read_file``."""
    _check_name(parts[-1])
    with _opened(folder, parts[:-1]) as place:
        found = os.stat(parts[-1], dir_fd=place, follow_symlinks=False)
    _check_regular(parts[-1], found.st_mode)
    return found.st_size


def write_file(folder: Path, *parts: str, data: bytes, mode: int = 0o666) -> None:
    """Writes ``folder/part/…/name`` beside itself and renames it; folders on the way are made.

    mode: its permissions, less the umask.  A regular file of that name is replaced.  OSError where a link or anything
    else stands on the way or in its place, and where nothing can be written; nothing half-written stays.
    """
    _check_name(parts[-1])
    with _opened(folder, parts[:-1], make=True) as place:
        with suppress(FileNotFoundError):
            _check_regular(parts[-1], os.stat(parts[-1], dir_fd=place, follow_symlinks=False).st_mode)
        temporary = f".{secrets.token_hex(8)}{PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, mode, dir_fd=place), "wb") as file:
                file.write(data)
            os.rename(temporary, parts[-1], src_dir_fd=place, dst_dir_fd=place)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=place)
            raise


def remove_file(folder: Path, *parts: str) -> None:
    """Deletes ``folder/part/…/name`` if it is there; a link is deleted, not what it names.  OSError."""
    _check_name(parts[-1])
    with suppress(FileNotFoundError), _opened(folder, parts[:-1]) as place:
        os.unlink(parts[-1], dir_fd=place)


def names_in(folder: Path, *parts: str) -> list[tuple[str, int]]:
    """Names and ``st_mode`` of what lies in ``folder/part/…``, by name; links as links.  None where it is no folder."""
    try:
        with _opened(folder, parts) as place:
            found = [(name, os.stat(name, dir_fd=place, follow_symlinks=False).st_mode) for name in os.listdir(place)]
    except OSError:
        return []
    return sorted(found)


@contextmanager
def _opened(folder: Path, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
    """A descriptor of ``folder/part/…``, reached without following a link below ``folder``."""
    place = os.open(folder, _FOLDER)
    try:
        for part in parts:
            _check_name(part)
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=place)
            try:
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=place)
            except OSError as error:
                raise _explained(error, part, "a folder") from error
            os.close(place)
            place = below
        yield place
    finally:
        os.close(place)


def _open(place: int, name: str) -> BinaryIO:
    _check_name(name)
    try:
        descriptor = os.open(name, _FILE, dir_fd=place)
    except OSError as error:
        raise _explained(error, name, "a regular file") from error
    file = open(descriptor, "rb")  # noqa: SIM115 - whoever asked closes it
    try:
        _check_regular(name, os.fstat(descriptor).st_mode)
    except OSError:
        file.close()
        raise
    return file


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, f"expected a plain file name, found {name!r:.80}", name)


def _check_regular(name: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"expected a regular file, found {kind_of(mode)}", name)


def _explained(error: OSError, name: str, expected: str) -> OSError:
    """The system's words for a link are about loops."""
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return OSError(error.errno, f"expected {expected}, found a symbolic link", name)
    if error.errno == errno.ENXIO:
        return OSError(error.errno, f"expected {expected}, found a pipe, a socket or a device", name)
    return error
