/* Rows eight lanes at a time: the same states, words and symbols as rows_scalar.c, whose invariant holds here too.
 *
 * A row's lanes want their words in the order of the lanes: vector by vector, so that within one only the lanes that
 * want a word have to be told apart, which a shuffle by their mask does (tables->spread, tables->squeeze). */
#include "internal.h"

#ifdef S2C_HAVE_AVX2
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,popcnt")))

/* Keeps the compiler from taking an array's elements out of registers one by one: loads are cheaper. */
#define S2C_OPAQUE(array) __asm__ volatile("" : "+m"(array))

/* Whether all indexes of a row are skipped, that is, at most `last`; never if no table is skipped (last is -1). */
AVX2_INLINE int row_skipped(const uint8_t *indexes, int vectors, __m128i last, int skips)
{
    __m128i same = _mm_set1_epi8(-1);

    if (!skips)
        return 0;
    if (vectors == 1) {
        const __m128i v = _mm_loadl_epi64((const __m128i *)indexes);
        return _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(v, last), v)) == 0xffff;
    }
    for (int k = 0; k < vectors; k += 2) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(indexes + 8 * k));
        same = _mm_and_si128(same, _mm_cmpeq_epi8(_mm_min_epu8(v, last), v));
    }
    return _mm_movemask_epi8(same) == 0xffff;
}

/* ---- decoding ---- */

/* The entry of the code at a place. */
AVX2_INLINE int load_entry(const s2c_tables *tables, uint64_t place)
{
    return (int)tables->dec_entries[tables->codes[place]];
}

/* Eight of them.  Loads by address beat the gather instruction, on AMD by far. */
AVX2_INLINE __m256i load_entries(const s2c_tables *tables, __m256i places)
{
    const __m128i low = _mm256_castsi256_si128(places), high = _mm256_extracti128_si256(places, 1);
    const uint64_t p0 = (uint64_t)_mm_cvtsi128_si64(low), p2 = (uint64_t)_mm_extract_epi64(low, 1);
    const uint64_t p4 = (uint64_t)_mm_cvtsi128_si64(high), p6 = (uint64_t)_mm_extract_epi64(high, 1);
    __m128i a = _mm_cvtsi32_si128(load_entry(tables, (uint32_t)p0));
    __m128i b = _mm_cvtsi32_si128(load_entry(tables, (uint32_t)p4));

    a = _mm_insert_epi32(a, load_entry(tables, p0 >> 32), 1);
    b = _mm_insert_epi32(b, load_entry(tables, p4 >> 32), 1);
    a = _mm_insert_epi32(a, load_entry(tables, (uint32_t)p2), 2);
    b = _mm_insert_epi32(b, load_entry(tables, (uint32_t)p6), 2);
    a = _mm_insert_epi32(a, load_entry(tables, p2 >> 32), 3);
    b = _mm_insert_epi32(b, load_entry(tables, p6 >> 32), 3);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* The places of eight slots: index << 12 | slot. */
AVX2_INLINE __m256i place_slots(const uint8_t *indexes, __m256i states)
{
    const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)indexes));
    return _mm256_or_si256(_mm256_slli_epi32(index, S2C_PRECISION),
                           _mm256_and_si256(states, _mm256_set1_epi32(S2C_TOTAL - 1)));
}

/* Eight states after a pop, before they take up words. */
AVX2_INLINE __m256i pop8(__m256i states, __m256i entries)
{
    const __m256i low12 = _mm256_set1_epi32(S2C_TOTAL - 1);
    const __m256i freq = _mm256_and_si256(_mm256_srli_epi32(entries, 12), _mm256_set1_epi32(8191));
    const __m256i offset = _mm256_sub_epi32(_mm256_and_si256(states, low12), _mm256_and_si256(entries, low12));
    return _mm256_add_epi32(_mm256_mullo_epi32(freq, _mm256_srli_epi32(states, S2C_PRECISION)), offset);
}

