"""Tall arrays that come in pieces from the top: pixels and latents of pictures that memory does not hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value", np.uint8, np.float32)


class SlidingRows(Generic[Value]):
    """Rows of an array of which only those are held that may still be asked for: who asks goes from the top down.

    axis: that of the rows; columns are the next one.  Pieces are taken when they are needed; top, left: where in the
    whole array the first one begins.
    """

    # Invariant: the pieces held are those of rows [_first, _end), in order; what lay above _first has been given up.

    def __init__(self, pieces: Iterator[npt.NDArray[Value]], *, axis: int, top: int = 0, left: int = 0) -> None:
        self._pieces: Iterator[npt.NDArray[Value]] = pieces
        self._axis, self._left = axis, left
        self._held: deque[npt.NDArray[Value]] = deque()
        self._first = self._end = top

    def crop(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[Value]:
        """Rows [top, bottom) of columns [left, right): a view where one piece has them all.

        Gives up the pieces above ``top``.
        """
        self._give_up(top)
        while self._end < bottom:
            self._held.append(next(self._pieces))
            self._end += self._rows(self._held[-1])
            self._give_up(top)
        parts = []
        start = self._first
        for piece in self._held:
            stop = start + self._rows(piece)
            if start < bottom and top < stop:
                place = [slice(None)] * piece.ndim
                place[self._axis] = slice(max(top - start, 0), bottom - start)
                place[self._axis + 1] = slice(left - self._left, right - self._left)
                parts.append(piece[tuple(place)])
            start = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self._axis)

    def _give_up(self, above: int) -> None:
        """Whole pieces, and of the next one what is above where that is most of it."""
        while self._held and self._first + self._rows(self._held[0]) <= above:
            self._first += self._rows(self._held.popleft())
        if self._held and 2 * (above - self._first) > self._rows(self._held[0]):
            kept = [slice(None)] * self._held[0].ndim
            kept[self._axis] = slice(above - self._first, None)
            self._held[0] = self._held[0][tuple(kept)].copy()
            self._first = above

    def _rows(self, piece: npt.NDArray[Value]) -> int:
        return int(piece.shape[self._axis])
