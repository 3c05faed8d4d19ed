/*
 * lead: the coordinator's hands: feeds agent/world.c with what the mesh says, judges health once a
 * second, and carries out the world's actions. Exists in the agent of replica 0 only. It also keeps
 * the last report in the run folder, so that a restarted agent knows its history and a finished job
 * stays finished. It coordinates in the term that the desired state names, until a member follows
 * another.
 */
#ifndef AGENT_LEAD_H
#define AGENT_LEAD_H

#include "agent/proof.h"
#include "base/buf.h"
#include "api/jobspec.h"
#include "api/report.h"
#include "base/web.h"

#include <stdbool.h>
#include <stdint.h>

struct lead;

struct lead_conf {
    struct web *web;
    const struct jobspec *spec;
    struct proof_identity of;
    const char *uid, *run_dir; /* of this agent's pod */
    const char *self_host; /* where this agent itself listens: its own member is dialled there */
    uint16_t self_port;
    uint16_t serve_port; /* shown in the report when serving */
    int64_t incarnation; /* greatest known to the checkpoint */
    int64_t term;        /* greatest that this pod has followed */
};

int lead_create(const struct lead_conf *conf, struct lead **out, struct err *e);
void lead_destroy(struct lead *l);
int lead_desired(struct lead *l, const struct desired *d, struct err *e);
void lead_tick(struct lead *l, int64_t now_ms);
int lead_report(const struct lead *l, struct arena *a, struct report *out, struct err *e);
bool lead_released(const struct lead *l);
bool lead_over(const struct lead *l); /* another coordinates: this agent must end */

#endif
