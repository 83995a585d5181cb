"""Forks that wait until no thread is inside a library whose threads and locks a fork would leave torn."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ForkGate:
    """Counts the threads inside; a fork in any other thread waits for them, and those who come meanwhile wait for it.

    Whoever is inside must wait for nothing that a thread outside may hold, or a fork would wait for ever.  A thread
    that forks from inside, as a signal's handler may, does not wait for itself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: set[int] = set()
        self._forking = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._begin_anew)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """For as long as a call into the library lasts."""
        me = threading.get_ident()
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._inside.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._inside.discard(me)
                self._changed.notify_all()

    def _close(self) -> None:
        """Leaves the lock taken, until the fork has happened."""
        self._changed.acquire()
        while self._forking:  # another thread's
            self._changed.wait()
        self._forking = True
        while self._inside - {threading.get_ident()}:
            self._changed.wait()

    def _open(self) -> None:
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def _begin_anew(self) -> None:
        """In the child there is only the thread that forked."""
        self._inside &= {threading.get_ident()}
        self._open()


#: Of every library that has threads of its own.  ``codec.shared``, whose lock is held around calls into them, registers
#: its own hooks after these: the last ones registered are the first that a fork waits for.
GATE = ForkGate()
