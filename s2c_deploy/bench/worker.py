"""A process for every row: its memory, threads and crashes are its own, and rows can take turns."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from s2c_deploy.arrays import Pixels, Symbols
from s2c_deploy.bench.parity import same_symbols
from s2c_deploy.bench.row import Pipeline, Row
from s2c_deploy.bench.stages import TimedCodec, flat
from s2c_deploy.errors import DependencyError, EngineError, InputError, S2CError
from s2c_deploy.files import no_room_for
from s2c_deploy.runtime.runner import CallTimes


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where a row runs."""

    #: Its folder.
    bundle: Path
    #: The model's folder, or None.
    weights: Path | None
    #: 0 is the engine's choice.
    threads: int
    #: For its own files.
    folder: Path
    #: Of its environment.
    variables: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to code."""

    name: str
    #: Its pixels as .npy.
    picture: Path
    #: Written by the row itself if it has streams of its own.
    stream: Path
    quality: float


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A row that is ready."""

    #: What the engines say that they run on.
    providers: tuple[str, ...]
    #: Of g_s.
    precision: str
    #: Import, checks and compiling.
    seconds: float
    #: Resident memory of the process afterwards.
    megabytes: float | None


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A stream as its encoder made it."""

    #: In bytes.
    size: int
    #: int16, in coding order.
    symbols: Symbols
    #: The encoder's own.
    reconstruction: Pixels


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One decoding and the seconds it took."""

    symbols: Symbols
    pixels: Pixels
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One timed call."""

    seconds: float
    #: Seconds of each stage.
    stages: Mapping[str, float]
    #: The device's own times of stages that ran on one.
    calls: Mapping[str, CallTimes]


class RowLostError(Exception):
    """A row cannot go on; the message is its reason.  error: the same as InputError, where it is one."""

    def __init__(self, reason: str, error: InputError | None = None) -> None:
        super().__init__(reason)
        self.error = error


class _Session:
    """What happens inside the process; every public method is a command."""

    def __init__(self, row: Row, setup: Setup) -> None:
        os.environ.update(setup.variables)
        self._row, self._setup = row, setup
        self._pipeline: Pipeline | None = None
        self._device_before: float | None = None

    @property
    def _coder(self) -> Pipeline:
        assert self._pipeline is not None, "open comes first"
        return self._pipeline

    def open(self, encoder: bool) -> Opened:
        """Opens the decoder's graphs, and the encoder's where they will be timed."""
        self._device_before = _device_memory() if self._row.gpu else None
        started = time.perf_counter()
        self._pipeline = self._row.open(self._setup.bundle, self._setup.weights, self._setup.threads)
        if isinstance(self._pipeline, TimedCodec):
            self._pipeline.codec.load(encoder=encoder)
        seconds = time.perf_counter() - started
        return Opened(**_identity(self._pipeline), seconds=seconds, megabytes=memory("VmRSS"))

    def encode(self, job: Job) -> Coded:
        """Codes a picture into its stream file."""
        pixels = np.load(job.picture)
        data, symbols = self._recorded(lambda: self._coder.encode(pixels, job.quality))
        try:
            job.stream.write_bytes(data)
        except OSError as error:
            raise no_room_for(job.stream, error) from error
        coded = Coded(size=len(data), symbols=symbols, reconstruction=self._reconstruct(pixels, job, data))
        _forget_peak()
        return coded

    def _reconstruct(self, pixels: Pixels, job: Job, data: bytes) -> Pixels:
        codec = self._coder
        return codec.codec.reconstruct(pixels, job.quality) if isinstance(codec, TimedCodec) else codec.decode(data)

    def decode(self, job: Job) -> Decoded:
        """Decodes a stream file, and keeps the symbols."""
        started = time.perf_counter()
        pixels, symbols = self._recorded(lambda: self._coder.decode(job.stream.read_bytes()))
        return Decoded(symbols=symbols, pixels=pixels, seconds=time.perf_counter() - started)

    def round_trip(self, job: Job) -> str | None:
        """Why the row's own stream of a picture does not decode to what it coded, or None."""
        pixels = np.load(job.picture)
        data, pushed = self._recorded(lambda: self._coder.encode(pixels, job.quality))
        _, read = self._recorded(lambda: self._coder.decode(data))
        return same_symbols(pushed, read)

    def _recorded(self, call: Any) -> tuple[Any, Symbols]:
        clock = self._coder.clock
        clock.symbols = []
        try:
            return call(), flat(clock.symbols)
        finally:
            clock.symbols = None

    def time(self, operation: str, jobs: tuple[Job, ...], seconds: float, count: int) -> list[Sample]:
        """One call that does not count, then at least ``count`` calls and ``seconds``, through the jobs in turn."""
        pixels = {job.picture: np.load(job.picture) for job in jobs} if operation == "encode" else {}
        self._call(operation, jobs[0], pixels)
        samples: list[Sample] = []
        gc.collect()
        started = time.perf_counter()
        while len(samples) < count or time.perf_counter() - started < seconds:
            samples.append(self._call(operation, jobs[len(samples) % len(jobs)], pixels))
        return samples

    def _call(self, operation: str, job: Job, pixels: Mapping[Path, Pixels]) -> Sample:
        clock = self._coder.clock
        clock.take()
        clock.take_calls()
        started = time.perf_counter()
        if operation == "encode":
            self._coder.encode(pixels[job.picture], job.quality)
        else:
            with clock.stage("read"):
                data = job.stream.read_bytes()
            self._coder.decode(data)
        seconds = time.perf_counter() - started
        return Sample(seconds=seconds, stages=clock.take(), calls=clock.take_calls())

    def count(self, jobs: tuple[Job, ...], seconds: float) -> tuple[int, float]:
        """Pictures decoded within ``seconds``, and the seconds really spent."""
        samples = self.time("decode", jobs, seconds, 1)
        return len(samples), sum(sample.seconds for sample in samples)

    def peak(self) -> float | None:
        """Largest resident memory of the process so far, megabytes (10^6 bytes)."""
        return memory("VmHWM")

    def device_growth(self) -> float | None:
        """Megabytes that the device has less since before the row was opened, for a row that runs on one: graphs and
        buffers, but not the CUDA context itself."""
        if self._device_before is None or (taken := _device_memory()) is None:
            return None
        return taken - self._device_before

    def close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.close()


