/* Frequency tables: checked once, then read-only. */
#include "internal.h"

#include <stdlib.h>

static s2c_status check_table(uint32_t size, const uint16_t *freqs, int32_t center, uint8_t shift)
{
    uint32_t sum = 0;

    for (uint32_t id = 0; id < size; id++) {
        if (freqs[id] == 0)
            return S2C_ERR_TABLE_FREQ;
        sum += freqs[id];
    }
    /* Two entries of at least 1 each: no frequency can be the whole, which would make a symbol cost nothing and
     * leave the state as it was, so that a payload could hold any number of them. */
    if (sum != S2C_TOTAL)
        return S2C_ERR_TABLE_FREQ;
    if (center < -S2C_MAX_SYMBOL || center > S2C_MAX_SYMBOL)
        return S2C_ERR_TABLE_CENTER;
    if (shift > S2C_MAX_SHIFT)
        return S2C_ERR_TABLE_SHIFT;
    return S2C_OK;
}

/* Checks everything, and counts the entries. */
static s2c_status check_tables(uint32_t count, const uint16_t *sizes, const uint16_t *freqs, const int32_t *centers,
                               const uint8_t *shifts, size_t *entries)
{
    *entries = 0;
    for (uint32_t t = 0; t < count; t++) {
        if (sizes[t] < 2 || sizes[t] > S2C_MAX_SIZE)
            return S2C_ERR_TABLE_SIZE;
        s2c_status status = check_table(sizes[t], freqs, centers[t], shifts[t]);
        if (status != S2C_OK)
            return status;
        freqs += sizes[t];
        *entries += sizes[t];
    }
    return S2C_OK;
}

static uint32_t floor_log2(uint32_t v)
{
    uint32_t log = 0;

    while (v >> (log + 1))
        log++;
    return log;
}

/* Division of a state by a frequency f is a product with r = ceil(2^43 / f), shifted down by 43.  It is exact: r * f =
 * 2^43 + e with e < f, so for x < f * 2^19 the product is too large by x * e / (f * 2^43) < 1 / f.  It stays below
 * 2^62 + 2^31. */
static s2c_enc_entry enc_entry(uint32_t freq, uint32_t start)
{
    const uint64_t reciprocal = (((uint64_t)1 << 43) + freq - 1) / freq;
    return (s2c_enc_entry){reciprocal, freq << S2C_WORD_SHIFT, (uint16_t)start, (uint16_t)(S2C_TOTAL - freq)};
}

/* The same in 32 bits: r = ceil(2^(32 + k) / f), k = floor(log2 f), shifted down by 32 + k.  Here e < f < 2^(k + 1), so
 * for x < 2^31 the product is too large by x * e / (f * 2^(32 + k)) < 1 / f.  r is below 2^32 unless f is a power of
 * two; then k - 1 does, with e = 0.  There is no k - 1 for f = 1: 2^32 - 1 gives x - 1 for x >= 1, and the start makes
 * up for the one that is missing. */
static s2c_vector_entry vector_entry(uint32_t freq, uint32_t start)
{
    uint32_t shift = floor_log2(freq);

    if (freq == 1)
        return (s2c_vector_entry){UINT32_MAX, freq | (start + S2C_TOTAL - 1) << 13};
    if ((freq & (freq - 1)) == 0)
        shift--;
    const uint64_t power = (uint64_t)1 << (32 + shift);
    return (s2c_vector_entry){(uint32_t)((power + freq - 1) / freq), freq | start << 13 | shift << 26};
}

static uint32_t dec_entry(int32_t symbol, uint32_t freq, uint32_t start)
{
    return (uint32_t)symbol << 25 | freq << 12 | start;
}

/* About 16 * log2(4096 / freq), linear between powers of two: only the choice of lanes rests on it. */
static uint8_t cost(uint32_t freq)
{
    const uint32_t whole = floor_log2(freq);

    return (uint8_t)(16 * (S2C_PRECISION - whole) - ((freq << 4 >> whole) & 15));
}

/* A skipped table: one symbol owns all slots, so that coding it leaves every state as it is. */
static void build_skipped(s2c_tables *tables, uint32_t t)
{
    tables->small[t * S2C_SMALL + S2C_SMALL_HALF] = enc_entry(S2C_TOTAL, 0);
    tables->vector_small[t * S2C_SMALL + S2C_SMALL_HALF] = vector_entry(S2C_TOTAL, 0);
    tables->dec_entries[tables->base[t]] = dec_entry(0, S2C_TOTAL, 0);
    for (uint32_t slot = 0; slot < S2C_TOTAL; slot++)
        tables->codes[t * S2C_TOTAL + slot] = (uint16_t)tables->base[t];
}

