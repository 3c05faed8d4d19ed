/*
 * coordinator: conversation with the agents that coordinate: of replica 0, and where each pod of a
 * job coordinates itself of every one. Tells each the desired state, if there is one, until it has
 * accepted it, and asks for its report about once a second. Directly by pod address, or through the
 * API server's pod proxy.
 *
 * Nobody waits for an agent here, and agents are strangers: a question has a deadline, questions in
 * flight are bounded and shared out by namespace, an agent that does not answer is left alone for 1
 * s to 60 s, and a report is no larger than its job warrants. Thread: one.
 */
#ifndef CONTROLLER_COORDINATOR_H
#define CONTROLLER_COORDINATOR_H

#include "api/report.h"
#include "base/err.h"
#include "controller/kube/kube.h"

#include <stdbool.h>
#include <stdint.h>

struct coordinators;

struct coordinator_target { /* a live pod */
    const char *namespace_, *pod, *uid, *ip;
    const char *token;   /* of this pod: secret_of_pod */
    int restarts, ranks; /* ranks: that its world can have */
    bool ready;
};

struct coordinator_view {
    /* Newest of this pod without its ranks, or NULL; valid until the next http_turn. */
    const struct report *report;
    bool current;           /* asked after the last accepted desired state */
    int64_t unreachable_ms; /* 0: it answers */
    bool unauthorized;      /* it refuses the token */
    uint64_t desired;       /* hash of what it is told, or was; 0: nothing yet */
};

typedef void coordinator_news_fn(void *user, const char *key); /* of the job */

#define COORDINATOR_KEY_BYTES 600
/* Under which the agent of a job's replica is known here: that of 0 under the job's own key. */
void coordinator_key(const char *job, int replica, char out[COORDINATOR_KEY_BYTES]);

/* port: of the agents, NAME_PORT_AGENT but in tests. */
int coordinators_create(struct kube *k, bool proxy, int port, coordinator_news_fn *fn, void *user,
    struct coordinators **out, struct err *e);
void coordinators_destroy(struct coordinators *c); /* after kube_destroy */

/* Whom to ask about `key` from now on; NULL: nobody. A changed pod starts afresh. */
int coordinator_aim(
    struct coordinators *c, const char *key, const struct coordinator_target *t, struct err *e);
/* Nobody is asked any more about the job, whatever the replica. */
void coordinator_forget(struct coordinators *c, const char *job);
void coordinator_look(const struct coordinators *c, const char *key, struct coordinator_view *out);

/* What to tell it from now on, until it has accepted that; hash: not 0. No agent: nothing. */
int coordinator_desire(
    struct coordinators *c, const char *key, const char *body, uint64_t hash, struct err *e);

/* Starts what is due; returns clock_ms of the next question, or -1. */
int64_t coordinators_turn(struct coordinators *c);

#endif
