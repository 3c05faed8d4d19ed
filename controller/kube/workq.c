/*
 * workq: a table of items; a binary heap of those whose time has not come, ordered by due time,
 * then by arrival; for each namespace a list of those that are due, in that order; and a ring of
 * the namespaces that may hand one out, in turn. An item exists while it waits, runs, or has
 * failures to remember; a namespace while it has items. The back-off has no jitter: keys are
 * independent, and determinism is worth more to the tests. Does not know what a key means.
 */
#include "controller/kube/workq.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SPACE_BYTES 256

struct space {                  /* a namespace */
    struct item *first, **tail; /* due */
    struct space *next;         /* in the ring */
    bool in_ring;
    int items, running;
    char name[];
};

struct item {
    const char *key; /* the table's copy */
    struct space *space;
    int64_t due_ms;
    uint64_t order;
    size_t place;      /* in the heap, from 1; 0: not there */
    struct item *next; /* in its namespace's list */
    bool due, running, removed;
    int64_t again_ms; /* running and added again: when; -1: not */
    int failures;
};

struct workq {
    struct workq_conf conf;
    struct table items, spaces;
    struct item **heap; /* from 1 */
    size_t count, cap, due_count;
    struct space *ring, **ring_tail;
    uint64_t arrivals;
};

int workq_create(const struct workq_conf *conf, struct workq **out, struct err *e)
{
    struct workq *q = mem_zalloc(sizeof *q);
    if (!q)
        return err_set(e, ERR_MEMORY, "no memory for the work queue");
    q->conf = *conf;
    q->ring_tail = &q->ring;
    *out = q;
    return 0;
}

void workq_destroy(struct workq *q)
{
    if (!q)
        return;
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&q->items, &at, &key, &v);)
        mem_free(v);
    for (size_t at = 0; table_next(&q->spaces, &at, &key, &v);)
        mem_free(v);
    table_done(&q->items);
    table_done(&q->spaces);
    mem_free(q->heap);
    mem_free(q);
}

/* -- the heap -- */

