"""The streams that all rows decode: every picture at every quality, coded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.cases import Case, Source
from s2c_deploy.bench.request import Request
from s2c_deploy.bench.result import Measured
from s2c_deploy.bench.rows import known_rows, open_engine
from s2c_deploy.bench.worker import Coded, Job, RowLostError, Setup, Worker
from s2c_deploy.errors import EngineError
from s2c_deploy.files import no_room_for
from s2c_deploy.presets import FULL


@dataclass(frozen=True, kw_only=True)
class CodedPicture:
    """One picture's stream at one quality."""

    job: Job
    coded: Coded
    #: What the encoder's own backend makes of the stream, by the name of the g_s.
    reconstructions: dict[str, Pixels]


#: By the name of the case and the picture's position in the list of sources.
Streams = dict[tuple[str, int], CodedPicture]


def make_streams(request: Request, cases: Sequence[Case], folder: Path, *, backend: str) -> Streams:
    """Codes all pictures into a folder.  EngineError where the backend cannot."""
    setup = Setup(bundle=request.bundle, weights=None, threads=0, folder=folder, variables={})
    worker = Worker(known_rows()[backend], setup)
    streams: Streams = {}
    try:
        worker.ask("open", True)
        for number, source in enumerate(request.sources):
            _save(folder / f"{number}.npy", source)
        for case in cases:
            for number in case.sources:
                job = Job(
                    name=request.sources[number].name,
                    picture=folder / f"{number}.npy",
                    stream=folder / f"{number}-{case.quality:g}.s2c",
                    quality=case.quality,
                )
                coded: Coded = worker.ask("encode", job)
                known = {FULL: coded.reconstruction}
                streams[case.name, number] = CodedPicture(job=job, coded=coded, reconstructions=known)
    except RowLostError as lost:
        if lost.error is not None:  # a full disk, not the engine
            raise lost.error from None
        raise EngineError(f"{backend} cannot code the pictures: {lost}") from None
    finally:
        worker.close()
    for name in {row.synthesis for row in request.rows} - {FULL}:
        _draw(streams, name, setup, backend=backend)
    return streams


def _draw(streams: Streams, synthesis: str, setup: Setup, *, backend: str) -> None:
    """Decodes every stream with another g_s, on the encoder's backend: what rows with that one are held against."""
    row = replace(
        known_rows()[backend],
        synthesis=synthesis,
        open=partial(open_engine, backend=backend, synthesis=synthesis),
    )
    worker = Worker(row, setup)
    try:
        worker.ask("open", False)
        for stream in streams.values():
            stream.reconstructions[synthesis] = worker.ask("decode", stream.job).pixels
    except RowLostError as lost:
        raise EngineError(f"{backend} cannot draw with the g_s called {synthesis}: {lost}") from None
    finally:
        worker.close()


def _save(path: Path, source: Source) -> None:
    try:
        np.save(path, source.pixels)
    except OSError as error:
        raise no_room_for(path, error) from error


def measured(case: Case, sources: Sequence[Source], streams: Streams) -> Measured:
    """A case as it was run: its pictures, and what their streams are."""
    shared = [streams[case.name, number] for number in case.sources]
    return Measured(
        name=case.name,
        width=case.width,
        height=case.height,
        quality=case.quality,
        pictures=tuple(sources[number].name for number in case.sources),
        sha256=tuple(hashlib.sha256(stream.job.stream.read_bytes()).hexdigest() for stream in shared),
        size=sum(stream.coded.size for stream in shared),
        pixels=sum(sources[number].pixels.shape[0] * sources[number].pixels.shape[1] for number in case.sources),
    )
