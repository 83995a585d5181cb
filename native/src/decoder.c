/* Reading a stream: states once, then symbols forward, words from the front of the body, bypass bits from its back.
 *
 * Nothing is allocated, whatever a payload claims.  Words are bounds-checked once per row
 * (rows_*.c) while the body has a row of them left, here per word; the bypass is checked at every read.  That the two
 * meet and do not overlap is found at the end: finish. */
#include "internal.h"

/* ---- bypass ---- */

static uint64_t bypass_limit(const s2c_stream *dec)
{
    return 8 * (uint64_t)(dec->end - dec->body);
}

/* Reads count <= 16 bits, the lowest first, from bytes that follow each other backward. */
static s2c_status get_bits(s2c_stream *dec, uint32_t count, uint32_t *bits)
{
    if (bypass_limit(dec) - dec->bypass_read < count)
        return S2C_ERR_BYPASS;
    const uint8_t *p = dec->end - (dec->bypass_read >> 3);
    const uint32_t offset = (uint32_t)(dec->bypass_read & 7);
    uint32_t v = 0;
    for (uint32_t k = 0; k < offset + count; k += 8)
        v |= (uint32_t)*--p << k;
    dec->bypass_read += count;
    *bits = (v >> offset) & ((1u << count) - 1);
    return S2C_OK;
}

static s2c_status get_exp_golomb(s2c_stream *dec, uint32_t *value)
{
    uint32_t prefix = 0, bit = 0, low = 0;
    s2c_status status;

    for (;;) {
        status = get_bits(dec, 1, &bit);
        if (status != S2C_OK || bit)
            break;
        if (++prefix > S2C_MAX_PREFIX)
            return S2C_ERR_RANGE;
    }
    if (status == S2C_OK)
        status = get_bits(dec, prefix, &low);
    *value = (1u << prefix) + low - 1;
    return status;
}

/* The symbol of a code: an escape, one with raw low bits, or one that an entry has no room for. */
s2c_status s2c_read_slow(s2c_stream *dec, uint32_t index, uint32_t code, int16_t *symbol)
{
    const s2c_tables *tables = dec->tables;
    const uint32_t id = code - tables->base[index];
    const uint32_t shift = tables->shifts[index];
    uint32_t extra = 0, low = 0;
    s2c_status status = S2C_OK;

    if (id == tables->sizes[index] - 1u)
        status = get_exp_golomb(dec, &extra);
    if (status == S2C_OK && shift)
        status = get_bits(dec, shift, &low);
    if (status != S2C_OK)
        return status;
    /* hi is within 2^17 and shift at most 15: the product needs 64 bits. */
    const int64_t hi = (int64_t)tables->centers[index] + s2c_unzigzag(id + extra);
    const int64_t value = hi * (1 << shift) + (int64_t)low - (shift ? 1 << (shift - 1) : 0);
    if (value < -S2C_MAX_SYMBOL || value > S2C_MAX_SYMBOL)
        return S2C_ERR_RANGE;
    *symbol = (int16_t)value;
    return S2C_OK;
}

/* ---- one symbol at a time ---- */

/* Pops a symbol from a state; rows_scalar.c has the invariant. */
static s2c_status pop(s2c_stream *dec, uint32_t index, uint32_t *state, int16_t *symbol)
{
    const uint32_t slot = *state & (S2C_TOTAL - 1);
    const uint32_t code = dec->tables->codes[index << S2C_PRECISION | slot];
    const uint32_t entry = dec->tables->dec_entries[code];
    uint32_t x = s2c_dec_freq(entry) * (*state >> S2C_PRECISION) + slot - s2c_dec_start(entry);

    if (x < S2C_STATE_MIN) {
        if (dec->word_end - dec->word < 2)
            return S2C_ERR_WORDS;
        x = x << 16 | s2c_load16(dec->word);
        dec->word += 2;
    }
    *state = x;
    *symbol = (int16_t)s2c_dec_symbol(entry);
    return *symbol == S2C_SLOW ? s2c_read_slow(dec, index, code, symbol) : S2C_OK;
}

