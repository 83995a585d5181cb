/* Rows eight lanes at a time: the same states, words and symbols as rows_scalar.c, whose invariant holds here too.
 *
 * A row's lanes want their words in the order of the lanes: vector by vector, so that within one only the lanes that
 * want a word have to be told apart, which a shuffle by their mask does (tables->spread, tables->squeeze). */
#include "internal.h"

#ifdef S2C_HAVE_AVX2
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,popcnt")))

/* Whether all indexes of a row are skipped. */
AVX2_INLINE int row_skipped(const uint8_t *indexes, int vectors, uint64_t addend)
{
    uint64_t coded = 0, v;

    if (addend == UINT64_MAX)
        return 0;
    for (int k = 0; k < vectors; k++) {
        memcpy(&v, indexes + 8 * k, sizeof v);
        coded |= v | (v + addend);
    }
    return (coded & 0x8080808080808080u) == 0;
}

/* ---- decoding ---- */

/* The entries at eight places.  Loads by address beat the gather instruction, on AMD by far. */
AVX2_INLINE __m256i load_entries(const uint32_t *table, __m256i places)
{
    const __m128i low = _mm256_castsi256_si128(places), high = _mm256_extracti128_si256(places, 1);
    const uint64_t p0 = (uint64_t)_mm_cvtsi128_si64(low), p2 = (uint64_t)_mm_extract_epi64(low, 1);
    const uint64_t p4 = (uint64_t)_mm_cvtsi128_si64(high), p6 = (uint64_t)_mm_extract_epi64(high, 1);
    __m128i a = _mm_cvtsi32_si128((int)table[(uint32_t)p0]), b = _mm_cvtsi32_si128((int)table[(uint32_t)p4]);

    a = _mm_insert_epi32(a, (int)table[p0 >> 32], 1);
    b = _mm_insert_epi32(b, (int)table[p4 >> 32], 1);
    a = _mm_insert_epi32(a, (int)table[(uint32_t)p2], 2);
    b = _mm_insert_epi32(b, (int)table[(uint32_t)p6], 2);
    a = _mm_insert_epi32(a, (int)table[p2 >> 32], 3);
    b = _mm_insert_epi32(b, (int)table[p6 >> 32], 3);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* Pops a symbol from each of eight states; returns the entries and, in *places, where they stood.  Sixteen bytes are
 * read at *word. */
AVX2_INLINE __m256i pop8(const s2c_tables *tables, const uint8_t *indexes, __m256i *state, const uint8_t **word,
                         __m256i *places)
{
    const __m256i low12 = _mm256_set1_epi32(S2C_TOTAL - 1);
    const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)indexes));
    *places = _mm256_or_si256(_mm256_slli_epi32(index, S2C_PRECISION), _mm256_and_si256(*state, low12));
    const __m256i entries = load_entries(tables->dec, *places);
    const __m256i freq = _mm256_and_si256(_mm256_srli_epi32(entries, 12), _mm256_set1_epi32(8191));
    const __m256i offset = _mm256_and_si256(entries, low12);
    const __m256i x = _mm256_add_epi32(_mm256_mullo_epi32(freq, _mm256_srli_epi32(*state, S2C_PRECISION)), offset);

    const __m256i wants = _mm256_cmpgt_epi32(_mm256_set1_epi32(S2C_STATE_MIN), x);
    const uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(wants));
    const __m128i words = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)*word),
                                           _mm_loadu_si128((const __m128i *)tables->spread[mask]));
    *word += 2 * (uint32_t)__builtin_popcount(mask);
    *state = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_cvtepu16_epi32(words)), wants);
    return entries;
}

/* The slow symbols of a row, in their order, for the bypass is a string. */
static s2c_status patch(s2c_decoder *dec, const uint32_t *places, uint32_t count, int16_t *symbols)
{
    s2c_status status = S2C_OK;

    for (uint32_t k = 0; k < count && status == S2C_OK; k++)
        if (symbols[k] == S2C_SLOW)
            status = s2c_read_slow(dec, places[k], &symbols[k]);
    return status;
}

