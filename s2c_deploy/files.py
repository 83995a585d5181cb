"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from s2c_deploy.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of an empty file beside ``path``; rename it to ``path`` when the block ends well.

    On any error in the block the temporary file is deleted and ``path`` stays as it was.  The suffix is kept,
    for writers that look at it.  A new file gets the permissions that ``open`` would give it, a replaced one
    keeps its own; a symbolic link is followed.  Nothing is synced to disk: a crash of the program is
    harmless, one of the machine may not be.

    Raises :class:`InputError` if ``path`` cannot be written; errors of the block pass through.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:32]}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        if target.exists() and not target.is_file():
            raise InputError(f"{path} is not a regular file", hint="name a file to write")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileNotFoundError:
        raise InputError(f"cannot write {path}: no folder {target.parent}", hint="create it first") from None
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        try:
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise _cannot_write(path, error) from error
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _cannot_write(path: str | os.PathLike[str], error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror}", hint="choose another place")
