/*
 * front: the OpenAI API of a serving pod: POST /v1/chat/completions, POST /v1/completions, GET
 * /v1/models and /v1/models/{id}, GET /health, and OPTIONS for pages of other origins; and POST
 * /v1/responses, /tokenize, /detokenize (vLLM), /apply-template (llama.cpp), /v1/messages and
 * /v1/messages/count_tokens (Anthropic); GET /openapi.json. Of a model that reads whole texts
 * /v1/embeddings, /v1/classify, /v1/score and /v1/rerank in place of those that generate. At / is
 * the page (page.h).
 *
 * It bounds requests (429 beyond max_queue or LIMIT_QUEUE_BYTES, 413 beyond LIMIT_REQUEST_BYTES,
 * 503 while loading or draining), hands them to the rank as WIRE_REQUEST, so many at once, in the
 * order that share.h decides, and turns WIRE_TOKEN, WIRE_LOGPROBS and WIRE_FINISHED into answers,
 * streamed as server-sent events or whole. A request for several answers is as many to the queue
 * and the rank. What a request may say is openai.c's, and what of an answer calls a tool calls.c's.
 * Only whole UTF-8 characters leave it. A client that goes away frees its places, and cancels its
 * request, at once. The rank applies chat templates, stop strings and sampling; nothing here knows
 * about tokens' meaning.
 */
#ifndef AGENT_FRONT_H
#define AGENT_FRONT_H

#include "agent/forward.h"
#include "agent/keys.h"
#include "agent/monitor.h"
#include "agent/openai_answer.h"
#include "agent/roster.h"
#include "base/err.h"
#include "base/web.h"
#include "api/jobspec.h"
#include "api/limits.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct front;

struct front_conf {
    struct web *web;
    const char *listen_host;
    uint16_t listen_port;
    const char *model;           /* serve.modelName */
    struct roster *roster;       /* of adapters; borrowed; NULL: there are none */
    const struct api_keys *keys; /* borrowed */
    struct monitor *monitor;     /* borrowed; NULL: no stream is watched */
    struct forward *forward;     /* borrowed; NULL: all that comes is served here */
    int max_queue;               /* answers in flight, at most LIMIT_QUEUE_REQUESTS */
    int64_t max_queue_tokens;    /* that they are thought to take; 0: any */
    int max_at_rank;             /* of these, handed to the rank; at least 1 */
    int max_turns;               /* likewise beside those (agent/share.h) */
    /* Hands a frame to the rank. */
    int (*send_fn)(void *user, enum wire_type type, const char *json);
    void *user;
};

int front_create(const struct front_conf *conf, struct front **out, struct err *e);
void front_destroy(struct front *f);
void front_set_rank(
    struct front *f, int (*send_fn)(void *user, enum wire_type type, const char *json), void *user);
/* WIRE_SERVING came: the port is opened and requests are taken. context_length in tokens, 0: not
 * said; how the model calls tools. */
int front_ready(struct front *f, int64_t context_length, enum wire_calls calls, struct err *e);
/* What the model does, and how many it is of, before front_ready; else one that generates. */
void front_does(struct front *f, enum wire_does does, struct openai_members members);
/* The rank is gone: what is in flight ends with 503 or an error event; 503 until front_ready. */
void front_lost(struct front *f);
/* Not ready any more, though requests are taken to the end: from those that have not heard of it
 * yet. Each answer that begins from now on ends its connection. */
void front_leave(struct front *f);
/* New requests get 503, unless it leaves; those in flight finish. */
void front_drain(struct front *f);
bool front_serving(const struct front *f);
int front_in_flight(const struct front *f);
/* Nothing is in flight; nor was it just now, if it leaves: who was answered may ask again. */
bool front_done(const struct front *f);
void front_measure(const struct front *f);  /* sets metrics that time alone changes */
uint16_t front_port(const struct front *f); /* bound, 0 before the first front_ready */
void front_frame(struct front *f, const struct wire_frame *frame); /* of those four types */

#endif
