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
 * keys in the cache are told apart.
 *
 * Which there are may change: each has a place in a table of LORAS_PLACES, by which it is known
 * here, and keeps it while it is listed or a request has it or waits for it. One that is listed no
 * more leaves memory with its last request. A request brings the path along, so that it gets what
 * was listed under the name when it was taken, whatever the list says by its turn. Folders that
 * are listed are looked at when nobody waits for another, and those that are wrong again and again,
 * so that what is wrong is told before anybody asks. All functions are the serving thread's.
 */
#ifndef RUNTIME_SERVE_LORAS_H
#define RUNTIME_SERVE_LORAS_H

#include "api/limits.h"
#include "base/err.h"
#include "kernels/dev.h"
#include "runtime/convert/adapters.h"
#include "runtime/serve/inbox.h"

#define LORAS_WAIT_MS 60000 /* of a request, for its adapter */
#define LORAS_LATE_MS 30000 /* of a folder: who waits behind it still gets its own in time */
#define LORAS_LOOK_MS 10000 /* between two looks at a folder that is wrong */
#define LORAS_PLACES  (2 * LIMIT_ADAPTERS)

struct loras;

struct loras_conf { /* borrowed */
    const struct jobspec_serve *serve;
    const struct model_config *own; /* what this rank has of the model */
    struct weights *weights;
    struct dev *dev;
    struct beside *beside; /* of LORAS_PLACES, with the limit; none of them open */
    struct inbox *inbox;   /* is woken when a folder has been read; or NULL */
    int64_t late_ms;       /* 0: LORAS_LATE_MS */
    int64_t look_ms;       /* 0: LORAS_LOOK_MS; -1: folders are looked at when they are wanted */
};

#define LORAS_WHY_BYTES 320

struct loras_ticket { /* of a request that waits */
    int adapter;      /* its place, from 1 on */
    int64_t number, since_ms;
};

struct loras_figures {
    int there;                       /* adapters, */
    int64_t bytes;                   /* and what they take */
    int64_t loaded, dropped, failed; /* since create */
    double seconds;                  /* the last load, from its beginning */
    int64_t list;                    /* the number of the last one, */
    int unseen;                      /* of which so many have not been looked at, */
    int wrong;                       /* and so many are wrong: */
    char why[LORAS_WHY_BYTES];       /* the first of them, and how many more; "" */
};

int loras_create(const struct loras_conf *c, struct loras **out, struct err *e);
/* false: a thread is left behind that storage holds up, with what it uses: weights stay open, since
   the process is about to end. NULL is fine. */
bool loras_destroy(struct loras *l);
/* From here on these are listed. -ERR_RETRY: all places are taken by adapters that requests still
   have, so some are not listed yet: again, when one has ended. */
int loras_list(struct loras *l, const struct jobspec_served_adapter *adapters, int count,
    int64_t number, struct err *e);
/* The place, from 1 on, of the adapter of that name, and of that path unless it is NULL; one of a
   path that is not listed (any more) gets a place if there is one, which is its own until the next
   call of loras_find or loras_list, and from loras_wait on. 0: none. */
int loras_find(struct loras *l, const char *name, const char *path, struct err *e);
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
