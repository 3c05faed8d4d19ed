/*
 * workq: a table of items and a binary heap of those that wait, ordered by due time, then by
 * arrival. An item exists while it waits, runs, or has failures to remember. The back-off has no
 * jitter: keys are independent, and determinism is worth more to the tests. Called by main; does
 * not know what a key means.
 */
#include "controller/workq.h"

#include "base/clock.h"
#include "base/mem.h"
#include "controller/table.h"

#include <assert.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS  60000

struct item {
	const char *key; /* the table's copy */
	int64_t due_ms;
	uint64_t order;
	size_t place;     /* in the heap, from 1; 0: does not wait */
	int64_t again_ms; /* running and added again: when; -1: not */
	bool running;
	int failures;
};

struct workq {
	struct table items;
	struct item **heap; /* from 1 */
	size_t count, cap;
	uint64_t arrivals;
};

int workq_create(struct workq **out, struct err *e)
{
	struct workq *q = mem_zalloc(sizeof *q);
	if (!q)
		return err_set(e, ERR_MEMORY, "no memory for the work queue");
	*out = q;
	return 0;
}

void workq_destroy(struct workq *q)
{
	if (!q)
		return;
	const char *key;
	void *item;
	for (size_t at = 0; table_next(&q->items, &at, &key, &item);)
		mem_free(item);
	table_done(&q->items);
	mem_free(q->heap);
	mem_free(q);
}

static bool earlier(const struct item *a, const struct item *b)
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
	for (; i > 1 && earlier(it, q->heap[i / 2]); i /= 2)
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
		if (child < q->count && earlier(q->heap[child + 1], q->heap[child]))
			child++;
		if (!earlier(q->heap[child], it))
			break;
		put_at(q, i, q->heap[child]);
		i = child;
	}
	put_at(q, i, it);
}

/* Room for one more waiting item is made when the item is, so that workq_done cannot fail. */
static int reserve(struct workq *q, struct err *e)
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

static struct item *find_or_make(struct workq *q, const char *key, struct err *e)
{
	struct item *it = table_get(&q->items, key);
	if (it)
		return it;
	if (reserve(q, e))
		return NULL;
	it = mem_zalloc(sizeof *it);
	if (!it) {
		err_set(e, ERR_MEMORY, "no memory for the work queue");
		return NULL;
	}
	it->again_ms = -1;
	if (table_put(&q->items, key, it, e)) {
		mem_free(it);
		return NULL;
	}
	it->key = table_key(&q->items, key);
	return it;
}

int workq_add_after(struct workq *q, const char *key, int64_t delay_ms, struct err *e)
{
	int64_t due = clock_ms() + (delay_ms > 0 ? delay_ms : 0);
	struct item *it = find_or_make(q, key, e);
	if (!it)
		return -(int)ERR_MEMORY;
	if (it->running) {
		if (it->again_ms < 0 || due < it->again_ms)
			it->again_ms = due;
	} else if (!it->place || (!it->failures && due < it->due_ms)) {
		/* News about a failing key does not shorten its back-off. */
		wait_until(q, it, due);
	}
	return 0;
}

int workq_add(struct workq *q, const char *key, struct err *e)
{
	return workq_add_after(q, key, 0, e);
}

const char *workq_take(struct workq *q)
{
	if (!q->count || q->heap[1]->due_ms > clock_ms())
		return NULL;
	struct item *it = q->heap[1], *last = q->heap[q->count--];
	it->place = 0;
	if (last != it) {
		put_at(q, 1, last);
		sift_down(q, 1);
	}
	it->running = true;
	return it->key;
}

int64_t workq_done(struct workq *q, const char *key, int failed)
{
	struct item *it = table_get(&q->items, key);
	assert(it && it->running);
	int64_t again = it->again_ms, backoff = 0;
	it->running = false;
	it->again_ms = -1;
	if (failed) {
		int shift = it->failures < 16 ? it->failures : 16;
		it->failures++;
		backoff = (int64_t)BACKOFF_FIRST_MS << shift;
		if (backoff > BACKOFF_LAST_MS)
			backoff = BACKOFF_LAST_MS;
		wait_until(q, it, clock_ms() + backoff);
		return backoff;
	}
	it->failures = 0;
	if (again >= 0) {
		wait_until(q, it, again);
		return 0;
	}
	table_remove(&q->items, it->key);
	mem_free(it);
	return 0;
}

int64_t workq_next_ms(const struct workq *q)
{
	return q->count ? q->heap[1]->due_ms : -1;
}

size_t workq_waiting(const struct workq *q)
{
	return q->count;
}
