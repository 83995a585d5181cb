/* From symbols to ids, escapes and raw bits; and about how many bytes they will take. */
#include "internal.h"

#include <stdlib.h>

/* ---- bypass ---- */

static s2c_status grow(s2c_bit_stack *stack)
{
    const size_t capacity = stack->capacity ? 2 * stack->capacity : 1024;
    const size_t used = stack->capacity - stack->start;
    uint8_t *bytes = capacity > stack->capacity ? malloc(capacity) : NULL;

    if (bytes == NULL)
        return S2C_ERR_MEMORY;
    if (used)
        memcpy(bytes + capacity - used, stack->bytes + stack->start, used);
    free(stack->bytes);
    stack->bytes = bytes;
    stack->start = capacity - used;
    stack->capacity = capacity;
    return S2C_OK;
}

/* Puts the low `count` bits of `bits`, the lowest first, before all others; count <= 17, no bit set above them. */
static s2c_status put_bits(s2c_bit_stack *stack, uint32_t bits, uint32_t count)
{
    if (stack->start < 4) {
        s2c_status status = grow(stack);
        if (status != S2C_OK)
            return status;
    }
    stack->pending = stack->pending << count | bits;
    stack->pending_count += count;
    while (stack->pending_count >= 8) {
        stack->pending_count -= 8;
        stack->bytes[--stack->start] = (uint8_t)(stack->pending >> stack->pending_count);
    }
    stack->pending &= (1u << stack->pending_count) - 1;
    return S2C_OK;
}

size_t s2c_bypass_size(const s2c_bit_stack *stack)
{
    return stack->capacity - stack->start + (stack->pending_count > 0);
}

/* Writes all bits from the lowest bit of end[-1] on, bytes backward, which moves the whole bytes up by the pending
 * bits. */
void s2c_copy_bypass(const s2c_bit_stack *stack, uint8_t *end)
{
    uint32_t carry = stack->pending;

    for (size_t i = stack->start; i < stack->capacity; i++) {
        carry |= (uint32_t)stack->bytes[i] << stack->pending_count;
        *--end = (uint8_t)carry;
        carry >>= 8;
    }
    if (stack->pending_count)
        *--end = (uint8_t)carry;
}

/* Exp-Golomb of order 0: floor(log2(value + 1)) zeros, a one, then the bits of value + 1 below its highest. */
static s2c_status put_exp_golomb(s2c_bit_stack *stack, uint32_t value)
{
    uint32_t prefix = 0;

    while ((value + 1) >> (prefix + 1))
        prefix++;
    s2c_status status = put_bits(stack, value + 1 - (1u << prefix), prefix);
    return status != S2C_OK ? status : put_bits(stack, 1u << prefix, prefix + 1);
}

/* ---- from symbols to codes ---- */

/* zigzag(hi - center) of a symbol within the range, under a table that exists; its raw bits in *low. */
static uint32_t split(const s2c_tables *tables, int32_t symbol, uint32_t index, uint32_t *low)
{
    const uint32_t shift = tables->shifts[index];
    const int32_t half = shift ? 1 << (shift - 1) : 0;
    /* An arithmetic shift to the right, spelt so that C defines it for negative numbers too. */
    const int32_t hi = (int32_t)((uint32_t)(symbol + half + 65536) >> shift) - (65536 >> shift);

    *low = (uint32_t)(symbol + half - hi * (1 << shift));
    return s2c_zigzag(hi - tables->centers[index]);
}

/* The id of any symbol, its escape and raw bits put aside, or what is wrong with it. */
s2c_status s2c_map(s2c_encoder *enc, int32_t symbol, uint32_t index, uint32_t *id)
{
    const s2c_tables *tables = enc->tables;

    if (index >= tables->count)
        return S2C_ERR_INDEX;
    if (index < tables->skip_below)
        return S2C_ERR_SKIPPED;
    if (symbol < -S2C_MAX_SYMBOL)
        return S2C_ERR_SYMBOL;

    const uint32_t escape = tables->sizes[index] - 1u;
    uint32_t low;
    const uint32_t number = split(tables, symbol, index, &low);
    s2c_status status = S2C_OK;
    if (tables->shifts[index])
        status = put_bits(&enc->bypass, low, tables->shifts[index]);
    if (status == S2C_OK && number >= escape)
        status = put_exp_golomb(&enc->bypass, number - escape);
    *id = number < escape ? number : escape;
    return status;
}

/* ---- estimates ---- */

/* The expected cost of a symbol in 1/16 bit; whether it can be coded at all is not asked here. */
static uint32_t estimate_symbol(const s2c_tables *tables, int32_t symbol, uint32_t index)
{
    if (index >= tables->count || index < tables->skip_below)
        return 0;
    const uint32_t escape = tables->sizes[index] - 1u;
    uint32_t low;
    const uint32_t id = split(tables, symbol, index, &low);
    uint32_t bits = tables->shifts[index];
    for (uint32_t rest = id < escape ? 0 : id - escape + 1; rest; rest >>= 1)
        bits += 2;
    return 16 * bits + tables->costs[tables->base[index] + (id < escape ? id : escape)];
}

/* The payload's expected size in bytes, from about a thousand symbols at a prime distance, so that no layout of
 * channels or rows can hide the costly ones. */
size_t s2c_estimate_size(const s2c_tables *tables, const s2c_batch *batches, size_t batch_count, size_t count)
{
    const size_t step = count < 2048 ? 1 : count < 16384 ? 13 : count < 131072 ? 61 : count < 1048576 ? 251 : 1021;
    uint64_t cost = 0;

    for (size_t b = 0; b < batch_count; b++)
        for (size_t i = 0; i < batches[b].count; i += step)
            cost += estimate_symbol(tables, batches[b].symbols[i], batches[b].indexes[i]);
    return (size_t)(cost * step / 128);
}
