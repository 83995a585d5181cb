"""Frequency tables: the rules they keep, what they cost, and what is refused."""

import math

import numpy as np
import pytest

from s2c_deploy.entropy.tables import (
    DEFAULT_SCALES,
    TOTAL,
    FrequencyTables,
    Table,
    gaussian_mass,
    gaussian_table,
    gaussian_tables,
    normalize,
    table_from_pmf,
    unzigzag,
    zigzag,
)
from s2c_deploy.errors import BundleError, InputError

SMALL = {
    "sizes": np.array([2, 3], np.uint16),
    "freqs": np.array([4095, 1, 4000, 92, 4], np.uint16),
    "centers": np.array([0, 5], np.int32),
    "shifts": np.array([0, 1], np.uint8),
    "scales": np.array([0.1, 3.0]),
    "skip_below": np.array(1),
}


def test_zigzag_orders_values_by_distance():
    assert [unzigzag(k) for k in range(5)] == [0, -1, 1, -2, 2]
    assert [zigzag(unzigzag(k)) for k in range(300)] == list(range(300))


def test_default_scales_are_those_of_compressai():
    """Within the last bit: that of exp depends on the processor."""
    np.testing.assert_allclose(DEFAULT_SCALES, np.exp(np.linspace(math.log(0.11), math.log(256), 64)), rtol=3e-16)


def test_gaussian_tables_keep_the_invariants():
    tables = gaussian_tables()
    assert tables.count == 64
    assert tables.skip_below == 1
    for index in range(tables.count):
        freqs = tables.table(index)
        assert freqs.min() >= 1
        assert freqs.max() < TOTAL
        assert freqs.sum(dtype=np.int64) == TOTAL
        assert np.argmax(freqs[:-1]) == 0, "id 0 is the commonest"
        scale, shift = tables.scales[index], tables.shifts[index]
        assert scale / 2.0**shift <= 24
        assert shift == 0 or scale / 2.0 ** (shift - 1) > 24


@pytest.mark.parametrize("index", range(64))
def test_gaussian_tables_cost_next_to_nothing(index):
    """Expected bits by the table against the entropy of the discretised Gaussian it stands for."""
    tables = gaussian_tables()
    scale = float(tables.scales[index])
    reach = max(8, math.ceil(9 * scale))
    symbols = np.arange(-reach, reach + 1)
    mass = np.array([gaussian_mass(abs(q) - 0.5, abs(q) + 0.5, scale) for q in symbols])
    entropy = -np.sum(mass[mass > 0] * np.log2(mass[mass > 0]))
    uncoded = FrequencyTables(**{**tables.to_arrays(), "skip_below": 0})
    one = np.ones(1, np.int16)
    bits = [uncoded.ideal_bits(one * q, np.array([index], np.uint8)) for q in symbols]
    assert 0 <= np.dot(mass, bits) - entropy <= max(4.5e-4, 1e-3 * entropy)


def test_gaussian_mass_is_accurate_in_the_tails():
    assert gaussian_mass(-0.5, 0.5, 1.0) == pytest.approx(0.3829249225480262)
    assert gaussian_mass(9.5, 10.5, 1.0) == pytest.approx(1.0494e-21, rel=1e-3)
    assert gaussian_mass(-10.5, -9.5, 1.0) == gaussian_mass(9.5, 10.5, 1.0)


def test_normalize_is_optimal_on_a_small_case():
    """Moving any single slot cannot lower the expected bits."""
    p = np.array([0.5, 0.2, 0.2, 0.0999, 0.0001, 0.0])
    freqs = normalize(p).astype(np.float64)
    assert freqs.sum() == TOTAL
    assert freqs.min() >= 1
    cost = -np.dot(p, np.log2(freqs))
    for i in range(len(p)):
        for j in range(len(p)):
            moved = freqs.copy()
            moved[i] += 1
            moved[j] -= 1
            if i != j and moved[j] >= 1:
                assert -np.dot(p, np.log2(moved)) >= cost - 1e-12


def test_table_from_pmf_follows_its_center():
    pmf = np.array([0.0, 0.05, 0.1, 0.7, 0.1, 0.03, 0.01])
    table = table_from_pmf(pmf, -12)
    assert table.center == -12
    expected = [0.7, 0.1, 0.1, 0.05, 0.03]  # values -12, -13, -11, -14, -10
    assert table.freqs[:5] / TOTAL == pytest.approx(expected, abs=2e-3)
    assert int(table.freqs.sum(dtype=np.int64)) == TOTAL


