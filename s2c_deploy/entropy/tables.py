"""Integer frequency tables: made once, offline, and shipped; a decoder only ever reads them.

A table maps a symbol to a code (docs/entropy.md has the exact rules).  With ``shift`` s, ``hi = (q +
2^(s-1)) >> s`` is coded and the s low bits travel raw; ``hi`` becomes an ``id = zigzag(hi - center)``, so
that id 0, the commonest value, owns the first slots ("zero-first"); the last id of a table is the escape.
Frequencies are at least 1 and sum to 2^12: every symbol can be coded, and none is certain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.contract import SYMBOL_LIMIT
from s2c_deploy.errors import BundleError, InputError

PRECISION = 12
TOTAL = 1 << PRECISION
MAX_TABLES = 256
MAX_SIZE = 256
MAX_SHIFT = 15

# CompressAI's scale table (compressai/models/google.py, get_scale_table): exp(linspace(ln 0.11, ln 256, 64)).  Written
# out, because the last bit of exp changes with the processor's vectors, and these bytes enter the stream's fingerprint.
DEFAULT_SCALES: tuple[float, ...] = (
    0.11000000000000001, 0.12440410337871262, 0.14069437215874012, 0.1591177928985361, 0.17995369415583692,
    0.20351798155585427, 0.23016792742637654, 0.26030758761831785, 0.2943939276393863, 0.33294375098286777,
    0.37654153469608204, 0.4258482909882771, 0.48161158923412467, 0.5446768903224373, 0.6160003651969836,
    0.6966633919390023, 0.787888951190402, 0.891060168498511, 1.0077412847140166, 1.1397013723869016,
    1.2889411577389158, 1.4577233548766322, 1.64860697216033, 1.8644861108681825, 2.108633844405629,
    2.384751843339001, 2.697026498648367, 3.0501923941179885, 3.4496040902074285, 3.901317307761771,
    4.412180742435963, 4.989939901886986, 5.6433545400719245, 6.382331469143953, 7.218074762587224,
    8.163255626910708, 9.232204517427787, 10.441128410904577, 11.808356529278063, 13.354618240009122,
    15.103357346484879, 17.081087533615843, 19.317794357752575, 21.847389875732397, 24.708226805960464,
    27.943680017030772, 31.602804160185094, 35.74107741637158, 40.42124263429875, 45.71425861248477,
    51.70037594826147, 58.47035376532569, 66.12683576737696, 74.78590648101743, 84.57885128304754,
    95.65414689699084, 108.17971253796196, 122.3454558368367, 138.36615214401417, 156.48470086762356,
    176.9758082174797, 200.15015219107795, 226.3590929494899, 255.99999999999994,
)  # fmt: skip

# Above this scale, in coded steps, the low bits of a symbol are as good as uniform and are sent raw.
MAX_CODED_SCALE = 24.0

Floats = npt.NDArray[np.float64]


def zigzag(value: int) -> int:
    """0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(number: int) -> int:
    """The inverse of :func:`zigzag`."""
    return number // 2 if number % 2 == 0 else -(number // 2) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One table of frequencies."""

    #: uint16 [size], the escape last.
    freqs: npt.NDArray[np.uint16]
    center: int = 0
    shift: int = 0
    #: For information: no coder reads it.
    scale: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class FrequencyTables:
    """A set of tables, chosen per symbol by its index.

    The arrays are read-only copies.  Raises :class:`BundleError` when made from anything that breaks the rules (see
    :meth:`validate`).
    """

    #: uint16 [T]: entries of each table, the escape included.
    sizes: npt.NDArray[np.uint16]
    #: uint16 [sum of sizes]: table after table.
    freqs: npt.NDArray[np.uint16]
    #: int32 [T].
    centers: npt.NDArray[np.int32]
    #: uint8 [T].
    shifts: npt.NDArray[np.uint8]
    #: float64 [T]: no coder reads them.
    scales: npt.NDArray[np.float64]
    #: Symbols whose index is below are zero and are not coded.
    skip_below: int = 1

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
                found = type(array).__name__
                if isinstance(array, np.ndarray):
                    found = f"{array.dtype} array of shape {array.shape}"
                raise _bad(name, f"a {np.dtype(dtype).name} array of one dimension", found)
            array = array.copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        self.validate()

    @property
    def count(self) -> int:
        return len(self.sizes)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each table begins in ``freqs``: int64 [T]."""
        return np.concatenate(([0], np.cumsum(self.sizes, dtype=np.int64)[:-1]))

    def table(self, index: int) -> npt.NDArray[np.uint16]:
        """The frequencies of one table: a view, uint16 [size]."""
        start = int(self.starts[index])
        return self.freqs[start : start + int(self.sizes[index])]

    def validate(self) -> None:
        """Checks every rule that coding relies on; raises :class:`BundleError` naming expected and found."""
        count = len(self.sizes)
        if not 1 <= count <= MAX_TABLES:
            raise _bad("sizes", f"1 to {MAX_TABLES} tables", count)
        for name in ("centers", "shifts", "scales"):
            if len(getattr(self, name)) != count:
                raise _bad(name, f"{count} values, one per table", len(getattr(self, name)))
        if not 0 <= self.skip_below <= count:
            raise _bad("skip_below", f"0 to {count}", self.skip_below)
        _check_each(self.sizes, 2, MAX_SIZE, "size")
        _check_each(self.centers, -SYMBOL_LIMIT, SYMBOL_LIMIT, "center")
        _check_each(self.shifts, 0, MAX_SHIFT, "shift")
        total = int(self.sizes.sum(dtype=np.int64))
        if len(self.freqs) != total:
            raise _bad("freqs", f"{total} values, the sum of the sizes", len(self.freqs))
        if not self.freqs.all():
            raise _bad("freqs", "frequencies of at least 1", f"0 at position {int(np.argmin(self.freqs))}")
        sums = np.add.reduceat(self.freqs.astype(np.int64), self.starts)
        wrong = np.flatnonzero(sums != TOTAL)
        if len(wrong):
            raise _bad("freqs", f"a sum of {TOTAL}", f"{int(sums[wrong[0]])} in table {int(wrong[0])}")

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The tables as named arrays, for ``numpy.savez``; ``skip_below`` becomes an int64 scalar."""
        arrays: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        arrays["skip_below"] = np.array(self.skip_below, np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> FrequencyTables:
        """The inverse of :meth:`to_arrays`; raises :class:`BundleError` if anything is amiss."""
        missing = sorted({*_ARRAYS, "skip_below"} - set(arrays))
        if missing:
            raise _bad("arrays", f"{', '.join(_ARRAYS)} and skip_below", f"no {', '.join(missing)}")
        skip = np.asarray(arrays["skip_below"])
        if skip.shape != () or skip.dtype.kind not in "iu":
            raise _bad("skip_below", "an integer scalar", f"{skip.dtype} {skip.shape}")
        return cls(
            sizes=arrays["sizes"],
            freqs=arrays["freqs"],
            centers=arrays["centers"],
            shifts=arrays["shifts"],
            scales=arrays["scales"],
            skip_below=int(skip),
        )

    @classmethod
    def stack(cls, tables: Sequence[Table], *, skip_below: int = 1) -> FrequencyTables:
        """A set from single tables, in order."""
        return cls(
            sizes=np.array([len(t.freqs) for t in tables], np.uint16),
            freqs=np.concatenate([t.freqs for t in tables]) if tables else np.zeros(0, np.uint16),
            centers=np.array([t.center for t in tables], np.int32),
            shifts=np.array([t.shift for t in tables], np.uint8),
            scales=np.array([t.scale for t in tables], np.float64),
            skip_below=skip_below,
        )

    def extended(self, tables: Sequence[Table]) -> FrequencyTables:
        """These tables with more behind them."""
        more = FrequencyTables.stack(tables)
        names = _ARRAYS.keys()
        return FrequencyTables(
            **{name: np.concatenate((getattr(self, name), getattr(more, name))) for name in names},
            skip_below=self.skip_below,
        )

    def ideal_bits(self, symbols: npt.NDArray[np.int16], indexes: npt.NDArray[np.uint8]) -> float:
        """The code length of ``symbols`` by these tables, in bits: what a coder without overhead would need.

        ``symbols`` and ``indexes`` have the same shape.  Escapes and raw bits count in full, skipped symbols
        count nothing.
        """
        return float(self.bits(symbols, indexes).sum())

    def bits(self, symbols: npt.NDArray[np.int16], indexes: npt.NDArray[np.uint8]) -> Floats:
        """As ``ideal_bits``, of every symbol by itself: float64 of the same shape."""
        index = indexes.astype(np.int64)
        shift = self.shifts[index].astype(np.int64)
        half = (1 << shift) >> 1
        v = ((symbols.astype(np.int64) + half) >> shift) - self.centers[index]
        number = np.where(v < 0, -2 * v - 1, 2 * v)
        escape = self.sizes[index].astype(np.int64) - 1
        extra = np.maximum(number - escape, -1)
        prefix = np.floor(np.log2(np.maximum(extra + 1, 1)))
        freqs = self.freqs[self.starts[index] + np.minimum(number, escape)]
        bits = PRECISION - np.log2(freqs) + shift + np.where(extra >= 0, 2 * prefix + 1, 0)
        return np.where(index >= self.skip_below, bits, 0.0)


_ARRAYS: dict[str, Any] = {
    "sizes": np.uint16,
    "freqs": np.uint16,
    "centers": np.int32,
    "shifts": np.uint8,
    "scales": np.float64,
}


def _bad(field: str, expected: object, found: object) -> BundleError:
    return BundleError(f"bad tables: {field}: expected {expected}, found {found}")


def _check_each(values: npt.NDArray[Any], low: int, high: int, what: str) -> None:
    wrong = np.flatnonzero((values.astype(np.int64) < low) | (values.astype(np.int64) > high))
    if len(wrong):
        found = f"{int(values[wrong[0]])} in table {int(wrong[0])}"
        raise _bad(f"{what}s", f"a {what} of {low} to {high}", found)


def normalize(probabilities: Floats) -> npt.NDArray[np.uint16]:
    """Integer frequencies, each >= 1, that sum to 2^12 and cost the fewest expected bits.

    ``probabilities`` float64 [n], n in 2..256.  From the rounded-down shares, single slots go where they
    save most (p * log2((f + 1) / f)) and come from where they are missed least, until no move saves
    anything: the cost is a sum of convex functions, so that is the optimum (the Kullback-Leibler
    divergence is its distance from the entropy). Ties go to the lower number, so the result does not
    depend on chance.
    """
    p = probabilities
    f = np.maximum(np.floor(p * TOTAL), 1.0)
    while True:
        gain = p * np.log2((f + 1) / f)
        loss = np.where(f > 1, p * np.log2(f / np.maximum(f - 1, 0.5)), np.inf)
        best, least = int(np.argmax(gain)), int(np.argmin(loss))
        missing = TOTAL - int(f.sum())
        if missing == 0 and gain[best] <= loss[least] * (1 + 1e-12):
            return f.astype(np.uint16)
        if missing >= 0:
            f[best] += 1
        if missing <= 0:
            f[least] -= 1


def _expected_bits(p: Floats, freqs: npt.NDArray[np.uint16]) -> float:
    """Expected bits per symbol if ids have the probabilities ``p`` and those past the table escape."""
    escape = len(freqs) - 1
    number = np.arange(len(p))
    bits = PRECISION - np.log2(freqs[np.minimum(number, escape)].astype(np.float64))
    prefix = np.floor(np.log2(np.maximum(number - escape + 1, 1)))
    return float(np.sum(p * (bits + np.where(number >= escape, 2 * prefix + 1, 0))))


def _fit(p: Floats) -> npt.NDArray[np.uint16]:
    """The cheapest table for ids of probabilities ``p`` (which sum to 1; the last one stands for all beyond).

    An id pays for its slot when it is expected about half a slot's worth; the best size is looked for
    around there.
    """
    worthy = np.flatnonzero(p[:-1] * TOTAL >= 0.5)
    guess = int(worthy[-1]) + 1 if len(worthy) else 1
    best: tuple[float, npt.NDArray[np.uint16]] | None = None
    for values in range(max(1, guess - 3), min(guess + 8, MAX_SIZE, len(p))):
        freqs = normalize(np.append(p[:values], p[values:].sum()))
        bits = _expected_bits(p, freqs)
        if best is None or bits < best[0]:
            best = (bits, freqs)
    assert best is not None
    return best[1]


def table_from_pmf(pmf: Floats, center: int, *, scale: float = 0.0) -> Table:
    """A table for any distribution.

    ``pmf`` float64 of odd length 2R + 1: ``pmf[k]`` is the probability of the value ``center - R + k``.
    What it lacks to 1 is taken to lie beyond.  ``center`` should be the commonest value.  Values too rare
    to deserve a slot are left to the escape.  Raises :class:`InputError` for a pmf that is not one.
    """
    pmf = np.asarray(pmf, np.float64)
    if pmf.ndim != 1 or len(pmf) % 2 == 0 or not np.all(pmf >= 0) or not 0 < pmf.sum() < 1 + 1e-6:
        raise InputError("a pmf has an odd number of probabilities that sum to at most 1")
    if abs(center) > SYMBOL_LIMIT:
        raise InputError(f"the center of a table lies within {SYMBOL_LIMIT}, found {center}")
    radius = len(pmf) // 2
    by_id = np.array([pmf[radius + unzigzag(k)] for k in range(len(pmf))])
    p = np.append(by_id, max(0.0, 1.0 - float(by_id.sum())))
    return Table(freqs=_fit(p / p.sum()), center=center, scale=scale)


def gaussian_mass(low: float, high: float, scale: float) -> float:
    """The probability that a Gaussian of mean 0 lies between ``low`` and ``high``, accurate in the tails."""
    a, b = low / (scale * math.sqrt(2.0)), high / (scale * math.sqrt(2.0))
    if a >= 0:
        return 0.5 * (math.erfc(a) - math.erfc(b))
    if b <= 0:
        return 0.5 * (math.erfc(-b) - math.erfc(-a))
    return 1.0 - 0.5 * (math.erfc(-a) + math.erfc(b))


def gaussian_table(scale: float) -> Table:
    """The table of a zero-mean Gaussian of standard deviation ``scale``, discretised at half-integers.

    ``shift`` is the smallest that brings the scale to at most 24 coded steps.  Raises :class:`InputError` for
    a scale that is not positive or too large.
    """
    if not 0 < scale <= SYMBOL_LIMIT / 4:
        raise InputError(f"a scale lies above 0 and at most {SYMBOL_LIMIT // 4}, found {scale}")
    shift = 0
    while scale / (1 << shift) > MAX_CODED_SCALE:
        shift += 1
    step = 1 << shift
    first = -(step >> 1) - 0.5  # the lower edge of hi = 0
    radius = max(8, math.ceil(10 * scale / step))
    p = np.zeros(2 * radius + 2)
    for k in range(2 * radius + 1):
        low = first + unzigzag(k) * step
        p[k] = gaussian_mass(low, low + step, scale)
    return Table(freqs=_fit(p / p.sum()), shift=shift, scale=scale)


@lru_cache(maxsize=8)
def gaussian_tables(scales: tuple[float, ...] = DEFAULT_SCALES, *, skip_below: int = 1) -> FrequencyTables:
    """Tables for zero-mean Gaussians of the given standard deviations, in their order.

    The default scales are CompressAI's.  The result is cached: treat it as the constant it is.
    """
    return FrequencyTables.stack([gaussian_table(s) for s in scales], skip_below=skip_below)
