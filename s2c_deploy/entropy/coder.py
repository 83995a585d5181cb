"""The C coder behind three small classes.

::

    with Tables(gaussian_tables()) as tables:
        encoder = Encoder(tables)
        encoder.push(symbols, indexes)          # once per batch
        payload = encoder.finish()

        decoder = Decoder(tables, payload)
        symbols = decoder.read(indexes)         # once per batch, in the same order and sizes
        decoder.finish()                        # only now are the symbols to be trusted

Arrays go to C without a copy and the GIL is released meanwhile.  One ``Tables`` may serve any number of
threads; an ``Encoder`` or a ``Decoder`` belongs to one thread at a time.  All three hold native memory: they
cannot be copied or pickled, and closing waits for the threads that are in C.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.entropy.native import Buffer, DecoderInfo, EncodeOptions, as_bytes, library
from s2c_deploy.entropy.tables import FrequencyTables
from s2c_deploy.errors import BitstreamError, BundleError, EngineError, InputError, OutOfMemoryError
from s2c_deploy.lifetime import Lifetime, NotCopied

MAX_LANES_LOG2, MAX_PARTS_LOG2 = 6, 3
MAX_THREADS = 4096
_AUTO = 255

# s2c_status of native/include/s2c.h: only the values that this module tells apart.
_OK, _MEMORY = 0, 2
_INDEX, _SYMBOL, _SKIPPED, _SIMD = 4, 5, 6, 7


def _message(status: int) -> str:
    return str(library().s2c_strerror(status).decode("ascii"))


class Tables(NotCopied):
    """Frequency tables in the form the C coder reads: checked once, read-only, shared among threads.

    Raises :class:`BundleError` if the C library refuses them, :class:`EngineError` if the library is missing or the
    environment variable ``S2C_SIMD`` asks for instructions that it does not know or cannot use here,
    :class:`OutOfMemoryError` if memory does not suffice.
    """

    def __init__(self, tables: FrequencyTables) -> None:
        self._handle: int | None = None
        if not isinstance(tables, FrequencyTables):
            raise InputError(f"tables must be FrequencyTables, found {type(tables).__name__}")
        self.lifetime = Lifetime("set of tables")
        self.frequencies = tables
        handle = ctypes.c_void_p()
        status = library().s2c_tables_create(
            tables.count,
            tables.sizes.ctypes.data,
            tables.freqs.ctypes.data,
            tables.centers.ctypes.data,
            tables.shifts.ctypes.data,
            tables.skip_below,
            ctypes.byref(handle),
        )
        if status == _MEMORY:
            raise OutOfMemoryError("the coder's tables")
        if status == _SIMD:
            raise EngineError(
                f"no coder for S2C_SIMD={os.environ.get('S2C_SIMD')}: {_message(status)}",
                hint="unset S2C_SIMD to take the fastest that runs here, or set it to scalar",
            )
        if status != _OK:
            raise BundleError(f"bad tables: {_message(status)}")
        self._handle = handle.value

    @property
    def handle(self) -> int:
        """The C pointer, good while ``lifetime`` is in use.  Raises :class:`InputError` after :meth:`close`."""
        if self._handle is None:
            raise InputError("these tables are closed")
        return self._handle

    @property
    def simd(self) -> str:
        """The instructions that code with these tables: ``avx2``, ``neon`` or ``scalar``.  All give the same bytes."""
        with self.lifetime.use():
            return str(library().s2c_tables_simd(self.handle).decode("ascii"))

    def close(self) -> None:
        """Frees the C object once no encoder or decoder is in C with it; afterwards they raise :class:`InputError`.

        Closing twice is allowed.
        """
        if self.lifetime.close() and self._handle is not None:
            handle, self._handle = self._handle, None
            library().s2c_tables_free(handle)

    def __enter__(self) -> Tables:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()


_INT16, _UINT8 = np.dtype(np.int16), np.dtype(np.uint8)
_Byte = ctypes.c_char * 1


def _check_array(array: object, wanted: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    """``array`` if it is a C-contiguous numpy array of this dtype, else :class:`InputError`."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} must be a numpy array of {wanted}, found {type(array).__name__}")
    if array.dtype != wanted:
        raise InputError(f"{name} must be {wanted}, found {array.dtype}")
    if not array.flags.c_contiguous:
        raise InputError(f"{name} must be C-contiguous", hint="pass numpy.ascontiguousarray(array)")
    return array


