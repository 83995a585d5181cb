/* Two batches of symbols to bytes and back.
 *
 *   cc roundtrip.c $(pkg-config --cflags --libs s2c) -o roundtrip && ./roundtrip
 */
#include <s2c.h>

#include <stdio.h>
#include <string.h>

#define COUNT 1000

static int failed(const char *what, s2c_status status)
{
    fprintf(stderr, "%s: %s\n", what, s2c_strerror(status));
    return 1;
}

int main(void)
{
    /* Table 0: its symbols are zero and never coded.  Table 1: 0, -1, 1 and an escape for the others. */
    static const uint16_t sizes[2] = {2, 4}, freqs[6] = {4095, 1, 3000, 500, 500, 96};
    static const int32_t centers[2] = {0, 0};
    static const uint8_t shifts[2] = {0, 0};
    static const s2c_encode_options options = {S2C_AUTO, S2C_AUTO, 1};
    static int16_t symbols[2][COUNT], decoded[COUNT];
    static uint8_t indexes[2][COUNT], payload[16 * COUNT + 4096];
    s2c_tables *tables;
    s2c_decoder *decoder;
    size_t size;

    for (int i = 0; i < COUNT; i++) {
        indexes[0][i] = indexes[1][i] = i % 4 != 0;
        symbols[0][i] = (int16_t)(i % 4 == 1 ? i % 3 - 1 : 0);
        symbols[1][i] = (int16_t)(i % 400 == 1 ? -30000 + i : 0);
    }

    s2c_status status = s2c_tables_create(2, sizes, freqs, centers, shifts, 1, &tables);
    if (status != S2C_OK)
        return failed("tables", status);
    const s2c_batch batches[2] = {{symbols[0], indexes[0], COUNT}, {symbols[1], indexes[1], COUNT}};
    status = s2c_encode(tables, &options, batches, 2, payload, sizeof payload, &size);
    if (status != S2C_OK)
        return failed("encode", status);
    printf("%d symbols in %zu bytes, CRC-32C %08x, %s\n", 2 * COUNT, size, (unsigned)s2c_crc32c(payload, size, 0),
           s2c_tables_simd(tables));

    status = s2c_decoder_create(tables, payload, size, &decoder);
    if (status != S2C_OK)
        return failed("open", status);
    for (int b = 0; b < 2; b++) { /* the indexes of batch 1 may depend on the symbols of batch 0 */
        status = s2c_decoder_read(decoder, indexes[b], COUNT, decoded);
        if (status != S2C_OK)
            return failed("read", status);
        if (memcmp(decoded, symbols[b], sizeof decoded) != 0)
            return failed("compare", S2C_ERR_RANGE);
    }
    status = s2c_decoder_finish(decoder); /* only now are they to be trusted */
    if (status != S2C_OK)
        return failed("finish", status);
    s2c_decoder_free(decoder);
    s2c_tables_free(tables);
    puts("the same came back");
    return 0;
}
