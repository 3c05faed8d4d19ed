/*
 * world: the coordinator's decisions. Pure: facts and the time in, a bounded list of actions out;
 * no handle, no clock, no randomness. The caller feeds every fact as it comes, then calls
 * world_decide until it gives no action, and carries the actions out in order (agent/lead.c). What
 * it guarantees, whatever the order of facts:
 *
 *  - The incarnation only grows: one more than any that it, a member or the checkpoint knows.
 *  - Ranks of a new incarnation are told to start only after every member of it reported that none
 *    of its older ranks lives. A member whose link is lost counts as ended: it ends its ranks by
 *    itself.
 *  - Failures of class user, data and memory end the job; others restart it, within the budget. So
 *    do out-of-memory kills, a server's want of memory, and whatever ends a server that serves.
 *  - A world is formed over all desired replicas; with fewer, only after elastic.waitSeconds and
 *    never below minReplicas.
 *  - Scaling and suspending a running world stop it at a step boundary first (drain).
 *  - Complete and Failed are final.
 *  - A coordinator that another has superseded (a member follows a greater term, or the checkpoint
 *    a greater incarnation) ends its ranks, forms no world any more and takes no desired state.
 */
#ifndef AGENT_WORLD_H
#define AGENT_WORLD_H

#include "agent/health.h"
#include "agent/mesh.h"
#include "agent/progress.h"
#include "api/jobspec.h"
#include "base/mem.h"
#include "api/report.h"

#include <stdbool.h>
#include <stdint.h>

struct world;

struct world_conf {
    enum task task;
    int per_replica; /* ranks a member */
    /* Ranks that share one model, or its sequences: a world has so many times a number; 0: 1. */
    int tensor, pipeline, expert, context;
    int members;         /* likewise, that serve some of an ensemble's models each */
    int64_t incarnation; /* greatest known at start: checkpoint, own state */
    int64_t term;        /* greatest that this agent has followed or had */
};

struct world_now {
    int64_t ms;      /* monotonic */
    int64_t wall_ms; /* shown only */
};

enum world_action_kind {
    WORLD_PREPARE, /* every member of the world */
    WORLD_START,   /* every member of the world */
    WORLD_STOP,    /* every member of the world, by mode */
    WORLD_DROP,    /* one member: close its link */
    WORLD_RELEASE, /* every joined member; then this agent ends */
};
struct world_action {
    enum world_action_kind kind;
    int64_t incarnation;
    enum mesh_stop mode;
    int replica;
};
#define WORLD_ACTIONS 8
struct world_actions {
    struct world_action list[WORLD_ACTIONS];
    int count;
};

int world_create(const struct world_conf *conf, struct world **out, struct err *e);
void world_destroy(struct world *w);

/* -- facts; a replica that is not known and an incarnation that is not current are ignored -- */
/* Copies. -ERR_USER for a term below the greatest known. */
int world_desired(struct world *w, const struct desired *d, struct world_now now, struct err *e);
void world_joined(
    struct world *w, int replica, const char *uid, int64_t incarnation, struct world_now now);
void world_lost(struct world *w, int replica, struct world_now now);
void world_leaving(struct world *w, int replica);
void world_refused(struct world *w, int64_t greatest);
void world_superseded(struct world *w, int64_t term); /* a member follows another's term */
void world_prepared(
    struct world *w, int replica, int64_t incarnation, const uint16_t *ports, int count);
void world_frame(struct world *w, int replica, int64_t incarnation, int local, enum wire_type type,
    const struct json *payload, struct world_now now);
void world_beats(
    struct world *w, int replica, int64_t incarnation, const struct health_rank *rows, int count);
void world_exit(struct world *w, int replica, const struct mesh_msg *exit, struct world_now now);
void world_ended(struct world *w, int replica, int64_t incarnation);
void world_verdict(struct world *w, const struct health_verdict *v, struct world_now now);

/* -- decisions -- */
void world_decide(struct world *w, struct world_now now, struct world_actions *out);

/* -- what the caller needs to carry actions out -- */
struct world_place { /* a rank of the current world */
    int rank, replica, local;
    uint16_t port;
    const char *node, *address; /* of its member */
};
int64_t world_incarnation(const struct world *w);
int64_t world_term(const struct world *w); /* in which it coordinates; 0: none yet */
bool world_over(const struct world *w);    /* superseded, and its ranks have ended */
int world_ranks(const struct world *w);    /* 0: no world */
struct world_place world_place(const struct world *w, int rank);
bool world_watched(const struct world *w); /* ranks are loaded: health may judge */
const struct health_rank *world_rows(const struct world *w);
struct health_busy *world_busy(struct world *w);
int64_t world_median_step_ms(const struct world *w);
enum job_state world_state(const struct world *w);

/* Borrowed pointers into w; rows and attempts in the arena. */
int world_report(const struct world *w, struct arena *a, struct report *out, struct err *e);
/* At start, from the report that the last run of this agent left: history, final state and
 * incarnation. */
void world_recover(struct world *w, const struct report *r);

#endif
