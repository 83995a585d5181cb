/* What the encoder, the decoder and the tables share.  Nothing here is seen outside the library. */
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

/* Before a loop over a block: with the lanes' places constant, gcc at -O3 still leaves it rolled on its own. */
#if defined(__clang__)
#define S2C_UNROLL_BLOCK _Pragma("clang loop unroll_count(8)")
#elif defined(__GNUC__)
#define S2C_UNROLL_BLOCK _Pragma("GCC unroll 8")
#else
#define S2C_UNROLL_BLOCK
#endif

#define S2C_TOTAL (1u << S2C_PRECISION)
#define S2C_STATE_MIN (1u << 16) /* states live in [2^16, 2^32); encoders start here, decoders must end here */
#define S2C_MAX_LANES (1u << S2C_MAX_LANES_LOG2)
#define S2C_BLOCK 8u             /* symbols handled between two bounds checks */

/* An escape's Exp-Golomb prefix: zigzag(hi - center) + 1 is below 2^17 for every pair of int16 values. */
#define S2C_MAX_PREFIX 16u

/* The encoder's view of a table: how a symbol becomes a code, that is, the number of an s2c_enc_entry. */
typedef struct s2c_enc_table {
    int32_t center;
    uint16_t code_base;
    uint16_t direct; /* ids below this need nothing but code_base + id; all others take the slow path */
} s2c_enc_table;

/* One (table, id): see encoder.c for the arithmetic. */
typedef struct s2c_enc_entry {
    uint64_t reciprocal; /* ceil(2^46 / freq) */
    uint16_t freq;
    uint16_t start;
    uint16_t complement; /* 16384 - freq */
    uint16_t cost;       /* about 16 * log2(16384 / freq), for estimates */
} s2c_enc_entry;

/* The symbols [-8, 8) of every index, the missing ones included, have an entry at hand: one load instead of four
 * dependent ones.  An entry of frequency 0 stands for "ask enc[]". */
#define S2C_SMALL 16u
#define S2C_SMALL_HALF 8

/* The decoder's view of a table.  Slots below zero_freq are the symbol 0, with no look-up; a skipped table has
 * all of them, which makes decoding from it the identity on the state. */
typedef struct s2c_dec_table {
    uint16_t zero_freq;
    uint16_t entry_base;
    uint32_t id_base; /* ids[id_base + slot] for slot >= zero_freq (modulo 2^32) */
} s2c_dec_table;

typedef struct s2c_dec_entry {
    uint16_t freq;
    uint16_t start;
    int16_t value;
    uint16_t slow; /* escape, raw bits, or a value out of range: not settled by value alone */
} s2c_dec_entry;

struct s2c_tables {
    uint32_t count;
    uint32_t skip_below;
    s2c_enc_table enc[S2C_MAX_TABLES]; /* those past count send every symbol to the slow path */
    s2c_dec_table dec[S2C_MAX_TABLES];
    uint16_t sizes[S2C_MAX_TABLES];
    int32_t centers[S2C_MAX_TABLES];
    uint8_t shifts[S2C_MAX_TABLES];
    s2c_enc_entry small[S2C_MAX_TABLES * S2C_SMALL];
    /* The three below lie in the same allocation. */
    s2c_enc_entry *enc_entries; /* code 0 is the skipped symbol if skip_below > 0 */
    s2c_dec_entry *dec_entries;
    uint8_t *ids;
};

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

/* The addend with which s2c_all_skipped tests eight indexes at once; skip_below in 1..128. */
S2C_INLINE uint64_t s2c_skip_addend(uint32_t skip_below)
{
    return (uint64_t)(128 - skip_below) * 0x0101010101010101u;
}

/* Whether the eight indexes at p are all below skip_below.  A byte b < 128 reaches bit 7 by adding 128 - skip_below
 * exactly when b >= skip_below; a byte of 128 or more has bit 7 itself, so a carry out of it changes no answer. */
S2C_INLINE int s2c_all_skipped(const uint8_t *p, uint64_t addend)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return ((v | (v + addend)) & 0x8080808080808080u) == 0;
}

#endif
