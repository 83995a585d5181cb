"""A batch from its request to its table: planned, done by processes or by Ray, and written down as it goes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from s2c_deploy.batch.places import LocalFolder, Place, open_place
from s2c_deploy.batch.plan import Plan, make_plan
from s2c_deploy.batch.request import Request, Task, settings_of
from s2c_deploy.batch.table import Row, Saver, is_still
from s2c_deploy.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder are not told apart there
    fcntl = None  # type: ignore[assignment]

#: Makes rows of tasks, until it is asked whether to stop and that is true.
Maker = Callable[[list[Task], Callable[[], bool]], Generator[Row, None, None]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A batch that nothing has been done of yet."""

    request: Request
    #: Of the bundle that streams are written with, in hex; None where pictures are written.
    fingerprint: str | None
    target: Place
    plan: Plan


@dataclass(kw_only=True)
class Result:
    """What became of a batch."""

    done: int = 0
    failed: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def prepare(request: Request) -> Prepared:
    """Checks everything that can be checked before any work.

    Raises what ``make_plan`` does; BundleError for a bundle that cannot be opened, DependencyError without pyarrow.
    """
    from s2c_deploy.formats.bitstream import round_quality

    request = replace(request, quality=round_quality(request.quality))
    source, target = open_place(request.source), open_place(request.target)
    request, fingerprint = _with_bundle(request)
    plan = make_plan(request, source, target, settings_of(request, source.shown, fingerprint))
    return Prepared(request=request, fingerprint=fingerprint, target=target, plan=plan)


def _with_bundle(request: Request) -> tuple[Request, str | None]:
    """The bundle by a path that every process understands, and its fingerprint where streams are written with it."""
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.formats.finding import bundle_to_write_with

    if request.operation == "decompress" and request.bundle is None:
        return request, None
    folder = Path(os.path.abspath(bundle_to_write_with(request.bundle)))
    opened = open_bundle(folder)
    return replace(request, bundle=folder), None if request.operation == "decompress" else opened.fingerprint.hex()


def carry_out(
    prepared: Prepared, make: Maker, result: Result, told: Callable[[Row], None], stopping: Callable[[], bool]
) -> None:
    """Does what is planned, and keeps the table: at the beginning, now and then, and at the end, whatever ends it.

    result: filled as it goes; told: called with every row.  Raises InputError where the target or its table cannot be
    written, or another run writes there, and what ``make`` raises.
    """
    plan, started = prepared.plan, time.monotonic()
    prepared.target.prepare()
    with _alone(prepared.target):
        if not prepared.request.force and not is_still(prepared.target, plan.table):
            raise InputError(
                f"another batch has written into {prepared.target.shown} meanwhile", hint="run the command again"
            )
        saver = Saver(prepared.target, plan.table)
        saver.now()
        try:
            with closing(make(plan.tasks, stopping)) as rows:
                for row in rows:
                    plan.table.add(row)
                    if row.done:
                        result.done += 1
                    else:
                        result.failed.append(row)
                    told(row)
                    saver.perhaps()
        finally:
            result.seconds = time.monotonic() - started
            saver.now()


@contextmanager
def _alone(target: Place) -> Iterator[None]:
    """InputError where another run writes into the same folder of this machine; object storage has no such locks."""
    if fcntl is None or not isinstance(target, LocalFolder):
        yield
        return
    folder = os.open(target.shown, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(f"another batch writes into {target.shown}", hint="wait until it has ended") from None
            # no locks on this disk: as good as it gets
        yield
    finally:
        os.close(folder)
