/* The C coder with no Python around it, meant to be built with the address and undefined-behaviour sanitizers.
 *
 * An entropy coder has no redundancy: a flipped bit may well spell other symbols.  So a damaged payload is given two
 * chances, as in a stream.  Behind the section's CRC-32C it must be refused every time.  Past it, straight into
 * the decoder, it must end in an error or in symbols whose encoding is that very payload (each payload is the only
 * spelling of its symbols), and must never touch a byte outside its buffers, which are as large as they must be and
 * not a byte larger. */
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

enum { TABLES = 6, BATCHES = 4 };

/* Skipped; tiny; wide and off center; at the end of the range; raw bits; nothing but escapes. */
static const uint16_t sizes[TABLES] = {2, 4, 8, 3, 4, 2};
static const uint16_t freqs[] = {4095, 1,    4040, 32,   23,   1,    2250, 500,  375,  325, 275, 225,
                                 125,  21,   2048, 1024, 1024, 2048, 1024, 1000, 24,   1,   4095};
static const int32_t centers[TABLES] = {0, 0, 7, -32767, 0, 3};
static const uint8_t shifts[TABLES] = {0, 0, 0, 0, 5, 0};

typedef struct payload {
    uint8_t *bytes;
    size_t size;
} payload;

static uint32_t seed = 12345;
static uint32_t threads = 1; /* that decode() uses */

static uint32_t random_below(uint32_t limit)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)seed * limit) >> 32);
}

static void *exactly(size_t size)
{
    void *p = malloc(size ? size : 1);
    REQUIRE(p != NULL);
    return p;
}

static s2c_tables *make_tables(void)
{
    s2c_tables *tables = NULL;
    REQUIRE(s2c_tables_create(TABLES, sizes, freqs, centers, shifts, 1, &tables) == S2C_OK);
    return tables;
}

static void make_batches(s2c_batch *batches, size_t scale)
{
    for (size_t b = 0; b < BATCHES; b++) {
        const size_t count = b == 1 ? 3 : scale + 5 * b;
        int16_t *symbols = exactly(count * sizeof *symbols);
        uint8_t *indexes = exactly(count);
        for (size_t i = 0; i < count; i++) {
            indexes[i] = (uint8_t)random_below(TABLES);
            int32_t spread = random_below(20) == 0 ? 32767 : 6;
            symbols[i] = (int16_t)((int32_t)random_below(2 * (uint32_t)spread + 1) - spread);
            if (indexes[i] == 0)
                symbols[i] = 0;
            else if (indexes[i] == 3 && random_below(2))
                symbols[i] = -32767;
        }
        batches[b] = (s2c_batch){symbols, indexes, count};
    }
}

static void free_batches(const s2c_batch *batches)
{
    for (size_t b = 0; b < BATCHES; b++) {
        free((void *)batches[b].symbols);
        free((void *)batches[b].indexes);
    }
}

static s2c_status encode_into(const s2c_tables *tables, uint32_t lanes_log2, uint32_t parts_log2,
                              const s2c_batch *batches, size_t batch_count, uint8_t *out, size_t capacity,
                              size_t *written)
{
    const s2c_encode_options options = {lanes_log2, parts_log2, 2};
    return s2c_encode(tables, &options, batches, batch_count, out, capacity, written);
}

/* Encodes twice: into a buffer by the bound, then into one of just the size that the first told. */
static payload encode_parts(const s2c_tables *tables, uint32_t lanes_log2, uint32_t parts_log2,
                            const s2c_batch *batches)
{
    payload result = {NULL, 0};
    size_t count = 0, needed = 0;

    for (size_t b = 0; b < BATCHES; b++)
        count += batches[b].count;
    const size_t bound = s2c_encode_bound(count);
    uint8_t *large = exactly(bound);
    REQUIRE(encode_into(tables, lanes_log2, parts_log2, batches, BATCHES, large, bound, &needed) == S2C_OK);
    result.bytes = exactly(needed);
    REQUIRE(encode_into(tables, lanes_log2, parts_log2, batches, BATCHES, result.bytes, needed, &result.size) ==
            S2C_OK);
    REQUIRE(result.size == needed && memcmp(large, result.bytes, needed) == 0);
    if (needed) {
        REQUIRE(encode_into(tables, lanes_log2, parts_log2, batches, BATCHES, large, needed - 1, &needed) ==
                S2C_ERR_CAPACITY);
        REQUIRE(needed == result.size);
    }
    free(large);
    return result;
}

