/* A few jobs on a few threads, which are started for each call: nothing outlives it or is shared between calls. */
#include "internal.h"

#define MAX_THREADS 16

typedef struct worker {
    void (*run)(void *job);
    char *jobs;
    size_t size;
    uint32_t first, step, count;
} worker;

static void work(const worker *w)
{
    for (uint32_t k = w->first; k < w->count; k += w->step)
        w->run(w->jobs + k * w->size);
}

#ifdef _WIN32
void s2c_run(void (*run)(void *job), void *jobs, size_t size, uint32_t count, uint32_t threads)
{
    const worker w = {run, jobs, size, 0, 1, count};

    (void)threads;
    work(&w);
}
#else
#include <pthread.h>

static void *start(void *w)
{
    work(w);
    return NULL;
}

void s2c_run(void (*run)(void *job), void *jobs, size_t size, uint32_t count, uint32_t threads)
{
    worker workers[MAX_THREADS];
    pthread_t ids[MAX_THREADS];
    int started[MAX_THREADS] = {0};

    threads = threads < count ? threads : count;
    threads = threads < 1 ? 1 : threads < MAX_THREADS ? threads : MAX_THREADS;
    for (uint32_t t = 0; t < threads; t++)
        workers[t] = (worker){run, jobs, size, t, threads, count};
    for (uint32_t t = 1; t < threads; t++)
        started[t] = pthread_create(&ids[t], NULL, start, &workers[t]) == 0;
    work(&workers[0]);
    for (uint32_t t = 1; t < threads; t++) {
        if (started[t])
            pthread_join(ids[t], NULL);
        else
            work(&workers[t]); /* no thread to be had: here, then */
    }
}
#endif
