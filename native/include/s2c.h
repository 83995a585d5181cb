/* s2c.h - the entropy coder of s2c-deploy: public interface.
 *
 * C11 and C++, no dependency but libc and POSIX threads, no global state.  docs/entropy.md describes the formats.
 *
 * Symbols are int16_t in [-32767, 32767]; each has an index (uint8_t) that names its frequency table.  They come in
 * batches: a decoder usually learns the indexes of a batch only from the symbols of the batches before it.
 *
 * Threads: distinct objects may be used from distinct threads at the same time; one s2c_tables may be shared by any
 * number of them, for nothing ever writes to it after s2c_tables_create.
 */
#ifndef S2C_H
#define S2C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The interface: major * 1000 + minor.  The major number changes when a caller has to. */
#define S2C_VERSION 2000

#if defined(_WIN32)
#ifdef S2C_BUILDING
#define S2C_API __declspec(dllexport)
#else
#define S2C_API __declspec(dllimport)
#endif
#else
#define S2C_API __attribute__((visibility("default")))
#endif

#define S2C_PRECISION 12      /* the frequencies of a table sum to 1 << S2C_PRECISION */
#define S2C_MAX_TABLES 256    /* tables in a set */
#define S2C_MAX_SIZE 256      /* entries in a table, the escape included */
#define S2C_MAX_SHIFT 15      /* low bits of a symbol sent raw */
#define S2C_MAX_SYMBOL 32767  /* and the smallest symbol is its negative */
#define S2C_MAX_LANES_LOG2 6  /* at most 64 lanes */
#define S2C_MAX_PARTS_LOG2 3  /* at most 8 parts */
#define S2C_AUTO 255          /* let the encoder choose, from the size that it expects */

typedef enum s2c_status {
    S2C_OK = 0,
    /* The caller's arguments. */
    S2C_ERR_ARGUMENT = 1,     /* a null pointer, or a number out of its range */
    S2C_ERR_MEMORY = 2,       /* out of memory */
    S2C_ERR_CAPACITY = 3,     /* the output buffer is too small; *written tells the size needed */
    S2C_ERR_INDEX = 4,        /* an index that no table has */
    S2C_ERR_SYMBOL = 5,       /* a symbol of -32768 */
    S2C_ERR_SKIPPED = 6,      /* a symbol other than zero under an index that is skipped */
    S2C_ERR_SIMD = 7,         /* S2C_SIMD names no kernels, or some that this machine cannot run */
    /* The tables. */
    S2C_ERR_TABLE_SIZE = 16,  /* a table with fewer than 2 or more than 256 entries */
    S2C_ERR_TABLE_FREQ = 17,  /* a frequency of zero, or frequencies that do not sum to 4096 */
    S2C_ERR_TABLE_CENTER = 18,/* a center outside [-32767, 32767] */
    S2C_ERR_TABLE_SHIFT = 19, /* a shift above 15 */
    /* The payload. */
    S2C_ERR_LANES = 32,       /* the lane byte is above 6 */
    S2C_ERR_SPLIT = 33,       /* the split is cut off or overlong, or not where an encoder would put it */
    S2C_ERR_TRUNCATED = 34,   /* the payload ends inside the lane states */
    S2C_ERR_STATE = 35,       /* a lane state out of its range, or the long form of an empty payload */
    S2C_ERR_WORDS = 36,       /* more words are needed than there are */
    S2C_ERR_BYPASS = 37,      /* more bypass bits are needed than there are */
    S2C_ERR_RANGE = 38,       /* a decoded symbol outside [-32767, 32767] */
    S2C_ERR_BODY = 39,        /* words and bypass overlap, or bytes are left between them */
    S2C_ERR_FINAL_STATE = 40, /* a lane does not end in a state that an encoder starts from */
    S2C_ERR_PADDING = 41,     /* the unused bits of the last bypass byte are not zero */
    S2C_ERR_PARTS = 42        /* the number or the sizes of the parts are malformed, or all parts are empty */
} s2c_status;

/* One English sentence for a status, never NULL, valid for ever. */
S2C_API const char *s2c_strerror(s2c_status status);

/* S2C_VERSION of the library that is running, to be compared with the header's. */
S2C_API uint32_t s2c_version(void);

/* ---- frequency tables ------------------------------------------------------------------------------------ */

typedef struct s2c_tables s2c_tables;

/* Checks a set of tables and builds what coding needs.  Nothing of the arguments is kept.
 *   count       number of tables, 1..256
 *   sizes       [count] entries of each table, 2..256, the escape (the last entry) included
 *   freqs       [sum of sizes] frequencies, table after table; each >= 1, a table's sum 4096
 *   centers     [count] value of entry 0
 *   shifts      [count] low bits sent raw, 0..15
 *   skip_below  symbols whose index is below this are zero and never coded; 0..count
 *   out         receives the object; free it with s2c_tables_free */
