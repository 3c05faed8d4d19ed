/*
 * sched: the queue of requests inside a serving rank: first in, first out, one at a time. The
 * reader thread pushes and cancels, the main thread takes and finishes; a cancel reaches a queued
 * request and the running one alike (the main thread looks at `cancelled` between tokens). Bounded:
 * what exceeds its capacity is refused. A request is text here: who serves it decodes it, in its
 * turn, so that what waits costs no more than what was sent.
 */
#ifndef RUNTIME_SERVE_SCHED_H
#define RUNTIME_SERVE_SCHED_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sched_request {
    uint64_t id;
    char *text; /* the WIRE_REQUEST payload, NUL-terminated */
    size_t len;
    _Atomic bool cancelled;
    struct sched_request *next; /* private to sched */
};

struct sched;

int sched_create(int capacity, struct sched **out, struct err *e);
void sched_destroy(struct sched *s);
/* Copies the text. -ERR_RETRY: full. */
int sched_push(struct sched *s, uint64_t id, const char *text, size_t len, struct err *e);
/* The next request, or NULL after timeout_ms or sched_wake. It stays reachable for sched_cancel
 * until finished. */
struct sched_request *sched_take(struct sched *s, int64_t timeout_ms);
void sched_finish(struct sched *s, struct sched_request *q);
void sched_cancel(
    struct sched *s, uint64_t id); /* unknown ids are ignored: the request has just ended */
void sched_wake(struct sched *s);

#endif
