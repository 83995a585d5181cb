/* What the parts of the library share.  Nothing here is seen outside it. */
#ifndef S2C_INTERNAL_H
#define S2C_INTERNAL_H

#include "s2c.h"

#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define S2C_LIKELY(x) __builtin_expect(!!(x), 1)
#define S2C_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define S2C_INLINE static inline __attribute__((always_inline))
#else
#define S2C_LIKELY(x) (x)
#define S2C_UNLIKELY(x) (x)
#define S2C_INLINE static inline
#endif

/* Before a loop whose places are constant: gcc at -O3 still leaves it rolled on its own. */
#if defined(__clang__)
#define S2C_UNROLL _Pragma("clang loop unroll_count(8)")
#elif defined(__GNUC__)
#define S2C_UNROLL _Pragma("GCC unroll 8")
#else
#define S2C_UNROLL
#endif

/* Has the compiler keep a pointer as it is, where it would add up its parts again at every use. */
#if defined(__GNUC__) || defined(__clang__)
#define S2C_ONE_REGISTER(pointer) __asm__("" : "+r"(pointer))
#else
#define S2C_ONE_REGISTER(pointer) (void)0
#endif

#define S2C_TOTAL (1u << S2C_PRECISION)
#define S2C_STATE_MIN (1u << 15) /* states live in [2^15, 2^31) */
#define S2C_STATE_END (1u << 31)
#define S2C_WORD_SHIFT 19        /* a state of freq << 19 or more gives up a word before a push */
#define S2C_MAX_LANES (1u << S2C_MAX_LANES_LOG2)
#define S2C_WORD_SLACK 16u       /* words before the first one that a vector store may overwrite */
#define S2C_MAX_PARTS (1u << S2C_MAX_PARTS_LOG2)
#define S2C_PARTS_MARK 128u      /* in a payload's first byte: parts follow, not a stream */
#define S2C_THREAD_SYMBOLS 65536u
#define S2C_MAX_TAIL 2048u       /* coded symbols that lane 0 takes alone, at most */

/* An escape's Exp-Golomb prefix: zigzag(hi - center) + 1 is below 2^17 for every pair of int16 values. */
#define S2C_MAX_PREFIX 16u

/* ---- tables ---- */

/* What a push needs of one (table, id); rows_scalar.c has the arithmetic.  All zero: there is no such entry. */
typedef struct s2c_enc_entry {
    uint64_t reciprocal; /* ceil(2^43 / freq) */
    uint32_t limit;      /* freq << 19: states from here on give up a word first */
    uint16_t start;
    uint16_t complement; /* 4096 - freq */
} s2c_enc_entry;

/* The same for vectors of 32-bit numbers; tables.c has the arithmetic. */
typedef struct s2c_vector_entry {
    uint32_t reciprocal;
    uint32_t info; /* frequency (13 bits), start (13 bits from bit 13), shift (from bit 26) */
} s2c_vector_entry;

/* The symbols [-32, 32) of every index have an entry at hand, present or missing: one load. */
#define S2C_SMALL_LOG2 6
#define S2C_SMALL (1u << S2C_SMALL_LOG2)
#define S2C_SMALL_HALF 32

/* What a pop needs of one (table, id), in one number: from the top the symbol (7 bits, signed; S2C_SLOW: ask
 * s2c_read_slow), its frequency (13 bits) and its first slot (12 bits). */
#define S2C_SLOW (-64)

S2C_INLINE uint32_t s2c_dec_freq(uint32_t entry)
{
    return entry >> 12 & 8191;
}

S2C_INLINE uint32_t s2c_dec_start(uint32_t entry)
{
    return entry & 4095;
}

S2C_INLINE int32_t s2c_dec_symbol(uint32_t entry)
{
    return (int32_t)entry >> 25; /* arithmetic in every compiler there is, and checked by every test */
}

typedef struct s2c_kernels s2c_kernels;