def _address(array: Any, wanted: np.dtype[Any], name: str) -> int:
    """Where ``array`` begins, if :func:`_check_array` has nothing against it.

    The usual array, writable and not empty, takes a short cut: coding a batch may take no longer than these checks.
    """
    if type(array) is np.ndarray and array.dtype is wanted:
        try:
            return ctypes.addressof(_Byte.from_buffer(array))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass  # read-only, empty or not contiguous
    return int(_check_array(array, wanted, name).ctypes.data)


def _check_threads(threads: object) -> None:
    if not isinstance(threads, int) or not 0 <= threads <= MAX_THREADS:
        raise InputError(f"threads must be 0 to {MAX_THREADS}, found {threads!r:.40}")


class Encoder(NotCopied):
    """Collects batches and codes them into one payload.

    The coder works backward from the last symbol, so nothing is coded before :meth:`finish`; until then the
    encoder keeps references to the arrays, which must not be changed.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._batches: list[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]] = []
        self._table: list[int] = []  # the same as s2c_batch: two addresses and a count, each as large as a pointer

    @property
    def batches(self) -> tuple[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]], ...]:
        """What was pushed since the last :meth:`finish`: symbols and indexes of every batch."""
        return tuple(self._batches)

    def push(self, symbols: npt.NDArray[np.int16], indexes: npt.NDArray[np.uint8]) -> None:
        """Adds a batch: ``symbols`` int16 and ``indexes`` uint8, C-contiguous, of the same shape.

        Raises :class:`InputError` for any other kind of array.
        """
        addresses = _address(symbols, _INT16, "symbols"), _address(indexes, _UINT8, "indexes")
        if symbols.shape != indexes.shape:
            raise InputError(f"symbols and indexes differ in shape: {symbols.shape} and {indexes.shape}")
        self._batches.append((symbols, indexes))
        self._table += (*addresses, symbols.size)

    def finish(self, lanes_log2: int | None = None, parts_log2: int | None = None, *, threads: int = 1) -> bytes:
        """Codes everything pushed so far into one payload and leaves the encoder empty.

        ``lanes_log2`` 0..6 sets the number of lanes and ``parts_log2`` 0..3 the number of parts, which threads can code
        side by side; ``None`` chooses by the expected size.  ``threads`` are used if there are parts; the payload does
        not depend on them.  Raises :class:`InputError` for an index without a table, a symbol outside [-32767, 32767],
        or a symbol other than zero under a skipped index.
        """
        for name, value, most in (("lanes", lanes_log2, MAX_LANES_LOG2), ("parts", parts_log2, MAX_PARTS_LOG2)):
            if value is not None and not (isinstance(value, int) and 0 <= value <= most):
                raise InputError(f"{name}_log2 must be 0 to {most}, found {value!r:.40}")
        _check_threads(threads)
        lib = library()
        kept, self._batches = self._batches, []
        table, self._table = (ctypes.c_size_t * len(self._table))(*self._table), []
        out = np.empty(lib.s2c_encode_bound(sum(table[2::3])), np.uint8)
        written = ctypes.c_size_t()
        with self._tables.lifetime.use():
            status = lib.s2c_encode(
                self._tables.handle,
                EncodeOptions(
                    _AUTO if lanes_log2 is None else lanes_log2, _AUTO if parts_log2 is None else parts_log2, threads
                ),
                table,
                len(kept),
                out.ctypes.data,
                out.size,
                ctypes.byref(written),
            )
        if status == _MEMORY:
            raise OutOfMemoryError(f"coding {sum(table[2::3])} symbols")
        if status in (_INDEX, _SYMBOL, _SKIPPED):
            raise InputError(f"cannot encode: {_message(status)}")
        if status != _OK:
            raise EngineError(f"the native coder failed: {_message(status)}")
        return out[: written.value].tobytes()


# What is expected of each part of a payload: status -> (field, expected).  What was found is filled in
# from the decoder's position by _payload_error.
_PAYLOAD_ERRORS: dict[int, tuple[str, str]] = {
    32: ("coder lanes", "a lane byte of 0 to 6"),
    33: ("coder split", "a split in its shortest form, where the tail fills the other lanes"),
    34: ("coder states", "four bytes per lane"),
    35: ("coder states", "states of 32768 to 2147483647"),
    36: ("coder words", "a word for every symbol that needs one"),
    37: ("coder bypass", "a bit for every escape and raw bit"),
    38: ("coder symbols", "symbols in [-32767, 32767]"),
    39: ("coder body", "words and bypass that meet"),
    40: ("coder final state", "a state that an encoder starts from in every lane"),
    41: ("coder bypass padding", "zero bits"),
    42: ("coder parts", "2, 4 or 8 parts of sizes that the payload holds"),
}


def _payload_error(status: int, size: int, info: DecoderInfo | None) -> BitstreamError:
    field, expected = _PAYLOAD_ERRORS[status]
    found = f"{_message(status)} ({size} bytes"
    if info is not None:
        found += (
            f", {info.words_read} words and {info.bypass_bits_read} bypass bits read from a body of "
            f"{info.body_bytes} bytes"
        )
    return BitstreamError(field, expected=expected, found=found + ")")


class Decoder(NotCopied):
    """Decodes one payload, batch by batch; with up to ``threads`` threads if it is large enough to have parts.

    Raises :class:`BitstreamError` if the head of the payload is malformed.  After any error the decoder
    stays in it.  A call while another thread is in one is an :class:`InputError`.
    """

    def __init__(self, tables: Tables, payload: Buffer, *, threads: int = 1) -> None:
        self._handle: int | None = None
        _check_threads(threads)
        if not isinstance(tables, Tables):
            raise InputError(f"tables must be Tables, found {type(tables).__name__}")
        self._tables = tables
        self._payload = as_bytes(payload)  # the C object reads it in place
        self._read = library().s2c_decoder_read
        self._one = threading.Lock()
        handle = ctypes.c_void_p()
        with tables.lifetime.use():
            status = library().s2c_decoder_create(
                tables.handle, self._payload.ctypes.data, self._payload.size, ctypes.byref(handle)
            )
        self._handle = handle.value
        self._check(status)
        if threads > 1:
            library().s2c_decoder_set_threads(self._handle, threads)

    def read(self, indexes: npt.NDArray[np.uint8], out: npt.NDArray[np.int16] | None = None) -> npt.NDArray[np.int16]:
        """The symbols of the next batch: int16 of the shape of ``indexes`` (uint8, C-contiguous).

        ``out`` receives them if given (int16, C-contiguous, the same shape).  Raises
        :class:`BitstreamError` if the payload does not hold them, :class:`InputError` for wrong arrays or
        an index without a table.
        """
        source = _address(indexes, _UINT8, "indexes")
        if out is None:
            out = np.empty(indexes.shape, _INT16)
        target = _address(out, _INT16, "out")
        if not out.flags.writeable:
            raise InputError("out must be writable, found a read-only array", hint="pass out.copy()")
        if out.shape != indexes.shape:
            raise InputError(f"out and indexes differ in shape: {out.shape} and {indexes.shape}")
        with self._alone():
            status = self._read(self._handle, source, indexes.size, target)
            if status != _OK:
                self._check(status)
        return out

    def finish(self) -> None:
        """Checks that the payload ended with the last symbol; raises :class:`BitstreamError` if not."""
        with self._alone():
            self._check(library().s2c_decoder_finish(self._handle))

    def info(self) -> DecoderInfo:
        """Where the decoder stands (``s2c_decoder_info`` of s2c.h)."""
        with self._alone():
            return self._info()

    def _info(self) -> DecoderInfo:
        info = DecoderInfo()
        library().s2c_decoder_get_info(self._handle, ctypes.byref(info))
        return info

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other threads out, and the tables open."""
        if not self._one.acquire(blocking=False):
            raise InputError("this decoder is reading in another thread", hint="make one for each thread")
        try:
            with self._tables.lifetime.use():
                yield
        finally:
            self._one.release()

    def _check(self, status: int) -> None:
        if status == _OK:
            return
        if status == _MEMORY:
            raise OutOfMemoryError("the coder's state")
        if status == _INDEX:
            raise InputError(f"cannot decode: {_message(status)}")
        if status not in _PAYLOAD_ERRORS:
            raise EngineError(f"the native coder failed: {_message(status)}")
        raise _payload_error(status, self._payload.size, self._info() if self._handle is not None else None)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            library().s2c_decoder_free(self._handle)
            self._handle = None
