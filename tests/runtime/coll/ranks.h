/*
 * ranks: worlds of real processes for tests of coll: one listener a rank is bound, the ranks are
 * forked, and each child runs a body that exits 0 or a step number; the parent checks every status.
 */
#ifndef TESTS_RUNTIME_COLL_RANKS_H
#define TESTS_RUNTIME_COLL_RANKS_H

#include "runtime/coll/coll.h"

#include <sys/types.h>

#define RANKS_MAX    64
#define RANKS_SECRET "5ec7e7"

struct ranks {
    int size;
    int replica[RANKS_MAX]; /* of each rank */
    int64_t timeout_ms;     /* 0: 20 s */
    const char *kind;       /* of the devices; NULL: none */
    bool staged;
    int listen[RANKS_MAX];
    int ended[2]; /* a pipe whose writers are the ranks: end of file tells that they ended */
    struct wire_peer peers[RANKS_MAX];
};

/* A function that computes with memory that its thread alone knows: where ThreadSanitizer looked at
 * each access it would take most of the time. What ranks share is copied whole. */
#define RANKS_PRIVATE __attribute__((no_sanitize("thread")))

extern struct wire_page ranks_page; /* of this process's rank */
extern struct dev *ranks_device;    /* the same */

typedef int ranks_body_fn(struct coll *c, int rank, const struct ranks *w);

void ranks_open(struct ranks *w); /* the listeners */
int ranks_create(
    const struct ranks *w, int rank, const char *secret, struct coll **c, struct err *e);
pid_t ranks_start(const struct ranks *w, int rank, ranks_body_fn *body);
/* All of them, from open to end. */
void ranks_run(struct ranks w, ranks_body_fn *body);

/* -- in a body -- */

float ranks_value(int rank, int64_t i);                        /* what a rank brings to a sum */
void ranks_fill(float *x, int rank, int64_t first, int64_t n); /* n of them, from the first */
/* Whether x has the sums of n such values of these ranks. */
bool ranks_are_sums(const float *x, int first, int stride, int size, int64_t n);
/* Whether all ranks hold the same bytes. */
int ranks_same(struct coll *c, const void *p, size_t bytes, const struct ranks *w);
/* Sums n values in x and compares; 0: right, and the same everywhere. */
int ranks_check(struct coll *c, int rank, const struct ranks *w, float *x, int64_t n);
/* Broadcast, all-gather and barrier. */
ranks_body_fn ranks_others_body;
/* Stays connected without a word until every other rank has ended. */
void ranks_stay_silent(const struct ranks *w);
/* A thread that aborts c once the rank is in a collective, and a moment later: at ranks_aborted_ms.
 * Afterwards a wait ends within ABORT_MS: 100, and what a busy machine takes. */
void *ranks_abort_soon(void *c);
extern _Atomic int64_t ranks_aborted_ms;
#define ABORT_MS 1000

/* -- what ends an operation of two ranks that rank 1 does not take part in -- */

struct ranks_operation {
    int (*prepare)(struct coll *c, struct err *e); /* on both ranks; or NULL */
    int (*run)(struct coll *c, struct err *e);     /* on rank 0 */
    enum wire_operation operation;                 /* that the page shows */
};
/* The case: rank 1 ended, is silent, is silent until rank 0 aborts; in one pod, in two. The error
 * tells why and names rank 1; the page shows the operation. */
#define RANKS_FAILURES 6
void ranks_run_failing(
    const struct ranks_operation *operation, int failure, const char *kind, bool staged);

#endif