struct s2c_tables {
    const s2c_kernels *kernels;
    uint32_t count;
    uint32_t skip_below;
    uint32_t base[S2C_MAX_TABLES]; /* the code of a table's id 0 */
    uint16_t sizes[S2C_MAX_TABLES];
    int32_t centers[S2C_MAX_TABLES];
    uint8_t shifts[S2C_MAX_TABLES];
    uint8_t spread[256][16];  /* byte shuffles: the next words of a string to the lanes of a mask; */
    uint8_t squeeze[256][16]; /* the words of the lanes of a mask to the end of a vector */
    s2c_enc_entry small[S2C_MAX_TABLES * S2C_SMALL]; /* those past count are missing */
    s2c_vector_entry vector_small[S2C_MAX_TABLES * S2C_SMALL];
    /* The rest lies in the same allocation. */
    s2c_enc_entry *enc_entries; /* [code]: all ids of all tables */
    uint32_t *dec_entries;      /* [code] */
    uint16_t *codes;            /* [index << 12 | slot].  Half the size of entries: networks run between two batches, so
                                 * each finds its tables out of the near caches. */
    uint8_t *costs;             /* [code]: about 16 * log2(4096 / freq), for estimates */
};

/* ---- coding ---- */

/* Bits put in front of one another: bytes[start..capacity) holds the later ones, pending the first few. */
typedef struct s2c_bit_stack {
    uint8_t *bytes;
    size_t start, capacity;
    uint32_t pending; /* the first bit lowest */
    uint32_t pending_count;
} s2c_bit_stack;

typedef struct s2c_encoder {
    const s2c_tables *tables;
    uint16_t *word; /* the first word so far; the next goes before it */
    uint32_t lanes_log2;
    size_t carried; /* words that other lanes started from */
    s2c_bit_stack bypass;
    uint32_t states[S2C_MAX_LANES];
} s2c_encoder;

/* A payload of one stream that is being read (decoder.c). */
typedef struct s2c_stream {
    const s2c_tables *tables;
    const uint8_t *word; /* the next word */
    const uint8_t *word_end;
    const uint8_t *body, *end; /* words from body on, bypass from end backward */
    const uint8_t *body_word;  /* where the words ended, once lane 0 is alone */
    uint64_t bypass_read;
    uint64_t position, split; /* symbols read; the first one that lane 0 takes alone */
    uint32_t lanes_log2;
    uint32_t grown; /* whether any state differed from the smallest at the start */
    int empty, in_tail, finished;
    uint32_t tail_coded; /* coded symbols of the tail so far, and what its first symbol was like */
    int split_coded, split_took_word;
    s2c_status status;
    uint32_t states[S2C_MAX_LANES];
    uint8_t carried[2 * S2C_MAX_LANES];
} s2c_stream;

/* Rows: the next 2^lanes_log2 symbols, one for every lane, and so on.  count is a multiple of the number of lanes. */
struct s2c_kernels {
    const char *name;
    /* Pushes count symbols, the last one first. */
    s2c_status (*push_rows)(s2c_encoder *enc, const int16_t *symbols, const uint8_t *indexes, size_t count);
    /* Pops symbols as long as the payload has words for all that it takes up together; returns how many are done.  An
     * error is left in dec->status. */
    size_t (*pop_rows)(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols);
};

/* The kernels that S2C_SIMD or the machine chooses; NULL if S2C_SIMD asks for some that are not to be had. */
const s2c_kernels *s2c_choose_kernels(void);

extern const s2c_kernels s2c_scalar_kernels;
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define S2C_HAVE_AVX2 1
extern const s2c_kernels s2c_avx2_kernels;
#endif

/* map.c.  An id's escape and raw bits go before those that enc->bypass has. */
s2c_status s2c_map(s2c_encoder *enc, int32_t symbol, uint32_t index, uint32_t *id);
size_t s2c_bypass_size(const s2c_bit_stack *stack);
void s2c_copy_bypass(const s2c_bit_stack *stack, uint8_t *end);
size_t s2c_estimate_size(const s2c_tables *tables, const s2c_batch *batches, size_t batch_count, size_t count);