S2C_API s2c_status s2c_tables_create(uint32_t count, const uint16_t *sizes, const uint16_t *freqs,
                                     const int32_t *centers, const uint8_t *shifts, uint32_t skip_below,
                                     s2c_tables **out);

/* The name of the kernels that code with these tables: "avx2" or "scalar".  They all give the same bytes.  The widest
 * that the machine can run is taken, unless the environment variable S2C_SIMD named another when they were made. */
S2C_API const char *s2c_tables_simd(const s2c_tables *tables);

/* Frees tables that no encoder or decoder uses any more.  NULL is allowed. */
S2C_API void s2c_tables_free(s2c_tables *tables);

/* ---- encoding -------------------------------------------------------------------------------------------- */

typedef struct s2c_batch {
    const int16_t *symbols; /* [count] */
    const uint8_t *indexes; /* [count] */
    size_t count;
} s2c_batch;

/* A capacity that is enough for any payload of so many symbols; SIZE_MAX if there is no such size. */
S2C_API size_t s2c_encode_bound(size_t symbol_count);

typedef struct s2c_encode_options {
    uint32_t lanes_log2; /* 0..6, or S2C_AUTO: symbols that a machine can work on at a time */
    uint32_t parts_log2; /* 0..3, or S2C_AUTO: streams that threads can work on at a time; one below some 170 kB */
    uint32_t threads;    /* 0 and 1: only the caller's.  The payload does not depend on it. */
} s2c_encode_options;

/* Encodes the batches, in order, into one payload of *written bytes.
 * Allocates two bytes per symbol while it runs (ten with more parts than one), of which it touches what it needs.
 * After S2C_ERR_CAPACITY *written is the size needed; after any error out holds nothing useful. */
S2C_API s2c_status s2c_encode(const s2c_tables *tables, const s2c_encode_options *options, const s2c_batch *batches,
                              size_t batch_count, uint8_t *out, size_t capacity, size_t *written);

/* ---- decoding -------------------------------------------------------------------------------------------- */

typedef struct s2c_decoder s2c_decoder;

/* Where a decoder stands; for messages and tests. */
typedef struct s2c_decoder_info {
    uint64_t body_bytes;       /* words and bypass together */
    uint64_t words_read;
    uint64_t bypass_bits_read;
    uint64_t symbols_read;     /* symbols of all batches read without error, skipped ones included */
    uint32_t lanes;            /* of the first part */
    uint32_t parts;
    uint32_t status;           /* the s2c_status that stopped it, or S2C_OK */
} s2c_decoder_info;

/* Makes a decoder of one payload.  tables and data must outlive its use; data is not copied.
 * The payload's head is checked here; a payload that fails leaves *out NULL. */
S2C_API s2c_status s2c_decoder_create(const s2c_tables *tables, const void *data, size_t size, s2c_decoder **out);

/* Points an existing decoder at another payload: no allocation. */
S2C_API s2c_status s2c_decoder_reset(s2c_decoder *decoder, const s2c_tables *tables, const void *data, size_t size);

/* How many threads s2c_decoder_read may use if the payload has parts and the batch is large: 0 and 1 mean only the
 * caller's, as after a reset. */
S2C_API void s2c_decoder_set_threads(s2c_decoder *decoder, uint32_t threads);

/* Decodes the next batch: count symbols for count indexes.  Batches must have the sizes that were encoded.
 * After an error the decoder stays in it: every later call returns the same status, until a reset. */
S2C_API s2c_status s2c_decoder_read(s2c_decoder *decoder, const uint8_t *indexes, size_t count, int16_t *symbols);

/* Checks that the payload ended exactly with the last symbol.  Symbols are to be trusted only after it. */
S2C_API s2c_status s2c_decoder_finish(s2c_decoder *decoder);

S2C_API void s2c_decoder_get_info(const s2c_decoder *decoder, s2c_decoder_info *info);

S2C_API void s2c_decoder_free(s2c_decoder *decoder);

/* ---- checksum -------------------------------------------------------------------------------------------- */

/* CRC-32C (Castagnoli, as in iSCSI) of size bytes, continuing from value: crc32c(b, crc32c(a, 0)) is the checksum
 * of a followed by b.  data may be NULL when size is 0. */
S2C_API uint32_t s2c_crc32c(const void *data, size_t size, uint32_t value);

#ifdef __cplusplus
}
#endif
#endif
