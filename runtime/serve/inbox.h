/*
 * inbox: the requests inside a serving rank, in the order they came, and beside them the newest
 * list of adapters (WIRE_LISTED), which is there before the requests that came behind it are. The
 * reader thread pushes and cancels, the main thread takes and finishes; a cancel reaches one that
 * waits and one that was taken alike (the main thread looks at `cancelled` before each step).
 * Bounded: what exceeds its capacity is refused. A request is text here: who serves it decodes it,
 * in its turn, so that what waits costs no more than what was sent.
 */
#ifndef RUNTIME_SERVE_INBOX_H
#define RUNTIME_SERVE_INBOX_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inbox_request {
    uint64_t id;
    char *text; /* the WIRE_REQUEST payload, NUL-terminated */
    size_t len;
    _Atomic bool cancelled;
    struct inbox_request *next; /* private to inbox */
};

struct inbox;

int inbox_create(int capacity, struct inbox **out, struct err *e);
void inbox_destroy(struct inbox *s);
/* Copies the text. -ERR_RETRY: full. */
int inbox_push(struct inbox *s, uint64_t id, const char *text, size_t len, struct err *e);
/* The next request, or NULL after timeout_ms or inbox_wake. Any number may be taken; each stays
 * reachable for inbox_cancel until finished. */
struct inbox_request *inbox_take(struct inbox *s, int64_t timeout_ms);
void inbox_finish(struct inbox *s, struct inbox_request *q);
void inbox_cancel(
    struct inbox *s, uint64_t id); /* unknown ids are ignored: the request has just ended */
void inbox_wake(struct inbox *s);
/* Copies the text, in the place of one that was not taken. */
int inbox_list(struct inbox *s, const char *text, size_t len, struct err *e);
char *inbox_take_list(struct inbox *s); /* the caller's; NULL: none has come since */

#endif
