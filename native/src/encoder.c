/* The encoder: one pass forward that turns symbols into codes and writes the bypass, one pass backward that is rANS.
 *
 * One array of 16-bit items serves both.  The forward pass fills it with a code per symbol; the backward pass reads
 * the codes from the end and writes its words into the same array, from the end too.  A symbol yields at most one
 * word, so a word never lands on a code that is still to be read. */
#include "internal.h"

#include <stdlib.h>

typedef struct bit_writer {
    uint8_t *bytes;
    size_t size, capacity;
    uint64_t pending; /* bits not yet in bytes, the oldest lowest */
    uint32_t pending_count;
} bit_writer;

/* Appends the low `count` bits of `bits`, the lowest first; count <= 32, bits above count must be zero. */
static s2c_status put_bits(bit_writer *writer, uint32_t bits, uint32_t count)
{
    if (writer->capacity - writer->size < 8) {
        size_t capacity = writer->capacity ? 2 * writer->capacity : 1024;
        uint8_t *bytes = capacity > writer->capacity ? realloc(writer->bytes, capacity) : NULL;
        if (bytes == NULL)
            return S2C_ERR_MEMORY;
        writer->bytes = bytes;
        writer->capacity = capacity;
    }
    writer->pending |= (uint64_t)bits << writer->pending_count;
    writer->pending_count += count;
    while (writer->pending_count >= 8) {
        writer->bytes[writer->size++] = (uint8_t)writer->pending;
        writer->pending >>= 8;
        writer->pending_count -= 8;
    }
    return S2C_OK;
}

/* Exp-Golomb of order 0: floor(log2(value + 1)) zeros, a one, then the bits of value + 1 below its highest. */
static s2c_status put_exp_golomb(bit_writer *writer, uint32_t value)
{
    uint32_t prefix = 0;

    while ((value + 1) >> (prefix + 1))
        prefix++;
    s2c_status status = put_bits(writer, (uint32_t)1 << prefix, prefix + 1);
    return status != S2C_OK ? status : put_bits(writer, value + 1 - ((uint32_t)1 << prefix), prefix);
}

/* Everything that is not `code_base + id`: wrong arguments, escapes, symbols with raw low bits. */
static s2c_status map_slow(const s2c_tables *tables, int32_t symbol, uint32_t index, bit_writer *writer,
                           uint16_t *code)
{
    if (index >= tables->count)
        return S2C_ERR_INDEX;
    if (index < tables->skip_below)
        return S2C_ERR_SKIPPED;
    if (symbol < -S2C_MAX_SYMBOL)
        return S2C_ERR_SYMBOL;

    const uint32_t shift = tables->shifts[index];
    const uint32_t escape = tables->sizes[index] - 1u;
    const int32_t half = shift ? 1 << (shift - 1) : 0;
    /* An arithmetic shift to the right, spelt so that C defines it for negative numbers too. */
    const int32_t hi = (int32_t)((uint32_t)(symbol + half + 65536) >> shift) - (65536 >> shift);
    const uint32_t id = s2c_zigzag(hi - tables->centers[index]);
    s2c_status status = S2C_OK;

    if (id >= escape)
        status = put_exp_golomb(writer, id - escape);
    if (status == S2C_OK && shift)
        status = put_bits(writer, (uint32_t)(symbol + half - hi * (1 << shift)), shift);
    *code = (uint16_t)(tables->enc[index].code_base + (id < escape ? id : escape));
    return status;
}

S2C_INLINE s2c_status map_one(const s2c_tables *tables, int32_t symbol, uint32_t index, bit_writer *writer,
                              uint16_t *code)
{
    const s2c_enc_table *table = &tables->enc[index];
    const uint32_t id = s2c_zigzag(symbol - table->center);

    if (S2C_UNLIKELY(id >= table->direct))
        return map_slow(tables, symbol, index, writer, code);
    *code = (uint16_t)(table->code_base + id);
    return S2C_OK;
}

/* The forward pass over one batch. */
static s2c_status map_batch(const s2c_tables *tables, const s2c_batch *batch, bit_writer *writer, uint16_t *codes)
{
    const int skips = tables->skip_below > 0 && tables->skip_below <= 128;
    const uint64_t addend = s2c_skip_addend(skips ? tables->skip_below : 128);
    const int16_t *symbols = batch->symbols;
    const uint8_t *indexes = batch->indexes;
    size_t i = 0;

    for (; batch->count - i >= S2C_BLOCK; i += S2C_BLOCK) {
        uint64_t values[2];
        memcpy(values, symbols + i, sizeof values);
        if (skips && (values[0] | values[1]) == 0 && s2c_all_skipped(indexes + i, addend)) {
            memset(codes + i, 0, S2C_BLOCK * sizeof *codes); /* code 0 is the skipped symbol */
            continue;
        }
        for (size_t k = i; k < i + S2C_BLOCK; k++) {
            s2c_status status = map_one(tables, symbols[k], indexes[k], writer, &codes[k]);
            if (S2C_UNLIKELY(status != S2C_OK))
                return status;
        }
    }
    for (; i < batch->count; i++) {
        s2c_status status = map_one(tables, symbols[i], indexes[i], writer, &codes[i]);
        if (status != S2C_OK)
            return status;
    }
    return S2C_OK;
}

