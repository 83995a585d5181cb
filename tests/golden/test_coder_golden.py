"""Literal bytes of the payload format: they may never change while the format's version stays."""

import numpy as np
import pytest

from s2c_deploy.entropy import Decoder, Encoder, FrequencyTables, Table, Tables, gaussian_tables, reference

TABLES = FrequencyTables.stack(
    [
        Table(freqs=np.array([16383, 1], np.uint16)),
        Table(freqs=np.array([8192, 4096, 4096], np.uint16)),
        Table(freqs=np.array([16300, 40, 40, 4], np.uint16)),
        Table(freqs=np.array([10000, 3000, 3000, 384], np.uint16), center=-2, shift=2),
    ],
    skip_below=1,
)

# name: (batches of (symbols, indexes), lanes_log2, payload)
GOLDEN = {
    "nothing": ([([0, 0], [0, 0])], 3, ""),
    # 65536 = 8 * 8192, so the push gives 8 << 14 = 0x20000.
    "one zero": ([([0], [1])], 0, "00 00 00000200"),
    # Backward from 65536.  3 is id 6, so the escape (id 2, slots from 12288) with 4: 16 << 14 | 12288 =
    # 274432. -1 is id 1 (slots from 8192): 274432 = 67 * 4096, 67 << 14 | 8192 = 1105920.  0: 1105920 =
    # 135 * 8192, 135 << 14 = 0x21c000.  The last symbol is skipped.  Escape 4: 4 + 1 = 0b101: 0 0 1, then
    # 1 0: 0x0c.
    "escape and skip": ([([0, -1, 3, 0], [1, 1, 1, 0])], 0, "00 00 00c02100 0c"),
    "raw bits": ([([9, -8, 0, -32767], [3, 3, 3, 3])], 1, "01 00 80ff1f07 00064600 74250098ff07"),
    "three batches": (
        [([0] * 6, [2] * 6), ([1, 0, -1, 5, 0], [2, 0, 1, 1, 1]), ([-9, -10, 100], [3, 3, 3])],
        2,
        "02 00 348efc04 90990100 ecd0ab00 40350400 9800a9",
    ),
    "words": (
        [([2, -2] * 9, [2] * 18)],
        0,
        "00 0d ffff3f01 fffffffffffffffffffffffffffffffffffffcfffc3ffc3ffc3f aaaaaaaa0a",
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
    assert tables.table(0).tolist() == [16383, 1]
    assert tables.table(10).tolist() == [13365, 1509, 1508, 1, 1]
    assert tables.table(14).tolist() == [9551, 3294, 3294, 122, 122, 1]
