/* The encoder: one pass over all symbols, from the last to the first, as rANS wants it.
 *
 * Words and bypass bits appear in the reverse of the order in which they are read, so both are written from the
 * end of a buffer towards its start. */
#include "internal.h"

#include <stdlib.h>

/* ---- bypass ---- */

/* Bits put in front of one another: bytes[start..capacity) holds the later ones, pending the first few. */
typedef struct bit_stack {
    uint8_t *bytes;
    size_t start, capacity;
    uint32_t pending; /* the first bit lowest */
    uint32_t pending_count;
} bit_stack;

static s2c_status grow(bit_stack *stack)
{
    const size_t capacity = stack->capacity ? 2 * stack->capacity : 1024;
    const size_t used = stack->capacity - stack->start;
    uint8_t *bytes = capacity > stack->capacity ? malloc(capacity) : NULL;

    if (bytes == NULL)
        return S2C_ERR_MEMORY;
    if (used)
        memcpy(bytes + capacity - used, stack->bytes + stack->start, used);
    free(stack->bytes);
    stack->bytes = bytes;
    stack->start = capacity - used;
    stack->capacity = capacity;
    return S2C_OK;
}

/* Puts the low `count` bits of `bits`, the lowest first, before all others; count <= 17, no bit set above them. */
static s2c_status put_bits(bit_stack *stack, uint32_t bits, uint32_t count)
{
    if (stack->start < 4) {
        s2c_status status = grow(stack);
        if (status != S2C_OK)
            return status;
    }
    stack->pending = stack->pending << count | bits;
    stack->pending_count += count;
    while (stack->pending_count >= 8) {
        stack->pending_count -= 8;
        stack->bytes[--stack->start] = (uint8_t)(stack->pending >> stack->pending_count);
    }
    stack->pending &= (1u << stack->pending_count) - 1;
    return S2C_OK;
}

static size_t bypass_size(const bit_stack *stack)
{
    return stack->capacity - stack->start + (stack->pending_count > 0);
}

/* Writes all bits from the lowest bit of out[0] on, which moves the whole bytes up by the pending bits. */
static void copy_bypass(const bit_stack *stack, uint8_t *out)
{
    uint32_t carry = stack->pending;

    for (size_t i = stack->start; i < stack->capacity; i++) {
        carry |= (uint32_t)stack->bytes[i] << stack->pending_count;
        *out++ = (uint8_t)carry;
        carry >>= 8;
    }
    if (stack->pending_count)
        *out = (uint8_t)carry;
}

/* Exp-Golomb of order 0: floor(log2(value + 1)) zeros, a one, then the bits of value + 1 below its highest. */
static s2c_status put_exp_golomb(bit_stack *stack, uint32_t value)
{
    uint32_t prefix = 0;

    while ((value + 1) >> (prefix + 1))
        prefix++;
    s2c_status status = put_bits(stack, value + 1 - (1u << prefix), prefix);
    return status != S2C_OK ? status : put_bits(stack, 1u << prefix, prefix + 1);
}

/* ---- from symbols to codes ---- */

/* zigzag(hi - center) of a symbol within the range, under a table that exists; its raw bits in *low. */
static uint32_t split(const s2c_tables *tables, int32_t symbol, uint32_t index, uint32_t *low)
{
    const uint32_t shift = tables->shifts[index];
    const int32_t half = shift ? 1 << (shift - 1) : 0;
    /* An arithmetic shift to the right, spelt so that C defines it for negative numbers too. */
    const int32_t hi = (int32_t)((uint32_t)(symbol + half + 65536) >> shift) - (65536 >> shift);

    *low = (uint32_t)(symbol + half - hi * (1 << shift));
    return s2c_zigzag(hi - tables->centers[index]);
}

/* Everything that is not `code_base + id`: wrong arguments, escapes, symbols with raw low bits. */
static s2c_status map_slow(const s2c_tables *tables, int32_t symbol, uint32_t index, bit_stack *bypass, uint32_t *code)
{
    if (index >= tables->count)
        return S2C_ERR_INDEX;
    if (index < tables->skip_below)
        return S2C_ERR_SKIPPED;
    if (symbol < -S2C_MAX_SYMBOL)
        return S2C_ERR_SYMBOL;

    const uint32_t escape = tables->sizes[index] - 1u;
    uint32_t low;
    const uint32_t id = split(tables, symbol, index, &low);
    s2c_status status = S2C_OK;
    if (tables->shifts[index])
        status = put_bits(bypass, low, tables->shifts[index]);
    if (status == S2C_OK && id >= escape)
        status = put_exp_golomb(bypass, id - escape);
    *code = tables->enc[index].code_base + (id < escape ? id : escape);
    return status;
}

