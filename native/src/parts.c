/* A payload as a whole: one stream, or several ("parts") that threads can code side by side.
 *
 * Each part holds its share of every batch: the batch is cut into as many runs of nearly the same length. */
#include "internal.h"

#include <stdlib.h>

struct s2c_decoder {
    const s2c_tables *tables;
    uint32_t parts_log2;
    s2c_pool *pool;
    s2c_status status; /* of the payload's head, before there are streams */
    s2c_stream streams[S2C_MAX_PARTS];
};

/* Where part `part` of a batch begins: at a multiple of the largest number of lanes, so that all rows are whole. */
static size_t part_start(size_t count, uint32_t part, uint32_t parts_log2)
{
    const size_t share = (count >> parts_log2) & ~((size_t)S2C_MAX_LANES - 1);

    return part >> parts_log2 ? count : part * share;
}

/* ---- encoding ---- */

typedef struct encode_job {
    const s2c_tables *tables;
    uint32_t lanes_log2;
    s2c_batch *batches;
    size_t batch_count;
    uint8_t *out;
    size_t capacity, written;
    s2c_status status;
} encode_job;

static void run_encode(void *job)
{
    encode_job *j = job;

    j->status =
        s2c_stream_encode(j->tables, j->lanes_log2, j->batches, j->batch_count, j->out, j->capacity, &j->written);
}

/* A part costs some 42 bytes: as many as cost at most 0.025 % of what the payload is expected to take. */
static uint32_t choose_parts(size_t size)
{
    uint32_t parts_log2 = 3;

    while (parts_log2 && 42 * (((size_t)1 << parts_log2) - 1) > size / 4000)
        parts_log2--;
    return parts_log2;
}

/* The share of each batch, and room for what it may take. */
static s2c_status prepare(encode_job *job, const s2c_batch *batches, uint32_t part, uint32_t parts_log2)
{
    size_t count = 0;

    job->batches = malloc((job->batch_count ? job->batch_count : 1) * sizeof *job->batches);
    if (job->batches == NULL)
        return S2C_ERR_MEMORY;
    for (size_t b = 0; b < job->batch_count; b++) {
        const size_t first = part_start(batches[b].count, part, parts_log2);
        const size_t share = part_start(batches[b].count, part + 1, parts_log2) - first;
        job->batches[b] = (s2c_batch){batches[b].symbols ? batches[b].symbols + first : NULL,
                                      batches[b].indexes ? batches[b].indexes + first : NULL, share};
        count += share;
    }
    job->capacity = s2c_encode_bound(count);
    job->out = malloc(job->capacity);
    return job->out == NULL ? S2C_ERR_MEMORY : S2C_OK;
}

/* The sizes of all parts but the last, then the parts; nothing at all if all are empty. */
static s2c_status join(const encode_job *jobs, uint32_t parts_log2, uint8_t *out, size_t capacity, size_t *written)
{
    const uint32_t parts = 1u << parts_log2;
    uint8_t head[1 + 9 * S2C_MAX_PARTS] = {(uint8_t)(S2C_PARTS_MARK | parts_log2)}, *p = head + 1;
    size_t total = 0;

    for (uint32_t k = 0; k < parts; k++) {
        if (k + 1 < parts)
            p = s2c_put_number(p, jobs[k].written);
        total += jobs[k].written;
    }
    if (total == 0)
        return S2C_OK;
    *written = (size_t)(p - head) + total;
    if (*written > capacity)
        return S2C_ERR_CAPACITY;
    memcpy(out, head, (size_t)(p - head));
    out += p - head;
    for (uint32_t k = 0; k < parts; k++) {
        memcpy(out, jobs[k].out, jobs[k].written);
        out += jobs[k].written;
    }
    return S2C_OK;
}

