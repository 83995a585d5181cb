"""Codecs for streams of whatever bundles."""

from __future__ import annotations

from pathlib import Path

from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import OutOfMemoryError, S2CError
from s2c_deploy.formats.bitstream import Stream
from s2c_deploy.formats.finding import BundleFinder


class Codecs:
    """A codec for each bundle that a stream is of, opened at its first one.  Used by one thread."""

    def __init__(
        self,
        *,
        bundle: Path | None,
        backend: str,
        threads: int,
        synthesis: str,
        precision: str,
        memory_limit: int | None = None,
    ) -> None:
        self._finder = BundleFinder(bundle)
        self._backend, self._threads = backend, threads
        self._synthesis, self._precision, self._memory_limit = synthesis, precision, memory_limit
        self._opened: dict[Path, Codec] = {}
        self._failed: dict[Path, S2CError] = {}

    def of(self, stream: Stream) -> Codec:
        """InputError, BitstreamError, BundleError, EngineError or DependencyError, the same for every stream of a
        bundle that cannot be opened."""
        folder = self._finder.find(stream.fingerprint, f"{stream.variant}-{stream.preset}")
        if folder in self._failed:
            raise self._failed[folder]
        if folder not in self._opened:
            try:
                codec = Codec.open(
                    folder,
                    self._backend,
                    threads=self._threads,
                    synthesis=self._synthesis,
                    precision=self._precision,
                    memory_limit=self._memory_limit,
                )
            except OutOfMemoryError:  # may fit when other pictures are gone
                raise
            except S2CError as error:
                self._failed[folder] = error
                raise
            self._opened[folder] = codec
            codec.check_stream(stream)
            codec.load(encoder=False)
        return self._opened[folder]

    def close(self) -> None:
        for codec in self._opened.values():
            codec.close()
