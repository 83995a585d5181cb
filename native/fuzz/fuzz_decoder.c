/* libFuzzer: any bytes as a payload, decoded by the portable kernels and by the best that run here.
 *
 * Both must refuse them or both return the same symbols; and as a stream is the only spelling of its symbols, what is
 * accepted must encode to the same bytes again.  Input: a byte that chooses the batches' sizes, one that seeds the
 * indexes, the payload. */
#include "s2c.h"

#include <stdlib.h>
#include <string.h>

enum { BATCHES = 3, MAX_COUNT = 700, TABLES = 6 };

static s2c_tables *tables[2];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Skipped; tiny; wide and off center; at the end of the range; raw bits; nothing but escapes. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint16_t sizes[TABLES] = {2, 4, 8, 3, 4, 2};
    static const uint16_t freqs[] = {4095, 1,   4040, 32,   23,   1,    2250, 500,  375, 325, 275, 225,
                                     125,  21,  2048, 1024, 1024, 2048, 1024, 1000, 24,  1,   4095};
    static const int32_t centers[TABLES] = {0, 0, 7, -32767, 0, 3};
    static const uint8_t shifts[TABLES] = {0, 0, 0, 0, 5, 0};

    (void)argc, (void)argv;
    for (int k = 0; k < 2; k++) {
        if (setenv("S2C_SIMD", k ? "scalar" : "", 1) != 0 ||
            s2c_tables_create(TABLES, sizes, freqs, centers, shifts, 1, &tables[k]) != S2C_OK)
            abort();
    }
    return 0;
}

/* Decodes with tables[k]; every buffer is as large as it must be and not a byte larger. */
static s2c_status decode(int k, const uint8_t *payload, size_t size, const s2c_batch *batches, int16_t **symbols)
{
    s2c_decoder *decoder;
    s2c_status status = s2c_decoder_create(tables[k], payload, size, &decoder);

    if (status != S2C_OK)
        return status;
    for (int b = 0; b < BATCHES && status == S2C_OK; b++)
        status = s2c_decoder_read(decoder, batches[b].indexes, batches[b].count, symbols[b]);
    if (status == S2C_OK)
        status = s2c_decoder_finish(decoder);
    s2c_decoder_free(decoder);
    return status;
}

static void check_spelling(int k, const uint8_t *payload, size_t size, s2c_batch *batches, int16_t **symbols)
{
    const s2c_encode_options options = {payload[0], 0, 1};
    const size_t capacity = s2c_encode_bound(BATCHES * MAX_COUNT);
    uint8_t *again = malloc(capacity);
    size_t written;

    for (int b = 0; b < BATCHES; b++)
        batches[b].symbols = symbols[b];
    if (again == NULL || s2c_encode(tables[k], &options, batches, BATCHES, again, capacity, &written) != S2C_OK ||
        written != size || memcmp(again, payload, size) != 0)
        abort();
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    s2c_batch batches[BATCHES];
    int16_t *symbols[2][BATCHES];
    uint8_t *indexes[BATCHES];
    s2c_status status[2];

    if (size < 3)
        return 0;
    uint32_t seed = data[1];
    for (int b = 0; b < BATCHES; b++) {
        const size_t count = (size_t)data[0] * (size_t)(b + 1) * 37 % MAX_COUNT;
        indexes[b] = malloc(count ? count : 1);
        for (size_t i = 0; i < count; i++) {
            seed = seed * 1664525u + 1013904223u;
            indexes[b][i] = (uint8_t)((seed >> 24) % TABLES);
        }
        batches[b] = (s2c_batch){NULL, indexes[b], count};
        for (int k = 0; k < 2; k++)
            symbols[k][b] = malloc(count ? count * sizeof(int16_t) : 1);
    }
    for (int k = 0; k < 2; k++)
        status[k] = decode(k, data + 2, size - 2, batches, symbols[k]);
    if ((status[0] == S2C_OK) != (status[1] == S2C_OK))
        abort();
    for (int b = 0; b < BATCHES && status[0] == S2C_OK; b++)
        if (memcmp(symbols[0][b], symbols[1][b], batches[b].count * sizeof(int16_t)) != 0)
            abort();
    if (status[0] == S2C_OK && data[2] <= S2C_MAX_LANES_LOG2)
        check_spelling((int)(seed & 1), data + 2, size - 2, batches, symbols[0]);
    for (int b = 0; b < BATCHES; b++) {
        free(indexes[b]);
        free(symbols[0][b]);
        free(symbols[1][b]);
    }
    return 0;
}
