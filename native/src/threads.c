/* A pool: threads that take jobs side by side with the caller.  It belongs to one decoder or one call; nothing is shared
 * between pools. */
#include "internal.h"

#ifdef _WIN32
struct s2c_pool {
    int unused;
};

s2c_pool *s2c_pool_create(uint32_t threads)
{
    (void)threads;
    return NULL;
}

void s2c_pool_run(s2c_pool *pool, void (*run)(void *job), void *jobs, size_t size, uint32_t count)
{
    (void)pool;
    for (uint32_t k = 0; k < count; k++)
        run((char *)jobs + k * size);
}

void s2c_pool_free(s2c_pool *pool)
{
    (void)pool;
}
#else
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MAX_WORKERS 15
#define CLOSED UINT32_MAX
/* Batches follow each other closely unless a network runs between them.  Waking a thread that sleeps takes 50 to 200
 * microseconds, as long as decoding 100,000 symbols: a worker first looks about so long for the next round. */
#define SPINS 4000

/* INVARIANT: a round's jobs are described by run, jobs and size, which are written only while no job is left to take.
 * `ticket` is the round's number (high 32 bits) and how many jobs are left (low 32).  Whoever lowers it from (r, n) to
 * (r, n - 1) has job n - 1 of round r, and has read that round's description: had another round begun since the ticket
 * was read, its number would differ and the exchange would fail. */
struct s2c_pool {
    _Atomic uint64_t ticket;
    _Atomic uint32_t finished; /* jobs of this round that are done */
    _Atomic(void (*)(void *)) run;
    _Atomic(char *) jobs;
    _Atomic size_t size;
    pthread_mutex_t mutex; /* held to begin a round and to fall asleep, so that no waking is missed */
    pthread_cond_t wake;
    uint32_t workers;
    pthread_t ids[MAX_WORKERS];
};

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t round_of(uint64_t ticket)
{
    return (uint32_t)(ticket >> 32);
}

static void take_jobs(s2c_pool *pool)
{
    uint64_t ticket = atomic_load(&pool->ticket);

    while ((uint32_t)ticket) {
        void (*run)(void *) = atomic_load(&pool->run);
        char *jobs = atomic_load(&pool->jobs);
        const size_t size = atomic_load(&pool->size);
        if (atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1)) {
            run(jobs + ((uint32_t)ticket - 1) * size);
            atomic_fetch_add(&pool->finished, 1);
            ticket = atomic_load(&pool->ticket);
        }
    }
}

/* The ticket of a round other than `seen`. */
static uint64_t await_round(s2c_pool *pool, uint32_t seen)
{
    uint64_t ticket = atomic_load(&pool->ticket);

    for (int k = 0; k < SPINS && round_of(ticket) == seen; k++) {
        pause_briefly();
        ticket = atomic_load(&pool->ticket);
    }
    if (round_of(ticket) != seen)
        return ticket;
    pthread_mutex_lock(&pool->mutex);
    while (round_of(ticket = atomic_load(&pool->ticket)) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    return ticket;
}

static void *work(void *argument)
{
    s2c_pool *pool = argument;

    for (uint32_t seen = 0; (seen = round_of(await_round(pool, seen))) != CLOSED;)
        take_jobs(pool);
    return NULL;
}

static void begin_round(s2c_pool *pool, uint32_t round, uint32_t count)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->ticket, (uint64_t)round << 32 | count);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

s2c_pool *s2c_pool_create(uint32_t threads)
{
    s2c_pool *pool = threads > 1 ? calloc(1, sizeof *pool) : NULL;

    if (pool == NULL)
        return NULL;
    if (pthread_mutex_init(&pool->mutex, NULL) != 0) {
        free(pool);
        return NULL;
    }
    if (pthread_cond_init(&pool->wake, NULL) != 0) {
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
        return NULL;
    }
    while (pool->workers + 1 < threads && pool->workers < MAX_WORKERS &&
           pthread_create(&pool->ids[pool->workers], NULL, work, pool) == 0)
        pool->workers++;
    return pool;
}

void s2c_pool_run(s2c_pool *pool, void (*run)(void *job), void *jobs, size_t size, uint32_t count)
{
    if (pool == NULL) {
        for (uint32_t k = 0; k < count; k++)
            run((char *)jobs + k * size);
        return;
    }
    const uint32_t last = round_of(atomic_load(&pool->ticket));
    atomic_store(&pool->run, run);
    atomic_store(&pool->jobs, jobs);
    atomic_store(&pool->size, size);
    atomic_store(&pool->finished, 0);
    begin_round(pool, last + 1 == CLOSED ? 1 : last + 1, count);
    take_jobs(pool);
    for (int k = 0; atomic_load(&pool->finished) < count; k++) { /* what others have begun */
        if (k < SPINS)
            pause_briefly();
        else
            sched_yield();
    }
}

void s2c_pool_free(s2c_pool *pool)
{
    if (pool == NULL)
        return;
    begin_round(pool, CLOSED, 0);
    for (uint32_t k = 0; k < pool->workers; k++)
        pthread_join(pool->ids[k], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
#endif