static payload encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches)
{
    return encode_parts(tables, lanes_log2, 0, batches);
}

/* Decodes into fresh symbol arrays, which the caller frees even after an error. */
static s2c_status decode(const s2c_tables *tables, payload p, const s2c_batch *batches, s2c_batch *decoded)
{
    s2c_decoder *decoder = NULL;
    s2c_status status = s2c_decoder_create(tables, p.bytes, p.size, &decoder);

    REQUIRE((decoder != NULL) == (status == S2C_OK));
    s2c_decoder_set_threads(decoder, threads);
    for (size_t b = 0; b < BATCHES; b++) {
        int16_t *symbols = exactly(batches[b].count * sizeof *symbols);
        decoded[b] = (s2c_batch){symbols, batches[b].indexes, batches[b].count};
        if (status == S2C_OK)
            status = s2c_decoder_read(decoder, batches[b].indexes, batches[b].count, symbols);
    }
    if (status == S2C_OK)
        status = s2c_decoder_finish(decoder);
    if (decoder != NULL) {
        s2c_decoder_info info;
        s2c_decoder_get_info(decoder, &info);
        REQUIRE(info.status == (uint32_t)status);
        REQUIRE(2 * info.words_read <= info.body_bytes && info.bypass_bits_read <= 8 * info.body_bytes);
    }
    s2c_decoder_free(decoder);
    return status;
}

static void free_decoded(const s2c_batch *decoded)
{
    for (size_t b = 0; b < BATCHES; b++)
        free((void *)decoded[b].symbols);
}

static int same(const s2c_batch *a, const s2c_batch *b)
{
    for (size_t k = 0; k < BATCHES; k++)
        if (memcmp(a[k].symbols, b[k].symbols, a[k].count * sizeof(int16_t)) != 0)
            return 0;
    return 1;
}

/* One damaged payload, by the rule at the top of this file; returns whether the decoder alone refused it. */
static int check_hostile(const s2c_tables *tables, payload p, const s2c_batch *batches)
{
    s2c_batch decoded[BATCHES];
    s2c_status status = decode(tables, p, batches, decoded);

    REQUIRE(s2c_strerror(status) != NULL && strcmp(s2c_strerror(status), "unknown status") != 0);
    if (status == S2C_OK && p.size && p.bytes[0] < 128) { /* parts may differ in their lanes */
        payload again = encode(tables, p.bytes[0], decoded);
        REQUIRE(again.size == p.size && memcmp(again.bytes, p.bytes, p.size) == 0);
        free(again.bytes);
    }
    free_decoded(decoded);
    return status != S2C_OK;
}

static payload copy(payload p, size_t size)
{
    payload result = {exactly(size), size};
    memcpy(result.bytes, p.bytes, size < p.size ? size : p.size);
    return result;
}

static void test_round_trips(const s2c_tables *tables)
{
    for (uint32_t lanes = 0; lanes <= S2C_MAX_LANES_LOG2 + 1; lanes++) {
        for (size_t scale = 0; scale < 400; scale = 3 * scale + 1) {
            s2c_batch batches[BATCHES], decoded[BATCHES];
            make_batches(batches, scale);
            payload p = encode(tables, lanes > S2C_MAX_LANES_LOG2 ? S2C_AUTO : lanes, batches);
            REQUIRE(decode(tables, p, batches, decoded) == S2C_OK);
            REQUIRE(same(batches, decoded));
            free_decoded(decoded);
            free(p.bytes);
            free_batches(batches);
        }
    }
}

/* Large batches, so that threads do run (the thread sanitizer is told to watch); the payload does not show them. */
static void test_parts(const s2c_tables *tables)
{
    for (uint32_t parts = 1; parts <= S2C_MAX_PARTS_LOG2; parts++) {
        for (size_t scale = 0; scale < 100000; scale = 12 * scale + 50) {
            s2c_batch batches[BATCHES], decoded[BATCHES];
            make_batches(batches, scale);
            payload p = encode_parts(tables, S2C_AUTO, parts, batches);
            REQUIRE(p.bytes[0] == (128 | parts));
            for (threads = 1; threads <= 5; threads += 2) {
                REQUIRE(decode(tables, p, batches, decoded) == S2C_OK && same(batches, decoded));
                free_decoded(decoded);
            }
            free(p.bytes);
            free_batches(batches);
        }
    }
    threads = 1;
}