static bool is_earlier(const struct item *a, const struct item *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void put_at(struct workq *q, size_t place, struct item *it)
{
    q->heap[place] = it;
    it->place = place;
}

static void sift_up(struct workq *q, size_t i)
{
    struct item *it = q->heap[i];
    for (; i > 1 && is_earlier(it, q->heap[i / 2]); i /= 2)
        put_at(q, i, q->heap[i / 2]);
    put_at(q, i, it);
}

static void sift_down(struct workq *q, size_t i)
{
    struct item *it = q->heap[i];
    for (;;) {
        size_t child = i * 2;
        if (child > q->count)
            break;
        if (child < q->count && is_earlier(q->heap[child + 1], q->heap[child]))
            child++;
        if (!is_earlier(q->heap[child], it))
            break;
        put_at(q, i, q->heap[child]);
        i = child;
    }
    put_at(q, i, it);
}

static void leave_heap(struct workq *q, struct item *it)
{
    size_t place = it->place;
    struct item *last = q->heap[q->count--];
    it->place = 0;
    if (last == it)
        return;
    put_at(q, place, last);
    sift_up(q, place);
    sift_down(q, last->place);
}

/* Room for one more waiting item is made when the item is, so that workq_done cannot fail. */
static int reserve_heap(struct workq *q, struct err *e)
{
    if (q->items.count + 1 < q->cap)
        return 0;
    size_t cap = q->cap ? q->cap * 2 : 64;
    struct item **heap = mem_grow(q->heap, cap, sizeof *heap);
    if (!heap)
        return err_set(e, ERR_MEMORY, "no memory for the work queue");
    q->heap = heap;
    q->cap = cap;
    return 0;
}

static void wait_until(struct workq *q, struct item *it, int64_t due_ms)
{
    it->due_ms = due_ms;
    if (!it->place) {
        it->order = ++q->arrivals;
        put_at(q, ++q->count, it);
    }
    sift_up(q, it->place);
}

/* -- namespaces -- */

static void join_ring(struct workq *q, struct space *s)
{
    if (s->in_ring || !s->first || s->running >= q->conf.share)
        return;
    s->in_ring = true;
    s->next = NULL;
    *q->ring_tail = s;
    q->ring_tail = &s->next;
}

static void append_due(struct workq *q, struct item *it)
{
    struct space *s = it->space;
    it->due = true;
    it->next = NULL;
    *s->tail = it;
    s->tail = &it->next;
    q->due_count++;
    join_ring(q, s);
}

static struct item *shift_due(struct workq *q, struct space *s)
{
    struct item *it = s->first;
    s->first = it->next;
    if (!s->first)
        s->tail = &s->first;
    it->due = false;
    q->due_count--;
    return it;
}

/* What has come due goes to its namespace, in order. */
static void collect_due(struct workq *q)
{
    int64_t now = clock_ms();
    while (q->count && q->heap[1]->due_ms <= now) {
        struct item *it = q->heap[1];
        leave_heap(q, it);
        append_due(q, it);
    }
}

static struct space *space_of(struct workq *q, const char *key, struct err *e)
{
    char name[SPACE_BYTES];
    const char *slash = strchr(key, '/');
    snprintf(name, sizeof name, "%.*s", (int)(slash ? slash - key : 0), key);
    struct space *s = table_get(&q->spaces, name);
    if (s)
        return s;
    s = mem_zalloc(sizeof *s + strlen(name) + 1);
    if (!s) {
        err_set(e, ERR_MEMORY, "no memory for the work queue");
        return NULL;
    }
    memcpy(s->name, name, strlen(name) + 1);
    s->tail = &s->first;
    if (!table_put(&q->spaces, name, s, e))
        return s;
    mem_free(s);
    return NULL;
}

static void drop_space(struct workq *q, struct space *s)
{
    if (s->items || s->in_ring)
        return;
    table_remove(&q->spaces, s->name);
    mem_free(s);
}

/* -- items -- */

static struct item *find_or_make(struct workq *q, const char *key, struct err *e)
{
    struct item *it = table_get(&q->items, key);
    if (it)
        return it;
    struct space *s = reserve_heap(q, e) ? NULL : space_of(q, key, e);
    if (!s)
        return NULL;
    it = mem_zalloc(sizeof *it);
    if (!it || table_put(&q->items, key, it, e)) {
        mem_free(it);
        drop_space(q, s);
        err_set(e, ERR_MEMORY, "no memory for the work queue");
        return NULL;
    }
    it->again_ms = -1;
    it->space = s;
    s->items++;
    it->key = table_key(&q->items, key);
    return it;
}

static void drop_item(struct workq *q, struct item *it)
{
    struct space *s = it->space;
    table_remove(&q->items, it->key);
    mem_free(it);
    s->items--;
    drop_space(q, s);
}

int workq_add_after(struct workq *q, const char *key, int64_t delay_ms, struct err *e)
{
    int64_t due = clock_ms() + (delay_ms > 0 ? delay_ms : 0);
    struct item *it = find_or_make(q, key, e);
    if (!it)
        return -(int)ERR_MEMORY;
    it->removed = false;
    if (it->running) {
        if (it->again_ms < 0 || due < it->again_ms)
            it->again_ms = due;
    } else if (!it->due && (!it->place || (!it->failures && due < it->due_ms))) {
        /* News about a failing key does not shorten its back-off. */
        wait_until(q, it, due);
    }
    return 0;
}

int workq_add(struct workq *q, const char *key, struct err *e)
{
    return workq_add_after(q, key, 0, e);
}

void workq_forgive(struct workq *q, const char *key)
{
    struct item *it = table_get(&q->items, key);
    if (!it)
        return;
    if (it->failures && it->place)
        wait_until(q, it, clock_ms());
    it->failures = 0;
}

void workq_remove(struct workq *q, const char *key)
{
    struct item *it = table_get(&q->items, key);
    if (!it)
        return;
    it->again_ms = -1;
    it->failures = 0;
    it->removed = true;
    if (it->place) {
        leave_heap(q, it);
        drop_item(q, it);
    } /* else it is dropped at its turn, or when it is done */
}

const char *workq_take(struct workq *q)
{
    collect_due(q);
    while (q->ring) {
        struct space *s = q->ring;
        q->ring = s->next;
        if (!q->ring)
            q->ring_tail = &q->ring;
        s->in_ring = false;
        struct item *it = shift_due(q, s);
        if (it->removed) {
            join_ring(q, s);
            drop_item(q, it);
            continue;
        }
        it->running = true;
        s->running++;
        join_ring(q, s);
        return it->key;
    }
    return NULL;
}

int64_t workq_done(struct workq *q, const char *key, bool failed)
{
    struct item *it = table_get(&q->items, key);
    assert(it && it->running);
    int64_t again = it->again_ms, backoff = 0;
    it->running = false;
    it->again_ms = -1;
    it->space->running--;
    join_ring(q, it->space);
    if (failed && !it->removed) {
        int shift = it->failures < 16 ? it->failures : 16;
        it->failures++;
        backoff = q->conf.backoff_first_ms << shift;
        if (backoff > q->conf.backoff_last_ms)
            backoff = q->conf.backoff_last_ms;
        wait_until(q, it, clock_ms() + backoff);
        return backoff;
    }
    it->failures = 0;
    if (again >= 0)
        wait_until(q, it, again);
    else
        drop_item(q, it);
    return 0;
}

int64_t workq_next_ms(const struct workq *q)
{
    if (q->ring)
        return clock_ms();
    return q->count ? q->heap[1]->due_ms : -1;
}

size_t workq_waiting(const struct workq *q)
{
    return q->count + q->due_count;
}
