/*
 * workq: the keys that need a pass, each at most once, each at its time.
 *
 * A key that is taken is out of the queue until workq_done; adding it meanwhile makes it due again
 * right after. Failures of a key back off exponentially from 100 ms to 60 s, a key of its own each.
 * Time is clock_ms, so tests can fake it. Thread: one.
 */
#ifndef CONTROLLER_WORKQ_H
#define CONTROLLER_WORKQ_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct workq;

int workq_create(struct workq **out, struct err *e);
void workq_destroy(struct workq *q);

/* Due at once, or in delay_ms; a key that waits keeps the earlier time. */
int workq_add(struct workq *q, const char *key, struct err *e);
int workq_add_after(struct workq *q, const char *key, int64_t delay_ms, struct err *e);

/* The key longest due, valid until workq_done; NULL when none is due. */
const char *workq_take(struct workq *q);
/* Ends a take. failed: due again after the back-off, whose length is returned; else 0 and the count
   of failures is forgotten. */
int64_t workq_done(struct workq *q, const char *key, int failed);

int64_t workq_next_ms(const struct workq *q); /* clock_ms when the next is due; -1: none waits */
size_t workq_waiting(const struct workq *q);

#endif
