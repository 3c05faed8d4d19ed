/*
 * route: which replica of a model a request is for, so that it finds its prompt's beginning in the
 * cache: what it begins with is one number, and of all replicas' names one wins for it (rendezvous
 * hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998), so
 * that a replica that comes or goes moves the numbers alone that it wins. All agents choose alike.
 * Pure.
 */
#ifndef AGENT_ROUTE_H
#define AGENT_ROUTE_H

#include "agent/openai.h"
#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

/* Of a text that counts; two that differ later are for the same replica. */
#define ROUTE_BYTES 512

/* Of a request of OpenAI's chat or completions: adapter, who may find what it computes, and of a
 * conversation what stands up to the first thing that a user says, whatever follows; of a prompt,
 * of several the first, its beginning. */
uint64_t route_prefix(
    const struct openai_conf *conf, const struct json *v, const struct openai_request *r);
/* Of (count >= 1) names the one that prefix is for. */
int route_pick(uint64_t prefix, const char *const *names, int count);

#endif
