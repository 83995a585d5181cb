"""A batch on one machine: processes that share nothing, each with a codec of its own and a file at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

from s2c_deploy.batch.request import Request, Task
from s2c_deploy.batch.table import Row
from s2c_deploy.errors import EngineError, InputError, S2CError
from s2c_deploy.files import delete_unfinished

#: Sent by a process that is ready.
_READY = "ready"
#: Processes that a file may cost.
_TRIES = 2


def in_processes(
    request: Request, fingerprint: str | None, tasks: list[Task], count: int, stopping: Callable[[], bool]
) -> Generator[Row, None, None]:
    """A row for every task, as they are done; after ``stopping`` is true, only for those at hand.

    A process that dies costs its file another try in a new one; the second time it is the file's error.  Closed before
    its end, it ends the processes at once, with nothing half-written.  S2CError where a process cannot open its codec.
    """
    waiting = deque((task, 1) for task in tasks)
    lanes = [_Lane(request, fingerprint) for _ in range(min(count, len(tasks)))]
    try:
        while True:
            for lane in lanes:
                if lane.task is None and waiting and not stopping():
                    lane.give(*waiting.popleft())
            busy = {lane.connection: lane for lane in lanes if lane.task is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                lane = busy[connection]  # type: ignore[index]  # those that were given
                row = lane.take()
                if row is not None:
                    yield row
                elif lane.again is not None:
                    waiting.appendleft(lane.again)
    finally:
        for lane in lanes:
            lane.close()


class _Lane:
    """A process, seen from outside, and the next one where it dies.  task: what it has at hand."""

    def __init__(self, request: Request, fingerprint: str | None) -> None:
        self._request, self._fingerprint = request, fingerprint
        self.task: Task | None = None
        self._tries, self._ready = 0, False
        #: What is to be tried again, with the number of the try.
        self.again: tuple[Task, int] | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far = context.Pipe()
        far_end, self._alive = context.Pipe(duplex=False)
        arguments = (far, far_end, self._request, self._fingerprint)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._ready = False
        with _signals_held_back():
            self._process.start()
        far.close()
        far_end.close()

    def give(self, task: Task, number: int) -> None:
        self.task, self._tries = task, number
        with suppress(OSError):  # dead: seen when its row is asked for
            self.connection.send(task)

    def take(self) -> Row | None:
        """The row of the task at hand; None where there is none yet, or ``again`` says what is to be tried again."""
        task, self.again = self.task, None
        assert task is not None
        try:
            told = self.connection.recv()
        except (EOFError, OSError):
            return self._died(task)
        if isinstance(told, S2CError):
            raise told
        if told == _READY:
            self._ready = True
            return None
        self.task = None
        assert isinstance(told, Row)
        return told

    def _died(self, task: Task) -> Row | None:
        from s2c_deploy.batch.worker import failed

        self._process.join(5)
        code = self._process.exitcode
        said = f"a worker process ended with exit code {code}" + (", killed: out of memory?" if code == -9 else "")
        if not self._ready:
            raise EngineError(f"{said} while it opened the codec", hint="take fewer: --workers")
        self.task = None
        self.close()
        self._start()
        if self._tries < _TRIES:
            self.again = (task, self._tries + 1)
            return None
        return failed(task, InputError(f"{said}, {self._tries} times", hint="take fewer: --workers; or --max-pixels"))

    def close(self) -> None:
        """Ends the process, at once where it is at work."""
        self.connection.close()
        self._alive.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process that is started in the block never gets a signal that asks for the end: the one that starts it does,
    and lets it finish the file at hand."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, alive: Connection, request: Request, fingerprint: str | None) -> None:
    """What runs in a process: rows for tasks, until nobody asks any more."""
    from s2c_deploy.batch.worker import Worker
    from s2c_deploy.failure import as_failure, retold

    threading.Thread(target=_end_with, args=(alive,), daemon=True, name="alive").start()
    try:
        worker = Worker(request, fingerprint)
    except Exception as error:
        with suppress(OSError):
            failure = as_failure(error, "a worker's codec")
            connection.send(retold(str(failure), failure.exit_code))
        return
    with suppress(EOFError, OSError):
        connection.send(_READY)
        while True:
            connection.send(worker.do(connection.recv()))
    worker.close()


def _end_with(alive: Connection) -> None:
    """Ends this process at once when the one that started it is gone, or wants it gone; nothing half-written stays."""
    with suppress(EOFError, OSError):
        alive.recv()
    delete_unfinished()
    os._exit(1)
