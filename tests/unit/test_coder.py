"""The C coder through its Python classes: round trips, arguments, damaged payloads, threads, checksum."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from s2c_deploy.entropy import (
    Decoder,
    Encoder,
    FrequencyTables,
    Table,
    Tables,
    crc32c,
    gaussian_tables,
    native,
)
from s2c_deploy.errors import BitstreamError, EngineError, InputError


@pytest.fixture(scope="module")
def tables():
    with Tables(gaussian_tables()) as made:
        yield made


def draw(count, seed=0, heavy=0.0):
    """Symbols from the tables' own Gaussians; a share ``heavy`` of them far out."""
    rng = np.random.default_rng(seed)
    scales = gaussian_tables().scales
    indexes = rng.integers(0, len(scales), count).astype(np.uint8)
    values = rng.normal(size=count) * scales[indexes]
    values = np.where(rng.random(count) < heavy, values * 300, values)
    symbols = np.clip(np.rint(values), -32767, 32767).astype(np.int16)
    symbols[indexes == 0] = 0
    return symbols, indexes


def encode(tables, batches, lanes_log2=None):
    encoder = Encoder(tables)
    for symbols, indexes in batches:
        encoder.push(symbols, indexes)
    return encoder.finish(lanes_log2)


def check(tables, payload, batches):
    decoder = Decoder(tables, payload)
    for symbols, indexes in batches:
        np.testing.assert_array_equal(decoder.read(indexes), symbols)
    decoder.finish()


