/* Rows in portable C: what every other kernel must agree with, byte for byte.
 *
 * A lane's state x is a number in [2^15, 2^31) onto which symbols are pushed and from which they are popped.
 *
 * Pushing a symbol of frequency f that owns the slots [start, start + f) turns x into (x / f) * 2^12 + start + x % f.
 * That stays below 2^31 exactly when x < f * 2^19; if x is not, its low 16 bits leave as a word first.  One word is
 * enough, for x >> 16 is below 2^15 < f * 2^19, and the result is never below 2^15: with or without a word, x / f is
 * at least 8.
 *
 * Popping undoes it: the low 12 bits of x are a slot, the slot names the symbol, and f * (x >> 12) + slot - start is
 * the state from before the push.  It is below 2^15 exactly when the push sent a word off first; taking that word back
 * brings it into [2^15, 2^31) again.  From x >= 2^15 the result is at least 8, so one word is always enough.  This
 * holds for any state in range and any words: a hostile payload can yield wrong symbols, but no state, slot or pointer
 * out of range. */
#include "internal.h"

/* x / f by the reciprocal of f (tables.c), and from it (x / f) * 2^12 + x % f = x + (x / f) * (2^12 - f). */
S2C_INLINE uint32_t push(s2c_enc_entry entry, uint32_t freq, uint32_t x)
{
    const uint32_t quotient = (uint32_t)((uint64_t)x * entry.reciprocal >> 32) >> (entry.info >> 26);
    return x + (entry.info >> 13 & 8191) + quotient * (S2C_TOTAL - freq);
}

S2C_INLINE s2c_status push_rows(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes,
                                size_t count, uint32_t lanes)
{
    const s2c_enc_entry *small = enc->tables->small + S2C_SMALL_HALF;
    const uint64_t addend = s2c_skip_addend(enc->tables->skip_below);
    const uint32_t group = lanes < 8 ? lanes : 8; /* lanes whose places the compiler knows */
    uint16_t *word = enc->word;

    for (size_t i = count; i;) {
        i -= group;
        uint32_t *states = enc->states + (i & (lanes - 1));
        uint64_t values[2];
        if (group == 8) {
            memcpy(values, symbols + i, sizeof values);
            if ((values[0] | values[1]) == 0 && s2c_all_skipped(indexes + i, addend))
                continue;
        }
        S2C_UNROLL
        for (uint32_t k = group; k--;) {
            const uint32_t place = (uint32_t)(symbols[i + k] + S2C_SMALL_HALF);
            s2c_enc_entry entry = {0, 0};
            if (S2C_LIKELY(place < S2C_SMALL))
                entry = small[(ptrdiff_t)(indexes[i + k] * S2C_SMALL) + symbols[i + k]];
            const uint32_t freq = s2c_enc_freq(entry);
            uint32_t x = states[k];
            if (S2C_UNLIKELY(x >> S2C_WORD_SHIFT >= freq)) {
                if (freq == 0) {
                    const uint32_t lane = (uint32_t)(i & (lanes - 1)) + k;
                    enc->word = word;
                    s2c_status status = s2c_push_symbol(enc, symbols[i + k], indexes[i + k], lane);
                    if (status != S2C_OK)
                        return status;
                    word = enc->word;
                    continue;
                }
                *--word = (uint16_t)x;
                x >>= 16;
            }
            states[k] = push(entry, freq, x);
        }
    }
    enc->word = word;
    return S2C_OK;
}

S2C_INLINE size_t pop_rows(s2c_decoder *dec, const uint8_t *indexes, size_t count, int16_t *symbols, uint32_t lanes)
{
    const uint32_t *table = dec->tables->dec;
    const uint64_t addend = s2c_skip_addend(dec->tables->skip_below);
    const uint32_t group = lanes < 8 ? lanes : 8;
    const uint8_t *word = dec->word;
    size_t i = 0;

    for (; i < count; i += group) {
        uint32_t *states = dec->states + (i & (lanes - 1));
        if (group == 8 && s2c_all_skipped(indexes + i, addend)) {
            memset(symbols + i, 0, 8 * sizeof *symbols);
            continue;
        }
        if (S2C_UNLIKELY((size_t)(dec->word_end - word) < 2 * (size_t)group))
            break;
        S2C_UNROLL
        for (uint32_t k = 0; k < group; k++) {
            const uint32_t slot = states[k] & (S2C_TOTAL - 1);
            const uint32_t entry = table[indexes[i + k] * S2C_TOTAL + slot];
            const uint32_t x = s2c_dec_freq(entry) * (states[k] >> S2C_PRECISION) + slot - s2c_dec_start(entry);
            const uint32_t short_of = x < S2C_STATE_MIN;
            states[k] = short_of ? x << 16 | s2c_load16(word) : x;
            word += 2 * short_of;
            symbols[i + k] = (int16_t)s2c_dec_symbol(entry);
            if (S2C_UNLIKELY(symbols[i + k] == S2C_SLOW)) {
                dec->status = s2c_read_slow(dec, indexes[i + k], s2c_dec_start(entry), &symbols[i + k]);
                if (dec->status != S2C_OK)
                    goto stop;
            }
        }
    }
stop:
    dec->word = word;
    return i;
}

/* The usual numbers of lanes get code of their own. */
static s2c_status push_rows_any(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, size_t count)
{
    if (enc->lanes_log2 == 3)
        return push_rows(enc, symbols, indexes, count, 8);
    if (enc->lanes_log2 == 5)
        return push_rows(enc, symbols, indexes, count, 32);
    return push_rows(enc, symbols, indexes, count, 1u << enc->lanes_log2);
}

static size_t pop_rows_any(s2c_decoder *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    if (dec->lanes_log2 == 3)
        return pop_rows(dec, indexes, count, symbols, 8);
    if (dec->lanes_log2 == 5)
        return pop_rows(dec, indexes, count, symbols, 32);
    return pop_rows(dec, indexes, count, symbols, 1u << dec->lanes_log2);
}

const s2c_kernels s2c_scalar_kernels = {"scalar", push_rows_any, pop_rows_any};
