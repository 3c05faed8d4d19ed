/*
 * status: HTTP on the agent's port.
 *
 *   PUT /v1/desired   token; the coordinator's wish list, or of a model whose requests are routed
 *                     the replicas that are ready (api/report.h); 204
 *   GET /v1/job       token; the coordinator's report
 *   GET /healthz      the loop turns
 *   GET /readyz       this pod's ranks are in a world, or it serves
 *   GET /metrics      Prometheus' text format
 *
 * The token comes as "Authorization: Bearer" or NAME_HEADER_TOKEN. Only replica 0 has a lead:
 * others answer 409.
 */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include "agent/edit.h"
#include "agent/front.h"
#include "agent/lead.h"
#include "agent/member.h"
#include "agent/monitor.h"
#include "base/web.h"

struct agent_status {
    const char *token;
    struct lead *lead;             /* or NULL */
    struct front *front;           /* or NULL */
    struct forward *forward;       /* or NULL */
    const struct monitor *monitor; /* or NULL */
    const struct member *member;
    struct edit *edit; /* or NULL */
};

void status_register(void); /* metrics, once */
/* For the door; user: struct agent_status. A body is read only for who has the token. */
bool status_admit(void *user, struct web_exchange *x);
void status_request(void *user, struct web_exchange *x); /* of what was admitted */

#endif
