"""Where the time of a picture goes: the codec as it is, with a clock around its parts.

The codec holds no timers.  The benchmark hands it networks, a coder of tiles and a walk of the latent that stop a
clock.  Times are exclusive: a stage that calls another stands still meanwhile, so that
stages add up to the whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from s2c_deploy.arrays import FloatArray, Indexes, Pixels, Symbols
from s2c_deploy.codec.blocks import Area
from s2c_deploy.codec.choice import Choice
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.latent import LatentCoder
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.sliding import SlidingRows
from s2c_deploy.codec.tiles import TileCoder
from s2c_deploy.codec.transforms import Transforms
from s2c_deploy.entropy.coder import Decoder, Encoder
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.formats.grid import Tile
from s2c_deploy.presets import FULL
from s2c_deploy.runtime.runner import CallTimes, Runner

#: Stages of either direction, in the order of the work.  read: file to bytes; parse: container and checksums; entropy:
#: the coder; contexts: h_s and the context networks; latents: integers and floats between coder and networks; colour:
#: padding, cropping, rounding, uint8.
STAGES = {
    "decode": ("read", "parse", "entropy", "contexts", "latents", "g_s", "colour"),
    "encode": ("colour", "g_a", "contexts", "latents", "entropy"),
}


class StageClock:
    """Seconds by stage since the last ``take``; symbols: where a list, everything coded is appended to it."""

    def __init__(self) -> None:
        self.symbols: list[Symbols] | None = None
        self._seconds: dict[str, float] = {}
        self._calls: dict[str, CallTimes] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time inside counts for this stage, except what inner stages take for themselves."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """The seconds so far, and starts anew."""
        taken, self._seconds = self._seconds, {}
        return taken

    def record_calls(self, stage: str, calls: Sequence[CallTimes]) -> None:
        """Times of a stage's calls on a device, beside the host's."""
        for call in calls:
            device, enqueue = self._calls.get(stage, (0.0, 0.0))
            self._calls[stage] = CallTimes(device=device + call.device, enqueue=enqueue + call.enqueue)

    def take_calls(self) -> dict[str, CallTimes]:
        """The device's times by stage so far, and starts anew; none where nothing runs on one."""
        taken, self._calls = self._calls, {}
        return taken

    def record(self, symbols: Symbols) -> None:
        if self.symbols is not None:
            self.symbols.append(symbols.reshape(-1).copy())


def stage_of(graph: str) -> str:
    """The stage that a graph of a bundle belongs to."""
    return {"g_s": "g_s", "g_a": "g_a", "h_a": "g_a"}.get(graph.partition(".")[0], "contexts")