@pytest.mark.parametrize("lanes_log2", [None, 0, 1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("heavy", [0.0, 0.05, 1.0])
def test_batches_of_any_size_come_back(tables, lanes_log2, heavy):
    batches = [draw(n, seed=n, heavy=heavy) for n in (1000, 1, 0, 7, 64, 65, 4097)]
    payload = encode(tables, batches, lanes_log2)
    check(tables, payload, batches)
    if lanes_log2 is not None:
        assert payload[0] == lanes_log2


def test_arrays_of_any_shape_keep_it(tables):
    symbols, indexes = draw(2 * 3 * 5)
    symbols, indexes = symbols.reshape(2, 3, 5), indexes.reshape(2, 3, 5)
    payload = encode(tables, [(symbols, indexes)])
    out = np.empty((2, 3, 5), np.int16)
    assert Decoder(tables, payload).read(indexes, out) is out
    np.testing.assert_array_equal(out, symbols)


def test_nothing_coded_is_no_bytes(tables):
    zeros = np.zeros(1000, np.int16), np.zeros(1000, np.uint8)
    for batches in ([], [zeros], [zeros, zeros]):
        for lanes_log2 in (None, 0, 6):
            assert encode(tables, batches, lanes_log2) == b""
        check(tables, b"", batches)


def test_a_tiny_payload_has_one_lane_and_little_overhead(tables):
    batch = draw(2000, heavy=0.0)
    batch[1][:] = np.minimum(batch[1], 8)
    batch[0][:] = 0
    payload = encode(tables, [batch])
    assert payload[0] == 0
    assert len(payload) <= tables.frequencies.ideal_bits(*batch) / 8 + 8


def test_payload_is_close_to_the_ideal(tables):
    """At some 27 kB the coder itself may cost 0.2 % over the code length of its own tables."""
    batch = draw(60000)
    ideal = tables.frequencies.ideal_bits(*batch) / 8
    assert 25000 < ideal < 60000
    assert ideal < len(encode(tables, [batch])) < 1.002 * ideal


def test_extreme_symbols_come_back_under_every_table(tables):
    values = np.array([-32767, -32766, -1, 0, 1, 32766, 32767], np.int16)
    indexes = np.repeat(np.arange(1, 64, dtype=np.uint8), len(values))
    symbols = np.tile(values, 63)
    check(tables, encode(tables, [(symbols, indexes)]), [(symbols, indexes)])


@pytest.mark.parametrize(
    ("symbol", "index", "message"),
    [(1, 64, "names no table"), (0, 255, "names no table"), (-32768, 5, "outside"), (3, 0, "skipped")],
)
@pytest.mark.parametrize("position", [0, 8, 20])
def test_what_cannot_be_coded_is_refused(tables, symbol, index, message, position):
    symbols, indexes = np.zeros(21, np.int16), np.zeros(21, np.uint8)
    symbols[position], indexes[position] = symbol, index
    with pytest.raises(InputError, match=message):
        encode(tables, [(symbols, indexes)])


@pytest.mark.parametrize(
    ("symbols", "indexes", "message"),
    [
        (np.zeros(4, np.int32), np.zeros(4, np.uint8), "symbols must be int16, found int32"),
        (np.zeros(4, np.int16), np.zeros(4, np.int64), "indexes must be uint8, found int64"),
        (np.zeros(4, np.int16), np.zeros(5, np.uint8), "differ in shape"),
        (np.zeros((4, 4), np.int16)[:, ::2], np.zeros((4, 2), np.uint8), "C-contiguous"),
        ([0, 0], np.zeros(2, np.uint8), "numpy array of int16, found list"),
    ],
)
def test_push_refuses_other_arrays(tables, symbols, indexes, message):
    with pytest.raises(InputError, match=message):
        Encoder(tables).push(symbols, indexes)


@pytest.mark.parametrize("lanes_log2", [-1, 7, 255])
def test_finish_refuses_other_lane_counts(tables, lanes_log2):
    with pytest.raises(InputError, match="0 to 6"):
        Encoder(tables).finish(lanes_log2)


def test_read_refuses_an_index_without_a_table(tables):
    with pytest.raises(InputError, match="names no table"):
        Decoder(tables, b"").read(np.full(3, 64, np.uint8))


def test_closed_tables_are_refused():
    tables = Tables(gaussian_tables())
    decoder = Decoder(tables, b"")
    tables.close()
    tables.close()
    with pytest.raises(InputError, match="closed"):
        Encoder(tables).finish()
    with pytest.raises(InputError, match="closed"):
        decoder.read(np.zeros(1, np.uint8))


STATE = (1 << 15).to_bytes(4, "little")
MALFORMED = {
    "lanes": (b"\x07\x00" + STATE, "coder lanes"),
    "split missing": (b"\x01", "coder split"),
    "split unfinished": (b"\x01\x80\x80", "coder split"),
    "split overlong": (b"\x01\x80\x00" + STATE + STATE, "coder split"),
    "split of ten bytes": (b"\x01" + b"\xff" * 9 + b"\x01" + STATE + STATE, "coder split"),
    "states cut": (b"\x01\x00" + STATE + STATE[:3], "coder states"),
    "state too small": (b"\x00\xff\x7f\x00\x00", "coder states"),
    "state too large": (b"\x00\x00\x00\x00\x80", "coder states"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_head_is_refused(tables, name):
    payload, field = MALFORMED[name]
    with pytest.raises(BitstreamError) as caught:
        Decoder(tables, payload)
    assert caught.value.field == field


def test_the_long_form_of_nothing_is_refused(tables):
    decoder = Decoder(tables, b"\x00" + STATE)
    with pytest.raises(BitstreamError) as caught:
        decoder.finish()
    assert caught.value.field == "coder states"


def finish(tables, payload, batch):
    decoder = Decoder(tables, payload)
    decoder.read(batch[1])
    decoder.finish()


def test_what_is_left_over_is_refused(tables):
    batch = draw(500, heavy=0.05)
    payload = encode(tables, [batch], 3)
    finish(tables, payload, batch)
    with pytest.raises(BitstreamError):  # the bypass is read from the end
        finish(tables, payload + b"\0", batch)
    with pytest.raises(BitstreamError, match="left between them"):
        finish(tables, payload[:-40] + b"\0" + payload[-40:], batch)
    short = batch[0][:-100].copy(), batch[1][:-100].copy()
    with pytest.raises(BitstreamError, match=r"left between|initial state|the split"):
        finish(tables, payload, short)
    long = (np.tile(batch[0], 2), np.tile(batch[1], 2))
    with pytest.raises(BitstreamError, match="too few"):
        finish(tables, payload, long)


def test_padding_and_raw_bits_are_checked():
    tables = Tables(gaussian_tables((256.0,), skip_below=0))  # shift 4: four raw bits per symbol
    batch = np.array([17, -5, 300], np.int16), np.zeros(3, np.uint8)
    payload = encode(tables, [batch])
    finish(tables, payload, batch)
    assert len(payload) == 5 + 2 + 2, "one lane, one word, and twelve bits, read from the last byte on"
    with pytest.raises(BitstreamError, match="padding"):
        finish(tables, payload[:7] + bytes([payload[7] | 0x80]) + payload[8:], batch)
    with pytest.raises(BitstreamError, match="overlap"):
        finish(tables, payload[:7] + payload[8:], batch)
    with pytest.raises(BitstreamError, match="too few"):
        finish(tables, payload, (batch[0], np.zeros(9, np.uint8)))


def test_a_decoder_stays_in_its_error(tables):
    batch = draw(500)
    decoder = Decoder(tables, encode(tables, [batch])[:-20] + b"")
    for _ in range(2):
        with pytest.raises(BitstreamError):
            decoder.read(np.tile(batch[1], 3))
    with pytest.raises(BitstreamError):
        decoder.finish()


def test_other_buffers_are_read_in_place(tables):
    batch = draw(300)
    payload = encode(tables, [batch])
    for data in (bytearray(payload), memoryview(payload), np.frombuffer(payload, np.uint8)):
        finish(tables, data, batch)


def test_threads_share_tables(tables):
    batches = [draw(20000, seed=k, heavy=0.01) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        payloads = list(pool.map(lambda b: encode(tables, [b]), batches))
        list(pool.map(lambda pair: check(tables, pair[0], [pair[1]]), zip(payloads, batches, strict=True)))
    assert payloads == [encode(tables, [b]) for b in batches]


def test_bad_tables_do_not_reach_the_coder():
    good = gaussian_tables()
    broken = object.__new__(FrequencyTables)  # past the checks of the dataclass
    for name, array in good.to_arrays().items():
        object.__setattr__(broken, name, array.copy())
    object.__setattr__(broken, "skip_below", 1)
    broken.freqs[7] += 1
    with pytest.raises(Exception, match="sum to 4096"):
        Tables(broken)


def test_crc32c_known_answers():
    """RFC 3720, B.4, and the check value of the polynomial."""
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_crc32c_continues_and_takes_any_buffer():
    data = np.random.default_rng(0).integers(0, 256, 1001).astype(np.uint8)
    whole = crc32c(data)
    assert whole == crc32c(data.tobytes()) == crc32c(memoryview(data.tobytes())) == crc32c(bytearray(data))
    for cut in (0, 1, 7, 8, 500, 1001):
        assert crc32c(data[cut:], crc32c(data[:cut])) == whole
    with pytest.raises(InputError, match="contiguous"):
        crc32c(data[::2])


def test_a_missing_library_says_what_to_do(monkeypatch, tmp_path):
    native.library.cache_clear()
    monkeypatch.setattr(native, "_directories", lambda: [tmp_path])
    with pytest.raises(EngineError, match="is missing"):
        crc32c(b"")
    (tmp_path / native.LIBRARY_NAME).write_bytes(b"not a library")
    with pytest.raises(EngineError, match="cannot be loaded"):
        crc32c(b"")
    monkeypatch.undo()
    assert crc32c(b"123456789") == 0xE3069283


def test_indexes_above_127_are_not_taken_for_skipped():
    """Eight indexes are tested at once by one addition: a carry must not make 255 look small."""
    many = Tables(gaussian_tables(tuple(0.11 + k / 50 for k in range(256)), skip_below=1))
    symbols = np.full(64, 3, np.int16)
    for index in (127, 128, 129, 254, 255):
        batch = symbols, np.full(64, index, np.uint8)
        check(many, encode(many, [batch]), [batch])


def test_an_escape_past_int16_is_refused(tables):
    """The prefix of an escape is bounded, so a run of zero bits neither hangs nor overflows."""
    batch = np.array([32767], np.int16), np.array([5], np.uint8)
    payload = encode(tables, [batch])
    head = payload[:5]  # one lane and its state; the rest is the escape, read from the last byte on
    finish(tables, payload, batch)
    for zeros in (16, 17, 24, 32, 40, 200):
        bits = (1 << zeros | ((1 << zeros) - 1) << (zeros + 1)).to_bytes((2 * zeros + 8) // 8, "big")
        with pytest.raises(BitstreamError) as caught:
            finish(tables, head + bits, batch)
        assert caught.value.field == "coder symbols"


@pytest.mark.parametrize("lanes_log2", [0, 3, 4, 5, 6])
def test_words_are_not_read_past_their_end(lanes_log2):
    """Symbols of 12 bits each, from payloads cut anywhere: rows are read without a check for words while they last."""
    rare = FrequencyTables.stack([Table(freqs=np.array([1, 4095], np.uint16))], skip_below=0)
    tables = Tables(rare)
    batch = np.zeros(640, np.int16), np.zeros(640, np.uint8)
    payload = encode(tables, [batch], lanes_log2)
    finish(tables, payload, batch)
    head = (1 if lanes_log2 == 0 else 3) + (4 << lanes_log2)
    for size in range(head, len(payload)):
        with pytest.raises(BitstreamError, match="too few words"):
            finish(tables, payload[:size], batch)


def test_lanes_cost_little_and_start_from_the_tail():
    """About a byte a lane beyond the first: the tail's words are where the other lanes start."""
    batch = draw(60000)
    with Tables(gaussian_tables()) as tables:
        ideal = tables.frequencies.ideal_bits(*batch) / 8
        sizes = [len(encode(tables, [batch], lanes_log2)) for lanes_log2 in range(7)]
    for lanes_log2, size in enumerate(sizes):
        lanes = 1 << lanes_log2
        assert size - ideal < 12 + 1.5 * lanes + 0.0002 * ideal


def test_a_tail_without_words_leaves_the_encoder_few_lanes():
    """Thirty kilobytes whose end has next to none: 32 lanes would cost three bytes each, more than 0.25 %."""
    symbols, indexes = draw(60000)
    quiet = np.zeros(5000, np.int16), np.ones(5000, np.uint8)
    with Tables(gaussian_tables()) as tables:
        assert encode(tables, [(symbols, indexes)])[0] == 5
        assert encode(tables, [(symbols, indexes), quiet])[0] < 5


def test_large_payloads_have_parts_that_threads_decode(tables):
    """Sub-streams cost at most 0.1 % and do not depend on the threads."""
    batches = [draw(400_000, seed=1), draw(300_000, seed=2, heavy=0.001)]
    one, many = encode(tables, batches), Encoder(tables)
    assert one[0] in (0x81, 0x82, 0x83)
    for batch in batches:
        many.push(*batch)
    assert many.finish(threads=4) == one
    for threads in (1, 2, 5):
        decoder = Decoder(tables, one, threads=threads)
        for symbols, indexes in batches:
            np.testing.assert_array_equal(decoder.read(indexes), symbols)
        decoder.finish()
        assert decoder.info().parts == 1 << (one[0] & 127)
    undivided = Encoder(tables)
    for batch in batches:
        undivided.push(*batch)
    whole = undivided.finish(parts_log2=0)
    assert whole[0] == 5
    assert len(whole) < len(one) < 1.001 * len(whole)


@pytest.mark.parametrize(
    "payload",
    [b"\x80", b"\x81", b"\x84" + bytes(20), b"\x81\x80\x00" + bytes(9), b"\x81\x05" + bytes(4), b"\x81\x00"],
)
def test_malformed_parts_are_refused(tables, payload):
    with pytest.raises(BitstreamError) as caught:
        Decoder(tables, payload)
    assert caught.value.field == "coder parts"


def test_other_instructions_are_chosen_by_name_or_refused(monkeypatch):
    batch = draw(5000, heavy=0.01)
    monkeypatch.setenv("S2C_SIMD", "scalar")
    with Tables(gaussian_tables()) as tables:
        assert tables.simd == "scalar"
        payload = encode(tables, [batch])
    monkeypatch.delenv("S2C_SIMD")
    with Tables(gaussian_tables()) as tables:
        assert tables.simd in ("avx2", "neon", "scalar")
        assert encode(tables, [batch]) == payload
    for name in ("mmx", "avx2 ", "SCALAR"):
        monkeypatch.setenv("S2C_SIMD", name)
        with pytest.raises(EngineError, match=f"no coder for S2C_SIMD={name}"):
            Tables(gaussian_tables())
