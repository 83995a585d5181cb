"""Putting a new folder in the place of an old one, so that nobody ever finds neither."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from s2c_deploy.errors import InputError
from s2c_deploy.inside import PART

try:
    import fcntl
except ImportError:  # Windows: leftovers are not cleared there
    fcntl = None  # type: ignore[assignment]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_OLD = ".old"
#: What a sibling's name has more than ``path``'s: two dots, twelve digits, and its end.
_LONGEST_NAME = 255 - len("..0123456789ab") - len(PART) - len(_OLD)
#: The file system cannot exchange two folders; the two renames can.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)


def check_place(path: Path) -> Path:
    """The folder that ``path`` names, links followed; InputError where it cannot be exchanged for another one."""
    try:
        real = Path(os.path.realpath(path))
    except ValueError as error:  # a null character
        raise InputError(f"{str(path)!r:.80} is no path: {error}", hint="check the path") from None
    if len(os.fsencode(real.name)) > _LONGEST_NAME:
        raise InputError(
            f"{str(path)!r:.80}: expected a name of at most {_LONGEST_NAME} bytes, found {len(os.fsencode(real.name))}",
            hint="choose a shorter one",
        )
    if os.path.ismount(real):
        raise InputError(f"{path} is a mount point, which cannot be replaced", hint="name a folder below it")
    with suppress(OSError):
        if real == Path.cwd() and real.exists():
            raise InputError(f"{path} is the current folder, which cannot be replaced", hint="go to another one first")
    return real


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A sibling of ``path`` to fill; it takes the place of ``path`` when the block ends well, else it is deleted.

    What was there is exchanged for it in one step and then deleted.  Where a file system cannot exchange, there are
    two renames, and ``recover`` brings the old folder back if a process dies between them.  Siblings that dead
    processes left are cleared first.  OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    _clear(path)
    new, lock = _locked_folder(path)
    try:
        yield new
        _take_place(new, path)
    finally:
        os.close(lock)
        shutil.rmtree(new, ignore_errors=True)


def _locked_folder(path: Path) -> tuple[Path, int]:
    """A new folder beside ``path`` and a descriptor that locks it, so that nobody takes it for a dead process's."""
    for _ in range(20):
        new = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PART}")
        new.mkdir()
        with suppress(FileNotFoundError):  # another process was quicker, and has cleared it
            lock = os.open(new, os.O_RDONLY)
            try:
                _lock(lock)
                locked = True
            except OSError as error:
                locked = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # no locks here: leftovers stay
            if locked and os.path.isdir(new):
                return new, lock
            os.close(lock)
    raise OSError(errno.EBUSY, "other processes write there", str(path))


def recover(path: Path) -> None:
    """Brings a folder back that lost its place: a process died between the two renames of ``_take_place``."""
    if os.path.lexists(path):
        return
    for old in _leftovers(path, _OLD):
        with suppress(OSError):
            os.rename(old, path)
            return


def _take_place(new: Path, path: Path) -> None:
    """Afterwards ``path`` is the new folder, and ``new`` the old one or nothing."""
    if not os.path.lexists(path):
        os.rename(new, path)
        return
    if _exchanged(new, path):
        return
    old = path.with_name(new.name + _OLD)
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the system exchanged two names in one step; OSError where it tried and failed."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _clear(path: Path) -> None:
    """Deletes what processes left beside ``path`` that are no more: they held a lock on it."""
    for left in _leftovers(path, ""):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _lock(descriptor)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)
    if os.path.lexists(path):
        for old in _leftovers(path, _OLD):
            shutil.rmtree(old, ignore_errors=True)


def _lock(descriptor: int) -> None:
    """Until the descriptor is closed; OSError where another process has it."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no locks here")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _leftovers(path: Path, end: str) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}{re.escape(PART + end)}")
    with suppress(OSError):
        found = [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]
        return sorted(entry for entry in found if _is_mine(entry))
    return []


def _is_mine(entry: Path) -> bool:
    """A folder of this user's, and no link: in a shared folder anybody may give anything such a name."""
    try:
        status = entry.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())
