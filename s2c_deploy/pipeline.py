"""Stages that run side by side: what follows works on one item while what comes before makes the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """The same items, made in a thread of their own, up to ``depth`` of them before they are asked for.

    An exception comes out where its item would have, and ends the items.  Closing the iterator waits for those begun.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, iterator, _END) for _ in range(depth))
        while True:
            item = coming.popleft().result()
            if item is _END:
                return
            coming.append(thread.submit(next, iterator, _END))
            yield item  # type: ignore[misc]  # what is not _END is an Item