AVX2_INLINE size_t pop_rows(s2c_decoder *dec, const uint8_t *indexes, size_t count, int16_t *symbols, int vectors)
{
    const s2c_tables *tables = dec->tables;
    const uint64_t addend = s2c_skip_addend(tables->skip_below);
    const __m256i slow = _mm256_set1_epi16(S2C_SLOW);
    const uint8_t *word = dec->word;
    __m256i states[8], entries[8], places[8];
    size_t i = 0;

    for (int k = 0; k < vectors; k++)
        states[k] = _mm256_loadu_si256((const __m256i *)(dec->states + 8 * k));
    for (; i < count; i += 8 * (size_t)vectors) {
        if (row_skipped(indexes + i, vectors, addend)) {
            memset(symbols + i, 0, 16 * (size_t)vectors);
            continue;
        }
        if (S2C_UNLIKELY(dec->word_end - word < 16 * vectors))
            break;
        S2C_UNROLL
        for (int k = 0; k < vectors; k++)
            entries[k] = pop8(tables, indexes + i + 8 * k, &states[k], &word, &places[k]);
        __m256i any = _mm256_setzero_si256();
        S2C_UNROLL
        for (int k = 0; k < vectors; k += 2) {
            const __m256i first = _mm256_srai_epi32(entries[k], 25);
            const __m256i second = vectors > 1 ? _mm256_srai_epi32(entries[k + 1], 25) : first;
            const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
            any = _mm256_or_si256(any, _mm256_cmpeq_epi16(both, slow));
            if (vectors > 1)
                _mm256_storeu_si256((__m256i *)(symbols + i + 8 * k), both);
            else
                _mm_storeu_si128((__m128i *)(symbols + i), _mm256_castsi256_si128(both));
        }
        if (S2C_UNLIKELY(!_mm256_testz_si256(any, any))) {
            dec->status = patch(dec, (const uint32_t *)places, 8 * (uint32_t)vectors, symbols + i);
            if (dec->status != S2C_OK)
                break;
        }
    }
    for (int k = 0; k < vectors; k++)
        _mm256_storeu_si256((__m256i *)(dec->states + 8 * k), states[k]);
    dec->word = word;
    return i;
}

AVX2 static size_t pop_rows_any(s2c_decoder *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    switch (dec->lanes_log2) {
    case 3: return pop_rows(dec, indexes, count, symbols, 1);
    case 4: return pop_rows(dec, indexes, count, symbols, 2);
    case 5: return pop_rows(dec, indexes, count, symbols, 4);
    case 6: return pop_rows(dec, indexes, count, symbols, 8);
    default: return s2c_scalar_kernels.pop_rows(dec, indexes, count, symbols);
    }
}

/* ---- encoding ---- */

/* Pushes eight entries, their reciprocals and infos apart, onto eight states; words leave to before *word, sixteen bytes of
 * which are written. */
AVX2_INLINE __m256i push8(const s2c_tables *tables, __m256i first, __m256i second, __m256i x, uint16_t **word)
{
    /* first and second hold the entries 0 1 4 5 and 2 3 6 7: what in-lane shuffles pair up again. */
    const __m256i info = _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second), 0xdd));
    const __m256i freq = _mm256_and_si256(info, _mm256_set1_epi32(8191));
    const __m256i start = _mm256_and_si256(_mm256_srli_epi32(info, 13), _mm256_set1_epi32(8191));

    const __m256i stays = _mm256_cmpgt_epi32(freq, _mm256_srli_epi32(x, S2C_WORD_SHIFT));
    const uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(stays)) ^ 255;
    const __m256i low16 = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low16), _mm256_extracti128_si256(low16, 1));
    _mm_storeu_si128((__m128i *)(*word - 8),
                     _mm_shuffle_epi8(words, _mm_loadu_si128((const __m128i *)tables->squeeze[mask])));
    *word -= __builtin_popcount(mask);
    x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, stays);

    const __m256i even = _mm256_mul_epu32(_mm256_unpacklo_epi32(x, x), first);
    const __m256i odd = _mm256_mul_epu32(_mm256_unpackhi_epi32(x, x), second);
    const __m256i high = _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd), 0xdd));
    const __m256i quotient = _mm256_srlv_epi32(high, _mm256_srli_epi32(info, 26));
    const __m256i grow = _mm256_mullo_epi32(quotient, _mm256_sub_epi32(_mm256_set1_epi32(S2C_TOTAL), freq));
    return _mm256_add_epi32(_mm256_add_epi32(x, start), grow);
}

/* All ones at the infos without a frequency.  A reciprocal is never 0, a missing entry's is: it serves as well. */
AVX2_INLINE __m256i missing_entries(__m256i first, __m256i second)
{
    const __m256i zero = _mm256_setzero_si256();

    return _mm256_or_si256(_mm256_cmpeq_epi32(first, zero), _mm256_cmpeq_epi32(second, zero));
}

