"""Running jobs: each told as it ends, one that fails stops no other, and at the end what there is to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import typer

from s2c_deploy.cli.files.jobs import Job, Plan
from s2c_deploy.cli.output import discard_stdout, progress_bar, say, say_json, warn
from s2c_deploy.cli.process.failing import show_traceback
from s2c_deploy.cli.process.stopping import Stop, Stopped, stops_after_this
from s2c_deploy.errors import S2CError
from s2c_deploy.failure import as_failure, debugging

Record = dict[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = Record | S2CError
#: From the jobs to what became of each, in their order.
Stages = Callable[[Iterable[Job], Stop], Iterator[Outcome]]

#: Larger pictures are read when their turn comes, not during the one before: two of them may not fit.
READ_AHEAD_PIXELS = 2**24


def record_of(job: Job, *, backend: str, width: int, height: int, size: int, seconds: float) -> Record:
    """What is told of a job that ended well.  size: bytes of the stream."""
    return {
        "source": job.source_name,
        "target": job.target_name,
        "backend": backend,
        "width": width,
        "height": height,
        "bytes": size,
        "bpp": round(size * 8 / (width * height), 5),
        "seconds": round(seconds, 4),
    }


def run_jobs(plan: Plan, stages: Stages, *, doing: str, as_json: bool) -> None:
    """Runs a plan.  With several jobs the exit code is the first failure's; a single one's failure is raised.

    Where standard output takes the picture or stream, everything else goes to stderr.
    """
    if not plan.several:
        _run_one(plan, stages, as_json)
        return
    report = _Report(plan=plan, as_json=as_json)
    for job, problem in plan.refused:
        report.add(job, problem)
    with stops_after_this() as stop:
        try:
            _run_several(report, stages(plan.jobs, stop), stop, doing)
        except Stopped as stopped:  # the second signal
            stop.requested = stopped.number
        report.finish(stop)


def _run_one(plan: Plan, stages: Stages, as_json: bool) -> None:
    for _, problem in plan.refused:
        raise problem
    records = [_skipped(job) for job in plan.skipped]
    err = False
    for job in plan.jobs:
        err = job.target is None
        outcomes = stages([job], Stop())
        outcome = next(outcomes)
        if isinstance(outcome, S2CError):
            raise outcome
        records.append(outcome)
    (record,) = records
    if as_json:
        say_json(record, err=err)
    else:
        say(_line(record), err=err)


def _run_several(report: _Report, outcomes: Iterator[Outcome], stop: Stop, doing: str) -> None:
    jobs = report.plan.jobs
    with progress_bar(doing, len(jobs), hidden=len(jobs) == 1) as advance:
        for number, job in enumerate(jobs):
            if stop.requested is not None:
                return
            outcome = next(outcomes, None)
            if outcome is None:  # stopped on the way
                return
            report.add(job, outcome)
            advance(number + 1, len(jobs), doing)


@dataclass(kw_only=True)
class _Report:
    """What became of the jobs so far."""

    plan: Plan
    as_json: bool
    records: list[Record] = field(default_factory=list)
    failed: list[tuple[Job, S2CError]] = field(default_factory=list)
    done: int = 0
    #: Why standard output takes no more; the work goes on.
    broken: OSError | S2CError | None = None

    def add(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, S2CError):
            self.failed.append((job, outcome))
            record: Record = {
                "source": job.source_name,
                "target": job.target_name,
                "error": str(outcome),
                "exit_code": outcome.exit_code,
            }
            warn(_line(record))
            show_traceback(outcome)
        else:
            self.done += 1
            record = outcome
            if not self.as_json:
                self._say(lambda: say(_line(record)))
        self.records.append(record)

    def finish(self, stop: Stop) -> None:
        """Says what there is to say; typer.Exit unless all went well."""
        plan = self.plan
        if self.as_json:
            skipped = [_skipped(job) for job in plan.skipped]
            records = [*self.records, *skipped, *_left_out(plan)]
            self._say(lambda: say_json(records))
        total = len(plan.jobs) + len(plan.skipped) + len(plan.refused)
        if self.failed or plan.skipped or stop.requested is not None:
            warn(f"{self.done} of {total} done{self._rest(stop)}")
        if stop.requested is not None:
            raise typer.Exit(128 + stop.requested)
        if self.failed:
            raise typer.Exit(self.failed[0][1].exit_code)
        if isinstance(self.broken, S2CError):
            raise self.broken

    def _rest(self, stop: Stop) -> str:
        from s2c_deploy.listing import shortened

        parts = [f"{len(self.plan.skipped)} skipped, which were there"] if self.plan.skipped else []
        if stop.requested is not None:
            parts.append("stopped; --skip-existing goes on")
        if self.failed:
            parts.append(f"{len(self.failed)} failed: {shortened([job.source_name for job, _ in self.failed])}")
        return "".join(f", {part}" for part in parts)

    def _say(self, speak: Callable[[], None]) -> None:
        """A full disk or a closed pipe behind standard output stops no file."""
        if self.broken is None:
            try:
                speak()
            except (OSError, S2CError) as error:
                self.broken = error
                discard_stdout()


def _skipped(job: Job) -> Record:
    return {"source": job.source_name, "target": job.target_name, "skipped": "the target exists"}


def _left_out(plan: Plan) -> Iterator[Record]:
    for listing in plan.listings:
        for entry in listing.left_out:
            yield {"source": str(entry.path), "target": None, "left_out": entry.reason}
        if listing.hidden:
            yield {"source": str(listing.folder), "target": None, "left_out": "hidden", "files": listing.hidden}


def _line(record: Record) -> str:
    if "error" in record:
        return f"error: {record['source']}: {record['error']}"
    if "skipped" in record:
        return f"{record['source']} -> {record['target']}: skipped, {record['skipped']}"
    size = f"{record['width']}x{record['height']}, {record['bytes']} bytes, {record['bpp']:.4f} bpp"
    return f"{record['source']} -> {record['target']}: {size}, {record['seconds']:.3f} s on {record['backend']}"


_END = object()


def attempt_all(
    stage: Callable[[Item], Result], items: Iterable[Item | S2CError], stop: Stop
) -> Iterator[Result | S2CError]:
    """What a stage makes of every item; in the place of one that fails, here or before, its error.

    Ends early where a stop is requested.  An item is let go before the next one is asked for: pictures are large.
    """
    iterator = iter(items)
    while stop.requested is None:
        outcome = _attempt(stage, iterator)
        if outcome is _END:
            return
        yield outcome  # type: ignore[misc]  # what is not _END is a result or an error
        del outcome


def _attempt(stage: Callable[[Item], Result], items: Iterator[Item | S2CError]) -> object:
    item = next(items, _END)
    if item is _END or isinstance(item, S2CError):
        return item
    try:
        return stage(item)  # type: ignore[arg-type]  # as above
    except Exception as error:  # of whatever kind: the other files are done
        failure = as_failure(error, "this file")
        if failure is not error:
            failure.__cause__ = error
        return without_frames(failure)


def without_frames(error: S2CError) -> S2CError:
    """The error without the variables of the functions it came through, which hold pictures, unless tracebacks are
    asked for."""
    if debugging():
        return error
    seen: set[int] = set()  # the chain of causes may be a ring: one error is raised again for many files
    waiting: list[BaseException | None] = [error]
    while waiting:
        left = waiting.pop()
        if left is not None and id(left) not in seen:
            seen.add(id(left))
            left.__traceback__ = None
            waiting += [left.__cause__, left.__context__]
    return error


def ahead_or_not(items: Iterable[Item]) -> Iterator[Item]:
    """``pipeline.ahead``; where the system gives no further thread, one after another."""
    from s2c_deploy.codec.prefetch import ahead

    running = ahead(items)
    try:
        first = next(running, _END)
    except RuntimeError:  # can't start new thread; nothing has been taken from the items
        yield from items
        return
    while first is not _END:
        yield first  # type: ignore[misc]  # what is not _END is an Item
        first = _END
        first = next(running, _END)