def _identity(pipeline: Pipeline) -> dict[str, Any]:
    """Providers and precision as the open engines report them."""
    if isinstance(pipeline, TimedCodec):
        runners = pipeline.runners()
        precisions = {name: runner.precision for name, runner in runners.items()}
        providers = tuple(dict.fromkeys(runner.provider for runner in runners.values()))
        return {"providers": providers, "precision": precisions[pipeline.synthesis]}
    return {"providers": (getattr(pipeline, "provider", ""),), "precision": getattr(pipeline, "precision", "float32")}


def memory(field: str) -> float | None:
    """A line of /proc/self/status in megabytes.  Not getrusage, whose peak a child takes over from its parent."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def _device_memory() -> float | None:
    """Megabytes of the GPU that are taken; None without cuda-bindings, which ONNX Runtime's rows do not need."""
    from s2c_deploy.tensorrt.cuda_memory import load_cuda, used_memory

    try:
        return used_memory(load_cuda()) / 1e6
    except (DependencyError, EngineError):
        return None


def _forget_peak() -> None:
    """Starts VmHWM anew (proc(5), clear_refs): coding the row's own streams must not count for decoding them."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _serve(connection: Connection, row: Row, setup: Setup) -> None:
    session = _Session(row, setup)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            command, arguments = connection.recv()
            try:
                connection.send((True, getattr(session, command)(*arguments)))
            except InputError as error:
                connection.send((False, (error.message, error.hint)))
            except S2CError as error:
                connection.send((False, str(error)))
            except Exception as error:
                connection.send((False, f"{type(error).__name__}: {error}"))
            if command == "close":
                return


class Worker:
    """The process of a row, seen from outside.  Commands raise RowLostError with the reason when they fail."""

    def __init__(self, row: Row, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, row, setup), daemon=True)
        self._process.start()
        far.close()

    def ask(self, command: str, *arguments: Any) -> Any:
        """Runs a command and waits for its result."""
        self.start(command, *arguments)
        return self.result()

    def start(self, command: str, *arguments: Any) -> None:
        """Sends a command; ``result`` waits for it."""
        try:
            self._connection.send((command, arguments))
        except OSError:
            raise RowLostError(self._ended()) from None

    def result(self) -> Any:
        try:
            right, result = self._connection.recv()
        except (EOFError, OSError):
            raise RowLostError(self._ended()) from None
        if not right and isinstance(result, tuple):
            error = InputError(result[0], hint=result[1])
            raise RowLostError(str(error), error)
        if not right:
            raise RowLostError(result)
        return result

    def _ended(self) -> str:
        self._process.join(5)
        code = self._process.exitcode
        return f"its process ended with exit code {code}" + (", killed: out of memory?" if code == -9 else "")

    def close(self) -> None:
        """Ends the process; a second time does nothing."""
        if self._process.is_alive():
            with contextlib.suppress(RowLostError):
                self.ask("close")
            self._process.join(5)
            if self._process.is_alive():
                self._process.terminate()
        self._connection.close()
