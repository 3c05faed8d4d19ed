/*
 * member: a pod's part of a world: it follows one coordinator's link and keeps this pod's ranks.
 *
 * Invariants: ranks of one incarnation only live at a time; an incarnation not above the greatest
 * seen is refused, and so is a coordinator whose term is over (agent/term); when the link is closed
 * for MEMBER_ORPHAN_MS, or another coordinator's link opens, the ranks end and the member waits. It
 * decides nothing about the job: that is agent/world.c, at the other end of the link.
 */
#ifndef AGENT_MEMBER_H
#define AGENT_MEMBER_H

#include "agent/front.h"
#include "agent/gate.h"
#include "agent/proc.h"
#include "api/jobspec.h"
#include "base/web.h"

#include <stdbool.h>
#include <stdint.h>

#define MEMBER_ORPHAN_MS 3000
#define MEMBER_GRACE_MS  2000 /* SIGTERM to SIGKILL */

struct member;

struct member_conf {
    struct procs *procs;
    struct front *front; /* of a serving job's replica 0, else NULL */
    const struct jobspec *spec;
    const char *job_file, *rank_program, *bind_host, *run_dir;
    int replica;
    const char *pod, *uid, *node;
    int64_t incarnation; /* greatest known at start */
};

int member_create(const struct member_conf *conf, struct member **out, struct err *e);
void member_destroy(struct member *m);
extern const struct gate_fns member_link_fns; /* for gate_create; user: the member */
void member_tick(struct member *m, int64_t now_ms);
/* The pod was asked to go: the coordinator is told to drain; without one, ranks are stopped. */
void member_leave(struct member *m, int64_t now_ms);
bool member_busy(const struct member *m);           /* ranks live */
bool member_released(const struct member *m);       /* the coordinator said: exit 0 */
bool member_in_world(const struct member *m);       /* its ranks were told to start, and live */
int64_t member_sequences(const struct member *m);   /* of a step, of its ranks; 0: not told */
int64_t member_incarnation(const struct member *m); /* greatest seen */
int64_t member_term(const struct member *m);        /* likewise */

#endif