/* Symbols [i, limit) of a batch, lane after lane. */
static s2c_status pop_each(s2c_stream *dec, const uint8_t *indexes, size_t i, size_t limit, int16_t *symbols)
{
    const uint32_t mask = (1u << dec->lanes_log2) - 1;
    s2c_status status = S2C_OK;

    for (; i < limit && status == S2C_OK; i++)
        status = pop(dec, indexes[i], &dec->states[i & mask], &symbols[i]);
    return status;
}

/* The encoder hid the first words that it got in the states from which it started the lanes above 0: here the states
 * become words again, and lane 0 goes on alone. */
static s2c_status enter_tail(s2c_stream *dec)
{
    const uint32_t lanes = 1u << dec->lanes_log2;

    for (uint32_t lane = 1; lane < lanes; lane++) {
        const uint32_t word = dec->states[lane] - S2C_STATE_MIN;
        if (word >> 16)
            return S2C_ERR_FINAL_STATE;
        dec->carried[2 * lane - 2] = (uint8_t)word;
        dec->carried[2 * lane - 1] = (uint8_t)(word >> 8);
    }
    dec->body_word = dec->word;
    dec->word = dec->carried;
    dec->word_end = dec->carried + 2 * (size_t)(lanes - 1);
    dec->in_tail = 1;
    return S2C_OK;
}

static s2c_status pop_tail(s2c_stream *dec, const uint8_t *indexes, size_t i, size_t count, int16_t *symbols)
{
    const uint64_t addend = s2c_skip_addend(dec->tables->skip_below);
    s2c_status status = S2C_OK;

    for (; i < count && status == S2C_OK; i++) {
        if (count - i >= 8 && s2c_all_skipped(indexes + i, addend)) {
            memset(symbols + i, 0, 8 * sizeof *symbols);
            i += 7;
            continue;
        }
        const uint32_t coded = indexes[i] >= dec->tables->skip_below;
        status = pop(dec, indexes[i], dec->states, &symbols[i]);
        if (dec->position + i == dec->split)
            dec->split_coded = coded, dec->split_took_word = dec->word != dec->carried;
        dec->tail_coded += coded;
    }
    return status;
}

/* An encoder gives lane 0 no more than it has to: the tail starts at the symbol that yields the last word the other
 * lanes have room for, or at the last coded symbol that a tail may hold, or at the first of all. */
static int tail_is_shortest(const s2c_stream *dec)
{
    if (dec->tail_coded > S2C_MAX_TAIL)
        return 0;
    if (dec->word == dec->word_end)
        return dec->split_took_word;
    return dec->split == 0 || (dec->split_coded && dec->tail_coded == S2C_MAX_TAIL);
}

/* ---- batches ---- */

static int indexes_valid(const uint8_t *indexes, size_t count, uint32_t tables)
{
    uint8_t largest = 0;

    if (tables == S2C_MAX_TABLES)
        return 1;
    for (size_t i = 0; i < count; i++)
        largest = indexes[i] > largest ? indexes[i] : largest;
    return count == 0 || largest < tables;
}

static s2c_status read(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    s2c_status status = S2C_OK;
    size_t limit = 0;

    if (!dec->in_tail) {
        const size_t mask = ((size_t)1 << dec->lanes_log2) - 1;
        limit = dec->split - dec->position < count ? (size_t)(dec->split - dec->position) : count;
        const size_t done = dec->tables->kernels->pop_rows(dec, indexes, limit & ~mask, symbols);
        status = dec->status == S2C_OK ? pop_each(dec, indexes, done, limit, symbols) : dec->status;
        if (status == S2C_OK && limit < count)
            status = enter_tail(dec);
    }
    return status == S2C_OK && limit < count ? pop_tail(dec, indexes, limit, count, symbols) : status;
}

