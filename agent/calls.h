/*
 * calls: an answer's text, as the model writes it, becomes what is said and which tools are called.
 * Pure, and byte by byte: however the text is cut, the same calls and the same words come of it.
 *
 * A call is told when it is whole: what only looks like one (another form, JSON that is none, a
 * name that is no string, an end too early, more than CALLS_BYTES) is text, every byte of it. White
 * space around calls is neither. The forms are wire_calls'; their objects have a name and
 * `arguments` or `parameters`, which are an object, and leave as they were written.
 */
#ifndef AGENT_CALLS_H
#define AGENT_CALLS_H

#include "base/buf.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stddef.h>

#define CALLS_MOST  64          /* of an answer; later ones are left out */
#define CALLS_BYTES (256 << 10) /* of one as it is written; of Mistral's, of all */

struct calls_call {
    char *name, *arguments; /* the arguments are an object, as JSON */
};

enum calls_state {
    CALLS_TEXT,   /* held: white space */
    CALLS_OPEN,   /* held: that, and the beginning of what opens a call */
    CALLS_BEFORE, /* that is whole, its JSON has not begun */
    CALLS_JSON,
    CALLS_CLOSE, /* the JSON is whole; the beginning of what closes it, behind white space */
    CALLS_REST   /* no call may follow */
};

struct calls {
    enum wire_calls form;
    int most;        /* that are told, at most CALLS_MOST; later ones are left out */
    struct buf text; /* what is said and was not taken yet: the caller drops it */
    struct calls_call call[CALLS_MOST];
    int count;
    size_t bytes; /* of all calls */
    enum calls_state state;
    struct buf held;  /* what may be a call */
    size_t matched;   /* bytes of what opens, or closes */
    size_t json, end; /* where in held its JSON stands */
    int depth;        /* of it */
    bool string, escape;
    bool no_memory;
};

void calls_init(struct calls *c, enum wire_calls form, int most);
void calls_done(struct calls *c);
/* The text goes on. -ERR_MEMORY, also for text beyond a MiB that nobody took. */
int calls_add(struct calls *c, const char *bytes, size_t len);
/* It has ended: what was held is a call or text. */
int calls_end(struct calls *c);

#endif
