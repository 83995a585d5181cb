"""Stages that run side by side: what follows works on one item while what comes before makes the next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()


def ahead(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """The same items, made in a thread of their own, up to ``depth`` of them before they are asked for.

    An exception comes out where its item would have, and ends the items.  Closing the iterator, or leaving a loop over
    it, does not wait for an item that is being made, which may never come: the thread ends after it.
    """
    made: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()
    wanted, stopped = threading.Semaphore(depth), threading.Event()
    iterator = iter(items)

    def make() -> None:
        item: object = None
        while item is not _END:
            wanted.acquire()
            if stopped.is_set():
                return
            try:
                item = next(iterator, _END)
            except BaseException as error:
                made.put((_END, error))
                return
            made.put((item, None))
            item = item if item is _END else None  # what is handed on is not kept

    threading.Thread(target=make, daemon=True, name="ahead").start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            wanted.release()
            yield item  # type: ignore[misc]  # what is not _END is an Item
    finally:
        stopped.set()
        wanted.release()


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``map`` in so many threads: results come in their order, and no more are made ahead than there are threads.

    An exception comes out where its result would have, and ends the results, as closing the iterator does: what is
    being made is waited for, and nothing more begun.
    """
    if workers < 2:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="tile") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