/* Gives words to those of eight states that want one.  Sixteen bytes are read at *word. */
AVX2_INLINE __m256i refill8(const s2c_tables *tables, __m256i x, const uint8_t **word)
{
    const __m256i wants = _mm256_cmpgt_epi32(_mm256_set1_epi32(S2C_STATE_MIN), x);
    const uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(wants));
    const __m128i words = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)*word),
                                           _mm_loadu_si128((const __m128i *)tables->spread[mask]));
    *word += 2 * (uint32_t)__builtin_popcount(mask);
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_cvtepu16_epi32(words)), wants);
}

/* The slow symbols of a row, in their order, for the bypass is a string. */
static s2c_status patch(s2c_stream *dec, const uint32_t *places, uint32_t count, int16_t *symbols)
{
    s2c_status status = S2C_OK;

    for (uint32_t k = 0; k < count && status == S2C_OK; k++)
        if (symbols[k] == S2C_SLOW)
            status = s2c_read_slow(dec, places[k] >> S2C_PRECISION, dec->tables->codes[places[k]], &symbols[k]);
    return status;
}

AVX2_INLINE size_t pop_rows(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols, int vectors)
{
    const s2c_tables *tables = dec->tables;
    const int skips = tables->skip_below > 0;
    const __m128i last = _mm_set1_epi8((char)(tables->skip_below - 1));
    const __m256i slow = _mm256_set1_epi16(S2C_SLOW);
    const uint8_t *word = dec->word;
    __m256i states[8], entries[8], places[8];
    size_t i = 0;

    for (int k = 0; k < vectors; k++)
        states[k] = _mm256_loadu_si256((const __m256i *)(dec->states + 8 * k));
    for (; i < count; i += 8 * (size_t)vectors) {
        if (row_skipped(indexes + i, vectors, last, skips)) {
            memset(symbols + i, 0, 16 * (size_t)vectors);
            continue;
        }
        if (S2C_UNLIKELY(dec->word_end - word < 16 * vectors))
            break;
        /* Step by step for the whole row, so that its loads are all on their way together. */
        S2C_UNROLL
        for (int k = 0; k < vectors; k++)
            places[k] = place_slots(indexes + i + 8 * k, states[k]);
        S2C_UNROLL
        for (int k = 0; k < vectors; k++)
            entries[k] = load_entries(tables, places[k]);
        S2C_UNROLL
        for (int k = 0; k < vectors; k++)
            states[k] = pop8(states[k], entries[k]);
        S2C_UNROLL
        for (int k = 0; k < vectors; k++)
            states[k] = refill8(tables, states[k], &word);
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

AVX2 static size_t pop_rows_any(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
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

/* Pushes eight entries onto eight states, unless one of them is missing: then nothing changes, and 0 is returned.
 * Words leave to before *word, where sixteen bytes are written. */
AVX2_INLINE int push8(const s2c_tables *tables, __m256i first, __m256i second, __m256i *states, uint16_t **word)
{
    /* first and second hold the entries 0 1 4 5 and 2 3 6 7: what in-lane shuffles put in order. */
    const __m256i info = _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second), 0xdd));
    const __m256i missing = _mm256_cmpeq_epi32(info, _mm256_setzero_si256());
    if (S2C_UNLIKELY(!_mm256_testz_si256(missing, missing)))
        return 0;
    const __m256i freq = _mm256_and_si256(info, _mm256_set1_epi32(8191));
    const __m256i start = _mm256_and_si256(_mm256_srli_epi32(info, 13), _mm256_set1_epi32(8191));

    const __m256i stays = _mm256_cmpgt_epi32(freq, _mm256_srli_epi32(*states, S2C_WORD_SHIFT));
    const uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(stays)) ^ 255;
    const __m256i low16 = _mm256_and_si256(*states, _mm256_set1_epi32(0xffff));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low16), _mm256_extracti128_si256(low16, 1));
    _mm_storeu_si128((__m128i *)(*word - 8),
                     _mm_shuffle_epi8(words, _mm_loadu_si128((const __m128i *)tables->squeeze[mask])));
    *word -= __builtin_popcount(mask);
    const __m256i x = _mm256_blendv_epi8(_mm256_srli_epi32(*states, 16), *states, stays);

    const __m256i even = _mm256_mul_epu32(_mm256_unpacklo_epi32(x, x), first);
    const __m256i odd = _mm256_mul_epu32(_mm256_unpackhi_epi32(x, x), second);
    const __m256i high = _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd), 0xdd));
    const __m256i quotient = _mm256_srlv_epi32(high, _mm256_srli_epi32(info, 26));
    const __m256i grow = _mm256_mullo_epi32(quotient, _mm256_sub_epi32(_mm256_set1_epi32(S2C_TOTAL), freq));
    *states = _mm256_add_epi32(_mm256_add_epi32(x, start), grow);
    return 1;
}

