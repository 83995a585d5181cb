"""Percentiles, verdicts and intervals against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2c_deploy.bench.statistics import Ratio, ratio_interval, summarize


def test_percentiles_of_one_to_a_hundred() -> None:
    found = summarize([float(i) for i in range(1, 101)], [0] * 100)
    assert (found.n, found.p50, found.p90, found.p99) == (100, 50.5, pytest.approx(90.1), pytest.approx(99.01))
    assert found.spread == pytest.approx((75.25 - 25.75) / 50.5)


def test_a_steady_series_is_stable() -> None:
    assert summarize([1.0, 1.01, 0.99, 1.0] * 5, [r for r in range(5) for _ in range(4)]).unstable is None


@pytest.mark.parametrize(
    ("seconds", "rounds", "reason"),
    [
        ([1.0] * 4, [0] * 4, "only 4 samples"),
        ([1.0] * 10 + [1.2] * 10, [0] * 10 + [1] * 10, "second half +18% against the first"),
        ([1.2] * 10 + [1.0] * 10, [0] * 10 + [1] * 10, "second half -18% against the first"),
        # a slow round in the middle: halves agree, rounds do not
        ([1.0] * 8 + [1.5] * 4 + [1.0] * 8, [0] * 8 + [1] * 4 + [2] * 8, "medians of rounds spread over 50%"),
    ],
)
def test_an_unsteady_one_says_why(seconds: list[float], rounds: list[int], reason: str) -> None:
    assert summarize(seconds, rounds).unstable == reason


def series(rng: np.random.Generator, median: float, mood: float) -> tuple[list[float], list[int]]:
    """Five rounds of eight lognormal samples; each round has a mood of its own."""
    rounds = [r for r in range(5) for _ in range(8)]
    moods = np.exp(mood * rng.normal(size=5))
    return [float(median * moods[r] * np.exp(0.03 * rng.normal())) for r in rounds], rounds


def test_the_interval_covers_the_true_ratio() -> None:
    """About 95 of 100 intervals of two lognormal series whose medians are 1 and 1.5; a bootstrap of five rounds is a
    little narrow, so 80 is asked for."""
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(100):
        found = ratio_interval(series(rng, 1.0, 0.05), series(rng, 1.5, 0.05), seed=trial, draws=300)
        held += found.low <= 1.5 <= found.high
        assert found.verdict == "slower"
    assert 80 <= held <= 100


def test_rounds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    calm = ratio_interval(series(rng, 1.0, 0.0), series(rng, 1.0, 0.0))
    moody = ratio_interval(series(rng, 1.0, 0.2), series(rng, 1.0, 0.2))
    assert moody.high - moody.low > 3 * (calm.high - calm.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = series(np.random.default_rng(2), 1.0, 0.1), series(np.random.default_rng(3), 0.9, 0.1)
    assert ratio_interval(a, b, seed=7) == ratio_interval(a, b, seed=7)
    assert ratio_interval(a, b, seed=7) != ratio_interval(a, b, seed=8)


@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_constant_series_have_a_ratio_without_doubt(first: float, second: float) -> None:
    found = ratio_interval(([first] * 4, [0, 0, 1, 1]), ([second] * 3, [0, 1, 2]), draws=20)
    assert found.ratio == found.low == found.high == second / first


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.9, 1.1, "no difference"), (1.01, 1.1, "slower"), (0.8, 0.99, "faster")]
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    assert Ratio(ratio=1.0, low=low, high=high).verdict == verdict
