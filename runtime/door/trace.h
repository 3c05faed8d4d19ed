/*
 * trace: where a rank's time goes in some of its steps: a file of Chrome's trace format (the "Trace
 * Event Format" of Google, 2016: complete events), which chrome://tracing and ui.perfetto.dev show.
 * Times are of the wall clock, so files of several ranks may be looked at together.
 *
 * A span is begun and ended by one thread; those of a line lie one in another. Two threads may end
 * spans at once. NULL, or a step that nobody wants to see: a call costs a look at a flag. What is
 * recorded has room from the start; what there is no room for is counted. On a device that computes
 * on, spans are the host's: what it starts, and what it waits for.
 */
#ifndef RUNTIME_DOOR_TRACE_H
#define RUNTIME_DOOR_TRACE_H

#include "base/err.h"

#include <stdint.h>

enum trace_line { /* a thread's row in the picture */
    TRACE_RANK,   /* the thread that owns the model */
    TRACE_NETWORK /* reductions that are under way beside it */
};

struct trace;
struct trace_conf {
    const char *path; /* of the file, copied */
    int rank;
    int64_t from_step, steps; /* which */
};
int trace_create(const struct trace_conf *conf, struct trace **out, struct err *e);
void trace_destroy(struct trace *t);

/* A step begins; step 0: none will. Ends the one before it, with all that followed it, and writes
   the file when that was the last one. No span is open, and no other thread ends one. */
int trace_step(struct trace *t, int64_t step, struct err *e);

/* ns of the beginning, for trace_end; 0: not recorded. */
int64_t trace_begin(const struct trace *t);
/* name and what, of the one number that it tells ("bytes"), are literals; what NULL: none. */
void trace_end(struct trace *t, int64_t begun, enum trace_line line, const char *name,
    const char *what, int64_t number);

#endif