/* One stream, from beginning to end: what s2c.h says of s2c_encode and s2c_decoder_*. */
s2c_status s2c_stream_encode(const s2c_tables *tables, uint32_t lanes_log2, const s2c_batch *batches,
                             size_t batch_count, uint8_t *out, size_t capacity, size_t *written);
s2c_status s2c_stream_open(s2c_stream *dec, const s2c_tables *tables, const uint8_t *data, size_t size);
s2c_status s2c_stream_read(s2c_stream *dec, const uint8_t *indexes, size_t count, int16_t *symbols);
s2c_status s2c_stream_finish(s2c_stream *dec);

/* LEB128 in its shortest form (decoder.c, encoder.c); 0 if there is none, or more than 9 bytes. */
int s2c_read_number(const uint8_t **p, const uint8_t *end, uint64_t *number);
uint8_t *s2c_put_number(uint8_t *out, uint64_t number);

/* Threads that wait for jobs (threads.c): at most `threads`, the caller's among them.  NULL, which is also what 0 and 1
 * give and what stands for a pool that could not be had, is the caller's thread alone. */
typedef struct s2c_pool s2c_pool;
s2c_pool *s2c_pool_create(uint32_t threads);
void s2c_pool_free(s2c_pool *pool);

/* Calls run(job) for each of `count` jobs of `size` bytes, in any order, and returns when all are done.  One caller at
 * a time. */
void s2c_pool_run(s2c_pool *pool, void (*run)(void *job), void *jobs, size_t size, uint32_t count);

/* One symbol of lane `lane`, by whatever way it needs (encoder.c, decoder.c). */
s2c_status s2c_push_symbol(s2c_encoder *enc, int32_t symbol, uint32_t index, uint32_t lane);
s2c_status s2c_read_slow(s2c_stream *dec, uint32_t index, uint32_t code, int16_t *symbol);

/* ---- small things ---- */

S2C_INLINE uint32_t s2c_zigzag(int32_t v)
{
    return ((uint32_t)v << 1) ^ (v < 0 ? UINT32_MAX : 0u);
}

S2C_INLINE int32_t s2c_unzigzag(uint32_t id)
{
    return (int32_t)(id >> 1) ^ -(int32_t)(id & 1);
}

S2C_INLINE uint32_t s2c_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

S2C_INLINE uint32_t s2c_load16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

/* Pushes a symbol that is there onto a state (rows_scalar.c has the arithmetic). */
S2C_INLINE uint32_t s2c_push(const s2c_enc_entry *entry, uint32_t x, uint16_t **word)
{
    if (x >= entry->limit) {
        *--*word = (uint16_t)x;
        x >>= 16;
    }
    return x + entry->start + (uint32_t)(x * entry->reciprocal >> 43) * entry->complement;
}

/* The addend with which s2c_all_skipped tests eight indexes at once; 0 if it cannot. */
S2C_INLINE uint64_t s2c_skip_addend(uint32_t skip_below)
{
    return skip_below > 0 && skip_below <= 128 ? (uint64_t)(128 - skip_below) * 0x0101010101010101u : UINT64_MAX;
}

/* Whether the eight indexes at p are all below skip_below.  A byte b < 128 reaches bit 7 by adding 128 - skip_below
 * exactly when b >= skip_below; a byte of 128 or more has bit 7 itself, so a carry out of it changes no answer.
 * (An addend of all ones, for skip_below 0 or above 128, would not work that way; callers ask for it first.) */
S2C_INLINE int s2c_all_skipped(const uint8_t *p, uint64_t addend)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return addend != UINT64_MAX && ((v | (v + addend)) & 0x8080808080808080u) == 0;
}

#endif