/* ---- the choice of lanes ---- */

/* The expected cost of a symbol in 1/16 bit; whether it can be coded at all is not asked here. */
static uint32_t estimate_symbol(const s2c_tables *tables, int32_t symbol, uint32_t index)
{
    if (index >= tables->count || index < tables->skip_below)
        return 0;
    const uint32_t escape = tables->sizes[index] - 1u;
    uint32_t low;
    const uint32_t id = split(tables, symbol, index, &low);
    uint32_t bits = tables->shifts[index];
    for (uint32_t rest = id < escape ? 0 : id - escape + 1; rest; rest >>= 1)
        bits += 2;
    return 16 * bits + tables->enc_entries[tables->enc[index].code_base + (id < escape ? id : escape)].cost;
}

/* The payload's expected size in bytes: from all symbols if they are few, else from some thousand at a prime distance,
 * so that no layout of channels or rows can hide the costly ones. */
static size_t estimate_size(const s2c_tables *tables, const s2c_batch *batches, size_t batch_count, size_t count)
{
    const size_t step = count < 4096 ? 1 : count < 65536 ? 13 : count < 1048576 ? 61 : 251;
    uint64_t cost = 0;

    for (size_t b = 0; b < batch_count; b++)
        for (size_t i = 0; i < batches[b].count; i += step)
            cost += estimate_symbol(tables, batches[b].symbols[i], batches[b].indexes[i]);
    return (size_t)(cost * step / 128);
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

/* ---- rANS ---- */

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
S2C_INLINE uint32_t push(const s2c_enc_entry *entry, uint32_t x)
{
    const uint32_t quotient = (uint32_t)((x * entry->reciprocal) >> 46);
    return x + entry->start + quotient * entry->complement;
}

/* The entry of a symbol that is not among the small ones, or NULL and the reason in *status. */
static const s2c_enc_entry *find_entry(const s2c_tables *tables, int32_t symbol, uint32_t index, bit_stack *bypass,
                                       s2c_status *status)
{
    const s2c_enc_table *table = &tables->enc[index];
    const uint32_t id = s2c_zigzag(symbol - table->center);
    uint32_t code = table->code_base + id;

    if (id >= table->direct) {
        *status = map_slow(tables, symbol, index, bypass, &code);
        if (*status != S2C_OK)
            return NULL;
    }
    return &tables->enc_entries[code];
}

/* Maps one symbol and pushes it.  small: it is known to lie in [-8, 8).  A missing entry has the frequency 0, which
 * no state is below, so the test for a word finds it too. */
S2C_INLINE s2c_status push_symbol(const s2c_tables *tables, int32_t symbol, uint32_t index, int small,
                                  bit_stack *bypass, uint32_t *state, uint16_t **words)
{
    static const s2c_enc_entry missing = {0, 0, 0, 0, 0};
    const size_t place = (size_t)index * S2C_SMALL + S2C_SMALL_HALF;
    const s2c_enc_entry *entry = &missing;
    uint32_t x = *state;

    if (small || (uint32_t)(symbol + S2C_SMALL_HALF) < S2C_SMALL)
        entry = &tables->small[(ptrdiff_t)place + symbol];
    if (S2C_UNLIKELY(x >> 18 >= entry->freq)) {
        if (entry->freq == 0) {
            s2c_status status = S2C_OK;
            entry = find_entry(tables, symbol, index, bypass, &status);
            if (entry == NULL)
                return status;
        }
        if (x >> 18 >= entry->freq) {
            *--*words = (uint16_t)x;
            x >>= 16;
        }
    }
    *state = push(entry, x);
    return S2C_OK;
}

/* Whether four int16 values all lie in [-8, 8): adding 8 to each leaves only the low four bits.  The top bits are kept
 * out of the addition, lest it carry from one value into the next. */
S2C_INLINE int all_small(uint64_t values)
{
    const uint64_t top = 0x8000800080008000u;

    return (((((values & ~top) + 0x0008000800080008u) ^ (values & top)) & 0xfff0fff0fff0fff0u)) == 0;
}

S2C_INLINE s2c_status push_block(const s2c_tables *tables, const int16_t *symbols, const uint8_t *indexes, int small,
                                 uint32_t *lanes, uint32_t mask, bit_stack *bypass, uint16_t **words)
{
    S2C_UNROLL_BLOCK
    for (uint32_t k = S2C_BLOCK; k--;) {
        s2c_status status =
            push_symbol(tables, symbols[k], indexes[k], small, bypass, &lanes[k & mask], words);
        if (S2C_UNLIKELY(status != S2C_OK))
            return status;
    }
    return S2C_OK;
}

/* One batch, backward.  i stays a multiple of the block in the second loop, so (i + k) & mask is
 * (i & mask & ~7) + (k & mask & 7): with a constant mask, a constant place. */
S2C_INLINE s2c_status push_batch(const s2c_tables *tables, const s2c_batch *batch, uint32_t *states, uint32_t mask,
                                 bit_stack *bypass, uint16_t **words_end)
{
    const int skips = tables->skip_below > 0 && tables->skip_below <= 128;
    const uint64_t addend = s2c_skip_addend(skips ? tables->skip_below : 128);
    const int16_t *symbols = batch->symbols;
    const uint8_t *indexes = batch->indexes;
    uint16_t *words = *words_end;
    s2c_status status = S2C_OK;
    size_t i = batch->count;

    for (; i % S2C_BLOCK && status == S2C_OK; i--)
        status = push_symbol(tables, symbols[i - 1], indexes[i - 1], 0, bypass, &states[(i - 1) & mask], &words);
    while (i && status == S2C_OK) {
        uint64_t values[2];
        i -= S2C_BLOCK;
        memcpy(values, symbols + i, sizeof values);
        if (skips && (values[0] | values[1]) == 0 && s2c_all_skipped(indexes + i, addend))
            continue;
        uint32_t *lanes = states + (i & mask & ~(size_t)(S2C_BLOCK - 1));
        if (S2C_LIKELY(all_small(values[0]) && all_small(values[1])))
            status = push_block(tables, symbols + i, indexes + i, 1, lanes, mask & 7, bypass, &words);
        else
            status = push_block(tables, symbols + i, indexes + i, 0, lanes, mask & 7, bypass, &words);
    }
    *words_end = words;
    return status;
}

/* The same for a given number of lanes: the usual ones get code of their own. */
static s2c_status push_batch_lanes(const s2c_tables *tables, const s2c_batch *batch, uint32_t *states,
                                   uint32_t lanes_log2, bit_stack *bypass, uint16_t **words)
{
    if (lanes_log2 == 3)
        return push_batch(tables, batch, states, 7, bypass, words);
    if (lanes_log2 == 5)
        return push_batch(tables, batch, states, 31, bypass, words);
    return push_batch(tables, batch, states, (1u << lanes_log2) - 1, bypass, words);
}

/* ---- payload ---- */

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
                           const bit_stack *bypass, uint8_t *out, size_t capacity, size_t *written)
{
    const uint32_t lanes = 1u << lanes_log2;
    size_t head = 2;

    for (size_t rest = word_count; rest >> 7; rest >>= 7)
        head++;
    *written = nothing_coded(states, lanes, word_count) ? 0 : head + 4 * (size_t)lanes + 2 * word_count + bypass_size(bypass);
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
    copy_bypass(bypass, out);
    return S2C_OK;
}

