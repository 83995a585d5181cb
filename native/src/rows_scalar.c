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

/* Whether four int16 values all lie in [-32, 32): adding 32 to each leaves only the low six bits.  The top bits are
 * kept out of the addition, lest it carry from one value into the next. */
S2C_INLINE int all_small(uint64_t values)
{
    const uint64_t top = 0x8000800080008000u;

    return ((((values & ~top) + 0x0020002000200020u) ^ (values & top)) & 0xffc0ffc0ffc0ffc0u) == 0;
}

/* Symbols [i, i + group) from the last to the first, all of them with a place among the small ones. */
S2C_INLINE s2c_status push_group(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, uint32_t lane,
                                 uint32_t group, uint16_t **words)
{
    const s2c_enc_entry *small = enc->tables->small + S2C_SMALL_HALF;
    uint32_t *states = enc->states + lane;
    uint16_t *word = *words;
    S2C_ONE_REGISTER(states);

    S2C_UNROLL
    for (uint32_t k = group; k--;) {
        const s2c_enc_entry *entry = &small[(ptrdiff_t)(indexes[k] * S2C_SMALL) + symbols[k]];
        uint32_t x = states[k];
        if (S2C_UNLIKELY(x >= entry->limit)) {
            if (entry->limit == 0) {
                enc->word = word;
                s2c_status status = s2c_push_symbol(enc, symbols[k], indexes[k], lane + k);
                if (status != S2C_OK)
                    return status;
                word = enc->word;
                continue;
            }
            *--word = (uint16_t)x;
            x >>= 16;
        }
        states[k] = x + entry->start + (uint32_t)(x * entry->reciprocal >> 43) * entry->complement;
    }
    *words = word;
    return S2C_OK;
}

S2C_INLINE s2c_status push_rows(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, size_t count,
                                uint32_t lanes)
{
    const uint64_t addend = s2c_skip_addend(enc->tables->skip_below);
    const uint32_t group = lanes < 8 ? lanes : 8; /* lanes whose places the compiler knows */
    uint16_t *word = enc->word;
    s2c_status status = S2C_OK;

    for (size_t i = count; i && status == S2C_OK;) {
        uint64_t values[2] = {0, 0};
        i -= group;
        memcpy(values, symbols + i, group * sizeof *symbols);
        if (group == 8 && (values[0] | values[1]) == 0 && s2c_all_skipped(indexes + i, addend))
            continue;
        if (S2C_LIKELY(all_small(values[0]) && all_small(values[1]))) {
            status = push_group(enc, symbols + i, indexes + i, (uint32_t)(i & (lanes - 1)), group, &word);
            continue;
        }
        enc->word = word;
        for (size_t k = i + group; k-- > i && status == S2C_OK;)
            status = s2c_push_symbol(enc, symbols[k], indexes[k], (uint32_t)(k & (lanes - 1)));
        word = enc->word;
    }
    enc->word = word;
    return status;
}

S2C_INLINE size_t pop_rows(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols, uint32_t lanes)
{
    const uint16_t *codes = dec->tables->codes;
    const uint32_t *entries = dec->tables->dec_entries;
    const uint64_t addend = s2c_skip_addend(dec->tables->skip_below);
    const uint32_t group = lanes < 8 ? lanes : 8;
    const uint8_t *word = dec->word;
    size_t i = 0;

    for (; i < count; i += group) {
        uint32_t *states = dec->states + (i & (lanes - 1));
        S2C_ONE_REGISTER(states);
        if (group == 8 && s2c_all_skipped(indexes + i, addend)) {
            memset(symbols + i, 0, 8 * sizeof *symbols);
            continue;
        }
        if (S2C_UNLIKELY((size_t)(dec->word_end - word) < 2 * (size_t)group))
            break;
        S2C_UNROLL
        for (uint32_t k = 0; k < group; k++) {
            const uint32_t slot = states[k] & (S2C_TOTAL - 1);
            const uint32_t code = codes[(uint32_t)indexes[i + k] << S2C_PRECISION | slot];
            const uint32_t entry = entries[code];
            uint32_t x = s2c_dec_freq(entry) * (states[k] >> S2C_PRECISION) + slot - s2c_dec_start(entry);
            if (S2C_UNLIKELY(x < S2C_STATE_MIN)) {
                x = x << 16 | s2c_load16(word);
                word += 2;
            }
            states[k] = x;
            symbols[i + k] = (int16_t)s2c_dec_symbol(entry);
            if (S2C_UNLIKELY(s2c_dec_symbol(entry) == S2C_SLOW)) {
                dec->status = s2c_read_slow(dec, indexes[i + k], code, &symbols[i + k]);
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

static size_t pop_rows_any(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    if (dec->lanes_log2 == 3)
        return pop_rows(dec, indexes, count, symbols, 8);
    if (dec->lanes_log2 == 5)
        return pop_rows(dec, indexes, count, symbols, 32);
    return pop_rows(dec, indexes, count, symbols, 1u << dec->lanes_log2);
}

const s2c_kernels s2c_scalar_kernels = {"scalar", push_rows_any, pop_rows_any};
