"""Ctrl-C, SIGTERM and a terminal that is closed: nothing half-written, an exit code of 128 and the signal's number."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Seconds that the main thread has to come out of what it does at a signal and to clean up.
PATIENCE = 3.0
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Spared:
    """signals: how many of them the process may survive."""

    signals = 0


_spared = _Spared()


class Stopped(SystemExit):
    """A signal asks for the end; passes through everything that catches errors."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class Stop:
    """requested: the signal that asks for the end, once there was one."""

    def __init__(self) -> None:
        self.requested: int | None = None


@contextmanager
def stops_at_once() -> Iterator[None]:
    """Signals raise Stopped in the main thread, and end the process where that does not come out of a native call.

    Code that goes on for a while at a signal takes the wakeup descriptor away meanwhile, as training does.
    """

    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Stopped(number)

    with _handled(stop) as mine, _watched(mine):
        try:
            yield
        except Stopped:
            raise
        except SystemExit:
            _raise_lost(received)
            raise
        _raise_lost(received)


def _raise_lost(received: list[int]) -> None:
    """Stopped, where there was one that Python dropped: in a destructor, say, no exception comes through."""
    if received:
        raise Stopped(received[0])


@contextmanager
def stops_after_this() -> Iterator[Stop]:
    """The first signal is noted, so that the file at hand becomes whole; the second raises Stopped."""
    state = Stop()

    def stop(number: int, frame: FrameType | None) -> None:
        if state.requested is not None:
            raise Stopped(number)
        state.requested = number

    _spared.signals = 1
    try:
        with _handled(stop):
            yield state
    finally:
        _spared.signals = 0


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[list[int]]:
    """Installs a handler for every signal that is not ignored, as those of a job in the background are; yields them."""
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: a handler that is not Python's, which could not be put back.
    mine = [number for number, old in before.items() if old not in (signal.SIG_IGN, None)]
    for number in mine:
        signal.signal(number, handler)
    try:
        yield [int(number) for number in mine]
    finally:
        for number in mine:
            signal.signal(number, before[number])


@contextmanager
def _watched(numbers: list[int]) -> Iterator[None]:
    """Ends the process some time after a signal that it is still there at.

    Python calls handlers between its own instructions: never during a native call, which a damaged or hostile graph
    can make endless.  The system writes signals to a pipe at once, and a thread reads it.
    """
    if not numbers:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()

    def watch() -> None:
        while received := os.read(reading, 1):
            if received[0] not in numbers:
                continue
            if _spared.signals:
                _spared.signals -= 1
            elif not over.wait(PATIENCE):
                _end(received[0])

    watcher = threading.Thread(target=watch, daemon=True, name="signals")
    try:
        watcher.start()
    except RuntimeError:  # no thread is to be had: as good as it gets
        os.close(writing)
        os.close(reading)
        yield
        return
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writing)
        watcher.join()
        os.close(reading)


def _end(number: int) -> None:
    """At once, whatever other threads do; nothing half-written stays."""
    from s2c_deploy.files import delete_unfinished

    delete_unfinished()
    with suppress(OSError):
        os.write(2, b"stopped\n")  # not by way of sys.stderr, which the main thread may hold
    os._exit(128 + number)
