"""How work that takes a while says where it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the steps done, of how many (None where that is not known), and one of them in words.
Progress = Callable[[int, int | None, str], None]


def silent(done: int, total: int | None, step: str) -> None:
    """For those who do not ask."""


class Steps:
    """Counts the steps of some work, each told as it begins."""

    def __init__(self, progress: Progress, *, total: int | None = None) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, step: str) -> None:
        self._progress(self._done, self._total, step)
        self._done += 1
