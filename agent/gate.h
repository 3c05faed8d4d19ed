/*
 * gate: where coordinators reach a member: it takes the WebSockets of MESH_PATH and holds each
 * until the other end has proved itself (agent/proof). Nothing of a socket without proof reaches
 * the member; there are at most GATE_CALLERS of them, each for PROOF_MS, the oldest makes room for
 * the next, and a message of more than PROOF_BYTES closes one. One loop, one thread.
 */
#ifndef AGENT_GATE_H
#define AGENT_GATE_H

#include "agent/proof.h"
#include "base/web.h"

#include <stdint.h>

#define GATE_CALLERS 16

struct gate;
struct gate_fns {
    /* A coordinator that has proved itself; what it says from now on goes to message_fn. */
    void (*open_fn)(void *user, struct web_socket *s, int64_t term, const char *uid);
    void (*message_fn)(void *user, struct web_socket *s, const char *text, size_t len);
    void (*closed_fn)(void *user, struct web_socket *s, const char *why);
};

/* of and uid (of this pod) are borrowed. */
int gate_create(struct web *w, const struct proof_identity *of, const char *uid,
    const struct gate_fns *fns, void *user, struct gate **out, struct err *e);
void gate_destroy(struct gate *g); /* after web_destroy */
void gate_tick(struct gate *g, int64_t now_ms);

#endif
