/*
 * aside: a thread beside the loop, for what may wait for a disk: one of a network may not answer
 * for hours. The loop never waits for the thread but when it ends, and then only so long: a thread
 * that is stuck is left behind, and frees what the two share when it comes back, if ever.
 *
 * A struct aside stands first in what the two share. All of that is touched with the lock; the
 * thread has it but in aside_wait and between aside_work and aside_back.
 */
#ifndef AGENT_ASIDE_H
#define AGENT_ASIDE_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define ASIDE_LATE_MS 5000 /* after which a disk does not answer */

struct aside {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ends, over, left_behind;
    int64_t since_ms; /* at the disk, since then; 0: it is not */
    void (*run_fn)(struct aside *a);
    void (*free_fn)(struct aside *a);
};

/* -- of its owner -- */

/* run_fn is the thread, which ends with it; free_fn frees a and all around it, and is called once
 * of an aside that was started. what: for the error. */
int aside_start(struct aside *a, const char *what, void (*run_fn)(struct aside *a),
    void (*free_fn)(struct aside *a), struct err *e);
/* Waits until the thread has ended, wait_ms at most. False: it was left behind. */
bool aside_end(struct aside *a, int64_t wait_ms);
/* How long the disk has not answered; 0: it does, or ASIDE_LATE_MS have not passed. Not locked. */
int64_t aside_late_ms(struct aside *a);
void aside_lock(struct aside *a);
void aside_unlock(struct aside *a);
/* Locked: something has changed. */
void aside_tell(struct aside *a);

/* -- of the thread -- */

/* Until something has changed, the end among it, or wait_ms have passed; negative: however long. */
void aside_wait(struct aside *a, int64_t wait_ms);
void aside_work(struct aside *a); /* now at the disk */
void aside_back(struct aside *a);

#endif