static s2c_status encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches, size_t batch_count,
                         uint16_t *words_end, bit_stack *bypass, uint8_t *out, size_t capacity, size_t *written)
{
    uint32_t states[S2C_MAX_LANES];
    uint16_t *words = words_end;

    for (uint32_t lane = 0; lane < S2C_MAX_LANES; lane++)
        states[lane] = S2C_STATE_MIN;
    while (batch_count--) {
        s2c_status status = push_batch_lanes(tables, &batches[batch_count], states, lanes_log2, bypass, &words);
        if (status != S2C_OK)
            return status;
    }
    return assemble(lanes_log2, states, words, (size_t)(words_end - words), bypass, out, capacity, written);
}

size_t s2c_encode_bound(size_t symbol_count)
{
    /* A symbol takes at most one word, an escape of 2 * 16 + 1 bits and 15 raw ones: 8 bytes; 272 hold the head. */
    return symbol_count > (SIZE_MAX - 272) / 8 ? SIZE_MAX : 272 + 8 * symbol_count;
}

s2c_status s2c_encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches, size_t batch_count,
                      uint8_t *out, size_t capacity, size_t *written)
{
    bit_stack bypass = {0};
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
    if (lanes_log2 == S2C_LANES_AUTO)
        lanes_log2 = choose_lanes(estimate_size(tables, batches, batch_count, count));
    uint16_t *words = malloc(count ? count * sizeof *words : 1); /* one per symbol at most; mostly never touched */
    if (words == NULL)
        return S2C_ERR_MEMORY;
    s2c_status status =
        encode(tables, lanes_log2, batches, batch_count, words + count, &bypass, out, capacity, written);
    free(bypass.bytes);
    free(words);
    return status;
}
