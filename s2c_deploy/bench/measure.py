"""The benchmark as one list of steps: streams, rows opened and held against them, rounds in turns, throughput."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from s2c_deploy.bench.cases import Case, Source, group
from s2c_deploy.bench.parity import judge
from s2c_deploy.bench.request import Request
from s2c_deploy.bench.result import Benchmark, RowResult, Series, Throughput
from s2c_deploy.bench.row import Row
from s2c_deploy.bench.streams import CodedPicture, Streams, make_streams, measured
from s2c_deploy.bench.worker import Coded, Decoded, Job, Opened, RowLostError, Sample, Setup, Worker
from s2c_deploy.errors import InputError
from s2c_deploy.files import no_room_for, temporary_folder
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.host import usable_processors
from s2c_deploy.progress import Progress, Steps, silent
from s2c_deploy.report import environment
from s2c_deploy.runtime import choose_backend
from s2c_deploy.runtime.runner import CallTimes


@dataclass(kw_only=True)
class _Entrant:
    """A row with its process and what it gave so far."""

    row: Row
    setup: Setup
    result: RowResult
    worker: Worker | None = None
    samples: dict[tuple[str, str], list[tuple[int, Sample]]]

    def lose(self, reason: str) -> None:
        """The reason stays; the times go."""
        self.result = replace(self.result, failure=reason)
        self.samples.clear()
        self.close()

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def run_benchmark(request: Request, progress: Progress = silent) -> Benchmark:
    """Runs everything; InputError, BundleError or EngineError where nothing can be measured at all.

    A row that fails, decodes something else, or dies loses its times and keeps its reason; the others go on.
    """
    if not request.rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in request.left_out.items())
        raise InputError("no row can be measured here", hint=reasons or "name one with --backends")
    bundle = open_bundle(request.bundle)
    surroundings = environment.describe(bundle)
    cases = group(request.sources, request.qualities)
    steps = Steps(progress, total=1 + len(request.rows) * len(request.threads) * (2 + request.rounds))
    maker = choose_backend("auto")  # of the streams that all rows read
    with temporary_folder("s2c-bench-") as folder:
        steps(f"encoding with {maker}")
        streams = make_streams(request, cases, folder, backend=maker)
        with _entrants(request, folder) as entrants:
            for entrant in entrants:
                steps(f"opening {entrant.result.name}")
                _open(entrant, request, cases, streams)
            _take_rounds(entrants, request, cases, streams, steps)
            for entrant in entrants:
                steps(f"closing {entrant.result.name}")
                _finish(entrant, request, cases, streams)
        coded = tuple(measured(case, request.sources, streams) for case in cases)
    surroundings["load_after"] = environment.load()
    return Benchmark(
        request=request.as_record(),
        environment=surroundings,
        encoder=maker,
        cases=coded,
        rows=tuple(entrant.result for entrant in entrants),
        left_out=request.left_out,
    )


@contextmanager
def _entrants(request: Request, folder: Path) -> Iterator[list[_Entrant]]:
    entrants = []
    for threads in request.threads:
        for row in request.rows:
            own = folder / f"{row.name}-{threads}"
            try:
                own.mkdir()
            except OSError as error:
                raise no_room_for(own, error) from error
            # compiled kernels are made anew: a run must not depend on what an earlier one left behind
            variables = {"TORCHINDUCTOR_CACHE_DIR": str(own / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            setup = Setup(
                bundle=request.bundle, weights=request.weights, threads=threads, folder=own, variables=variables
            )
            name = row.name if len(request.threads) == 1 else f"{row.name}, {threads or 'auto'} threads"
            result = RowResult(name=name, kind=row.kind, description=row.description, threads=threads)
            entrants.append(_Entrant(row=row, setup=setup, result=result, samples={}))
    try:
        yield entrants
    finally:
        for entrant in entrants:
            entrant.close()


def _open(entrant: _Entrant, request: Request, cases: Sequence[Case], streams: Streams) -> None:
    """Opens a row and holds every picture against its encoder; one that fails loses the row."""
    entrant.worker = Worker(entrant.row, entrant.setup)
    try:
        opened: Opened = entrant.worker.ask("open", request.encode)
        entrant.result = replace(
            entrant.result,
            ran=opened.providers,
            precision=opened.precision,
            fallback=_fallback(entrant.row, opened),
            load_seconds=opened.seconds,
            loaded_megabytes=opened.megabytes,
        )
        for case in cases:
            for number in case.sources:
                _check(entrant, case, request.sources[number], streams[case.name, number])
                if entrant.result.failure is not None:
                    return
            if request.encode:
                reason = entrant.worker.ask("round_trip", streams[case.name, case.sources[0]].job)
                if reason is not None:
                    raise RowLostError(f"{case.name}: {reason}")
        # Rows are opened one after another: what the device has less now is this row's.
        entrant.result = replace(entrant.result, device_megabytes=entrant.worker.ask("device_growth"))
    except RowLostError as lost:
        entrant.lose(str(lost))


def _fallback(row: Row, opened: Opened) -> str | None:
    """That something else ran than was asked for."""
    strangers = [provider for provider in opened.providers if row.wants.lower() not in provider.lower()]
    if strangers:
        return f"asked for {row.wants}, ran {', '.join(strangers)}"
    if opened.precision != row.precision:
        return f"asked for {row.precision}, ran {opened.precision}"
    return None


def _check(entrant: _Entrant, case: Case, source: Source, stream: CodedPicture) -> None:
    assert entrant.worker is not None
    job, coded = _own(entrant, stream.job), stream.coded
    expected = coded.symbols
    if entrant.row.own_streams:
        own: Coded = entrant.worker.ask("encode", job)
        expected = own.symbols
        sizes = dict(entrant.result.bytes or {})
        sizes[case.name] = sizes.get(case.name, 0) + own.size
        entrant.result = replace(entrant.result, bytes=sizes)
    decoded: Decoded = entrant.worker.ask("decode", job)
    if entrant.result.first_seconds is None:
        entrant.result = replace(entrant.result, first_seconds=decoded.seconds)
    parity = judge(
        f"{source.name}, quality {case.quality:g}",
        entrant.row.limits,
        expected=expected,
        symbols=decoded.symbols,
        original=source.pixels,
        reconstruction=stream.reconstructions[entrant.row.synthesis],
        pixels=decoded.pixels,
    )
    entrant.result = replace(entrant.result, parity=(*entrant.result.parity, parity))
    if parity.failure is not None:
        entrant.lose(parity.failure)


def _own(entrant: _Entrant, job: Job) -> Job:
    """The job with the row's own stream, where it cannot read the shared one."""
    return replace(job, stream=entrant.setup.folder / job.stream.name) if entrant.row.own_streams else job


