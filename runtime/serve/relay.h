/*
 * relay: what rank 0 tells the ranks that serve with it before each pass: an order, and a message
 * of bounded size that says what the pass is. Nothing else is agreed on. While nothing is to be run
 * rank 0 says so, once a second at least, so that the wait for it has the deadline of any
 * collective. Who follows checks what comes before it uses it.
 */
#ifndef RUNTIME_SERVE_RELAY_H
#define RUNTIME_SERVE_RELAY_H

#include "runtime/coll/coll.h"

struct relay;

enum relay_order { RELAY_RUN = 1, RELAY_REST, RELAY_END };

/* world: borrowed; limit: bytes of a message, the same on all ranks. */
int relay_create(struct coll *world, size_t limit, struct relay **out, struct err *e);
void relay_destroy(struct relay *r);
/* (limit) the message: rank 0 writes it before relay_send, others read it when it has come. */
void *relay_message(struct relay *r);

/* Rank 0's, with the message's bytes; of what is to be run all run the same next. */
int relay_send(struct relay *r, enum relay_order order, size_t bytes, struct err *e);
/* The others': run_fn with each message, of so many bytes, until the end: -ERR_DRAINED. page: told
   of the phase and beat; or NULL. */
typedef int relay_run_fn(void *user, size_t bytes, struct err *e);
int relay_follow(struct relay *r, relay_run_fn *run_fn, void *user, enum wire_phase phase,
    struct wire_page *page, struct err *e);

#endif
