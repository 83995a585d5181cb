/* The decoder: states are read once, then symbols forward, words and bypass bits from two pointers.
 *
 * Nothing is allocated but the decoder itself, whatever a payload claims.  Words are bounds-checked once per block
 * of symbols while at least a block of words remains, then per word; the bypass is checked at every read. */
#include "internal.h"

#include <stdlib.h>

struct s2c_decoder {
    const s2c_tables *tables;
    const uint8_t *word;     /* the next word */
    const uint8_t *word_end;
    const uint8_t *bypass;
    uint64_t bypass_bits, bypass_read;
    uint64_t word_count, symbols_read;
    uint32_t lanes;
    s2c_status status;
    uint32_t states[S2C_MAX_LANES];
};

/* ---- bypass ---- */

/* Reads count <= 16 bits, the lowest first. */
static s2c_status get_bits(s2c_decoder *dec, uint32_t count, uint32_t *bits)
{
    if (dec->bypass_bits - dec->bypass_read < count)
        return S2C_ERR_BYPASS;
    const uint8_t *p = dec->bypass + (dec->bypass_read >> 3);
    const uint32_t offset = (uint32_t)(dec->bypass_read & 7);
    uint32_t v = 0;
    for (uint32_t k = 0; 8 * k < offset + count; k++)
        v |= (uint32_t)p[k] << (8 * k);
    dec->bypass_read += count;
    *bits = (v >> offset) & ((1u << count) - 1);
    return S2C_OK;
}

static s2c_status get_exp_golomb(s2c_decoder *dec, uint32_t *value)
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

