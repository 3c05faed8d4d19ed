/*
 * forward: a request to the replica that it is for (route.h), and its answer back, byte for byte.
 *
 * It goes on once: one that carries NAME_HEADER_FORWARDED is served where it has come. It goes
 * nowhere unless whom it is for is ready, as the controller told last, and it comes back before a
 * byte of its answer has left: when that replica's queue is longer than this one's by more than
 * routing.max_ahead (421, which only that replica can know), when it does not take it, or when it
 * is gone. Then, and of the others, the caller serves it. Credentials go along; a client that goes
 * away takes its request from the other, too. What is under way is bounded, and none of it counts
 * in this replica's queue. NULL, where nothing is routed, is well for all but create.
 */
#ifndef AGENT_FORWARD_H
#define AGENT_FORWARD_H

#include "agent/openai.h"
#include "api/jobspec.h"
#include "api/report.h"
#include "base/err.h"
#include "base/web.h"

#include <stdbool.h>
#include <stdint.h>

struct forward;

struct forward_conf {
    struct web *web;
    const struct jobspec_serve *serve; /* borrowed */
    const char *pod;                   /* this one's name, borrowed */
};

int forward_create(const struct forward_conf *conf, struct forward **out, struct err *e);
/* Before its web; of what is under way it says nothing. */
void forward_destroy(struct forward *f);
/* Who serves what comes back. */
void forward_bind(
    struct forward *f, void (*serve_fn)(void *user, struct web_exchange *x), void *user);
/* Of the desired state: the members that are ready, this one among them, and where they serve. What
 * is under way to another comes back. */
int forward_told(struct forward *f, const struct desired *d, struct err *e);
/* False: x came from a replica that has less to do, which answers' count here tells. */
bool forward_admits(const struct forward *f, const struct web_exchange *x, int answers);
/* True: x is under way. asked: what openai_read made of it; answers: in flight here. */
bool forward_take(
    struct forward *f, struct web_exchange *x, const struct openai_request *asked, int answers);
int forward_in_flight(const struct forward *f);
/* Connections of answers that have not begun end with them. */
void forward_leave(struct forward *f);
/* All that is under way ends with 503, or an error event. */
void forward_end(struct forward *f);
/* Each turn of web's loop. */
void forward_tick(struct forward *f);

#endif
