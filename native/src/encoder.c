/* Writing a stream: one pass over all symbols, from the last to the first, as rANS wants it.
 *
 * Words and bypass bits appear in the reverse of the order in which they are read, so both are collected backward. */
#include "internal.h"

#include <stdlib.h>

/* ---- one symbol at a time ---- */

s2c_status s2c_push_symbol(s2c_encoder *enc, int32_t symbol, uint32_t index, uint32_t lane)
{
    const uint32_t place = (uint32_t)(symbol + S2C_SMALL_HALF);
    s2c_enc_entry entry = {0, 0, 0, 0};

    if (place < S2C_SMALL)
        entry = enc->tables->small[index * S2C_SMALL + place];
    if (entry.limit == 0) {
        uint32_t id;
        s2c_status status = s2c_map(enc, symbol, index, &id);
        if (status != S2C_OK)
            return status;
        entry = enc->tables->enc_entries[enc->tables->base[index] + id];
    }
    enc->states[lane] = s2c_push(&entry, enc->states[lane], &enc->word);
    return S2C_OK;
}

/* ---- batches ---- */

/* Where the encoder stands among the symbols: before symbol `left` of batch `batch`; `before` symbols are in the
 * batches before it. */
typedef struct cursor {
    size_t batch, left;
    uint64_t before;
} cursor;

/* Whether eight symbols from the first-th on need no coding, for their indexes are skipped. */
static int eight_skipped(const s2c_batch *batch, size_t first, uint64_t addend)
{
    uint64_t values[2];

    memcpy(values, batch->symbols + first, sizeof values);
    return (values[0] | values[1]) == 0 && s2c_all_skipped(batch->indexes + first, addend);
}

/* The last symbols go to lane 0 alone, until they have given a word for each of the other lanes to start from: what
 * a lane's start would cost otherwise, two bytes.  The words land in enc->states[1..], in the order of reading. */
static s2c_status push_tail(s2c_encoder *enc, const s2c_batch *batches, cursor *at)
{
    const size_t room = ((size_t)1 << enc->lanes_log2) - 1;
    const uint64_t addend = s2c_skip_addend(enc->tables->skip_below);
    uint16_t carried[S2C_MAX_LANES];
    uint16_t *const body = enc->word, *const carried_end = carried + S2C_MAX_LANES;
    uint32_t coded = 0;

    enc->word = carried_end;
    while ((size_t)(carried_end - enc->word) < room && coded < S2C_MAX_TAIL) {
        if (at->left == 0) {
            if (at->batch == 0)
                break;
            at->left = batches[--at->batch].count;
            at->before -= at->left;
            continue;
        }
        if (at->left >= 8 && eight_skipped(&batches[at->batch], at->left - 8, addend)) {
            at->left -= 8;
            continue;
        }
        const uint8_t index = batches[at->batch].indexes[--at->left];
        const int16_t symbol = batches[at->batch].symbols[at->left];
        if (symbol == 0 && index < enc->tables->skip_below)
            continue;
        s2c_status status = s2c_push_symbol(enc, symbol, index, 0);
        if (status != S2C_OK)
            return status;
        coded++;
    }
    enc->carried = (size_t)(carried_end - enc->word);
    for (uint32_t lane = 1; enc->word < carried_end; lane++)
        enc->states[lane] += *enc->word++;
    enc->word = body;
    return S2C_OK;
}

/* What is left of a batch: less than a row one by one, then rows. */
static s2c_status push_batch(s2c_encoder *enc, const s2c_batch *batch, size_t left)
{
    const size_t whole = left & ~(((size_t)1 << enc->lanes_log2) - 1);
    s2c_status status = S2C_OK;

    while (left > whole && status == S2C_OK) {
        left--;
        status = s2c_push_symbol(enc, batch->symbols[left], batch->indexes[left], (uint32_t)(left - whole));
    }
    return status == S2C_OK ? enc->tables->kernels->push_rows(enc, batch->symbols, batch->indexes, left) : status;
}

/* ---- payload ---- */

uint8_t *s2c_put_number(uint8_t *out, uint64_t number)
{
    for (; number >> 7; number >>= 7)
        *out++ = (uint8_t)(number | 128);
    *out++ = (uint8_t)number;
    return out;
}

