/* Mutated sections, as many as asked for: ./mutations COUNT [SEED]
 *
 * A section is a payload behind its CRC-32C, as in a stream.  Each mutation must be refused by the checksum, unless it
 * changed nothing: none is silent.  Then the same bytes go to the decoder without the checksum, which must refuse them
 * or return symbols whose encoding is just these bytes.  Built with the sanitizers, it shows that no byte out of bounds
 * is touched either. */
#define _POSIX_C_SOURCE 200112L /* setenv */
#include "s2c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                                                                \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

enum { TABLES = 4, COUNT = 900, SECTIONS = 7, MAX_SIZE = 2 * (8 * COUNT + 4096) };

static uint64_t seed = 1;

static uint32_t random_below(uint32_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) * limit >> 32);
}

typedef struct section {
    uint8_t bytes[MAX_SIZE];
    size_t size;
} section;

static uint8_t indexes[COUNT];
static int16_t symbols[COUNT], decoded[COUNT];
static section originals[SECTIONS], mutated, again;

static void make_original(const s2c_tables *tables, uint32_t lanes_log2, section *s)
{
    const s2c_encode_options options = {lanes_log2, 0, 1};
    const s2c_batch batch = {symbols, indexes, COUNT};

    REQUIRE(s2c_encode(tables, &options, &batch, 1, s->bytes, MAX_SIZE / 2, &s->size) == S2C_OK);
}

/* One of: some bits, some bytes, cut, a byte in or out, a run moved, noise to the end. */
static void mutate(section *s)
{
    const uint32_t size = (uint32_t)s->size, at = random_below(size), run = 1 + random_below(size - at);

    switch (random_below(6)) {
    case 0:
        for (uint32_t k = 1 + random_below(4); k--;)
            s->bytes[random_below(size)] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        for (uint32_t k = 1 + random_below(4); k--;)
            s->bytes[random_below(size)] = (uint8_t)random_below(256);
        break;
    case 2: s->size = at; break;
    case 3:
        memmove(s->bytes + at + 1, s->bytes + at, size - at);
        s->bytes[at] = (uint8_t)random_below(256);
        s->size++;
        break;
    case 4:
        memmove(s->bytes + at, s->bytes + at + run, size - at - run);
        s->size -= run;
        break;
    default:
        for (uint32_t k = at; k < size; k++)
            s->bytes[k] = (uint8_t)random_below(256);
    }
}

static s2c_status decode(const s2c_tables *tables, const section *s)
{
    uint8_t *exact = malloc(s->size ? s->size : 1);
    s2c_decoder *decoder = NULL;

    REQUIRE(exact != NULL);
    memcpy(exact, s->bytes, s->size);
    s2c_status status = s2c_decoder_create(tables, exact, s->size, &decoder);
    if (status == S2C_OK)
        status = s2c_decoder_read(decoder, indexes, COUNT, decoded);
    if (status == S2C_OK)
        status = s2c_decoder_finish(decoder);
    s2c_decoder_free(decoder);
    free(exact);
    return status;
}

int main(int argc, char **argv)
{
    static const uint16_t sizes[TABLES] = {2, 4, 6, 4};
    static const uint16_t freqs[] = {4095, 1, 3700, 200, 190, 6, 1600, 900, 900, 340, 340, 16, 2048, 1000, 1000, 48};
    static const int32_t centers[TABLES] = {0};
    static const uint8_t shifts[TABLES] = {0, 0, 0, 3};
    const unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    unsigned long silent = 0, same = 0, refused = 0, other = 0;
    s2c_tables *tables;

    if (argc > 2)
        seed = strtoul(argv[2], NULL, 10) * 2654435761u + 1;
    REQUIRE(s2c_tables_create(TABLES, sizes, freqs, centers, shifts, 1, &tables) == S2C_OK);
    for (size_t i = 0; i < COUNT; i++) {
        indexes[i] = (uint8_t)random_below(TABLES);
        const int spread = indexes[i] == 0 ? 0 : random_below(40) == 0 ? 300 : 2;
        symbols[i] = (int16_t)((int)random_below(2 * (uint32_t)spread + 1) - spread);
    }
    for (uint32_t k = 0; k < SECTIONS; k++)
        make_original(tables, k, &originals[k]);
    for (unsigned long n = 0; n < count; n++) {
        const section *original = &originals[n % SECTIONS];
        mutated = *original;
        mutate(&mutated);
        const int changed = mutated.size != original->size || memcmp(mutated.bytes, original->bytes, mutated.size) != 0;
        const int passes = s2c_crc32c(mutated.bytes, mutated.size, 0) == s2c_crc32c(original->bytes, original->size, 0);
        silent += changed && passes;
        same += !changed;
        if (decode(tables, &mutated) != S2C_OK) {
            REQUIRE(changed);
            refused++;
        } else if (changed) {
            const s2c_encode_options options = {mutated.size ? mutated.bytes[0] : 0, 0, 1};
            const s2c_batch batch = {decoded, indexes, COUNT};
            other++;
            if (options.lanes_log2 > S2C_MAX_LANES_LOG2)
                continue; /* parts, which need not agree on their lanes */
            REQUIRE(s2c_encode(tables, &options, &batch, 1, again.bytes, MAX_SIZE, &again.size) == S2C_OK);
            REQUIRE(again.size == mutated.size && memcmp(again.bytes, mutated.bytes, again.size) == 0);
        }
    }
    printf("%s: %lu mutated sections, %lu of them unchanged; past the checksum: %lu; "
           "the decoder alone: %lu refused, %lu valid for other symbols\n",
           s2c_tables_simd(tables), count, same, silent, refused, other);
    s2c_tables_free(tables);
    return silent != 0;
}