static void test_truncations_and_flips(const s2c_tables *tables)
{
    size_t refused = 0, tried = 0;

    for (uint32_t lanes = 0; lanes <= S2C_MAX_LANES_LOG2 + 1; lanes++) {
        s2c_batch batches[BATCHES];
        make_batches(batches, 120);
        payload p = lanes > S2C_MAX_LANES_LOG2 ? encode_parts(tables, 0, 2, batches) : encode(tables, lanes, batches);
        const uint32_t checksum = s2c_crc32c(p.bytes, p.size, 0);
        for (size_t size = 0; size < p.size; size++, tried++) {
            payload cut = copy(p, size);
            REQUIRE(s2c_crc32c(cut.bytes, cut.size, 0) != checksum);
            refused += (size_t)check_hostile(tables, cut, batches);
            free(cut.bytes);
        }
        for (size_t bit = 0; bit < 8 * p.size; bit++, tried++) {
            payload flipped = copy(p, p.size);
            flipped.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            REQUIRE(s2c_crc32c(flipped.bytes, flipped.size, 0) != checksum);
            refused += (size_t)check_hostile(tables, flipped, batches);
            free(flipped.bytes);
        }
        free(p.bytes);
        free_batches(batches);
    }
    printf("truncations and flips: %zu of %zu refused by the decoder alone\n", refused, tried);
    REQUIRE(refused > tried / 4);
}

/* Random bytes, half of them with a head that gets past the first checks. */
static void test_random_bytes(const s2c_tables *tables)
{
    s2c_batch batches[BATCHES];

    make_batches(batches, 60);
    for (int round = 0; round < 20000; round++) {
        payload p = {NULL, random_below(200)};
        p.bytes = exactly(p.size);
        for (size_t i = 0; i < p.size; i++)
            p.bytes[i] = (uint8_t)random_below(256);
        if (round % 2 && p.size > 6) {
            p.bytes[0] = (uint8_t)random_below(3);
            p.bytes[1] = (uint8_t)random_below((uint32_t)p.size / 2);
        }
        check_hostile(tables, p, batches);
        free(p.bytes);
    }
    free_batches(batches);
}

static void test_wrong_sizes_and_indexes(const s2c_tables *tables)
{
    s2c_batch batches[BATCHES], decoded[BATCHES];
    uint8_t bad[9] = {1, 1, 1, 1, 1, 1, 1, 1, TABLES};
    int16_t out[9];
    s2c_decoder *decoder = NULL;

    make_batches(batches, 300);
    payload p = encode(tables, 3, batches);
    batches[2].count -= 100;
    REQUIRE(decode(tables, p, batches, decoded) != S2C_OK);
    free_decoded(decoded);
    batches[2].count += 100;

    REQUIRE(s2c_decoder_create(tables, p.bytes, p.size, &decoder) == S2C_OK);
    REQUIRE(s2c_decoder_read(decoder, bad, 9, out) == S2C_ERR_INDEX);
    REQUIRE(s2c_decoder_finish(decoder) == S2C_ERR_INDEX);
    REQUIRE(s2c_decoder_reset(decoder, tables, p.bytes, p.size) == S2C_OK);
    for (size_t b = 0; b < BATCHES; b++) {
        int16_t *symbols = exactly(batches[b].count * sizeof *symbols);
        REQUIRE(s2c_decoder_read(decoder, batches[b].indexes, batches[b].count, symbols) == S2C_OK);
        REQUIRE(memcmp(symbols, batches[b].symbols, batches[b].count * sizeof *symbols) == 0);
        free(symbols);
    }
    REQUIRE(s2c_decoder_finish(decoder) == S2C_OK);
    s2c_decoder_free(decoder);
    free(p.bytes);
    free_batches(batches);
}

