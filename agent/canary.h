/*
 * canary: the request that an agent asks itself, and a served model answers, before any client's is
 * taken: so a pod is ready when a token, or what was read of a text, has come all the way. Pure: a
 * frame out, frames in.
 */
#ifndef AGENT_CANARY_H
#define AGENT_CANARY_H

#include "api/wire.h"
#include "base/buf.h"
#include "base/err.h"

#define CANARY_ID ((uint64_t)1 << 50) /* beyond all that clients' requests get */
#define CANARY_MS 60000 /* a model that has not answered by then hangs, however busy it looks */

enum canary_says {
    CANARY_NOTHING, /* the frame is of another request */
    CANARY_MORE,    /* it is of this one, which goes on */
    CANARY_ANSWERED,
    CANARY_REFUSED, /* it is answered, but not with a token */
};

/* The payload of WIRE_REQUEST to a model that does that. */
int canary_write(enum wire_does does, struct buf *out, struct err *e);
/* frame: of WIRE_TOKEN, WIRE_LOGPROBS or WIRE_FINISHED; why: filled with what was refused. */
enum canary_says canary_hear(const struct wire_frame *frame, char why[256]);

#endif