@pytest.mark.parametrize("pmf", [[0.5, 0.5], [0.4, -0.1, 0.4], [0.9, 0.9, 0.9], [0.0], [[1.0]], [math.nan]])
def test_table_from_pmf_refuses_what_is_no_pmf(pmf):
    with pytest.raises(InputError, match="odd number of probabilities"):
        table_from_pmf(np.array(pmf), 0)


def test_table_from_pmf_refuses_a_far_center():
    with pytest.raises(InputError, match="40000"):
        table_from_pmf(np.array([1.0]), 40000)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e6, math.nan])
def test_gaussian_table_refuses_bad_scales(scale):
    with pytest.raises(InputError, match="a scale lies above 0"):
        gaussian_table(scale)


def test_arrays_round_trip():
    tables = gaussian_tables()
    again = FrequencyTables.from_arrays(tables.to_arrays())
    for name, array in tables.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


def test_tables_do_not_change_after_they_were_checked():
    tables = FrequencyTables.from_arrays(SMALL)
    with pytest.raises(ValueError, match="read-only"):
        tables.freqs[0] = 0
    source = SMALL["freqs"].copy()
    tables = FrequencyTables.from_arrays({**SMALL, "freqs": source})
    source[0] = 0
    assert tables.freqs[0] == 4095


def test_stack_puts_tables_in_order():
    tables = FrequencyTables.stack([Table(freqs=np.array([4095, 1], np.uint16)), gaussian_table(2.0)], skip_below=0)
    assert tables.count == 2
    np.testing.assert_array_equal(tables.table(1), gaussian_table(2.0).freqs)


def test_ideal_bits_count_escapes_raw_bits_and_skips():
    tables = FrequencyTables.from_arrays(SMALL)
    # Table 1: shift 1, center 5; symbol 10 is hi 5, id 0; symbol 11 is hi 6, id 2, the escape with value 0.
    symbols, indexes = np.array([0, 10, 11], np.int16), np.array([0, 1, 1], np.uint8)
    expected = (12 - math.log2(4000) + 1) + (12 - math.log2(4) + 1 + 1)
    assert tables.ideal_bits(symbols, indexes) == pytest.approx(expected)


BAD = {
    "no tables": ({"sizes": np.zeros(0, np.uint16)}, "1 to 256 tables"),
    "size of one": ({"sizes": np.array([1, 4], np.uint16)}, "a size of 2 to 256, found 1 in table 0"),
    "size too large": ({"sizes": np.array([2, 257], np.uint16)}, "found 257 in table 1"),
    "sizes and freqs differ": ({"sizes": np.array([2, 4], np.uint16)}, "expected 6 values.*found 5"),
    "zero frequency": ({"freqs": np.array([4096, 0, 4000, 92, 4], np.uint16)}, "0 at position 1"),
    "wrong sum": ({"freqs": np.array([4095, 1, 4000, 92, 5], np.uint16)}, "4096, found 4097 in table 1"),
    "center": ({"centers": np.array([0, 32768], np.int32)}, "found 32768 in table 1"),
    "shift": ({"shifts": np.array([0, 16], np.uint8)}, "found 16 in table 1"),
    "skip": ({"skip_below": np.array(3)}, "0 to 2, found 3"),
    "skip below zero": ({"skip_below": np.array(-1)}, "found -1"),
    "skip not a scalar": ({"skip_below": np.array([1])}, "an integer scalar"),
    "skip not an integer": ({"skip_below": np.array(1.0)}, "an integer scalar"),
    "dtype": ({"freqs": SMALL["freqs"].astype(np.int64)}, "uint16 array.*found int64"),
    "dimensions": ({"centers": SMALL["centers"][None]}, "one dimension"),
    "count of scales": ({"scales": np.zeros(3)}, "2 values, one per table, found 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused_by_name(name):
    change, message = BAD[name]
    with pytest.raises(BundleError, match=message):
        FrequencyTables.from_arrays({**SMALL, **change})


@pytest.mark.parametrize("name", SMALL)
def test_missing_arrays_are_named(name):
    with pytest.raises(BundleError, match=f"no {name}"):
        FrequencyTables.from_arrays({k: v for k, v in SMALL.items() if k != name})
