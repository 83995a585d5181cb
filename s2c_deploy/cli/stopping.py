"""Ctrl-C, SIGTERM and a terminal that is closed: nothing half-written, an exit code of 128 and the signal's number."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


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
    """Signals raise Stopped in the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled(stop):
        yield


@contextmanager
def stops_after_this() -> Iterator[Stop]:
    """The first signal is noted, so that the file at hand becomes whole; the second raises Stopped."""
    state = Stop()

    def stop(number: int, frame: FrameType | None) -> None:
        if state.requested is not None:
            raise Stopped(number)
        state.requested = number

    with _handled(stop):
        yield state


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs a handler for every signal that is not ignored, as those of a job in the background are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: a handler that is not Python's, which could not be put back.
    mine = [number for number, old in before.items() if old not in (signal.SIG_IGN, None)]
    for number in mine:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
