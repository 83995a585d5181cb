"""The C coder against the plain-Python reference, both ways, on whatever hypothesis thinks of."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s2c_deploy.entropy import Decoder, Encoder, FrequencyTables, Table, Tables, gaussian_tables, reference
from s2c_deploy.errors import BitstreamError

# A set with every feature: skipped, tiny, wide, off center, centers at both ends, raw bits, and many escapes.
ODD = FrequencyTables.stack(
    [
        Table(freqs=np.array([4095, 1], np.uint16)),
        Table(freqs=np.array([2250, 1846], np.uint16), center=7),
        Table(freqs=np.array([1, 4095], np.uint16)),
        Table(freqs=np.array([4040, 32, 23, 1], np.uint16)),
        Table(freqs=np.full(256, 16, np.uint16), center=-3),
        Table(freqs=np.array([2048, 1024, 512, 512], np.uint16), center=-32767),
        Table(freqs=np.array([2048, 1024, 512, 512], np.uint16), center=32767, shift=3),
        Table(freqs=np.array([2048, 1024, 1024], np.uint16), shift=15),
    ],
    skip_below=1,
)
SETS = {
    "odd": ODD,
    "gaussian": gaussian_tables(),
    "unskipped": FrequencyTables(**{**gaussian_tables().to_arrays(), "skip_below": 0}),
    "mostly skipped": FrequencyTables(**{**gaussian_tables().to_arrays(), "skip_below": 40}),
}


def kernels():
    """What ``S2C_SIMD`` can ask for on this machine: the portable code, and the best that there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("S2C_SIMD", raising=False)
        best = Tables(ODD).simd
    return sorted({"scalar", best})


def handle(name, simd):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2C_SIMD", simd)
        return Tables(SETS[name])


KERNELS = kernels()
HANDLES = {(name, simd): handle(name, simd) for name in SETS for simd in KERNELS}

SYMBOLS = st.one_of(st.just(0), st.integers(-3, 3), st.integers(-200, 200), st.integers(-32767, 32767))


@st.composite
def workloads(draw):
    """(name of a table set, batches of (symbols, indexes), lanes_log2, parts_log2)"""
    name = draw(st.sampled_from(sorted(SETS)))
    tables = SETS[name]
    batches = []
    for _ in range(draw(st.integers(0, 3))):
        size = draw(st.one_of(st.integers(0, 20), st.sampled_from([64, 100, 257, 1300])))
        seed, spread = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 1, 5, 300, 32767]))
        rng = np.random.default_rng(seed)
        symbols = rng.integers(-spread, spread + 1, size).astype(np.int16)
        indexes = rng.integers(0, tables.count, size).astype(np.uint8)
        for k in range(min(size, 8)):  # the first few are hypothesis's own
            symbols[k], indexes[k] = draw(SYMBOLS), draw(st.integers(0, tables.count - 1))
        symbols[indexes < tables.skip_below] = 0
        batches.append((symbols, indexes))
    return name, batches, draw(st.integers(0, 6)), draw(st.sampled_from([0, 0, 1, 2, 3]))


def encode(name, batches, lanes_log2, parts_log2=0, simd=KERNELS[0]):
    encoder = Encoder(HANDLES[name, simd])
    for symbols, indexes in batches:
        encoder.push(symbols, indexes)
    return encoder.finish(lanes_log2, parts_log2, threads=2)


def decode(name, payload, indexes, simd=KERNELS[0]):
    decoder = Decoder(HANDLES[name, simd], payload, threads=2)
    symbols = [decoder.read(i) for i in indexes]
    decoder.finish()
    return symbols


def as_lists(batches):
    return [(s.tolist(), i.tolist()) for s, i in batches]


@settings(max_examples=300, deadline=None)
@given(workloads())
def test_all_write_the_same_bytes_and_read_each_other(workload):
    """Whatever the instructions: the reference's bytes, so that what one writes every other reads."""
    name, batches, lanes_log2, parts_log2 = workload
    payload = reference.encode(SETS[name], as_lists(batches), lanes_log2, parts_log2)
    assert reference.decode(SETS[name], payload, [i.tolist() for _, i in batches]) == [s.tolist() for s, _ in batches]
    for simd in KERNELS:
        assert encode(name, batches, lanes_log2, parts_log2, simd) == payload
        symbols = decode(name, payload, [i for _, i in batches], simd)
        for found, (expected, _) in zip(symbols, batches, strict=True):
            np.testing.assert_array_equal(found, expected)


@settings(max_examples=100, deadline=None)
@given(workloads())
def test_the_encoders_own_choice_of_lanes_decodes(workload):
    name, batches, _, _ = workload
    payload = encode(name, batches, None, None)
    symbols = decode(name, payload, [i for _, i in batches])
    for found, (expected, _) in zip(symbols, batches, strict=True):
        np.testing.assert_array_equal(found, expected)


def outcome_c(name, payload, indexes, simd):
    try:
        return [s.tolist() for s in decode(name, payload, indexes, simd)]
    except BitstreamError:
        return None


def outcome_reference(name, payload, indexes):
    try:
        return reference.decode(SETS[name], payload, [i.tolist() for i in indexes])
    except BitstreamError:
        return None


def check_lockstep(name, payload, indexes):
    """All refuse, or all return the same symbols, which code to exactly these bytes."""
    symbols = outcome_reference(name, payload, indexes)
    for simd in KERNELS:
        assert outcome_c(name, payload, indexes, simd) == symbols
    if symbols is not None and payload and payload[0] < 128:
        batches = [(np.array(s, np.int16), i) for s, i in zip(symbols, indexes, strict=True)]
        assert encode(name, batches, payload[0]) == payload


@settings(max_examples=300, deadline=None)
@given(workloads(), st.data())
def test_damaged_payloads_end_alike_in_all(workload, data):
    """A stream is the only spelling of its symbols: whatever is accepted encodes to the same bytes again."""
    name, batches, lanes_log2, parts_log2 = workload
    damaged = bytearray(encode(name, batches, lanes_log2, parts_log2))
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        at = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        if kind == "insert" or not damaged:
            damaged.insert(at, data.draw(st.integers(0, 255)))
        elif kind == "cut":
            del damaged[at:]
        else:
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    check_lockstep(name, bytes(damaged), [i for _, i in batches])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SETS)), st.binary(max_size=80), st.integers(0, 60), st.integers(0, 2**32 - 1))
@example("odd", b"", 0, 0)
@example("odd", b"\x00\x00\x80\x00\x00", 1, 0)
def test_random_bytes_end_alike_in_all(name, payload, size, seed):
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, SETS[name].count, size).astype(np.uint8)
    check_lockstep(name, payload, [indexes])


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_reference_and_the_tables_agree_on_the_cost(name):
    """The payload is as long as the tables say, plus the fixed cost of its one lane."""
    rng = np.random.default_rng(3)
    tables = SETS[name]
    indexes = rng.integers(0, tables.count, 5000).astype(np.uint8)
    symbols = np.rint(rng.normal(size=5000) * 3).astype(np.int16)
    symbols[indexes < tables.skip_below] = 0
    payload = reference.encode(tables, [(symbols.tolist(), indexes.tolist())], 0)
    assert 0 <= len(payload) - tables.ideal_bits(symbols, indexes) / 8 < 10 + 0.001 * len(payload)
