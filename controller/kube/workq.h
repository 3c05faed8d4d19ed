/*
 * workq: the keys that need something done, each at most once, each at its time, fair by namespace.
 *
 * A key that is taken is out of the queue until workq_done; adding it meanwhile makes it due again
 * right after. Of the keys that are due, the namespaces (what stands before the slash) are served
 * in turn, one key each, and none has more than its share running. Failures of a key back off
 * exponentially, each key on its own. Time is clock_ms, so tests can fake it. Thread: one.
 */
#ifndef CONTROLLER_KUBE_WORKQ_H
#define CONTROLLER_KUBE_WORKQ_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workq;

struct workq_conf {
    int share; /* keys of one namespace that run at once */
    int64_t backoff_first_ms, backoff_last_ms;
};

int workq_create(const struct workq_conf *conf, struct workq **out, struct err *e);
void workq_destroy(struct workq *q);

/* Due at once, or in delay_ms; a key that waits keeps the earlier time. */
int workq_add(struct workq *q, const char *key, struct err *e);
int workq_add_after(struct workq *q, const char *key, int64_t delay_ms, struct err *e);
/* What made a key fail is over, perhaps: its failures and its back-off are forgotten. */
void workq_forgive(struct workq *q, const char *key);
/* A key that waits does not any more; one that runs is not added again. */
void workq_remove(struct workq *q, const char *key);

/* The next key that is due, valid until workq_done; NULL when none is, or may run. */
const char *workq_take(struct workq *q);
/* Ends a take. failed: due again after the back-off, whose length is returned; else 0 and the count
 * of failures is forgotten. */
int64_t workq_done(struct workq *q, const char *key, bool failed);

/* clock_ms when the next is due; -1: none waits, or those that wait are due and a workq_done must
 * make room first. */
int64_t workq_next_ms(const struct workq *q);
size_t workq_waiting(const struct workq *q);

#endif
