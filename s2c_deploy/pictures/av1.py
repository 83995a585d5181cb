"""The colour code points in an AV1 sequence header (AV1 bitstream specification, 5.5)."""

from __future__ import annotations

_SEQUENCE_HEADER = 1
_SELECT = 2


def sequence_colour(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer (ITU-T H.273) of the first sequence header in ``data``, a run of OBUs.

    None where it gives none, or there is no sequence header, or one with timing, which no still picture has.
    Raises ValueError for data that end inside of one.
    """
    bits = _Bits(data)
    while bits.left() >= 8:
        kind, extended, sized = (bits.take(5), bits.take(1), bits.take(1))
        bits.take(1)
        if extended:
            bits.take(8)
        size = _leb128(bits) if sized else bits.left() // 8
        if kind == _SEQUENCE_HEADER:
            return _colour(bits)
        bits.take(8 * size)
    return None


class _Bits:
    """Bits from the most significant one on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def left(self) -> int:
        return 8 * len(self._data) - self._at

    def take(self, count: int) -> int:
        end = self._at + count
        if end > 8 * len(self._data):
            raise ValueError("an AV1 sequence header is cut short")
        value = int.from_bytes(self._data[self._at // 8 : -(-end // 8)], "big") >> -end % 8
        self._at = end
        return value & (1 << count) - 1


def _leb128(bits: _Bits) -> int:
    value = 0
    for place in range(8):
        byte = bits.take(8)
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value
    raise ValueError("a length in AV1 that does not end")


def _colour(bits: _Bits) -> tuple[int, int] | None:
    """sequence_header_obu() up to color_config()."""
    profile = bits.take(3)
    bits.take(1)  # still_picture
    reduced = bits.take(1)
    if reduced:
        bits.take(5)
    else:
        if bits.take(1):  # timing_info_present_flag
            return None
        delays = bits.take(1)
        for _ in range(bits.take(5) + 1):  # operating points
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delays and bits.take(1):
                bits.take(4)
    width, height = bits.take(4) + 1, bits.take(4) + 1
    bits.take(width)
    bits.take(height)
    if not reduced and bits.take(1):  # frame identifiers
        bits.take(7)
    bits.take(3)  # superblocks, intra filter, intra edge filter
    if not reduced:
        _skip_tools(bits)
    bits.take(3)  # super-resolution, CDEF, restoration
    deep = bits.take(1)
    if profile == 2 and deep:
        bits.take(1)
    if profile != 1:
        bits.take(1)  # monochrome
    return (bits.take(8), bits.take(8)) if bits.take(1) else None


def _skip_tools(bits: _Bits) -> None:
    """Of pictures that may follow each other."""
    bits.take(4)
    order = bits.take(1)
    if order:
        bits.take(2)
    content = _SELECT if bits.take(1) else bits.take(1)
    if content and not bits.take(1):
        bits.take(1)
    if order:
        bits.take(3)