class TimedRunner(Runner):
    """A runner whose calls count for a stage."""

    def __init__(self, runner: Runner, clock: StageClock, stage: str) -> None:
        self.backend, self.provider, self.precision = runner.backend, runner.provider, runner.precision
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self._runner, self._clock, self._stage = runner, clock, stage
        runner.watch()

    def __call__(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        with self._clock.stage(self._stage):
            outputs = self._runner(inputs)
        self._clock.record_calls(self._stage, self._runner.take_times())
        return outputs

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return self._runner._run(inputs)

    def batch(self, rows: int, columns: int) -> int:
        return self._runner.batch(rows, columns)

    def close(self) -> None:
        self._runner.close()


class TimedNetworks(Networks):
    """The graphs of a bundle on one backend, with a clock around every call."""

    def __init__(
        self, bundle: Bundle, backend: str, clock: StageClock, *, threads: int, precision: str, synthesis: str = FULL
    ) -> None:
        super().__init__(bundle, backend, threads=threads, synthesis=synthesis, precision=precision)
        self.clock = clock

    def open_graph(self, graph: str) -> Runner:
        return TimedRunner(self.untimed(graph), self.clock, stage_of(graph))

    def untimed(self, graph: str) -> Runner:
        """The runner itself; a row that runs a graph in another way says so here."""
        return super().open_graph(graph)

    def running(self) -> dict[str, Runner]:
        """The runners that are open, by graph."""
        return dict(self._runners)


class _TimedDecoder:
    """A decoder of the entropy coder whose calls count for the stage ``entropy``."""

    def __init__(self, decoder: Decoder, clock: StageClock) -> None:
        self._decoder, self._clock = decoder, clock

    def read(self, indexes: Indexes, out: Symbols) -> Symbols:
        with self._clock.stage("entropy"):
            symbols = self._decoder.read(indexes, out)
        self._clock.record(symbols)
        return symbols

    def finish(self) -> None:
        with self._clock.stage("entropy"):
            self._decoder.finish()


class TimedLatents(LatentCoder):
    """The walk with a clock; everything coded is recorded."""

    def __init__(self, bundle: Bundle, networks: Networks, clock: StageClock) -> None:
        super().__init__(bundle, networks)
        self._clock = clock

    def encode(
        self, y: FloatArray, z: FloatArray, quality: float, encoders: Sequence[Encoder], choice: Choice | None = None
    ) -> FloatArray:
        with self._clock.stage("latents"):
            y_hat = super().encode(y, z, quality, encoders, choice)
        for encoder in encoders:
            for symbols, _ in encoder.batches:
                self._clock.record(symbols)
        return y_hat

    def decode(self, decoders: Sequence[Decoder], rows: int, columns: int, quality: float) -> FloatArray:
        timed = [cast(Decoder, _TimedDecoder(decoder, self._clock)) for decoder in decoders]
        with self._clock.stage("latents"):
            return super().decode(timed, rows, columns, quality)


class TimedTiles(TileCoder):
    """The coder of tiles with a clock."""

    def __init__(self, bundle: Bundle, networks: TimedNetworks) -> None:
        super().__init__(bundle, networks, latents=TimedLatents(bundle, networks, networks.clock))
        self._clock = networks.clock

    def decode(self, payloads: Sequence[bytes], part: Tile, quality: float) -> FloatArray:
        with self._clock.stage("entropy"):
            return super().decode(payloads, part, quality)


class TimedTransforms(Transforms):
    """g_a and g_s with a clock around what surrounds them."""

    def __init__(self, bundle: Bundle, networks: TimedNetworks) -> None:
        super().__init__(bundle, networks)
        self._clock = networks.clock

    def analyze(
        self, picture: SlidingRows[np.uint8], area: Area, size: tuple[int, int], quality: float, side: int
    ) -> FloatArray:
        with self._clock.stage("colour"):
            return super().analyze(picture, area, size, quality, side)


class TimedCodec:
    """A codec of timed parts: the same work, step by step."""

    def __init__(self, bundle: Bundle, networks: TimedNetworks, *, max_pixels: int | None = None) -> None:
        self.codec = Codec(
            bundle,
            networks,
            tiles=TimedTiles(bundle, networks),
            transforms=TimedTransforms(bundle, networks),
            max_pixels=max_pixels,
        )
        self.clock, self.runners, self._max_pixels = networks.clock, networks.running, max_pixels
        #: The graph of g_s.
        self.synthesis = networks.synthesis

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A picture to its stream; what is left of the outer stage is the coder's and the container's."""
        with self.clock.stage("entropy"):
            return self.codec.compress(pixels, quality)

    def decode(self, data: bytes) -> Pixels:
        """A stream to its picture; what is left of the outer stage is cropping, rounding and copying."""
        with self.clock.stage("parse"):
            stream = parse(data, max_pixels=self._max_pixels)
        with self.clock.stage("colour"):
            return self.codec.decompress_stream(stream)

    def close(self) -> None:
        self.codec.close()


def flat(batches: list[Symbols]) -> Symbols:
    """Recorded symbols as one array."""
    return np.concatenate(batches) if batches else np.zeros(0, np.int16)