s2c_status s2c_stream_read(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    if (dec->status != S2C_OK)
        return dec->status;
    if (!indexes_valid(indexes, count, dec->tables->count))
        dec->status = S2C_ERR_INDEX;
    else
        dec->status = read(dec, indexes, count, symbols);
    if (dec->status == S2C_OK)
        dec->position += count;
    return dec->status;
}

/* ---- head and end ---- */

int s2c_read_number(const uint8_t **p, const uint8_t *end, uint64_t *number)
{
    *number = 0;
    for (uint32_t shift = 0; shift < 63 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        *number |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return byte != 0 || shift == 0;
    }
    return 0;
}

static s2c_status parse(s2c_stream *dec, const uint8_t *p, size_t size)
{
    const uint8_t *end = p + size;

    if (*p > S2C_MAX_LANES_LOG2)
        return S2C_ERR_LANES;
    dec->lanes_log2 = *p++;
    if (dec->lanes_log2 && !s2c_read_number(&p, end, &dec->split))
        return S2C_ERR_SPLIT;
    if ((size_t)(end - p) >> 2 < (size_t)1 << dec->lanes_log2)
        return S2C_ERR_TRUNCATED;
    for (uint32_t lane = 0; lane < 1u << dec->lanes_log2; lane++, p += 4) {
        dec->states[lane] = s2c_load32(p);
        if (dec->states[lane] < S2C_STATE_MIN || dec->states[lane] >= S2C_STATE_END)
            return S2C_ERR_STATE;
        dec->grown |= dec->states[lane] ^ S2C_STATE_MIN;
    }
    dec->word = dec->body = p;
    dec->word_end = dec->end = end;
    return S2C_OK;
}

s2c_status s2c_stream_open(s2c_stream *dec, const s2c_tables *tables, const uint8_t *data, size_t size)
{
    static const uint8_t nothing[1];

    memset(dec, 0, sizeof *dec);
    dec->tables = tables;
    dec->split = UINT64_MAX;
    dec->states[0] = S2C_STATE_MIN;
    dec->word = dec->word_end = dec->body = dec->end = nothing;
    dec->empty = size == 0;
    dec->status = size ? parse(dec, data, size) : S2C_OK;
    return dec->status;
}

/* Words and bypass must have used up the body, with less than a byte of zeros between them. */
static s2c_status check_body(s2c_stream *dec)
{
    const uint64_t bits = 8 * (uint64_t)(dec->end - dec->body_word);
    uint32_t padding = 0;

    if (bits < dec->bypass_read || bits - dec->bypass_read >= 8)
        return S2C_ERR_BODY;
    get_bits(dec, (uint32_t)(bits - dec->bypass_read), &padding);
    return padding ? S2C_ERR_PADDING : S2C_OK;
}

static s2c_status finish(s2c_stream *dec)
{
    const uint32_t lanes_log2 = dec->lanes_log2;

    if (lanes_log2 && dec->position < dec->split)
        return S2C_ERR_SPLIT;
    s2c_status status = dec->in_tail ? S2C_OK : enter_tail(dec);
    if (status == S2C_OK)
        status = check_body(dec);
    if (status != S2C_OK)
        return status;
    /* Nothing coded is spelt as no bytes, and in no other way. */
    if (!dec->empty && dec->grown == 0 && dec->body_word == dec->body && dec->word == dec->carried)
        return S2C_ERR_STATE;
    if (lanes_log2 && !tail_is_shortest(dec))
        return S2C_ERR_SPLIT;
    for (const uint8_t *p = dec->word; p < dec->word_end; p++)
        if (*p)
            return S2C_ERR_FINAL_STATE;
    return dec->states[0] == S2C_STATE_MIN ? S2C_OK : S2C_ERR_FINAL_STATE;
}

s2c_status s2c_stream_finish(s2c_stream *dec)
{
    if (dec->status == S2C_OK && !dec->finished) {
        dec->status = finish(dec);
        dec->finished = 1;
    }
    return dec->status;
}