/* The payload's expected size in bytes, from every 13th code: a prime, so that no layout of channels or rows can
 * hide the costly ones. */
static size_t estimate_size(const s2c_tables *tables, const uint16_t *codes, size_t count, size_t bypass_size)
{
    const size_t step = count < 16384 ? 1 : 13;
    uint64_t cost = 0;

    for (size_t i = 0; i < count; i += step)
        cost += tables->enc_entries[codes[i]].cost;
    return (size_t)(cost * step / 128) + bypass_size;
}

/* A lane costs about three bytes (a state of 32 bits that started with 16 bits of nothing, and on average 8 more
 * unused).  These steps hold that below about 0.3 % of the payload where there is room for more than one lane. */
static uint32_t choose_lanes(size_t size)
{
    if (size < 1024)
        return 0;
    if (size < 3072)
        return 1;
    if (size < 8192)
        return 2;
    if (size < 65536)
        return 3;
    return 5;
}

/* rANS, backward: the state x of a lane is a number in [2^16, 2^32) into which symbols are pushed.
 *
 * Pushing a symbol of frequency f with the slots [start, start + f) maps x to (x / f) * 2^14 + start + x % f, which
 * must stay below 2^32.  It does exactly when x < f * 2^18; so if x is not below that, its low 16 bits leave as
 * a word first.  One word is enough: x >> 16 is below 2^16 <= f * 2^18.  And the result is never below 2^16: after
 * a word x >> 16 >= f * 4, without one x >= 2^16 > f * 4, either way x / f >= 4.
 *
 * The division: r = ceil(2^46 / f) = (2^46 + e) / f with e < f.  For x < f * 2^18,  x * r / 2^46 = x / f + x * e /
 * (f * 2^46), and x * e < f^2 * 2^18 <= 2^46, so the error is below 1 / f and the floor is exact.  x * r stays
 * below 2^64: it is at most (f * 2^18 - 1) * (2^46 + e) / f < 2^64 - 2^46 / f + e * 2^18, where 2^46 / f > 2^32 >
 * e * 2^18 (for f = 2^14, the skipped symbol, e = 0 and x < 2^32).  That symbol's push is the identity. */
S2C_INLINE uint16_t *push(const s2c_enc_entry *entry, uint32_t *state, uint16_t *words)
{
    uint32_t x = *state;

    if (S2C_UNLIKELY(x >> 18 >= entry->freq)) {
        *--words = (uint16_t)x;
        x >>= 16;
    }
    const uint32_t quotient = (uint32_t)((x * entry->reciprocal) >> 46);
    *state = x + entry->start + quotient * entry->complement;
    return words;
}

/* The backward pass over one batch of codes; returns the new start of the words.  i stays a multiple of the block
 * in the second loop, so (i + k) & mask is (i & mask & ~7) + (k & mask): with a constant mask, a constant place. */
S2C_INLINE uint16_t *push_batch(const s2c_enc_entry *entries, const uint16_t *codes, size_t count, uint32_t *states,
                                uint32_t mask, int skips, uint16_t *words)
{
    size_t i = count;

    for (; i % S2C_BLOCK; i--)
        words = push(&entries[codes[i - 1]], &states[(i - 1) & mask], words);
    while (i) {
        uint64_t pair[2];
        i -= S2C_BLOCK;
        memcpy(pair, codes + i, sizeof pair);
        if (skips && (pair[0] | pair[1]) == 0)
            continue;
        uint32_t *lanes = states + (i & mask & ~(size_t)(S2C_BLOCK - 1));
        for (uint32_t k = S2C_BLOCK; k--;)
            words = push(&entries[codes[i + k]], &lanes[k & mask], words);
    }
    return words;
}

/* The backward pass over all batches, specialised for the usual lane counts. */
static uint16_t *push_batches(const s2c_tables *tables, const s2c_batch *batches, size_t batch_count,
                              const uint16_t *end, uint32_t *states, uint32_t mask, uint16_t *words)
{
    const s2c_enc_entry *entries = tables->enc_entries;
    const int skips = tables->skip_below > 0;

    while (batch_count--) {
        const size_t count = batches[batch_count].count;
        end -= count;
        if (mask == 7)
            words = push_batch(entries, end, count, states, 7, skips, words);
        else if (mask == 31)
            words = push_batch(entries, end, count, states, 31, skips, words);
        else
            words = push_batch(entries, end, count, states, mask, skips, words);
    }
    return words;
}

