"""The payload format once more, in plain Python: the oracle that the C coder is tested against.

Written from docs/entropy.md and for reading, not for speed; it shares no code with the C library.  Both
directions work on whole lists of batches, each a pair of equally long integer sequences (symbols, indexes).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from s2c_deploy.contract import SYMBOL_LIMIT
from s2c_deploy.entropy.tables import (
    PRECISION,
    TOTAL,
    FrequencyTables,
    unzigzag,
    zigzag,
)
from s2c_deploy.errors import BitstreamError, InputError

STATE_MIN, STATE_END = 1 << 15, 1 << 31
MAX_TAIL = 2048  # coded symbols in the tail, at most
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
    if state >= freq << (31 - PRECISION):
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


def _share(count: int, part: int, parts: int) -> slice:
    """What a part holds of a batch."""
    share = count // parts // 64 * 64
    return slice(part * share, count if part == parts - 1 else (part + 1) * share)


def encode(
    tables: FrequencyTables,
    batches: Sequence[tuple[Sequence[int], Sequence[int]]],
    lanes_log2: int,
    parts_log2: int = 0,
) -> bytes:
    """The payload of the batches.  Raises :class:`InputError` for what cannot be coded."""
    if parts_log2 == 0:
        return _encode_stream(tables, batches, lanes_log2)
    count = 1 << parts_log2
    shares = [[(s[_share(len(s), k, count)], i[_share(len(s), k, count)]) for s, i in batches] for k in range(count)]
    parts = [_encode_stream(tables, share, lanes_log2) for share in shares]
    if not any(parts):
        return b""
    return bytes([128 | parts_log2]) + b"".join(_varint(len(part)) for part in parts[:-1]) + b"".join(parts)


def _encode_stream(
    tables: FrequencyTables, batches: Sequence[tuple[Sequence[int], Sequence[int]]], lanes_log2: int
) -> bytes:
    lanes = 1 << lanes_log2
    bypass: list[int] = []
    pushes = _pushes(tables, batches, bypass)
    if not pushes:
        return b""
    states = [STATE_MIN] * lanes
    carried: list[int] = []  # words of the tail, which the lanes above 0 start from
    split, tail = 0, 0
    while pushes and len(carried) < lanes - 1 and tail < MAX_TAIL:
        split, _, table, number = pushes.pop()
        states[0] = _push(states[0], table, number, carried)
        tail += 1
    if not pushes and len(carried) < lanes - 1 and tail < MAX_TAIL:
        split = 0
    for lane, word in enumerate(reversed(carried), start=1):
        states[lane] += word
    words: list[int] = []
    for _, position, table, number in reversed(pushes):
        states[position % lanes] = _push(states[position % lanes], table, number, words)
    return (
        bytes([lanes_log2])
        + (_varint(split) if lanes > 1 else b"")
        + b"".join(state.to_bytes(4, "little") for state in states)
        + b"".join(word.to_bytes(2, "little") for word in reversed(words))
        + _pack_bits(bypass)[::-1]
    )


def _pushes(
    tables: FrequencyTables, batches: Sequence[tuple[Sequence[int], Sequence[int]]], bypass: list[int]
) -> list[tuple[int, int, _Table, int]]:
    """Position in the payload, position in the batch, table and id of every coded symbol."""
    all_tables = _tables(tables)
    pushes: list[tuple[int, int, _Table, int]] = []
    before = 0
    for symbols, indexes in batches:
        for position, (symbol, index) in enumerate(zip(symbols, indexes, strict=True)):
            if not 0 <= index < tables.count:
                raise InputError(f"no table has the index {index}")
            if abs(symbol) > SYMBOL_LIMIT:
                raise InputError(f"the symbol {symbol} is out of range")
            table = all_tables[index]
            if not table.skipped:
                pushes.append((before + position, position, table, _map_symbol(table, symbol, bypass)))
            elif symbol:
                raise InputError(f"the symbol {symbol} has the skipped index {index}")
        before += len(symbols)
    return pushes


# ---- decoding ----


def _read_number(data: bytes, start: int, field: str) -> tuple[int, int]:
    """A number in LEB128, and where it ends."""
    number = 0
    for k, byte in enumerate(data[start : start + 9]):
        number |= (byte & 127) << (7 * k)
        if byte < 128:
            if byte == 0 and k:
                break
            return number, start + k + 1
    raise BitstreamError(field, expected="a number in its shortest form", found=data[start : start + 9].hex())


class _Stream:
    """The fields of a stream; every shortage is a :class:`BitstreamError`."""

    def __init__(self, data: bytes) -> None:
        self.lanes, self.split = 1, 0
        self.states = [STATE_MIN]
        self.body, self.next_word, self.next_bit = b"", 0, 0
        self.carried: list[int] | None = None  # in the tail: the words that are left, the next one last
        self.spelt = bool(data)
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        if data[0] > 6:
            raise BitstreamError("coder lanes", expected="0 to 6", found=data[0])
        self.lanes = 1 << data[0]
        position = 1
        if self.lanes > 1:
            self.split, position = _read_number(data, 1, "coder split")
        if len(data) < position + 4 * self.lanes:
            raise BitstreamError("coder states", expected=f"{self.lanes} states", found=len(data))
        at = [position + 4 * k for k in range(self.lanes)]
        self.states = [int.from_bytes(data[k : k + 4], "little") for k in at]
        if not all(STATE_MIN <= state < STATE_END for state in self.states):
            raise BitstreamError("coder states", expected=f"{STATE_MIN} to {STATE_END - 1}", found=self.states)
        self.grown = any(state != STATE_MIN for state in self.states)
        self.body = data[position + 4 * self.lanes :]

    def enter_tail(self) -> None:
        """The states of the lanes above 0 become words again."""
        self.carried = [state - STATE_MIN for state in reversed(self.states[1:])]
        if any(word > 0xFFFF for word in self.carried):
            raise BitstreamError("coder final state", expected="16 bits above the minimum", found=self.states)

    def word(self) -> int:
        if self.carried is not None:
            if not self.carried:
                raise BitstreamError("coder words", expected="another word", found="none")
            return self.carried.pop()
        self.next_word += 2
        if self.next_word > len(self.body):
            raise BitstreamError("coder words", expected="another word", found="none")
        return int.from_bytes(self.body[self.next_word - 2 : self.next_word], "little")

    def bit(self) -> int:
        if self.next_bit >= 8 * len(self.body):
            raise BitstreamError("coder bypass", expected="another bit", found="none")
        byte = self.body[-1 - self.next_bit // 8]
        self.next_bit += 1
        return byte >> (self.next_bit - 1) % 8 & 1

    def number(self, count: int) -> int:
        return sum(self.bit() << k for k in range(count))


def _read_symbol(table: _Table, number: int, stream: _Stream) -> int:
    """The symbol of an id, with what the bypass adds."""
    if number == table.escape:
        prefix = 0
        while not stream.bit():
            prefix += 1
            if prefix > MAX_PREFIX:
                raise BitstreamError("coder symbols", expected="a shorter escape", found=prefix)
        number += (1 << prefix) + stream.number(prefix) - 1
    hi = table.center + unzigzag(number)
    symbol = (hi << table.shift) + stream.number(table.shift) - table.half
    if abs(symbol) > SYMBOL_LIMIT:
        raise BitstreamError("coder symbols", expected=f"at most {SYMBOL_LIMIT}", found=symbol)
    return symbol


def _pop(state: int, table: _Table) -> tuple[int, int]:
    """The next id of a lane and the lane's new state."""
    slot = state % TOTAL
    number = bisect_right(table.starts, slot) - 1
    state = table.freqs[number] * (state // TOTAL) + slot - table.starts[number]
    return number, state


def decode(tables: FrequencyTables, payload: bytes, batches: Sequence[Sequence[int]]) -> list[list[int]]:
    """The symbols of each batch of indexes.  Raises :class:`BitstreamError` for a bad payload."""
    if not payload or payload[0] < 128:
        return _decode_stream(tables, payload, batches)
    parts = _split_parts(payload)
    shares = [[i[_share(len(i), k, len(parts))] for i in batches] for k in range(len(parts))]
    decoded = [_decode_stream(tables, part, share) for part, share in zip(parts, shares, strict=True)]
    return [[symbol for symbols in decoded for symbol in symbols[b]] for b in range(len(batches))]


def _split_parts(payload: bytes) -> list[bytes]:
    count, position = 1 << (payload[0] & 127), 1
    if not 2 <= count <= 8:
        raise BitstreamError("coder parts", expected="2, 4 or 8", found=count)
    ends = [0]
    for _ in range(count - 1):
        size, position = _read_number(payload, position, "coder parts")
        ends.append(ends[-1] + size)
    body = payload[position:]
    if ends[-1] > len(body) or not body:
        raise BitstreamError("coder parts", expected=f"{ends[-1]} bytes", found=len(body))
    return [body[start:end] for start, end in zip(ends, [*ends[1:], len(body)], strict=True)]


def _decode_stream(tables: FrequencyTables, payload: bytes, batches: Sequence[Sequence[int]]) -> list[list[int]]:
    all_tables = _tables(tables)
    stream = _Stream(payload)
    result: list[list[int]] = []
    tail: list[tuple[int, int]] = []  # position and words taken by each coded symbol of the tail
    before = 0
    for indexes in batches:
        symbols = []
        for position, index in enumerate(indexes):
            if not 0 <= index < tables.count:
                raise InputError(f"no table has the index {index}")
            table, lane = all_tables[index], position % stream.lanes
            if stream.lanes > 1 and before + position >= stream.split:
                lane = 0
                if stream.carried is None:
                    stream.enter_tail()
            if table.skipped:
                symbols.append(0)
                continue
            number, state = _pop(stream.states[lane], table)
            took = state < STATE_MIN
            if took:
                state = state << 16 | stream.word()
            stream.states[lane] = state
            symbols.append(_read_symbol(table, number, stream))
            if stream.carried is not None:
                tail.append((before + position, took))
        before += len(indexes)
        result.append(symbols)
    _finish(stream, before, tail)
    return result


def _finish(stream: _Stream, total: int, tail: list[tuple[int, int]]) -> None:
    if stream.lanes > 1 and total < stream.split:
        raise BitstreamError("coder split", expected=f"at most {total}", found=stream.split)
    if stream.carried is None:
        stream.enter_tail()
    left = 8 * (len(stream.body) - stream.next_word) - stream.next_bit
    if not 0 <= left < 8:
        raise BitstreamError("coder body", expected="words and bypass that meet", found=f"{left} bits between them")
    if stream.number(left):
        raise BitstreamError("coder bypass padding", expected="zero bits", found="others")
    taken = sum(took for _, took in tail)
    if stream.spelt and not (stream.grown or stream.next_word or taken):
        raise BitstreamError("coder states", expected="no bytes where nothing is coded", found="one lane's state")
    if stream.lanes > 1 and not _is_shortest(stream, tail, taken):
        raise BitstreamError("coder split", expected="the shortest tail", found=stream.split)
    if any(stream.carried or []) or stream.states[0] != STATE_MIN:
        raise BitstreamError("coder final state", expected=STATE_MIN, found=stream.states)


def _is_shortest(stream: _Stream, tail: list[tuple[int, int]], taken: int) -> bool:
    """Whether the tail is as long as it has to be: the encoder's rule, read backward."""
    starts_coded = bool(tail) and tail[0][0] == stream.split
    if len(tail) > MAX_TAIL:
        return False
    if taken == stream.lanes - 1:
        return starts_coded and bool(tail[0][1])
    return stream.split == 0 or (starts_coded and len(tail) == MAX_TAIL)
