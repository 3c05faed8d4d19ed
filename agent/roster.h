/*
 * roster: the adapters of a served model (spec.serve.adapters), as clients may name them, and what
 * the rank says of them. Under spec.serve.adapterMemory the list may change: each version of it
 * lives as long as a request that was taken under it, so that this one ends as it began. Thread:
 * the loop's.
 */
#ifndef AGENT_ROSTER_H
#define AGENT_ROSTER_H

#include "api/jobspec.h"
#include "api/report.h"
#include "api/wire.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define ROSTER_VERSIONS  16 /* at once: beyond, a change waits */
#define ROSTER_WHY_BYTES 320

struct roster_list { /* a version; changed by roster.c alone */
    int refs;
    int *versions; /* the roster's */
    int64_t number;
    bool live;
    struct arena *arena;
    struct jobspec_served_adapter *adapters; /* (count) */
    int count;
};

typedef int roster_send_fn(void *user, enum wire_type type, const char *json);

struct roster {
    bool live; /* the list may change */
    bool open; /* there is a rank that serves */
    roster_send_fn *send_fn;
    void *user;
    int versions;
    struct roster_list *now;
    struct {                        /* what the rank said last */
        int64_t list;               /* the number of the version that it has, */
        int unseen;                 /* of which so many were not looked at, */
        char why[ROSTER_WHY_BYTES]; /* and what is wrong with others; "" */
    } told;
};

int roster_init(struct roster *r, const struct jobspec_serve *s, struct err *e);
void roster_done(struct roster *r);
const struct roster_list *roster_now(const struct roster *r); /* NULL: of NULL */
/* A request is taken under the present version, and is over. Of NULL: NULL. */
struct roster_list *roster_hold(struct roster *r);
void roster_release(struct roster_list *list);
/* These are the adapters from here on; they are copied, and a rank that serves is told. -ERR_RETRY:
   there are as many versions as there may be. */
int roster_change(
    struct roster *r, const struct jobspec_served_adapter *adapters, int count, struct err *e);
/* A rank serves: it is told the present version, unless its job file has it. */
void roster_open(struct roster *r, roster_send_fn *send_fn, void *user);
void roster_hear(struct roster *r, const struct wire_frame *told); /* a WIRE_ADAPTERS */
void roster_lost(struct roster *r);                                /* the rank is gone */
/* Fills what out says of adapters; it points into r. */
void roster_report(const struct roster *r, struct report *out);

#endif