/* Symbols that take most of a word each, from payloads cut short: the rows that skip the check for words must stop in
 * time.  Table 5 gives 3 a single slot, so it costs 12 bits. */
static void test_missing_words(const s2c_tables *tables)
{
    enum { COUNT = 640, HEAD = 3 + 4 * 8 };
    int16_t symbols[COUNT], out[COUNT];
    uint8_t indexes[COUNT], full[2048];
    s2c_batch batch = {symbols, indexes, COUNT};
    size_t size;

    for (size_t i = 0; i < COUNT; i++) {
        symbols[i] = 3;
        indexes[i] = 5;
    }
    REQUIRE(encode_into(tables, 3, 0, &batch, 1, full, sizeof full, &size) == S2C_OK && size > COUNT);
    for (size_t cut = HEAD; cut < size; cut++) {
        const payload p = {exactly(cut), cut};
        s2c_decoder *decoder = NULL;
        memcpy(p.bytes, full, cut);
        REQUIRE(s2c_decoder_create(tables, p.bytes, p.size, &decoder) == S2C_OK);
        REQUIRE(s2c_decoder_read(decoder, indexes, COUNT, out) == S2C_ERR_WORDS);
        s2c_decoder_free(decoder);
        free(p.bytes);
    }
}

static s2c_status try_tables(uint32_t count, const uint16_t *size, const uint16_t *freq, int32_t center,
                             uint8_t shift, uint32_t skip_below)
{
    s2c_tables *tables = NULL;
    s2c_status status = s2c_tables_create(count, size, freq, &center, &shift, skip_below, &tables);

    REQUIRE((tables != NULL) == (status == S2C_OK));
    s2c_tables_free(tables);
    return status;
}

static void test_bad_tables(void)
{
    static const uint16_t two[] = {2}, one[] = {1}, many[] = {257}, freq[] = {4092, 4}, low[] = {4092, 3},
                          zero[] = {4096, 0};

    REQUIRE(try_tables(1, two, freq, 0, 0, 0) == S2C_OK);
    REQUIRE(try_tables(1, two, freq, 0, 0, 2) == S2C_ERR_ARGUMENT);
    REQUIRE(try_tables(0, two, freq, 0, 0, 0) == S2C_ERR_ARGUMENT);
    REQUIRE(try_tables(257, two, freq, 0, 0, 0) == S2C_ERR_ARGUMENT);
    REQUIRE(try_tables(1, NULL, freq, 0, 0, 0) == S2C_ERR_ARGUMENT);
    REQUIRE(try_tables(1, one, freq, 0, 0, 0) == S2C_ERR_TABLE_SIZE);
    REQUIRE(try_tables(1, many, freq, 0, 0, 0) == S2C_ERR_TABLE_SIZE);
    REQUIRE(try_tables(1, two, low, 0, 0, 0) == S2C_ERR_TABLE_FREQ);
    REQUIRE(try_tables(1, two, zero, 0, 0, 0) == S2C_ERR_TABLE_FREQ);
    REQUIRE(try_tables(1, two, freq, 32768, 0, 0) == S2C_ERR_TABLE_CENTER);
    REQUIRE(try_tables(1, two, freq, 0, 16, 0) == S2C_ERR_TABLE_SHIFT);
}