static s2c_status encode_parts(const s2c_tables *tables, const s2c_encode_options *options, uint32_t parts_log2,
                               const s2c_batch *batches, size_t batch_count, uint8_t *out, size_t capacity,
                               size_t *written)
{
    encode_job jobs[S2C_MAX_PARTS] = {{0}};
    const uint32_t parts = 1u << parts_log2;
    s2c_status status = S2C_OK;

    for (uint32_t k = 0; k < parts && status == S2C_OK; k++) {
        jobs[k].tables = tables;
        jobs[k].lanes_log2 = options->lanes_log2;
        jobs[k].batch_count = batch_count;
        status = prepare(&jobs[k], batches, k, parts_log2);
    }
    if (status == S2C_OK) {
        s2c_pool *pool = s2c_pool_create(options->threads < parts ? options->threads : parts);
        s2c_pool_run(pool, run_encode, jobs, sizeof *jobs, parts);
        s2c_pool_free(pool);
    }
    for (uint32_t k = 0; k < parts && status == S2C_OK; k++)
        status = jobs[k].status;
    if (status == S2C_OK)
        status = join(jobs, parts_log2, out, capacity, written);
    for (uint32_t k = 0; k < parts; k++) {
        free(jobs[k].batches);
        free(jobs[k].out);
    }
    return status;
}

size_t s2c_encode_bound(size_t symbol_count)
{
    /* A symbol takes at most one word, an escape of 2 * 16 + 1 bits and 15 raw ones: 8 bytes.  A part's head is below
     * 272 bytes, its size below 10. */
    const size_t heads = (272 + 10) * S2C_MAX_PARTS;

    return symbol_count > (SIZE_MAX - heads) / 8 ? SIZE_MAX : heads + 8 * symbol_count;
}

s2c_status s2c_encode(const s2c_tables *tables, const s2c_encode_options *options, const s2c_batch *batches,
                      size_t batch_count, uint8_t *out, size_t capacity, size_t *written)
{
    size_t count = 0;

    if (written == NULL)
        return S2C_ERR_ARGUMENT;
    *written = 0;
    if (tables == NULL || options == NULL || (batches == NULL && batch_count) || (out == NULL && capacity) ||
        (options->lanes_log2 > S2C_MAX_LANES_LOG2 && options->lanes_log2 != S2C_AUTO) ||
        (options->parts_log2 > S2C_MAX_PARTS_LOG2 && options->parts_log2 != S2C_AUTO))
        return S2C_ERR_ARGUMENT;
    for (size_t b = 0; b < batch_count; b++) {
        if ((batches[b].symbols == NULL || batches[b].indexes == NULL) && batches[b].count)
            return S2C_ERR_ARGUMENT;
        if (batches[b].count > SIZE_MAX / 16 - count)
            return S2C_ERR_ARGUMENT;
        count += batches[b].count;
    }
    uint32_t parts_log2 = options->parts_log2;
    if (parts_log2 == S2C_AUTO) /* a symbol is a byte at most, but for outliers: small batches need no estimate */
        parts_log2 = count < 65536 ? 0 : choose_parts(s2c_estimate_size(tables, batches, batch_count, count));
    if (parts_log2 == 0)
        return s2c_stream_encode(tables, options->lanes_log2, batches, batch_count, out, capacity, written);
    return encode_parts(tables, options, parts_log2, batches, batch_count, out, capacity, written);
}

/* ---- decoding ---- */

/* The sizes of the parts, at least one of which is not empty. */
static s2c_status open_parts(s2c_decoder *dec, const uint8_t *p, size_t size)
{
    const uint8_t *end = p + size;
    uint64_t sizes[S2C_MAX_PARTS], total = 0;

    dec->parts_log2 = *p++ & 127;
    if (dec->parts_log2 == 0 || dec->parts_log2 > S2C_MAX_PARTS_LOG2) {
        dec->parts_log2 = 0;
        return S2C_ERR_PARTS;
    }
    const uint32_t last = (1u << dec->parts_log2) - 1;
    for (uint32_t k = 0; k < last; k++) {
        if (!s2c_read_number(&p, end, &sizes[k]) || sizes[k] > SIZE_MAX / 16)
            return S2C_ERR_PARTS;
        total += sizes[k];
    }
    if (total > (uint64_t)(end - p) || p == end)
        return S2C_ERR_PARTS;
    sizes[last] = (uint64_t)(end - p) - total;
    s2c_status status = S2C_OK;
    for (uint32_t k = 0; k <= last && status == S2C_OK; k++) {
        status = s2c_stream_open(&dec->streams[k], dec->tables, p, (size_t)sizes[k]);
        p += sizes[k];
    }
    return status;
}