static void build_table(s2c_tables *tables, uint32_t t, const uint16_t *freqs)
{
    const uint32_t size = tables->sizes[t];
    uint32_t start = 0;

    for (uint32_t id = 0; id < size; id++) {
        const uint32_t code = tables->base[t] + id;
        const int32_t value = tables->centers[t] + s2c_unzigzag(id);
        const int plain = id < size - 1 && tables->shifts[t] == 0;
        const uint32_t place = (uint32_t)(value + S2C_SMALL_HALF);
        if (plain && place < S2C_SMALL) {
            tables->small[t * S2C_SMALL + place] = enc_entry(freqs[id], start);
            tables->vector_small[t * S2C_SMALL + place] = vector_entry(freqs[id], start);
        }
        tables->enc_entries[code] = enc_entry(freqs[id], start);
        tables->costs[code] = cost(freqs[id]);
        const int fits = plain && value > S2C_SLOW && value < -S2C_SLOW;
        tables->dec_entries[code] = dec_entry(fits ? value : S2C_SLOW, freqs[id], start);
        for (const uint32_t end = start + freqs[id]; start < end; start++)
            tables->codes[t * S2C_TOTAL + start] = (uint16_t)code;
    }
}

/* The shuffles of vector kernels; 128 and above stand for zero bytes. */
static void build_shuffles(s2c_tables *tables)
{
    for (uint32_t mask = 0; mask < 256; mask++) {
        uint32_t rank = 0, count = 0;
        for (uint32_t lane = 0; lane < 8; lane++)
            count += mask >> lane & 1;
        memset(tables->spread[mask], 128, 16);
        memset(tables->squeeze[mask], 128, 16);
        for (uint32_t lane = 0; lane < 8; lane++) {
            if (!(mask >> lane & 1))
                continue;
            for (uint32_t byte = 0; byte < 2; byte++) {
                tables->spread[mask][2 * lane + byte] = (uint8_t)(2 * rank + byte);
                tables->squeeze[mask][2 * (8 - count + rank) + byte] = (uint8_t)(2 * lane + byte);
            }
            rank++;
        }
    }
}

/* One allocation for all: the arrays in the order of their alignment. */
static s2c_tables *allocate(uint32_t count, size_t entries)
{
    const size_t slots = (size_t)count * S2C_TOTAL;
    s2c_tables *tables =
        calloc(1, sizeof *tables + slots * sizeof *tables->codes +
                      entries * (sizeof *tables->enc_entries + sizeof *tables->dec_entries + sizeof *tables->costs));
    if (tables == NULL)
        return NULL;
    tables->enc_entries = (s2c_enc_entry *)(tables + 1);
    tables->dec_entries = (uint32_t *)(tables->enc_entries + entries);
    tables->codes = (uint16_t *)(tables->dec_entries + entries);
    tables->costs = (uint8_t *)(tables->codes + slots);
    return tables;
}

s2c_status s2c_tables_create(uint32_t count, const uint16_t *sizes, const uint16_t *freqs, const int32_t *centers,
                             const uint8_t *shifts, uint32_t skip_below, s2c_tables **out)
{
    const s2c_kernels *kernels = s2c_choose_kernels();
    size_t entries;
    uint32_t base = 0;

    if (out == NULL)
        return S2C_ERR_ARGUMENT;
    *out = NULL;
    if (count == 0 || count > S2C_MAX_TABLES || skip_below > count || sizes == NULL || freqs == NULL ||
        centers == NULL || shifts == NULL)
        return S2C_ERR_ARGUMENT;
    if (kernels == NULL)
        return S2C_ERR_SIMD;
    s2c_status status = check_tables(count, sizes, freqs, centers, shifts, &entries);
    if (status != S2C_OK)
        return status;
    s2c_tables *tables = allocate(count, entries);
    if (tables == NULL)
        return S2C_ERR_MEMORY;
    build_shuffles(tables);
    tables->kernels = kernels;
    tables->count = count;
    tables->skip_below = skip_below;
    memcpy(tables->sizes, sizes, count * sizeof *sizes);
    memcpy(tables->centers, centers, count * sizeof *centers);
    memcpy(tables->shifts, shifts, count * sizeof *shifts);
    for (uint32_t t = 0; t < count; t++) {
        tables->base[t] = base;
        if (t < skip_below)
            build_skipped(tables, t);
        else
            build_table(tables, t, freqs);
        base += sizes[t];
        freqs += sizes[t];
    }
    *out = tables;
    return S2C_OK;
}

const char *s2c_tables_simd(const s2c_tables *tables)
{
    return tables == NULL ? "" : tables->kernels->name;
}

void s2c_tables_free(s2c_tables *tables)
{
    free(tables);
}
