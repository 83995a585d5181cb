"""Literal bytes of the payload format: they may never change while the format's version stays."""

import numpy as np
import pytest

from s2c_deploy.entropy import Decoder, Encoder, FrequencyTables, Table, Tables, gaussian_tables, reference

TABLES = FrequencyTables.stack(
    [
        Table(freqs=np.array([4095, 1], np.uint16)),
        Table(freqs=np.array([2048, 1024, 1024], np.uint16)),
        Table(freqs=np.array([4072, 10, 10, 4], np.uint16)),
        Table(freqs=np.array([2500, 750, 750, 96], np.uint16), center=-2, shift=2),
    ],
    skip_below=1,
)

THREE_BATCHES = [([0] * 6, [2] * 6), ([1, 0, -1, 5, 0], [2, 0, 1, 1, 1]), ([-9, -10, 100], [3, 3, 3])]

# name: (batches of (symbols, indexes), lanes_log2, payload)
GOLDEN = {
    "nothing": ([([0, 0], [0, 0])], 3, ""),
    # 32768 = 16 * 2048, so the push gives 16 << 12 = 0x10000.
    "one zero": ([([0], [1])], 0, "00 00000100"),
    # Backward from 32768.  3 is id 6, so the escape (id 2, slots from 3072) with 4: 32768 = 32 * 1024, 32 << 12 |
    # 3072 = 134144.  -1 is id 1 (slots from 2048): 134144 = 131 * 1024, 131 << 12 | 2048 = 538624.  0: 538624 =
    # 263 * 2048, 263 << 12 = 0x107000.  The last symbol is skipped.  Escape 4: 4 + 1 = 0b101: 0 0 1, then 1 0: 0x0c.
    "escape and skip": ([([0, -1, 3, 0], [1, 1, 1, 0])], 0, "00 00701000 0c"),
    "raw bits": ([([9, -8, 0, -32767], [3, 3, 3, 3])], 0, "00 d6ff0000 f434 07ff98002574"),
    "words": (
        [([2, -2] * 9, [2] * 18)],
        0,
        "00 ffff0800 fffffffffffffffffffffcfffffffcfffffffcfffc0f 0aaaaaaaaa",
    ),
    # Symbols 6 to 13 are lane 0's alone: it takes all of them to give the word that lane 1 starts from.
    "two lanes": (THREE_BATCHES, 1, "01 06 46b40b00 3c000100 a90098"),
    # Three words would be needed, and all symbols together give one: 0x7bec.
    "four lanes, all of them in the tail": (
        THREE_BATCHES,
        2,
        "02 00 6ee90b00 ecfb0000 00800000 00800000 a90098",
    ),
    # Symbols 11 to 39 fill lanes 1 to 3; those before take turns.
    "a tail that fills the lanes": (
        [([k % 3 - 1 for k in range(40)], [1] * 40)],
        2,
        "02 0b 6bd92300 5a551b00 5a6d2a00 00980a00 1fff",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_of_a_payload_stay(name):
    batches, lanes_log2, expected = GOLDEN[name]
    payload = bytes.fromhex(expected)
    assert reference.encode(TABLES, batches, lanes_log2).hex() == payload.hex()
    assert reference.decode(TABLES, payload, [i for _, i in batches]) == [s for s, _ in batches]
    with Tables(TABLES) as tables:
        encoder = Encoder(tables)
        for symbols, indexes in batches:
            encoder.push(np.array(symbols, np.int16), np.array(indexes, np.uint8))
        assert encoder.finish(lanes_log2).hex() == payload.hex()
        decoder = Decoder(tables, payload)
        for symbols, indexes in batches:
            assert decoder.read(np.array(indexes, np.uint8)).tolist() == symbols
        decoder.finish()


def test_gaussian_frequencies_stay():
    """Scales 0.11, 0.38 and 0.61: what new bundles get.  (Old ones carry their own integers.)"""
    tables = gaussian_tables()
    assert tables.table(0).tolist() == [4095, 1]
    assert tables.table(10).tolist() == [3341, 377, 377, 1]
    assert tables.table(14).tolist() == [2388, 824, 823, 30, 30, 1]
