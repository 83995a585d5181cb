"""What a process of a batch does: a file at a time, from its bytes to the result's, and a row of what became of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from s2c_deploy.batch.places import open_place
from s2c_deploy.batch.request import Request, Task
from s2c_deploy.batch.table import Row, pending, shown
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.codecs import Codecs
from s2c_deploy.errors import BundleError, S2CError
from s2c_deploy.failure import as_failure
from s2c_deploy.files import MAX_BYTES
from s2c_deploy.formats.bitstream import Stream, parse
from s2c_deploy.host import memory_to_take, usable_processors
from s2c_deploy.image import Image, decode_image, encode_image

#: Bytes of a picture's file.
_MOST_OF_A_PICTURE = 2**32


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A result, and the stream's size that its bits per pixel are of."""

    data: bytes
    width: int
    height: int
    stream_bytes: int


class Worker:
    """Codecs of its own, and the two places.  Used by one thread.

    fingerprint: of the bundle that must be found at ``request.bundle``, in hex; None where pictures are written, whose
    streams say theirs.  Raises what ``Codec.open`` does.
    """

    def __init__(self, request: Request, fingerprint: str | None) -> None:
        self._request = request
        self._source, self._target = open_place(request.source), open_place(request.target)
        self._readers = Codecs(
            # What transcodes reads streams of whatever bundle, and writes those of one.
            bundle=request.bundle if request.operation == "decompress" else None,
            backend=request.backend,
            threads=request.threads,
            synthesis=request.synthesis,
            precision=request.precision,
            memory_limit=_share_of_memory(request),
        )
        self._writer = None if fingerprint is None else _open_writer(request, fingerprint)
        self._make: Callable[[bytes], _Made] = {
            "compress": self._compress,
            "decompress": self._decompress,
            "transcode": self._transcode,
        }[request.operation]
        self.name = shown(f"{socket.gethostname()}:{os.getpid()}")

    def do(self, task: Task) -> Row:
        """Reads, codes and writes a file; whatever goes wrong with it is in the row."""
        limit = _MOST_OF_A_PICTURE if self._request.operation == "compress" else MAX_BYTES
        started = time.perf_counter()
        try:
            made = self._make(self._source.read(task.source, limit=limit))
            self._target.write(task.target, made.data)
        except Exception as error:
            return failed(task, as_failure(error, "this file"), worker=self.name, seconds=time.perf_counter() - started)
        return replace(
            pending(task),
            bytes=len(made.data),
            width=made.width,
            height=made.height,
            bpp=round(made.stream_bytes * 8 / (made.width * made.height), 5),
            seconds=round(time.perf_counter() - started, 4),
            worker=self.name,
        )

    def _compress(self, data: bytes) -> _Made:
        asked = self._request
        image = decode_image(data, background=asked.background, max_pixels=asked.most_pixels, drop_icc=asked.drop_icc)
        return self._encode(image)

    def _decompress(self, data: bytes) -> _Made:
        stream = parse(data, max_pixels=self._request.max_pixels)
        image = self._decode(stream, self._readers.of(stream))
        written = encode_image(image, self._request.suffix)
        return _Made(data=written, width=image.width, height=image.height, stream_bytes=len(data))

    def _transcode(self, data: bytes) -> _Made:
        stream = parse(data, max_pixels=self._request.max_pixels)
        assert self._writer is not None
        mine = self._writer.bundle.reads(stream.fingerprint)
        return self._encode(self._decode(stream, self._writer if mine else self._readers.of(stream)))

    def _decode(self, stream: Stream, codec: Codec) -> Image:
        exif = None if self._request.strip_metadata else stream.exif
        return Image(pixels=codec.decompress_stream(stream), icc=stream.icc, exif=exif)

    def _encode(self, image: Image) -> _Made:
        asked = self._request
        assert self._writer is not None
        exif = None if asked.strip_metadata else image.exif
        data = self._writer.compress(
            image.pixels, asked.quality, tile=asked.tile, icc=image.icc, exif=exif, effort=asked.effort
        )
        return _Made(data=data, width=image.width, height=image.height, stream_bytes=len(data))

    def close(self) -> None:
        self._readers.close()
        if self._writer is not None:
            self._writer.close()


def failed(task: Task, error: S2CError, *, worker: str | None = None, seconds: float | None = None) -> Row:
    """The row of a file that could not be done."""
    return replace(
        pending(task),
        error=shown(str(error)),
        exit_code=error.exit_code,
        worker=worker,
        seconds=None if seconds is None else round(seconds, 4),
    )


def _share_of_memory(request: Request) -> int:
    """What a worker's transforms may take where as many work as there are processors for."""
    return memory_to_take() // max(1, usable_processors() // max(1, request.threads))


def _open_writer(request: Request, fingerprint: str) -> Codec:
    assert request.bundle is not None
    codec = Codec.open(
        request.bundle,
        request.backend,
        threads=request.threads,
        max_pixels=request.max_pixels,
        memory_limit=_share_of_memory(request),
    )
    if codec.bundle.fingerprint.hex() != fingerprint:
        codec.close()
        raise BundleError(
            f"{request.bundle} on {socket.gethostname()}: expected the bundle {fingerprint[:16]}, "
            f"found {codec.bundle.fingerprint.hex()[:16]}",
            hint="every machine needs the same bundle at the same path",
        )
    codec.load(decoder=request.operation == "transcode")
    return codec
