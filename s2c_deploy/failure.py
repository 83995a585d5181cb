"""Whatever a piece of work ends with, as an error of this package."""

from __future__ import annotations

import errno
import os

from s2c_deploy.errors import InputError, OutOfMemoryError, S2CError

DEBUG = "S2C_DEBUG"


def debugging() -> bool:
    """Whether tracebacks are asked for."""
    return os.environ.get(DEBUG) == "1"


def as_failure(error: Exception, doing: str) -> S2CError:
    """An error of this package as it is; the system's, and unforeseen ones, in its words.  doing: what memory did
    not suffice for."""
    if isinstance(error, S2CError):
        return error
    if isinstance(error, MemoryError) or _says_no_memory(error):
        return OutOfMemoryError(doing, hint="compress --tile 512 bounds what a picture needs; or free some memory")
    if isinstance(error, OSError) and error.errno is not None:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        said = f"{', '.join(names)}: {error.strerror}" if names else str(error.strerror)
        return InputError(said, hint=f"{DEBUG}=1 shows where")
    text = str(error)
    return S2CError(
        f"unforeseen {type(error).__name__}" + (f": {text}" if text else ""),
        hint=f"{DEBUG}=1 shows where; please report it",
    )


def retold(message: str, exit_code: int) -> S2CError:
    """An error of another process, by what it said: those of several arguments cannot be pickled."""
    error = S2CError(message)
    error.exit_code = exit_code
    return error


def _says_no_memory(error: Exception) -> bool:
    """Whether the system says so in other ways: of a call, or of a library that could not be loaded."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = ("cannot allocate memory", "failed to map segment")
    return isinstance(error, ImportError) and any(words in str(error).lower() for words in said)
