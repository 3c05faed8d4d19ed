/*
 * ckpt_saver: one thread, one order at a time, and a lock around what both sides look at. What
 * belongs to an order is the thread's from the moment it is given until it has ended.
 */
#include "runtime/ckpt/saver.h"

#include "api/limits.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

enum saver_order { SAVER_WRITE, SAVER_COMMIT };

struct ckpt_saver {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ckpt_memory memory;
    /* below the lock */
    bool idle;          /* no order is under way */
    bool ending, ended; /* the thread is to end; it has */
    /* the order, and what belongs to it */
    enum saver_order order;
    struct ckpt_writer *writer;
    int beside[CKPT_SAVER_BESIDE], beside_count;
    struct ckpt_generation generation;
    struct ckpt_state state;
    char path[LIMIT_PATH_BYTES];
    /* of the last one that ended */
    int rc;
    struct err why;
    char hash[17];
    int64_t bytes;
};

/* -- the thread -- */

static int write_part(struct ckpt_saver *s, struct err *e)
{
    for (int i = 0; i < s->beside_count; i++) {
        int rc = io_fsync(s->beside[i], e);
        if (rc) {
            ckpt_abandon(s->writer);
            return rc;
        }
    }
    return ckpt_finish(s->writer, s->hash, &s->bytes, e);
}

static int commit_generation(const struct ckpt_generation *g, struct err *e)
{
    return ckpt_commit(g->path, g->state, g->files, g->hashes, g->bytes, g->keep, e);
}

static void *run_orders(void *user)
{
    struct ckpt_saver *s = user;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->idle && !s->ending)
            pthread_cond_wait(&s->changed, &s->lock);
        if (s->idle)
            break;
        enum saver_order order = s->order;
        pthread_mutex_unlock(&s->lock);
        struct err why = {.code = ERR_NONE};
        int rc =
            order == SAVER_WRITE ? write_part(s, &why) : commit_generation(&s->generation, &why);
        pthread_mutex_lock(&s->lock);
        s->rc = rc;
        s->why = why;
        s->idle = true;
        pthread_cond_broadcast(&s->changed);
    }
    s->ended = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* -- its owner -- */

static void free_saver(struct ckpt_saver *s)
{
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->memory.at);
    mem_free(s);
}

int ckpt_saver_create(int64_t bytes, struct ckpt_saver **out, struct err *e)
{
    size_t size = ((size_t)bytes + HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE;
    struct ckpt_saver *s = mem_zalloc(sizeof *s);
    char *at = s && bytes >= 0 ? mem_aligned(HUGE_PAGE, size) : NULL;
    if (!at) {
        mem_free(s);
        return err_set(
            e, ERR_MEMORY, "no memory to hold %lld MiB of a checkpoint", (long long)(bytes >> 20));
    }
    madvise(at, size, MADV_HUGEPAGE); /* it is filled in a sweep while the training waits */
    s->idle = true;
    s->memory.at = at;
    s->memory.bytes = bytes;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    int failed = pthread_create(&s->thread, NULL, run_orders, s);
    if (failed) {
        free_saver(s);
        return err_sys(e, ERR_MEMORY, failed, "no thread to save checkpoints on");
    }
    *out = s;
    return 0;
}

/* Until it is so, for at most wait_ms; whether it is. The lock is held. */
static bool wait_until(struct ckpt_saver *s, const bool *so, int64_t wait_ms)
{
    const struct timespec until = clock_after(wait_ms);
    while (!*so && wait_ms > 0)
        if (pthread_cond_clockwait(&s->changed, &s->lock, CLOCK_MONOTONIC, &until))
            break;
    return *so;
}

void ckpt_saver_destroy(struct ckpt_saver *s)
{
    if (!s)
        return;
    atomic_store(&s->memory.stop, true);
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->changed);
    bool ended = wait_until(s, &s->ended, CKPT_SAVER_END_MS);
    pthread_mutex_unlock(&s->lock);
    if (!ended) {
        log_warn("a checkpoint that storage holds up is left behind");
        pthread_detach(s->thread);
        return;
    }
    pthread_join(s->thread, NULL);
    free_saver(s);
}

int ckpt_saver_begin(struct ckpt_saver *s, const char *path, int64_t step, int rank,
    struct ckpt_writer **out, struct err *e)
{
    assert(ckpt_saver_ended(s, 0));
    return ckpt_hold(path, step, rank, &s->memory, out, e);
}

static void give_order(struct ckpt_saver *s, enum saver_order order)
{
    pthread_mutex_lock(&s->lock);
    s->order = order;
    s->idle = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void ckpt_saver_write(
    struct ckpt_saver *s, struct ckpt_writer *w, const int beside[CKPT_SAVER_BESIDE], int count)
{
    assert(ckpt_saver_ended(s, 0) && count <= CKPT_SAVER_BESIDE);
    s->writer = w;
    s->beside_count = count;
    for (int i = 0; i < count; i++)
        s->beside[i] = beside[i];
    give_order(s, SAVER_WRITE);
}

void ckpt_saver_commit(struct ckpt_saver *s, const struct ckpt_generation *g)
{
    assert(ckpt_saver_ended(s, 0));
    s->generation = *g;
    s->state = *g->state;
    s->generation.state = &s->state;
    snprintf(s->path, sizeof s->path, "%s", g->path);
    s->generation.path = s->path;
    give_order(s, SAVER_COMMIT);
}

bool ckpt_saver_ended(struct ckpt_saver *s, int64_t wait_ms)
{
    pthread_mutex_lock(&s->lock);
    bool ended = wait_until(s, &s->idle, wait_ms);
    pthread_mutex_unlock(&s->lock);
    return ended;
}

int64_t ckpt_saver_written(const struct ckpt_saver *s)
{
    return atomic_load(&s->memory.written);
}

int ckpt_saver_result(const struct ckpt_saver *s, char hash[17], int64_t *bytes, struct err *e)
{
    if (s->rc) {
        if (e)
            *e = s->why;
        return s->rc;
    }
    memcpy(hash, s->hash, sizeof s->hash);
    *bytes = s->bytes;
    return 0;
}
