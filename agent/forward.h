/*
 * forward: a request to the replica that it is for (route.h), and its answer back, byte for byte.
 *
 * It goes on once, and only to a replica that has proved to be one (vouch.h), on the connection on
 * which it did. A stream passes by whole events. What has NAME_HEADER_FORWARDED is served where it
 * has come, if it proves to be from a replica, else refused, whatever its credential. It goes
 * nowhere unless whom it is for is ready, as the controller told last, and it comes back before a
 * byte of its answer has left: when that replica's queue is longer than this one's by more than
 * routing.max_ahead (421, which only that replica can know), when it does not take it, when it says
 * nothing for idle_ms, which one that works on it does not, or when it is gone. Then, and of the
 * others, the caller serves it.
 * A client's key stays here; a client that goes away takes its request from the other, too. What is
 * under way is bounded, and none of it counts in this replica's queue. NULL, where nothing is
 * routed, is well for all but create.
 */
#ifndef AGENT_FORWARD_H
#define AGENT_FORWARD_H

#include "agent/keys.h"
#include "agent/meter.h"
#include "agent/openai.h"
#include "agent/proof.h"
#include "api/jobspec.h"
#include "api/report.h"
#include "base/err.h"
#include "base/web.h"

#include <stdbool.h>
#include <stdint.h>

#define FORWARD_IDLE_MS 300000

struct forward;

struct forward_conf {
    struct web *web;
    const struct jobspec_serve *serve; /* borrowed */
    const char *pod, *uid;             /* this one's, borrowed */
    struct proof_identity of;
    const struct api_keys *keys; /* borrowed */
    int64_t idle_ms;             /* FORWARD_IDLE_MS */
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
/* Whether x says that a replica sends it; the key that it proves to have, else -1. */
bool forward_visits(const struct forward *f, const struct web_exchange *x);
int forward_key(const struct forward *f, struct web_exchange *x);
/* Within admit_fn, of such a one: proves to be this replica, before the body comes. */
bool forward_welcome(const struct forward *f, struct web_exchange *x);
/* Whether its body, which is then the request's alone, is from who asked; true for the others. */
bool forward_enters(const struct forward *f, struct web_exchange *x);
/* False: x came from a replica that has less to do, which answers' count here tells. */
bool forward_admits(const struct forward *f, struct web_exchange *x, int answers);
/* METER_FORWARDED: x is under way; else it is to be served here. asked: what openai_read made of
 * it; key: who asks; answers: in flight here. */
enum meter_route forward_take(struct forward *f, struct web_exchange *x,
    const struct openai_request *asked, int key, int answers);
int forward_in_flight(const struct forward *f);
/* Connections of answers that have not begun end with them. */
void forward_leave(struct forward *f);
/* All that is under way ends with 503, or an error event. */
void forward_end(struct forward *f);
/* Each turn of web's loop. */
void forward_tick(struct forward *f);

#endif
