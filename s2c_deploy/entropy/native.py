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

ABI_VERSION = 2

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
LIBRARY_NAME = ("" if sys.platform == "win32" else "lib") + "s2c_native" + _SUFFIX

Buffer = bytes | bytearray | memoryview | np.ndarray[Any, Any]


class EncodeOptions(ctypes.Structure):
    """``s2c_encode_options`` of s2c.h."""

    _fields_ = (
        ("lanes_log2", ctypes.c_uint32),
        ("parts_log2", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
    )


class DecoderInfo(ctypes.Structure):
    """``s2c_decoder_info`` of s2c.h."""

    _fields_ = (
        ("body_bytes", ctypes.c_uint64),
        ("words_read", ctypes.c_uint64),
        ("bypass_bits_read", ctypes.c_uint64),
        ("symbols_read", ctypes.c_uint64),
        ("lanes", ctypes.c_uint32),
        ("parts", ctypes.c_uint32),
        ("status", ctypes.c_uint32),
    )


_POINTER, _SIZE, _U32, _STATUS = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_int
_HANDLE_OUT, _SIZE_OUT = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t)

# name: (result, arguments), as in native/include/s2c.h.
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "s2c_version": (_U32, []),
    "s2c_strerror": (ctypes.c_char_p, [_STATUS]),
    "s2c_crc32c": (_U32, [_POINTER, _SIZE, _U32]),
    "s2c_tables_create": (
        _STATUS,
        [_U32, _POINTER, _POINTER, _POINTER, _POINTER, _U32, _HANDLE_OUT],
    ),
    "s2c_tables_simd": (ctypes.c_char_p, [_POINTER]),
    "s2c_tables_free": (None, [_POINTER]),
    "s2c_encode_bound": (_SIZE, [_SIZE]),
    "s2c_encode": (
        _STATUS,
        [_POINTER, ctypes.POINTER(EncodeOptions), _POINTER, _SIZE, _POINTER, _SIZE, _SIZE_OUT],
    ),
    "s2c_decoder_create": (_STATUS, [_POINTER, _POINTER, _SIZE, _HANDLE_OUT]),
    "s2c_decoder_set_threads": (None, [_POINTER, _U32]),
    "s2c_decoder_read": (_STATUS, [_POINTER, _POINTER, _SIZE, _POINTER]),
    "s2c_decoder_finish": (_STATUS, [_POINTER]),
    "s2c_decoder_get_info": (None, [_POINTER, ctypes.POINTER(DecoderInfo)]),
    "s2c_decoder_free": (None, [_POINTER]),
}


def _declare(lib: ctypes.CDLL) -> None:
    """Gives every function its signature; AttributeError if the library lacks one."""
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    major = lib.s2c_version() // 1000
    if major != ABI_VERSION:
        raise OSError(f"its interface version is {major}, this package needs {ABI_VERSION}")


def _directories() -> list[Path]:
    """Where the library may lie: beside this file, or in the other half of an editable install."""
    package = sys.modules[__package__]
    return [Path(__file__).parent, *map(Path, package.__path__)]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The loaded C library with its signatures declared.

    Raises :class:`EngineError` if the file is missing, cannot be loaded, or has another ABI version.
    """
    path = next((f for f in (d / LIBRARY_NAME for d in _directories()) if f.is_file()), None)
    if path is None:
        raise EngineError(
            f"the native coder is not built: {LIBRARY_NAME} is missing from s2c_deploy/entropy",
            hint="install the package with 'pip install .', or build native/ with CMake and copy it there",
        )
    try:
        lib = ctypes.CDLL(str(path))
        _declare(lib)
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"the native coder {LIBRARY_NAME} cannot be loaded: {error}",
            hint="it was built for another machine or version: reinstall the package",
        ) from error
    return lib


def as_bytes(data: Buffer) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``data`` as a flat uint8 array sharing its memory; :class:`InputError` if it is not contiguous."""
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise InputError("the array is not C-contiguous", hint="pass numpy.ascontiguousarray(array)")
        return data.reshape(-1).view(np.uint8)
    try:
        view = memoryview(data)
    except TypeError:
        raise InputError(f"expected bytes, found {type(data).__name__}") from None
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
