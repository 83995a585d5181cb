"""What a list of times says: percentiles, whether it may be believed, and how two lists compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: A series is unstable when the medians of its halves differ by more than DRIFT, or those of its rounds spread over
#: more than WOBBLE, relative to the median: beyond that, two runs would not agree within 10 %.
DRIFT, WOBBLE = 0.05, 0.10
#: With fewer samples, no verdict.
FEWEST = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Percentiles of a series in seconds: linear between samples, as numpy's default."""

    n: int
    p50: float
    p90: float
    p99: float
    #: Interquartile range over the median.
    spread: float
    #: Why the series is not to be trusted, or None.
    unstable: str | None


def summarize(seconds: Sequence[float], rounds: Sequence[int]) -> Summary:
    """A series of at least one sample; rounds: the round of each sample, ascending."""
    low, p50, high, p90, p99 = (float(v) for v in np.percentile(seconds, [25, 50, 75, 90, 99]))
    return Summary(
        n=len(seconds), p50=p50, p90=p90, p99=p99, spread=(high - low) / p50, unstable=instability(seconds, rounds)
    )


def instability(seconds: Sequence[float], rounds: Sequence[int]) -> str | None:
    """Why a series is unstable, or None."""
    times, of = np.asarray(seconds), np.asarray(rounds)
    if times.size < FEWEST:
        return f"only {times.size} samples"
    p50 = float(np.median(times))
    half = times.size // 2
    drift = float(np.median(times[-half:]) - np.median(times[:half])) / p50
    if abs(drift) > DRIFT:
        return f"second half {drift:+.0%} against the first"
    medians = [float(np.median(times[of == r])) for r in np.unique(of)]
    wobble = (max(medians) - min(medians)) / p50
    return f"medians of rounds spread over {wobble:.0%}" if wobble > WOBBLE else None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median of the second series over that of the first, with its confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, or ``no difference`` where the interval holds 1."""
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "no difference"


def ratio_interval(
    first: tuple[Sequence[float], Sequence[int]],
    second: tuple[Sequence[float], Sequence[int]],
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Ratio:
    """The ratio of medians of two series (seconds, rounds), with its percentile bootstrap interval.

    Calls of one round share the machine's mood, so rounds are drawn first, then samples within them (a bootstrap in two
    stages: Davison and Hinkley 1997, section 3.8).
    """
    rng = np.random.default_rng(seed)
    a, b = (_medians(np.asarray(s), np.asarray(r), rng, draws) for s, r in (first, second))
    tail = 50 * (1 - level)
    low, high = np.percentile(b / a, [tail, 100 - tail])
    return Ratio(ratio=float(np.median(second[0]) / np.median(first[0])), low=float(low), high=float(high))


def _medians(seconds: Floats, rounds: npt.NDArray[np.int64], rng: np.random.Generator, draws: int) -> Floats:
    groups = [seconds[rounds == r] for r in np.unique(rounds)]
    medians = np.empty(draws)
    for i in range(draws):
        chosen = rng.integers(len(groups), size=len(groups))
        medians[i] = np.median(np.concatenate([rng.choice(groups[g], groups[g].size) for g in chosen]))
    return medians
