"""When native memory may be freed: once nobody uses it any more, and only by the process that made it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from s2c_deploy.errors import EngineError, InputError


class NotCopied:
    """What holds native memory: a copy of it would free that memory twice."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds native memory and cannot be copied or pickled: make another one")


class Lifetime:
    """Counts the users of what holds native memory, so that closing waits for them.

    INVARIANT: while the count is above 0 the memory is there.  ``close`` lets nobody in any more, then waits for 0.

    A process that was forked has neither the engines' threads nor a way to know which locks they held, so there nothing
    is used (EngineError) and nothing freed.
    """

    def __init__(self, name: str) -> None:
        self._name, self._process = name, os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._users = 0
        self._closed = False

    @property
    def foreign(self) -> bool:
        """Whether this process is a fork of the one that made it."""
        return self._process != os.getpid()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keeps it open inside the block; InputError after ``close``, EngineError in a forked process."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        if self.foreign:  # before any lock: whoever held it may not exist here
            raise EngineError(
                f"this {self._name} was opened in process {self._process}, of which {os.getpid()} is a fork",
                hint="open another one in each process, or hand it over by pickle (multiprocessing's spawn)",
            )
        with self._changed:
            if self._closed:
                raise InputError(f"this {self._name} is closed", hint="open another one")
            self._users += 1

    def leave(self) -> None:
        with self._changed:
            self._users -= 1
            if self._closed:
                self._changed.notify_all()

    def close(self) -> bool:
        """Lets nobody in any more and waits for those inside; whether the caller is to free the memory: once."""
        if self.foreign:
            return False
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.wait_for(lambda: self._users == 0)
        return first