/* Lays lane byte, split, states, words and bypass out in `out`. */
static s2c_status assemble(const s2c_encoder *enc, uint64_t split, const uint16_t *words_end, uint8_t *out,
                           size_t capacity, size_t *written)
{
    const uint32_t lanes = 1u << enc->lanes_log2;
    uint8_t head[1 + 9] = {(uint8_t)enc->lanes_log2};
    const size_t head_size = enc->lanes_log2 ? (size_t)(s2c_put_number(head + 1, split) - head) : 1;
    const size_t words = (size_t)(words_end - enc->word);

    *written = head_size + 4 * (size_t)lanes + 2 * words + s2c_bypass_size(&enc->bypass);
    if (*written > capacity)
        return S2C_ERR_CAPACITY;
    s2c_copy_bypass(&enc->bypass, out + *written);
    memcpy(out, head, head_size);
    out += head_size;
    for (uint32_t lane = 0; lane < lanes; lane++)
        for (int bit = 0; bit < 32; bit += 8)
            *out++ = (uint8_t)(enc->states[lane] >> bit);
    for (size_t i = 0; i < words; i++) {
        out[2 * i] = (uint8_t)enc->word[i];
        out[2 * i + 1] = (uint8_t)(enc->word[i] >> 8);
    }
    return S2C_OK;
}

/* Whether every index was skipped: a push makes a state grow, or a word leave. */
static int nothing_coded(const s2c_encoder *enc, const uint16_t *words_end)
{
    uint32_t grown = 0;

    for (uint32_t lane = 0; lane < S2C_MAX_LANES; lane++)
        grown |= enc->states[lane] ^ S2C_STATE_MIN;
    return grown == 0 && enc->carried == 0 && enc->word == words_end;
}

/* An encoder of so many lanes with no symbol in it. */
static void start(s2c_encoder *enc, uint32_t lanes_log2, uint16_t *words_end)
{
    enc->lanes_log2 = lanes_log2;
    enc->word = words_end;
    enc->bypass.start = enc->bypass.capacity;
    enc->bypass.pending = enc->bypass.pending_count = 0;
    for (uint32_t lane = 0; lane < S2C_MAX_LANES; lane++)
        enc->states[lane] = S2C_STATE_MIN;
}

/* The tail, and the lanes if they are left to the encoder: as many, up to 32, as cost at most 0.25 % of the payload.  A
 * lane costs 16 bits for its start, unless the tail has a word for it, and on average 8 unused ones in its end. */
static s2c_status push_tail_choosing(s2c_encoder *enc, uint32_t lanes_log2, const s2c_batch *batches, cursor *at)
{
    const cursor last = *at;
    uint16_t *const words_end = enc->word;

    if (lanes_log2 != S2C_AUTO) {
        start(enc, lanes_log2, words_end);
        return push_tail(enc, batches, at);
    }
    const size_t budget = s2c_estimate_size(enc->tables, batches, last.batch, (size_t)last.before) / 400;
    for (lanes_log2 = 5; lanes_log2; lanes_log2--) {
        const size_t lanes = (size_t)1 << lanes_log2;
        if (lanes + 5 > budget)
            continue;
        start(enc, lanes_log2, words_end);
        *at = last;
        s2c_status status = push_tail(enc, batches, at);
        if (status != S2C_OK || 3 * lanes + 3 <= budget + 2 * enc->carried)
            return status;
    }
    start(enc, 0, words_end);
    *at = last;
    return S2C_OK;
}

static s2c_status encode(s2c_encoder *enc, uint32_t lanes_log2, const s2c_batch *batches, size_t batch_count,
                         size_t count, uint8_t *out, size_t capacity, size_t *written)
{
    uint16_t *const words_end = enc->word;
    cursor at = {batch_count, 0, count};

    s2c_status status = push_tail_choosing(enc, lanes_log2, batches, &at);
    const uint64_t split = at.before + at.left;
    if (status == S2C_OK && at.left)
        status = push_batch(enc, &batches[at.batch], at.left);
    while (status == S2C_OK && at.batch-- > 0)
        status = push_batch(enc, &batches[at.batch], batches[at.batch].count);
    if (status != S2C_OK || nothing_coded(enc, words_end))
        return status;
    return assemble(enc, split, words_end, out, capacity, written);
}

s2c_status s2c_stream_encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches,
                             size_t batch_count, uint8_t *out, size_t capacity, size_t *written)
{
    s2c_encoder enc = {.tables = tables};
    size_t count = 0;

    *written = 0;
    for (size_t b = 0; b < batch_count; b++)
        count += batches[b].count;
    /* One word per symbol at most; most of it is never touched. */
    uint16_t *words = malloc((S2C_WORD_SLACK + count) * sizeof *words);
    if (words == NULL)
        return S2C_ERR_MEMORY;
    enc.word = words + S2C_WORD_SLACK + count;
    s2c_status status = encode(&enc, lanes_log2, batches, batch_count, count, out, capacity, written);
    free(enc.bypass.bytes);
    free(words);
    return status;
}
