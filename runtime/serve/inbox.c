/*
 * inbox: two lists under one mutex. Nothing here knows what a request means, or computes. Locks are
 * held for a few pointer moves only, so the reader thread never waits for a token.
 */
#include "runtime/serve/inbox.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>

struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct inbox_request *first, **end; /* waiting */
    struct inbox_request *taken;
    char *list; /* or NULL */
    int waiting, capacity;
    bool woken;
};

int inbox_create(int capacity, struct inbox **out, struct err *e)
{
    struct inbox *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a queue");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    s->capacity = capacity;
    s->end = &s->first;
    *out = s;
    return 0;
}

static void request_destroy(struct inbox_request *q)
{
    if (!q)
        return;
    mem_free(q->text);
    mem_free(q);
}

static void list_destroy(struct inbox_request *first)
{
    for (struct inbox_request *q = first, *next; q; q = next) {
        next = q->next;
        request_destroy(q);
    }
}

void inbox_destroy(struct inbox *s)
{
    if (!s)
        return;
    list_destroy(s->first);
    list_destroy(s->taken);
    mem_free(s->list);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

int inbox_push(struct inbox *s, uint64_t id, const char *text, size_t len, struct err *e)
{
    struct inbox_request *q = mem_zalloc(sizeof *q);
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

struct inbox_request *inbox_take(struct inbox *s, int64_t timeout_ms)
{
    const struct timespec until = clock_after(timeout_ms);
    struct inbox_request *q;
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    while (!s->first && !s->woken && !rc)
        rc = pthread_cond_clockwait(&s->more, &s->lock, CLOCK_MONOTONIC, &until);
    s->woken = false;
    q = s->first;
    if (q) {
        s->first = q->next;
        if (!s->first)
            s->end = &s->first;
        s->waiting--;
        q->next = s->taken;
        s->taken = q;
    }
    pthread_mutex_unlock(&s->lock);
    return q;
}

void inbox_finish(struct inbox *s, struct inbox_request *q)
{
    pthread_mutex_lock(&s->lock);
    for (struct inbox_request **at = &s->taken; *at; at = &(*at)->next)
        if (*at == q) {
            *at = q->next;
            break;
        }
    pthread_mutex_unlock(&s->lock);
    request_destroy(q);
}

void inbox_cancel(struct inbox *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    struct inbox_request *const lists[] = {s->first, s->taken};
    for (int i = 0; i < 2; i++)
        for (struct inbox_request *q = lists[i]; q; q = q->next)
            if (q->id == id)
                atomic_store(&q->cancelled, true);
    pthread_mutex_unlock(&s->lock);
}

void inbox_wake(struct inbox *s)
{
    pthread_mutex_lock(&s->lock);
    s->woken = true;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}

int inbox_list(struct inbox *s, const char *text, size_t len, struct err *e)
{
    char *copy = mem_strndup(text, len);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for a list of adapters");
    pthread_mutex_lock(&s->lock);
    char *before = s->list;
    s->list = copy;
    s->woken = true;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    mem_free(before);
    return 0;
}

char *inbox_take_list(struct inbox *s)
{
    pthread_mutex_lock(&s->lock);
    char *list = s->list;
    s->list = NULL;
    pthread_mutex_unlock(&s->lock);
    return list;
}
