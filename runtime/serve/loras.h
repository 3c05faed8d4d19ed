/*
 * loras: adapters of a served model of which not all are in memory: under spec.serve.adapterMemory
 * they are loaded when a request wants one, and dropped for others (lru.h says which). Folders are
 * read on a thread, one at a time, while sequences run; what was read goes to the device between
 * steps, so much of it at once that nobody waits for it. What is wrong with a folder is told to who
 * waits for it, and looked at anew when it is wanted again. One whose storage does not answer for
 * LORAS_LATE_MS is left behind with its thread, so one an adapter at most, and the next begins;
 * until it answers, whoever wants that adapter is told at once. What was read so late
 * is put in its place when there is room, though nobody waits for it.
 *
 * An adapter that computes otherwise than when it was there before has another digest, by which
 * keys in the cache are told apart. All functions are the serving thread's.
 */
#ifndef RUNTIME_SERVE_LORAS_H
#define RUNTIME_SERVE_LORAS_H

#include "base/err.h"
#include "kernels/dev.h"
#include "runtime/convert/adapters.h"
#include "runtime/serve/inbox.h"

#define LORAS_WAIT_MS 60000 /* of a request, for its adapter */
#define LORAS_LATE_MS 30000 /* of a folder: who waits behind it still gets its own in time */

struct loras;

struct loras_conf { /* borrowed */
    const struct jobspec_serve *serve;
    const struct model_config *own; /* what this rank has of the model */
    struct weights *weights;
    struct dev *dev;
    struct beside *beside; /* of all, with the limit; none of them open */
    struct inbox *inbox;   /* is woken when a folder has been read; or NULL */
    int64_t late_ms;       /* 0: LORAS_LATE_MS */
};

struct loras_ticket { /* of a request that waits */
    int adapter;      /* from 1 on */
    int64_t number, since_ms;
};

struct loras_figures {
    int there;                       /* adapters, */
    int64_t bytes;                   /* and what they take */
    int64_t loaded, dropped, failed; /* since create */
    double seconds;                  /* the last load, from its beginning */
};

int loras_create(const struct loras_conf *c, struct loras **out, struct err *e);
/* false: a thread is left behind that storage holds up, with what it uses: weights stay open, since
   the process is about to end. NULL is fine. */
bool loras_destroy(struct loras *l);
/* A request wants the adapter (from 1 on): it waits until loras_begin says otherwise, or until it
   gives up. */
struct loras_ticket loras_wait(struct loras *l, int adapter);
void loras_give_up(struct loras *l, const struct loras_ticket *t);
/* 0: its sequence has the adapter, until loras_end. -ERR_RETRY: it waits on. Anything else: it
   waits no more, and e says why: its folder, or that LORAS_WAIT_MS have passed (ERR_HANG). */
int loras_begin(struct loras *l, const struct loras_ticket *t, struct err *e);
void loras_end(struct loras *l, int adapter);
uint64_t loras_digest(const struct loras *l, int adapter);
/* What is to be done between two steps; busy: sequences wait for it meanwhile. Has anything changed
   that loras_tell tells? Who waits asks loras_begin behind each call. */
bool loras_step(struct loras *l, bool busy);
/* Is there nothing to do until the inbox is woken, or another call? */
bool loras_rests(const struct loras *l);
void loras_tell(const struct loras *l, struct loras_figures *out);

#endif
