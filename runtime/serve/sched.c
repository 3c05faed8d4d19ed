/*
 * sched: a list under one mutex. Nothing here knows what a request means, or computes. Locks are
 * held for a few pointer moves only, so the reader thread never waits for a token.
 */
#include "runtime/serve/sched.h"

#include "base/mem.h"

#include <pthread.h>
#include <time.h>

struct sched {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct sched_request *first, **end; /* waiting */
    struct sched_request *running;
    int waiting, capacity;
    bool woken;
};

int sched_create(int capacity, struct sched **out, struct err *e)
{
    struct sched *s = mem_zalloc(sizeof *s);
    pthread_condattr_t attr;

    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a queue");
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->more, &attr);
    pthread_condattr_destroy(&attr);
    s->capacity = capacity;
    s->end = &s->first;
    *out = s;
    return 0;
}

static void request_destroy(struct sched_request *q)
{
    if (!q)
        return;
    mem_free(q->text);
    mem_free(q);
}

void sched_destroy(struct sched *s)
{
    if (!s)
        return;
    for (struct sched_request *q = s->first, *next; q; q = next) {
        next = q->next;
        request_destroy(q);
    }
    request_destroy(s->running);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

int sched_push(struct sched *s, uint64_t id, const char *text, size_t len, struct err *e)
{
    struct sched_request *q = mem_zalloc(sizeof *q);
    bool full;

    if (q)
        q->text = mem_strndup(text, len);
    if (!q || !q->text) {
        request_destroy(q);
        return err_set(e, ERR_MEMORY, "no memory for a request");
    }
    q->id = id;
    q->len = len;
    pthread_mutex_lock(&s->lock);
    full = s->waiting >= s->capacity;
    if (!full) {
        *s->end = q;
        s->end = &q->next;
        s->waiting++;
        pthread_cond_signal(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
    if (!full)
        return 0;
    request_destroy(q);
    return err_set(e, ERR_RETRY, "%d requests are waiting already", s->capacity);
}

struct sched_request *sched_take(struct sched *s, int64_t timeout_ms)
{
    struct timespec until;
    struct sched_request *q;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&s->lock);
    while (!s->first && !s->woken && !rc)
        rc = pthread_cond_timedwait(&s->more, &s->lock, &until);
    s->woken = false;
    q = s->first;
    if (q) {
        s->first = q->next;
        if (!s->first)
            s->end = &s->first;
        q->next = NULL;
        s->waiting--;
        s->running = q;
    }
    pthread_mutex_unlock(&s->lock);
    return q;
}

void sched_finish(struct sched *s, struct sched_request *q)
{
    pthread_mutex_lock(&s->lock);
    s->running = NULL;
    pthread_mutex_unlock(&s->lock);
    request_destroy(q);
}

void sched_cancel(struct sched *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    if (s->running && s->running->id == id)
        atomic_store(&s->running->cancelled, true);
    for (struct sched_request *q = s->first; q; q = q->next)
        if (q->id == id)
            atomic_store(&q->cancelled, true);
    pthread_mutex_unlock(&s->lock);
}

void sched_wake(struct sched *s)
{
    pthread_mutex_lock(&s->lock);
    s->woken = true;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}