/* The symbol of an id that is an escape, has raw low bits, or whose value may be out of range. */
static s2c_status read_slow(s2c_decoder *dec, uint32_t index, uint32_t id, int16_t *symbol)
{
    const s2c_tables *tables = dec->tables;
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

/* ---- rANS ---- */

/* Popping a symbol undoes encoder.c's push: the low 14 bits of the state x are a slot, the slot names the symbol,
 * and x becomes freq * (x >> 14) + slot - start, the x from before the push.  It is below 2^16 exactly when the
 * push sent a word off first; taking that word back brings x into [2^16, 2^32) again.  For x >= 2^16, x >> 14 is at
 * least 4, so x never reaches 0 and one word is always enough.  This holds for any state in range and any words,
 * so a hostile payload can yield wrong symbols, but no state, slot or pointer out of range. */
S2C_INLINE s2c_status pop(s2c_decoder *dec, const s2c_tables *tables, uint32_t index, uint32_t *state,
                          const uint8_t **word, int checked, int16_t *symbol)
{
    const s2c_dec_table *table = &tables->dec[index];
    const uint32_t slot = *state & (S2C_TOTAL - 1);
    uint32_t x = *state >> S2C_PRECISION;

    if (S2C_LIKELY(slot < table->zero_freq)) {
        x = table->zero_freq * x + slot;
        *symbol = 0;
    } else {
        const uint32_t id = tables->ids[(uint32_t)(table->id_base + slot)];
        const s2c_dec_entry *entry = &tables->dec_entries[table->entry_base + id];
        x = entry->freq * x + slot - entry->start;
        *symbol = entry->value;
        if (S2C_UNLIKELY(entry->slow)) {
            s2c_status status = read_slow(dec, index, id, symbol);
            if (status != S2C_OK)
                return status;
        }
    }
    if (S2C_UNLIKELY(x < S2C_STATE_MIN)) {
        if (checked && *word == dec->word_end)
            return S2C_ERR_WORDS;
        x = x << 16 | s2c_load16(*word);
        *word += 2;
    }
    *state = x;
    return S2C_OK;
}

/* Whole blocks, while a block cannot run out of words; returns the number of symbols done. */
S2C_INLINE size_t pop_blocks(s2c_decoder *dec, const uint8_t *indexes, size_t count, uint32_t mask, int16_t *symbols)
{
    const s2c_tables *tables = dec->tables;
    const int skips = tables->skip_below > 0 && tables->skip_below <= 128;
    const uint64_t addend = s2c_skip_addend(skips ? tables->skip_below : 128);
    const uint8_t *word = dec->word;
    size_t i = 0;

    for (; count - i >= S2C_BLOCK; i += S2C_BLOCK) {
        if (skips && s2c_all_skipped(indexes + i, addend)) {
            memset(symbols + i, 0, S2C_BLOCK * sizeof *symbols);
            continue;
        }
        if (S2C_UNLIKELY((size_t)(dec->word_end - word) < 2 * S2C_BLOCK))
            break;
        uint32_t *lanes = dec->states + (i & mask & ~(size_t)(S2C_BLOCK - 1));
        S2C_UNROLL_BLOCK
        for (uint32_t k = 0; k < S2C_BLOCK; k++) {
            s2c_status status = pop(dec, tables, indexes[i + k], &lanes[k & mask], &word, 0, &symbols[i + k]);
            if (S2C_UNLIKELY(status != S2C_OK)) {
                dec->status = status;
                dec->word = word;
                return i;
            }
        }
    }
    dec->word = word;
    return i;
}

/* Symbols from i on, each with its own check. */
static void pop_rest(s2c_decoder *dec, const uint8_t *indexes, size_t i, size_t count, int16_t *symbols)
{
    const uint32_t mask = dec->lanes - 1;

    for (; i < count && dec->status == S2C_OK; i++)
        dec->status = pop(dec, dec->tables, indexes[i], &dec->states[i & mask], &dec->word, 1, &symbols[i]);
}

static int indexes_valid(const uint8_t *indexes, size_t count, uint32_t tables)
{
    uint8_t largest = 0;

    if (tables == S2C_MAX_TABLES)
        return 1;
    for (size_t i = 0; i < count; i++)
        largest = indexes[i] > largest ? indexes[i] : largest;
    return count == 0 || largest < tables;
}

s2c_status s2c_decoder_read(s2c_decoder *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    size_t done;

    if (dec == NULL)
        return S2C_ERR_ARGUMENT;
    if (dec->status != S2C_OK)
        return dec->status;
    if (count && (indexes == NULL || symbols == NULL))
        return S2C_ERR_ARGUMENT;
    if (!indexes_valid(indexes, count, dec->tables->count)) {
        dec->status = S2C_ERR_INDEX;
        return dec->status;
    }
    if (dec->lanes == 8)
        done = pop_blocks(dec, indexes, count, 7, symbols);
    else if (dec->lanes == 32)
        done = pop_blocks(dec, indexes, count, 31, symbols);
    else
        done = pop_blocks(dec, indexes, count, dec->lanes - 1, symbols);
    if (dec->status == S2C_OK)
        pop_rest(dec, indexes, done, count, symbols);
    if (dec->status == S2C_OK)
        dec->symbols_read += count;
    return dec->status;
}

/* ---- payload ---- */

/* LEB128 in its shortest form; at most 9 bytes, for no payload can hold 2^63 words. */
static s2c_status read_count(const uint8_t **p, const uint8_t *end, uint64_t *count)
{
    *count = 0;
    for (uint32_t shift = 0; shift < 63 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        *count |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return byte == 0 && shift ? S2C_ERR_COUNT : S2C_OK;
    }
    return S2C_ERR_COUNT;
}

static s2c_status parse(s2c_decoder *dec, const uint8_t *p, size_t size)
{
    const uint8_t *end = p + size;
    uint32_t grown = 0;

    if (*p > S2C_MAX_LANES_LOG2)
        return S2C_ERR_LANES;
    dec->lanes = 1u << *p++;
    s2c_status status = read_count(&p, end, &dec->word_count);
    if (status != S2C_OK)
        return status;
    if ((size_t)(end - p) < 4 * (size_t)dec->lanes)
        return S2C_ERR_TRUNCATED;
    for (uint32_t lane = 0; lane < dec->lanes; lane++, p += 4) {
        dec->states[lane] = s2c_load32(p);
        if (dec->states[lane] < S2C_STATE_MIN)
            return S2C_ERR_STATE;
        grown |= dec->states[lane] ^ S2C_STATE_MIN;
    }
    if (dec->word_count > (uint64_t)(end - p) / 2)
        return S2C_ERR_COUNT;
    if (dec->word_count == 0 && grown == 0)
        return S2C_ERR_STATE; /* nothing coded is spelt as no bytes, and in no other way */
    dec->word = p;
    dec->word_end = p + 2 * dec->word_count;
    dec->bypass = dec->word_end;
    dec->bypass_bits = 8 * (uint64_t)(end - dec->bypass);
    return S2C_OK;
}

s2c_status s2c_decoder_reset(s2c_decoder *dec, const s2c_tables *tables, const void *data, size_t size)
{
    static const uint8_t nothing[1];

    if (dec == NULL)
        return S2C_ERR_ARGUMENT;
    memset(dec, 0, sizeof *dec);
    dec->status = S2C_ERR_ARGUMENT;
    if (tables == NULL || (data == NULL && size))
        return S2C_ERR_ARGUMENT;
    dec->tables = tables;
    dec->lanes = 1;
    dec->states[0] = S2C_STATE_MIN;
    dec->word = dec->word_end = dec->bypass = nothing;
    dec->status = size ? parse(dec, data, size) : S2C_OK;
    return dec->status;
}

s2c_status s2c_decoder_create(const s2c_tables *tables, const void *data, size_t size, s2c_decoder **out)
{
    if (out == NULL)
        return S2C_ERR_ARGUMENT;
    *out = NULL;
    s2c_decoder *dec = malloc(sizeof *dec);
    if (dec == NULL)
        return S2C_ERR_MEMORY;
    s2c_status status = s2c_decoder_reset(dec, tables, data, size);
    if (status != S2C_OK)
        free(dec);
    else
        *out = dec;
    return status;
}

s2c_status s2c_decoder_finish(s2c_decoder *dec)
{
    uint32_t padding = 0;

    if (dec == NULL)
        return S2C_ERR_ARGUMENT;
    if (dec->status != S2C_OK)
        return dec->status;
    if (dec->word != dec->word_end)
        return dec->status = S2C_ERR_WORDS_LEFT;
    for (uint32_t lane = 0; lane < dec->lanes; lane++)
        if (dec->states[lane] != S2C_STATE_MIN)
            return dec->status = S2C_ERR_FINAL_STATE;
    const uint64_t left = dec->bypass_bits - dec->bypass_read;
    if (left >= 8)
        return dec->status = S2C_ERR_BYPASS_LEFT;
    get_bits(dec, (uint32_t)left, &padding);
    if (padding)
        return dec->status = S2C_ERR_PADDING;
    return S2C_OK;
}

void s2c_decoder_get_info(const s2c_decoder *dec, s2c_decoder_info *info)
{
    if (info == NULL)
        return;
    memset(info, 0, sizeof *info);
    if (dec == NULL)
        return;
    info->word_count = dec->word_count;
    info->words_read = dec->word_count - (uint64_t)(dec->word_end - dec->word) / 2;
    info->bypass_bits = dec->bypass_bits;
    info->bypass_bits_read = dec->bypass_read;
    info->symbols_read = dec->symbols_read;
    info->lanes = dec->lanes;
    info->status = dec->status;
}

void s2c_decoder_free(s2c_decoder *dec)
{
    free(dec);
}
