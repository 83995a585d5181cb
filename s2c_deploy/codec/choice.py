"""Rate-distortion optimised quantisation: a symbol or its neighbour towards zero, by bits and squared error.

A symbol is chosen when it is coded, and what follows knows it: nothing is looked at twice, and no network runs again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from s2c_deploy.arrays import FloatArray, Indexes, Symbols
from s2c_deploy.entropy.tables import FrequencyTables

#: Symbols above it stay as they are: their neighbours cost hardly less.
_LARGEST = 31


class Choice:
    """weight: what a squared step of the latent is worth, in bits."""

    def __init__(self, tables: FrequencyTables, weight: float) -> None:
        symbols = np.arange(-_LARGEST, _LARGEST + 1, dtype=np.int16)
        shape = (tables.count, len(symbols))
        indexes = np.arange(tables.count, dtype=np.uint8)[:, None]
        bits = tables.bits(np.broadcast_to(symbols, shape), np.broadcast_to(indexes, shape))
        # What a step towards zero saves.
        towards = np.arange(len(symbols)) - np.sign(symbols)
        self._saved: npt.NDArray[np.float32] = (bits - bits[:, towards]).astype(np.float32)
        self._weight = np.float32(weight)

    def __call__(self, values: FloatArray, symbols: Symbols, indexes: Indexes) -> Symbols:
        """The better of the nearest symbols of values and their neighbours towards zero, int16 of the same shape."""
        saved = self._saved[indexes, np.clip(symbols, -_LARGEST, _LARGEST) + _LARGEST]
        step = np.sign(symbols)
        # (v - s + step)^2 - (v - s)^2 = 1 + 2 step (v - s)
        worse = 1 + 2 * step * (values - symbols)
        lower = (saved > self._weight * worse) & (np.abs(symbols) <= _LARGEST)
        chosen: Symbols = (symbols - step * lower).astype(np.int16)
        return chosen
