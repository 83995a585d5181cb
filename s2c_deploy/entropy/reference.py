"""The payload format once more, in plain Python: the oracle that the C coder is tested against.

Written from docs/entropy.md and for reading, not for speed; it shares no code with the C library.  Both
directions work on whole lists of batches, each a pair of equally long integer sequences (symbols, indexes).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from s2c_deploy.entropy.tables import (
    MAX_SYMBOL,
    PRECISION,
    TOTAL,
    FrequencyTables,
    unzigzag,
    zigzag,
)
from s2c_deploy.errors import BitstreamError, InputError

STATE_MIN = 1 << 16
MAX_PREFIX = 16  # zeros before an escape's Exp-Golomb code


class _Table:
    """One table: ``starts[id]`` is the first slot of an id; the last id is the escape."""

    def __init__(self, tables: FrequencyTables, index: int) -> None:
        self.freqs = [int(f) for f in tables.table(index)]
        self.starts = [sum(self.freqs[:k]) for k in range(len(self.freqs))]
        self.center = int(tables.centers[index])
        self.shift = int(tables.shifts[index])
        self.half = (1 << self.shift) >> 1
        self.escape = len(self.freqs) - 1
        self.skipped = index < tables.skip_below


def _tables(tables: FrequencyTables) -> list[_Table]:
    return [_Table(tables, index) for index in range(tables.count)]


# ---- encoding ----


def _map_symbol(table: _Table, symbol: int, bypass: list[int]) -> int:
    """The id of a symbol; its escape and raw bits are appended to ``bypass``."""
    hi = (symbol + table.half) >> table.shift
    number = zigzag(hi - table.center)
    if number >= table.escape:
        value = number - table.escape + 1
        prefix = value.bit_length() - 1
        bypass += [0] * prefix + [1] + [value >> k & 1 for k in range(prefix)]
    low = symbol + table.half - (hi << table.shift)
    bypass += [low >> k & 1 for k in range(table.shift)]
    return min(number, table.escape)


def _push(state: int, table: _Table, number: int, words: list[int]) -> int:
    freq, start = table.freqs[number], table.starts[number]
    if state >= freq << (32 - PRECISION):
        words.append(state & 0xFFFF)
        state >>= 16
    return (state // freq << PRECISION) + start + state % freq


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _pack_bits(bits: Sequence[int]) -> bytes:
    out = bytearray((len(bits) + 7) // 8)
    for k, bit in enumerate(bits):
        out[k // 8] |= bit << k % 8
    return bytes(out)


def encode(
    tables: FrequencyTables, batches: Sequence[tuple[Sequence[int], Sequence[int]]], lanes_log2: int
) -> bytes:
    """The payload of the batches.  Raises :class:`InputError` for what cannot be coded."""
    all_tables = _tables(tables)
    bypass: list[int] = []
    pushes: list[tuple[int, _Table, int]] = []  # lane, table, id
    for symbols, indexes in batches:
        for position, (symbol, index) in enumerate(zip(symbols, indexes, strict=True)):
            if not 0 <= index < tables.count:
                raise InputError(f"no table has the index {index}")
            if abs(symbol) > MAX_SYMBOL:
                raise InputError(f"the symbol {symbol} is out of range")
            table = all_tables[index]
            if not table.skipped:
                pushes.append((position % (1 << lanes_log2), table, _map_symbol(table, symbol, bypass)))
            elif symbol:
                raise InputError(f"the symbol {symbol} has the skipped index {index}")
    if not pushes:
        return b""
    states = [STATE_MIN] * (1 << lanes_log2)
    words: list[int] = []
    for lane, table, number in reversed(pushes):
        states[lane] = _push(states[lane], table, number, words)
    head = bytes([lanes_log2]) + _varint(len(words))
    return (
        head
        + b"".join(state.to_bytes(4, "little") for state in states)
        + b"".join(word.to_bytes(2, "little") for word in reversed(words))
        + _pack_bits(bypass)
    )


# ---- decoding ----


class _Payload:
    """The parts of a payload, read from the front; every shortage is a :class:`BitstreamError`."""

    def __init__(self, data: bytes) -> None:
        self.states = [STATE_MIN]
        self.words: list[int] = []
        self.bits: list[int] = []
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        if data[0] > 6:
            raise BitstreamError("coder lanes", expected="0 to 6", found=data[0])
        lanes = 1 << data[0]
        count, position = self._read_count(data)
        if len(data) < position + 4 * lanes + 2 * count:
            raise BitstreamError("coder words", expected=f"{lanes} states, {count} words", found=len(data))
        at = [position + 4 * k for k in range(lanes)]
        self.states = [int.from_bytes(data[k : k + 4], "little") for k in at]
        if min(self.states) < STATE_MIN or (count == 0 and max(self.states) == STATE_MIN):
            raise BitstreamError("coder states", expected=f"at least {STATE_MIN}", found=self.states)
        position += 4 * lanes
        end = position + 2 * count
        self.words = [int.from_bytes(data[k : k + 2], "little") for k in range(position, end, 2)]
        self.bits = [byte >> k & 1 for byte in data[end:] for k in range(8)]
        self.words.reverse()  # so that pop() takes the first
        self.bits.reverse()

    @staticmethod
    def _read_count(data: bytes) -> tuple[int, int]:
        count = 0
        for k, byte in enumerate(data[1:10]):
            count |= (byte & 127) << (7 * k)
            if byte < 128:
                if byte == 0 and k:
                    break
                return count, k + 2
        raise BitstreamError("coder word count", expected="the shortest form", found=data[1:10].hex())

    def word(self) -> int:
        if not self.words:
            raise BitstreamError("coder words", expected="another word", found="none")
        return self.words.pop()

    def bit(self) -> int:
        if not self.bits:
            raise BitstreamError("coder bypass", expected="another bit", found="none")
        return self.bits.pop()

    def number(self, count: int) -> int:
        return sum(self.bit() << k for k in range(count))


def _read_symbol(table: _Table, number: int, payload: _Payload) -> int:
    """The symbol of an id, with what the bypass adds."""
    if number == table.escape:
        prefix = 0
        while not payload.bit():
            prefix += 1
            if prefix > MAX_PREFIX:
                raise BitstreamError("coder symbols", expected="a shorter escape", found=prefix)
        number += (1 << prefix) + payload.number(prefix) - 1
    hi = table.center + unzigzag(number)
    symbol = (hi << table.shift) + payload.number(table.shift) - table.half
    if abs(symbol) > MAX_SYMBOL:
        raise BitstreamError("coder symbols", expected=f"at most {MAX_SYMBOL}", found=symbol)
    return symbol


def _pop(state: int, table: _Table) -> tuple[int, int]:
    """The next id of a lane and the lane's new state."""
    slot = state % TOTAL
    number = bisect_right(table.starts, slot) - 1
    state = table.freqs[number] * (state // TOTAL) + slot - table.starts[number]
    return number, state


def decode(tables: FrequencyTables, payload: bytes, batches: Sequence[Sequence[int]]) -> list[list[int]]:
    """The symbols of each batch of indexes.  Raises :class:`BitstreamError` for a bad payload."""
    all_tables = _tables(tables)
    parts = _Payload(payload)
    result: list[list[int]] = []
    for indexes in batches:
        symbols = []
        for position, index in enumerate(indexes):
            if not 0 <= index < tables.count:
                raise InputError(f"no table has the index {index}")
            table, lane = all_tables[index], position % len(parts.states)
            if table.skipped:
                symbols.append(0)
                continue
            number, state = _pop(parts.states[lane], table)
            symbols.append(_read_symbol(table, number, parts))
            if state < STATE_MIN:
                state = state << 16 | parts.word()
            parts.states[lane] = state
        result.append(symbols)
    _finish(parts)
    return result


def _finish(parts: _Payload) -> None:
    if parts.words:
        raise BitstreamError("coder words", expected="none left", found=len(parts.words))
    if any(state != STATE_MIN for state in parts.states):
        raise BitstreamError("coder final state", expected=STATE_MIN, found=parts.states)
    if len(parts.bits) >= 8:
        raise BitstreamError("coder bypass", expected="less than a byte left", found=len(parts.bits))
    if any(parts.bits):
        raise BitstreamError("coder bypass padding", expected="zero bits", found=parts.bits)
