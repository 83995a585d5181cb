"""The C library, loaded with ctypes, and its checksum.

Nothing is compiled here: the wheel carries ``libs2c_native`` beside this file.  In a checkout, build it with
``cmake -S native -B build/native && cmake --build build/native`` and copy the library here (``make`` does).
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from s2c_deploy.errors import EngineError, InputError

ABI_VERSION = 1

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
LIBRARY_PATH = Path(__file__).with_name(("" if sys.platform == "win32" else "lib") + "s2c_native" + _SUFFIX)

Buffer = bytes | bytearray | memoryview | np.ndarray[Any, Any]


def _declare(lib: ctypes.CDLL) -> None:
    lib.s2c_crc32c.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32]
    lib.s2c_crc32c.restype = ctypes.c_uint32


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The loaded C library with its signatures declared.

    Raises :class:`EngineError` if the file is missing, cannot be loaded, or has another ABI version.
    """
    if not LIBRARY_PATH.is_file():
        raise EngineError(
            f"the native coder is not built: {LIBRARY_PATH.name} is missing from s2c_deploy/entropy",
            hint="install the package with 'pip install .', or build native/ with CMake and copy it there",
        )
    try:
        lib = ctypes.CDLL(str(LIBRARY_PATH))
        _declare(lib)
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"the native coder {LIBRARY_PATH.name} cannot be loaded: {error}",
            hint="it was built for another machine or version: reinstall the package",
        ) from error
    return lib


def as_bytes(data: Buffer) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``data`` as a flat uint8 array sharing its memory; :class:`InputError` if it is not contiguous."""
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise InputError("the array is not C-contiguous", hint="pass numpy.ascontiguousarray(array)")
        return data.reshape(-1).view(np.uint8)
    view = memoryview(data)
    if not view.c_contiguous:
        raise InputError("the buffer is not C-contiguous", hint="pass bytes(buffer)")
    return np.frombuffer(view, np.uint8)


def crc32c(data: Buffer, value: int = 0) -> int:
    """CRC-32C (Castagnoli) of a contiguous buffer, continuing from ``value``.

    ``crc32c(b, crc32c(a))`` is the checksum of ``a`` followed by ``b``.  Polynomial 0x1EDC6F41, reflected, as
    in RFC 3720 appendix B.4.  Raises :class:`InputError` for a buffer that is not contiguous,
    :class:`EngineError` if the C library is missing.
    """
    flat = as_bytes(data)
    return int(library().s2c_crc32c(flat.ctypes.data, flat.size, value))