def _jobs(entrant: _Entrant, case: Case, streams: Streams) -> tuple[Job, ...]:
    return tuple(_own(entrant, streams[case.name, number].job) for number in case.sources)


def _take_rounds(
    entrants: Sequence[_Entrant], request: Request, cases: Sequence[Case], streams: Streams, steps: Steps
) -> None:
    """Rows take turns within a round, each round begins with another one: what the machine does meanwhile hits all."""
    seconds, count = request.min_seconds / request.rounds, -(-request.min_count // request.rounds)
    operations = ("decode", "encode") if request.encode else ("decode",)
    for number in range(request.rounds):
        start = number % len(entrants)
        for entrant in (*entrants[start:], *entrants[:start]):
            steps(f"round {number + 1} of {request.rounds}: {entrant.result.name}")
            if entrant.worker is None:
                continue
            try:
                for case in cases:
                    jobs = _jobs(entrant, case, streams)
                    for operation in operations:
                        samples = entrant.worker.ask("time", operation, jobs, seconds, max(count, len(jobs)))
                        kept = entrant.samples.setdefault((case.name, operation), [])
                        kept += [(number, sample) for sample in samples]
            except RowLostError as lost:
                entrant.lose(str(lost))


def _finish(entrant: _Entrant, request: Request, cases: Sequence[Case], streams: Streams) -> None:
    if entrant.worker is None:
        return
    try:
        entrant.result = replace(
            entrant.result,
            peak_megabytes=entrant.worker.ask("peak"),
            series=tuple(_series(*key, samples) for key, samples in entrant.samples.items()),
        )
        entrant.close()
        if request.throughput:
            found = tuple(_throughput(entrant, request, case, streams) for case in cases)
            entrant.result = replace(entrant.result, throughput=found)
    except RowLostError as lost:
        entrant.lose(str(lost))
        entrant.result = replace(entrant.result, series=())


def _series(case: str, operation: str, samples: Sequence[tuple[int, Sample]]) -> Series:
    names = dict.fromkeys(name for _, sample in samples for name in sample.stages)
    nothing = CallTimes(device=0.0, enqueue=0.0)
    called = {
        name: [sample.calls.get(name, nothing) for _, sample in samples]
        for name in dict.fromkeys(name for _, sample in samples for name in sample.calls)
    }
    return Series(
        case=case,
        operation=operation,
        seconds=tuple(sample.seconds for _, sample in samples),
        rounds=tuple(number for number, _ in samples),
        stages={name: tuple(sample.stages.get(name, 0.0) for _, sample in samples) for name in names},
        device={name: tuple(call.device for call in calls) for name, calls in called.items()},
        enqueue={name: tuple(call.enqueue for call in calls) for name, calls in called.items()},
    )


def _throughput(entrant: _Entrant, request: Request, case: Case, streams: Streams) -> Throughput:
    """A process per processor, one thread each, all at once: the machine's pictures per second, which is not one over
    the latency."""
    processes = usable_processors()
    setup = replace(entrant.setup, threads=1)
    workers = [Worker(entrant.row, setup) for _ in range(processes)]
    try:
        for command in (("open", False), ("count", _jobs(entrant, case, streams), request.min_seconds)):
            for worker in workers:
                worker.start(*command)
            results = [worker.result() for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    return Throughput(
        case=case.name,
        processes=processes,
        pictures=sum(pictures for pictures, _ in results),
        pictures_per_second=sum(pictures / seconds for pictures, seconds in results),
    )
