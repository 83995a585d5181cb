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

/* Checks everything, and counts the entries of tables that are coded and the slots that need a look-up. */
static s2c_status check_tables(uint32_t count, const uint16_t *sizes, const uint16_t *freqs, const int32_t *centers,
                               const uint8_t *shifts, uint32_t skip_below, size_t *entries, size_t *slots)
{
    *entries = skip_below > 0;
    *slots = 0;
    for (uint32_t t = 0; t < count; t++) {
        if (sizes[t] < 2 || sizes[t] > S2C_MAX_SIZE)
            return S2C_ERR_TABLE_SIZE;
        s2c_status status = check_table(sizes[t], freqs, centers[t], shifts[t]);
        if (status != S2C_OK)
            return status;
        freqs += sizes[t];
        if (t >= skip_below) {
            *entries += sizes[t];
            *slots += S2C_TOTAL;
        }
    }
    return S2C_OK;
}

/* ceil(2^46 / freq); encoder.c proves that it divides every state it meets exactly. */
static uint64_t reciprocal(uint32_t freq)
{
    return (((uint64_t)1 << 46) + freq - 1) / freq;
}

/* About 16 * log2(16384 / freq), linear between powers of two: only the choice of lanes rests on it. */
static uint32_t cost(uint32_t freq)
{
    uint32_t whole = 0;

    while (freq >> (whole + 1))
        whole++;
    return 16 * (S2C_PRECISION - whole) - ((freq << 4 >> whole) & 15);
}

static void set_entry(s2c_tables *tables, uint32_t code, uint32_t freq, uint32_t start, int32_t value, int slow)
{
    tables->enc_entries[code].reciprocal = reciprocal(freq);
    tables->enc_entries[code].freq = (uint16_t)freq;
    tables->enc_entries[code].start = (uint16_t)start;
    tables->enc_entries[code].complement = (uint16_t)(S2C_TOTAL - freq);
    tables->enc_entries[code].cost = (uint16_t)cost(freq);
    tables->dec_entries[code].freq = (uint16_t)freq;
    tables->dec_entries[code].start = (uint16_t)start;
    tables->dec_entries[code].value = (int16_t)(slow ? 0 : value);
    tables->dec_entries[code].slow = (uint16_t)slow;
}

/* Builds table t from entry `code` and look-up position `slot` on. */
static void build_table(s2c_tables *tables, uint32_t t, const uint16_t *freqs, uint32_t code, uint32_t slot)
{
    const int32_t center = tables->centers[t];
    const uint32_t size = tables->sizes[t];
    uint32_t direct = tables->shifts[t] ? 0 : size - 1;
    uint32_t start = 0;

    for (uint32_t id = 0; id < size; id++) {
        int32_t value = center + s2c_unzigzag(id);
        int in_range = value >= -S2C_MAX_SYMBOL && value <= S2C_MAX_SYMBOL;
        if (id < size - 1 && !in_range)
            direct = 0; /* a center near the end of int16: no id of this table is worth a fast path */
        set_entry(tables, code + id, freqs[id], start, value, id == size - 1 || tables->shifts[t] || !in_range);
        start += freqs[id];
    }
    for (uint32_t id = 0; id < direct; id++) {
        const uint32_t place = (uint32_t)(center + s2c_unzigzag(id) + S2C_SMALL_HALF);
        if (place < S2C_SMALL)
            tables->small[t * S2C_SMALL + place] = tables->enc_entries[code + id];
    }
    tables->enc[t].center = center;
    tables->enc[t].code_base = (uint16_t)code;
    tables->enc[t].direct = (uint16_t)direct;

    const uint32_t zero_freq = direct && center == 0 ? freqs[0] : 0;
    tables->dec[t].zero_freq = (uint16_t)zero_freq;
    tables->dec[t].entry_base = (uint16_t)code;
    tables->dec[t].id_base = slot - zero_freq;
    uint8_t *ids = tables->ids + slot;
    for (uint32_t id = zero_freq ? 1 : 0; id < size; id++) {
        memset(ids, (int)id, freqs[id]);
        ids += freqs[id];
    }
}

s2c_status s2c_tables_create(uint32_t count, const uint16_t *sizes, const uint16_t *freqs, const int32_t *centers,
                             const uint8_t *shifts, uint32_t skip_below, s2c_tables **out)
{
    size_t entries, slots;

    if (out == NULL)
        return S2C_ERR_ARGUMENT;
    *out = NULL;
    if (count == 0 || count > S2C_MAX_TABLES || skip_below > count || sizes == NULL || freqs == NULL ||
        centers == NULL || shifts == NULL)
        return S2C_ERR_ARGUMENT;
    s2c_status status = check_tables(count, sizes, freqs, centers, shifts, skip_below, &entries, &slots);
    if (status != S2C_OK)
        return status;

    s2c_tables *tables = calloc(1, sizeof *tables + entries * (sizeof(s2c_enc_entry) + sizeof(s2c_dec_entry)) + slots);
    if (tables == NULL)
        return S2C_ERR_MEMORY;
    tables->enc_entries = (s2c_enc_entry *)(tables + 1);
    tables->dec_entries = (s2c_dec_entry *)(tables->enc_entries + entries);
    tables->ids = (uint8_t *)(tables->dec_entries + entries);
    tables->count = count;
    tables->skip_below = skip_below;
    memcpy(tables->sizes, sizes, count * sizeof *sizes);
    memcpy(tables->centers, centers, count * sizeof *centers);
    memcpy(tables->shifts, shifts, count * sizeof *shifts);

    uint32_t code = 0, slot = 0;
    if (skip_below > 0)
        set_entry(tables, code++, S2C_TOTAL, 0, 0, 0);
    for (uint32_t t = 0; t < count; t++) {
        if (t < skip_below) {
            tables->enc[t].direct = 1;
            tables->small[t * S2C_SMALL + S2C_SMALL_HALF] = tables->enc_entries[0];
            tables->dec[t].zero_freq = S2C_TOTAL;
        } else {
            build_table(tables, t, freqs, code, slot);
            code += sizes[t];
            slot += S2C_TOTAL - tables->dec[t].zero_freq;
        }
        freqs += sizes[t];
    }
    *out = tables;
    return S2C_OK;
}

void s2c_tables_free(s2c_tables *tables)
{
    free(tables);
}
