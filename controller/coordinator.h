/*
 * coordinator: conversation with the agents of replica 0: asks each for its report about once a
 * second, and tells it the desired state. Directly by pod address, or through the API server's pod
 * proxy. Bounded: so many questions in flight, an interval that grows with the number of jobs, a
 * back-off for agents that do not answer. Thread: one.
 */
#ifndef CONTROLLER_COORDINATOR_H
#define CONTROLLER_COORDINATOR_H

#include "base/err.h"
#include "base/report.h"
#include "controller/kube.h"

#include <stdbool.h>
#include <stdint.h>

struct coordinators;

struct coordinator_target { /* the live pod of replica 0 */
	const char *namespace_, *pod, *uid, *ip, *token;
	int restarts;
	bool ready;
};

struct coordinator_view {
	const struct report
		*report;        /* newest of this pod, or NULL; valid until the next http_turn */
	bool current;           /* asked after the last accepted desired state */
	int64_t unreachable_ms; /* 0: it answers */
	bool unauthorized;      /* it refuses the token */
};

typedef void coordinator_news_fn(void *user, const char *key);

/* port: of the agents, NAME_PORT_AGENT but in tests. */
int coordinators_create(struct kube *k, bool proxy, int port, coordinator_news_fn *fn, void *user,
			struct coordinators **out, struct err *e);
void coordinators_destroy(struct coordinators *c); /* after kube_destroy */

/* Whom to ask about job `key` from now on; NULL: nobody. A changed pod starts afresh. */
int coordinator_aim(struct coordinators *c, const char *key, const struct coordinator_target *t,
		    struct err *e);
void coordinator_look(const struct coordinators *c, const char *key, struct coordinator_view *out);

/* done_fn: r->status 200 or 204 is acceptance. */
int coordinator_put(struct coordinators *c, const char *key, const char *body,
		    void (*done_fn)(void *user, const struct http_response *r), void *user,
		    struct err *e);

/* Asks what is due; returns clock_ms of the next question, or -1. */
int64_t coordinators_turn(struct coordinators *c);

#endif