/* States only grow until a word leaves: no word and no growth mean that no symbol was coded (so no bypass either). */
static int nothing_coded(const uint32_t *states, uint32_t lanes, size_t word_count)
{
    for (uint32_t lane = 0; lane < lanes; lane++)
        if (states[lane] != S2C_STATE_MIN)
            return 0;
    return word_count == 0;
}

/* Lays lane byte, word count, states, words and bypass out in `out`. */
static s2c_status assemble(uint32_t lanes_log2, const uint32_t *states, const uint16_t *words, size_t word_count,
                           const bit_writer *bypass, uint8_t *out, size_t capacity, size_t *written)
{
    const uint32_t lanes = 1u << lanes_log2;
    size_t head = 2;

    for (size_t rest = word_count; rest >> 7; rest >>= 7)
        head++;
    *written = nothing_coded(states, lanes, word_count) ? 0 : head + 4 * (size_t)lanes + 2 * word_count + bypass->size;
    if (*written > capacity)
        return S2C_ERR_CAPACITY;
    if (*written == 0)
        return S2C_OK;

    *out++ = (uint8_t)lanes_log2;
    size_t rest = word_count;
    for (; rest >> 7; rest >>= 7)
        *out++ = (uint8_t)(rest | 128);
    *out++ = (uint8_t)rest;
    for (uint32_t lane = 0; lane < lanes; lane++)
        for (int bit = 0; bit < 32; bit += 8)
            *out++ = (uint8_t)(states[lane] >> bit);
    for (size_t i = 0; i < word_count; i++) {
        *out++ = (uint8_t)words[i];
        *out++ = (uint8_t)(words[i] >> 8);
    }
    if (bypass->size)
        memcpy(out, bypass->bytes, bypass->size);
    return S2C_OK;
}

static s2c_status encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches, size_t batch_count,
                         uint16_t *codes, bit_writer *bypass, uint8_t *out, size_t capacity, size_t *written)
{
    uint32_t states[S2C_MAX_LANES];
    s2c_status status = S2C_OK;
    size_t count = 0;

    for (size_t b = 0; b < batch_count; b++) {
        status = map_batch(tables, &batches[b], bypass, codes + count);
        if (status != S2C_OK)
            return status;
        count += batches[b].count;
    }
    if (bypass->pending_count) {
        status = put_bits(bypass, 0, 8 - bypass->pending_count);
        if (status != S2C_OK)
            return status;
    }
    if (lanes_log2 == S2C_LANES_AUTO)
        lanes_log2 = choose_lanes(estimate_size(tables, codes, count, bypass->size));
    for (uint32_t lane = 0; lane < S2C_MAX_LANES; lane++)
        states[lane] = S2C_STATE_MIN;
    uint16_t *end = codes + count;
    uint16_t *words = push_batches(tables, batches, batch_count, end, states, (1u << lanes_log2) - 1, end);
    return assemble(lanes_log2, states, words, (size_t)(end - words), bypass, out, capacity, written);
}

size_t s2c_encode_bound(size_t symbol_count)
{
    /* A symbol takes at most one word, an escape of 2 * 16 + 1 bits and 15 raw ones: 8 bytes; 272 hold the head. */
    return symbol_count > (SIZE_MAX - 272) / 8 ? SIZE_MAX : 272 + 8 * symbol_count;
}

s2c_status s2c_encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches, size_t batch_count,
                      uint8_t *out, size_t capacity, size_t *written)
{
    bit_writer bypass = {0};
    size_t count = 0;

    if (written == NULL)
        return S2C_ERR_ARGUMENT;
    *written = 0;
    if (tables == NULL || (batches == NULL && batch_count) || (out == NULL && capacity) ||
        (lanes_log2 > S2C_MAX_LANES_LOG2 && lanes_log2 != S2C_LANES_AUTO))
        return S2C_ERR_ARGUMENT;
    for (size_t b = 0; b < batch_count; b++) {
        if ((batches[b].symbols == NULL || batches[b].indexes == NULL) && batches[b].count)
            return S2C_ERR_ARGUMENT;
        if (batches[b].count > SIZE_MAX / 2 / sizeof(uint16_t) - count)
            return S2C_ERR_ARGUMENT;
        count += batches[b].count;
    }
    uint16_t *codes = malloc(count ? count * sizeof *codes : 1);
    if (codes == NULL)
        return S2C_ERR_MEMORY;
    s2c_status status = encode(tables, lanes_log2, batches, batch_count, codes, &bypass, out, capacity, written);
    free(bypass.bytes);
    free(codes);
    return status;
}