static void test_null_arguments(const s2c_tables *tables)
{
    s2c_batch batch = {NULL, NULL, 1};
    s2c_decoder *decoder = NULL;
    size_t written = 1;

    REQUIRE(s2c_encode(tables, NULL, NULL, 0, NULL, 0, &written) == S2C_ERR_ARGUMENT);
    REQUIRE(encode_into(NULL, 0, 0, NULL, 0, NULL, 0, &written) == S2C_ERR_ARGUMENT);
    REQUIRE(encode_into(tables, 0, 0, &batch, 1, NULL, 0, &written) == S2C_ERR_ARGUMENT);
    REQUIRE(encode_into(tables, 7, 0, NULL, 0, NULL, 0, &written) == S2C_ERR_ARGUMENT);
    REQUIRE(encode_into(tables, 0, 4, NULL, 0, NULL, 0, &written) == S2C_ERR_ARGUMENT);
    REQUIRE(encode_into(tables, 0, 0, NULL, 0, NULL, 0, NULL) == S2C_ERR_ARGUMENT);
    REQUIRE(encode_into(tables, 0, 0, NULL, 0, NULL, 0, &written) == S2C_OK && written == 0);
    REQUIRE(encode_into(tables, 0, 2, NULL, 0, NULL, 0, &written) == S2C_OK && written == 0);
    REQUIRE(s2c_decoder_create(tables, NULL, 1, &decoder) == S2C_ERR_ARGUMENT && decoder == NULL);
    REQUIRE(s2c_decoder_create(NULL, "", 0, &decoder) == S2C_ERR_ARGUMENT && decoder == NULL);
    REQUIRE(s2c_decoder_create(tables, NULL, 0, &decoder) == S2C_OK);
    REQUIRE(s2c_decoder_read(decoder, NULL, 0, NULL) == S2C_OK);
    REQUIRE(s2c_decoder_read(decoder, NULL, 1, NULL) == S2C_ERR_ARGUMENT);
    REQUIRE(s2c_decoder_finish(decoder) == S2C_OK);
    s2c_decoder_free(decoder);
    s2c_decoder_free(NULL);
    s2c_tables_free(NULL);
    REQUIRE(s2c_encode_bound(SIZE_MAX) == SIZE_MAX);
    REQUIRE(s2c_crc32c(NULL, 0, 7) == 7);
    REQUIRE(s2c_version() == S2C_VERSION);
}

/* All kernels that run here give the same bytes, and read them. */
static void test_kernels_agree(const s2c_tables *tables, const s2c_tables *portable)
{
    for (uint32_t lanes = 0; lanes <= S2C_MAX_LANES_LOG2 + 1; lanes++) {
        for (size_t scale = 30; scale < 20000; scale = 3 * scale + 1) {
            const uint32_t lanes_log2 = lanes > S2C_MAX_LANES_LOG2 ? S2C_AUTO : lanes;
            s2c_batch batches[BATCHES], decoded[BATCHES];
            make_batches(batches, scale);
            payload p = encode(tables, lanes_log2, batches), q = encode(portable, lanes_log2, batches);
            REQUIRE(p.size == q.size && memcmp(p.bytes, q.bytes, p.size) == 0);
            REQUIRE(decode(tables, p, batches, decoded) == S2C_OK && same(batches, decoded));
            free_decoded(decoded);
            REQUIRE(decode(portable, p, batches, decoded) == S2C_OK && same(batches, decoded));
            free_decoded(decoded);
            free(p.bytes);
            free(q.bytes);
            free_batches(batches);
        }
    }
}

static void test_payloads(const s2c_tables *tables)
{
    test_round_trips(tables);
    test_parts(tables);
    test_truncations_and_flips(tables);
    test_random_bytes(tables);
    test_wrong_sizes_and_indexes(tables);
    test_missing_words(tables);
    test_null_arguments(tables);
}

static void test_everything(const s2c_tables *tables, const s2c_tables *portable)
{
    test_payloads(tables);
    test_payloads(portable);
    test_kernels_agree(tables, portable);
    test_bad_tables();
    REQUIRE(setenv("S2C_SIMD", "mmx", 1) == 0);
    static const uint16_t two[] = {2}, freq[] = {4092, 4};
    REQUIRE(try_tables(1, two, freq, 0, 0, 0) == S2C_ERR_SIMD);
}

/*
 * The kernels that S2C_SIMD names, then the portable ones; S2C_SIMD is read whenever tables are made.
 * With the argument "threads" only what runs in threads: the sanitizer that watches them is slow.
 */
int main(int argc, char **argv)
{
    s2c_tables *tables = make_tables();
    REQUIRE(setenv("S2C_SIMD", "scalar", 1) == 0);
    s2c_tables *portable = make_tables();

    printf("kernels: %s\n", s2c_tables_simd(tables));
    REQUIRE(strcmp(s2c_tables_simd(portable), "scalar") == 0);
    if (argc > 1 && strcmp(argv[1], "threads") == 0) {
        test_parts(tables);
        test_parts(portable);
    } else {
        test_everything(tables, portable);
    }
    s2c_tables_free(tables);
    s2c_tables_free(portable);
    puts("ok");
    return 0;
}