/* Four entries, a and b in the lower half. */
AVX2_INLINE __m256i load_four(const s2c_vector_entry *small, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    __m128 low = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)&small[a]));
    __m128 high = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)&small[c]));

    low = _mm_loadh_pi(low, (const __m64 *)&small[b]);
    high = _mm_loadh_pi(high, (const __m64 *)&small[d]);
    return _mm256_castps_si256(_mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1));
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

/* The places of a row's symbols among the small entries; returns whether all of them have one.  One that has none gets
 * a wrong one, which is there. */
AVX2_INLINE int place_row(const int16_t *symbols, const uint8_t *indexes, int vectors, uint16_t *places)
{
    const __m128i inside = _mm_set1_epi16(S2C_SMALL - 1);
    __m128i outside = _mm_setzero_si128();

    for (int k = 0; k < vectors; k++) {
        const __m128i symbol = _mm_add_epi16(_mm_loadu_si128((const __m128i *)(symbols + 8 * k)),
                                             _mm_set1_epi16(S2C_SMALL_HALF));
        const __m128i index = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(indexes + 8 * k)));
        outside = _mm_or_si128(outside, _mm_andnot_si128(inside, symbol));
        _mm_storeu_si128((__m128i *)(places + 8 * k),
                         _mm_or_si128(_mm_slli_epi16(index, S2C_SMALL_LOG2), _mm_and_si128(symbol, inside)));
    }
    return _mm_testz_si128(outside, outside);
}

/* Whether eight symbols lie among the small ones. */
AVX2_INLINE int all_small(const int16_t *symbols)
{
    const __m128i symbol = _mm_add_epi16(_mm_loadu_si128((const __m128i *)symbols), _mm_set1_epi16(S2C_SMALL_HALF));
    return _mm_testz_si128(symbol, _mm_set1_epi16(-(int16_t)S2C_SMALL));
}

AVX2_INLINE s2c_status push_rows(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, size_t count,
                                 int vectors)
{
    const s2c_vector_entry *small = enc->tables->vector_small;
    const int skips = enc->tables->skip_below > 0;
    const __m128i last = _mm_set1_epi8((char)(enc->tables->skip_below - 1));
    uint16_t *word = enc->word, places[S2C_MAX_LANES];
    __m256i states[8];

    for (int k = 0; k < vectors; k++)
        states[k] = _mm256_loadu_si256((const __m256i *)(enc->states + 8 * k));
    for (size_t i = count; i;) {
        i -= 8 * (size_t)vectors;
        if (row_skipped(indexes + i, vectors, last, skips) && row_zero(symbols + i, vectors))
            continue;
        const int placed = place_row(symbols + i, indexes + i, vectors, places);
        S2C_UNROLL
        for (int k = vectors; k--;) {
            const uint16_t *place = places + 8 * k;
            S2C_OPAQUE(places);
            const __m256i first = load_four(small, place[0], place[1], place[4], place[5]);
            const __m256i second = load_four(small, place[2], place[3], place[6], place[7]);
            const int usual = (placed || all_small(symbols + i + 8 * k)) &&
                              push8(enc->tables, first, second, &states[k], &word);
            if (S2C_LIKELY(usual))
                continue;
            _mm256_storeu_si256((__m256i *)(enc->states + 8 * k), states[k]);
            enc->word = word;
            s2c_status status = push_each(enc, symbols + i + 8 * k, indexes + i + 8 * k, 8 * (uint32_t)k);
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