/* The entries at four of eight places, a and b in the lower half. */
AVX2_INLINE __m256i load_four(const s2c_vector_entry *small, const uint16_t *places, int a, int b, int c, int d)
{
    __m128i low = _mm_loadl_epi64((const __m128i *)&small[places[a]]);
    __m128i high = _mm_loadl_epi64((const __m128i *)&small[places[c]]);

    low = _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(low), (const __m64 *)&small[places[b]]));
    high = _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(high), (const __m64 *)&small[places[d]]));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* Eight symbols of which some have no entry at hand, one by one. */
static s2c_status push_each(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, uint32_t lane)
{
    s2c_status status = S2C_OK;

    for (uint32_t k = 8; k-- && status == S2C_OK;)
        status = s2c_push_symbol(enc, symbols[k], indexes[k], lane + k);
    return status;
}

/* Whether a row's symbols are all zero. */
AVX2_INLINE int row_zero(const int16_t *symbols, int vectors)
{
    __m128i any = _mm_setzero_si128();

    for (int k = 0; k < vectors; k++)
        any = _mm_or_si128(any, _mm_loadu_si128((const __m128i *)(symbols + 8 * k)));
    return _mm_testz_si128(any, any);
}

AVX2_INLINE s2c_status push_rows(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, size_t count,
                                 int vectors)
{
    const s2c_tables *tables = enc->tables;
    const uint64_t addend = s2c_skip_addend(tables->skip_below);
    const __m128i inside = _mm_set1_epi16(S2C_SMALL - 1);
    uint16_t *word = enc->word;
    __m256i states[8];

    for (int k = 0; k < vectors; k++)
        states[k] = _mm256_loadu_si256((const __m256i *)(enc->states + 8 * k));
    for (size_t i = count; i;) {
        i -= 8 * (size_t)vectors;
        if (row_skipped(indexes + i, vectors, addend) && row_zero(symbols + i, vectors))
            continue;
        S2C_UNROLL
        for (int k = vectors; k--;) {
            const size_t at = i + 8 * (size_t)k;
            const __m128i symbol = _mm_add_epi16(_mm_loadu_si128((const __m128i *)(symbols + at)),
                                                 _mm_set1_epi16(S2C_SMALL_HALF));
            const __m128i index = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(indexes + at)));
            const __m128i place = _mm_or_si128(_mm_slli_epi16(index, 5), _mm_and_si128(symbol, inside));
            uint16_t places[8];
            _mm_storeu_si128((__m128i *)places, place);
            const __m256i first = load_four(tables->vector_small, places, 0, 1, 4, 5);
            const __m256i second = load_four(tables->vector_small, places, 2, 3, 6, 7);
            const __m256i missing = missing_entries(first, second);
            if (S2C_LIKELY(_mm_testz_si128(_mm_andnot_si128(inside, symbol), _mm_set1_epi16(-1)) &&
                           _mm256_testz_si256(missing, missing))) {
                states[k] = push8(tables, first, second, states[k], &word);
                continue;
            }
            _mm256_storeu_si256((__m256i *)(enc->states + 8 * k), states[k]);
            enc->word = word;
            s2c_status status = push_each(enc, symbols + at, indexes + at, 8 * (uint32_t)k);
            if (status != S2C_OK)
                return status;
            word = enc->word;
            states[k] = _mm256_loadu_si256((const __m256i *)(enc->states + 8 * k));
        }
    }
    for (int k = 0; k < vectors; k++)
        _mm256_storeu_si256((__m256i *)(enc->states + 8 * k), states[k]);
    enc->word = word;
    return S2C_OK;
}

AVX2 static s2c_status push_rows_any(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, size_t count)
{
    switch (enc->lanes_log2) {
    case 3: return push_rows(enc, symbols, indexes, count, 1);
    case 4: return push_rows(enc, symbols, indexes, count, 2);
    case 5: return push_rows(enc, symbols, indexes, count, 4);
    case 6: return push_rows(enc, symbols, indexes, count, 8);
    default: return s2c_scalar_kernels.push_rows(enc, symbols, indexes, count);
    }
}

const s2c_kernels s2c_avx2_kernels = {"avx2", push_rows_any, pop_rows_any};
#endif