s2c_status s2c_decoder_reset(s2c_decoder *dec, const s2c_tables *tables, const void *data, size_t size)
{
    if (dec == NULL)
        return S2C_ERR_ARGUMENT;
    s2c_pool_free(dec->pool);
    memset(dec, 0, sizeof *dec);
    dec->status = S2C_ERR_ARGUMENT;
    if (tables == NULL || (data == NULL && size))
        return S2C_ERR_ARGUMENT;
    dec->tables = tables;
    if (size && *(const uint8_t *)data & S2C_PARTS_MARK)
        dec->status = open_parts(dec, data, size);
    else
        dec->status = s2c_stream_open(&dec->streams[0], tables, data, size);
    return dec->status;
}

s2c_status s2c_decoder_create(const s2c_tables *tables, const void *data, size_t size, s2c_decoder **out)
{
    if (out == NULL)
        return S2C_ERR_ARGUMENT;
    *out = NULL;
    s2c_decoder *dec = calloc(1, sizeof *dec);
    if (dec == NULL)
        return S2C_ERR_MEMORY;
    s2c_status status = s2c_decoder_reset(dec, tables, data, size);
    if (status != S2C_OK)
        free(dec);
    else
        *out = dec;
    return status;
}

void s2c_decoder_set_threads(s2c_decoder *dec, uint32_t threads)
{
    if (dec == NULL)
        return;
    const uint32_t parts = 1u << dec->parts_log2;
    s2c_pool_free(dec->pool);
    dec->pool = s2c_pool_create(threads < parts ? threads : parts);
}

typedef struct read_job {
    s2c_stream *stream;
    const uint8_t *indexes;
    int16_t *symbols;
    size_t count;
} read_job;

static void run_read(void *job)
{
    const read_job *j = job;

    s2c_stream_read(j->stream, j->indexes, j->count, j->symbols);
}

/* The first stream's error, if there is any. */
static s2c_status find_error(s2c_decoder *dec)
{
    for (uint32_t k = 0; k < 1u << dec->parts_log2 && dec->status == S2C_OK; k++)
        dec->status = dec->streams[k].status;
    return dec->status;
}

s2c_status s2c_decoder_read(s2c_decoder *dec, const uint8_t *indexes, size_t count, int16_t *symbols)
{
    if (dec == NULL)
        return S2C_ERR_ARGUMENT;
    if (dec->status != S2C_OK)
        return dec->status;
    if (count && (indexes == NULL || symbols == NULL || dec->streams[0].finished))
        return S2C_ERR_ARGUMENT;
    if (count == 0)
        return S2C_OK;
    const uint32_t parts = 1u << dec->parts_log2;
    read_job jobs[S2C_MAX_PARTS];
    for (uint32_t k = 0; k < parts; k++) {
        const size_t first = part_start(count, k, dec->parts_log2);
        jobs[k] = (read_job){&dec->streams[k], indexes + first, symbols + first,
                             part_start(count, k + 1, dec->parts_log2) - first};
    }
    /* Below some ten thousand symbols a thread takes longer to wake than to work. */
    s2c_pool_run(count < S2C_THREAD_SYMBOLS ? NULL : dec->pool, run_read, jobs, sizeof *jobs, parts);
    return find_error(dec);
}

s2c_status s2c_decoder_finish(s2c_decoder *dec)
{
    if (dec == NULL)
        return S2C_ERR_ARGUMENT;
    for (uint32_t k = 0; k < 1u << dec->parts_log2 && dec->status == S2C_OK; k++)
        dec->status = s2c_stream_finish(&dec->streams[k]);
    return dec->status;
}

void s2c_decoder_get_info(const s2c_decoder *dec, s2c_decoder_info *info)
{
    if (info == NULL)
        return;
    memset(info, 0, sizeof *info);
    if (dec == NULL)
        return;
    info->parts = 1u << dec->parts_log2;
    info->lanes = 1u << dec->streams[0].lanes_log2;
    info->status = dec->status;
    for (uint32_t k = 0; k < info->parts; k++) {
        const s2c_stream *stream = &dec->streams[k];
        info->body_bytes += (uint64_t)(stream->end - stream->body);
        info->words_read += (uint64_t)((stream->in_tail ? stream->body_word : stream->word) - stream->body) / 2;
        info->bypass_bits_read += stream->bypass_read;
        info->symbols_read += stream->position;
    }
}

void s2c_decoder_free(s2c_decoder *dec)
{
    if (dec == NULL)
        return;
    s2c_pool_free(dec->pool);
    free(dec);
}
