"""A batch on a Ray cluster: Ray Data hands out the files, starts the actors, and tries again what a lost one had."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

from s2c_deploy.batch.places import open_place
from s2c_deploy.batch.request import Request, Task
from s2c_deploy.batch.table import NAME, Row, from_arrow, to_arrow
from s2c_deploy.batch.worker import Worker, failed
from s2c_deploy.errors import DependencyError, EngineError, InputError, S2CError
from s2c_deploy.failure import as_failure, debugging, retold
from s2c_deploy.runtime.backends import GPU_BACKENDS

#: Files that an actor takes at once, at most: what one that dies may cost.
_MOST_AT_ONCE = 16
#: Turns that every actor takes at least, so that all end at about the same time.
_TURNS = 32
#: How often Ray runs a batch again whose actor was lost.
_RETRIES = 3


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What a cluster gives a batch."""

    #: Actors.
    count: int
    #: Processors of each.
    cpus: int
    #: GPUs of each.
    gpus: int


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Inside, Ray is there; ``local`` starts one on this machine.  DependencyError, InputError."""
    ray = _ray()
    if ray.is_initialized():  # the caller's own, and it stays
        yield
        return
    _quieten()
    before = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": debugging(), "logging_level": logging.ERROR}
    if address == "local":
        options["include_dashboard"] = False
    try:
        ray.init(address=address, **options)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, its own
        raise InputError(
            f"no Ray cluster at {address}: {' '.join(str(error).split()):.300}",
            hint="`ray start --head` says its address; `local` starts one on this machine",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own would end the process with the files at hand
    try:
        with redirect_stdout(sys.stderr):  # Ray tells of lost machines on stdout, which is for the results
            yield
            ray.shutdown()
    finally:
        ray.shutdown()


def pool_of(request: Request, count: int | None, files: int) -> Pool:
    """The actors for a batch, as many as asked for or as there is room for.  EngineError without the GPUs that the
    backend needs.  Inside ``connected``."""
    resources = _ray().cluster_resources()
    gpus = 1 if request.backend in GPU_BACKENDS else 0
    if gpus and resources.get("GPU", 0) < 1:
        raise EngineError(f"backend {request.backend} needs a GPU, and the cluster has none", hint="take another one")
    room = int(resources.get("GPU", 0)) if gpus else int(resources.get("CPU", 1)) // request.threads
    return Pool(count=max(1, min(count or room, files)), cpus=request.threads, gpus=gpus)


def on_ray(
    request: Request,
    fingerprint: str | None,
    tasks: list[Task],
    pool: Pool,
    stopping: Callable[[], bool],
) -> Generator[Row, None, None]:
    """A row for every task, as they are done, in no order; ends early after ``stopping`` is true.

    A batch whose actor dies is run again by Ray.  Files of a batch that died every time are each tried alone, so that
    only the one that kills its actor is an error.  S2CError of an actor that cannot begin: without the bundle, or on a
    machine that does not see the table in the target.
    """
    size = max(1, min(_MOST_AT_ONCE, len(tasks) // (pool.count * _TURNS)))
    missing = {task.source: task for task in tasks}
    for at_once in (size, 1):
        for batch in _attempted(request, fingerprint, list(missing.values()), pool, at_once):
            for row, source in batch:
                if not row.path:
                    raise retold(str(row.error), row.exit_code or 1)
                if missing.pop(source, None) is None:
                    continue
                yield row
            if stopping():
                return
        if not missing:
            return
    for task in missing.values():
        yield failed(task, EngineError("its worker process died, every time", hint="out of memory? --max-pixels"))


def _attempted(
    request: Request, fingerprint: str | None, tasks: list[Task], pool: Pool, at_once: int
) -> Iterator[list[tuple[Row, str]]]:
    """Batches of rows, and the sources that they are of; none of those that died in every try."""
    ray = _ray()
    data = ray.data
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    blocks = [_as_block(tasks[start : start + at_once]) for start in range(0, len(tasks), at_once)]
    with warnings.catch_warnings():
        # How often Ray tries again is one of its remote arguments, which have no name of their own here.
        warnings.filterwarnings("ignore", message=".*ray_remote_args")
        coded = data.from_arrow(blocks).map_batches(
            Actor,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_kwargs={"request": request, "fingerprint": fingerprint},
            compute=data.ActorPoolStrategy(size=min(pool.count, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
        try:
            for table in coded.iter_batches(batch_size=None, batch_format="pyarrow"):
                sources = map(os.fsdecode, table["source"].to_pylist())
                yield list(zip(from_arrow(table.drop_columns(["source"])), sources, strict=True))
        except ray.exceptions.RayError as error:
            raise EngineError(f"Ray: {' '.join(str(error).split()):.500}", hint="S2C_DEBUG=1 shows where") from error


def _as_block(tasks: list[Task]) -> Any:
    """Tasks as a pyarrow Table; names as bytes, which need be no UTF-8."""
    import pyarrow as pa

    return pa.table(
        {
            "source": pa.array([os.fsencode(task.source) for task in tasks], pa.binary()),
            "target": pa.array([os.fsencode(task.target) for task in tasks], pa.binary()),
            "size": pa.array([task.size for task in tasks], pa.int64()),
            "modified": pa.array([task.modified for task in tasks], pa.int64()),
        }
    )


class Actor:
    """What Ray runs: a worker with as many threads as Ray has given it processors."""

    def __init__(self, request: Request, fingerprint: str | None) -> None:
        given = _ray().get_runtime_context().get_assigned_resources().get("CPU", request.threads)
        self._worker: Worker | S2CError
        try:
            self._worker = Worker(replace(request, threads=max(1, int(given))), fingerprint)
            _check_shared(request)
        except Exception as error:  # Ray would hand on no more of it than its text
            self._worker = as_failure(error, "an actor's codec")

    def __call__(self, block: Any) -> Any:
        """Rows for tasks; one of no file where there is no worker."""
        if isinstance(self._worker, S2CError):
            code = self._worker.exit_code
            told = Row(path="", output="", source_bytes=0, modified=0, error=str(self._worker), exit_code=code)
            return to_arrow([told]).append_column("source", block["source"].slice(0, 1))
        tasks = [
            Task(**(named | {"source": os.fsdecode(named["source"]), "target": os.fsdecode(named["target"])}))
            for named in block.to_pylist()
        ]
        rows = to_arrow([self._worker.do(task) for task in tasks])
        return rows.append_column("source", block["source"])


def _check_shared(request: Request) -> None:
    """InputError on a machine that does not see what the one that began the batch has written before it."""
    target = open_place(request.target)
    if not target.sizes([NAME]):
        raise InputError(
            f"no {NAME} in {target.shown} on {socket.gethostname()}, which the batch has begun with",
            hint="with several machines, name a disk that all share, or object storage",
        )


def _quieten() -> None:
    """Ray tells the terminal much; what becomes of files is told by the rows."""
    if debugging():
        return
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise DependencyError("ray", extra="ray") from error
    return ray
