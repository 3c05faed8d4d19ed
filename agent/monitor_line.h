/*
 * monitor_line: what a line of a watched stream is, and what is answered to it. A line is a JSON
 * object whose members are those of OPENAI_LINE (agent/openai.h); others mean nothing. Pure.
 */
#ifndef AGENT_MONITOR_LINE_H
#define AGENT_MONITOR_LINE_H

#include "base/buf.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MONITOR_LINE_BYTES (256 << 10) /* of one */
#define MONITOR_ID_BYTES   200         /* of an id as JSON, plus NUL */
#define MONITOR_AHEAD_MS   60000       /* that a time may be ahead of this machine's */

struct monitor_line {
    int64_t index;             /* in its stream, from 0 */
    int64_t ms;                /* since 1970 */
    char id[MONITOR_ID_BYTES]; /* as JSON; "": none */
    char wrong[128];           /* why it is none; "": nothing is wrong */
};

/* Of the JSON that it was made of, *tree, which the caller destroys also when something is wrong,
 * *text is borrowed. All but out->index is set. */
void monitor_line_read(const char *line, size_t len, int64_t wall_ms, struct monitor_line *out,
    struct json **tree, const char **text);

/* {"index", "id", "time", "label", "labels", "probs"} and a line's end; element: of /v1/classify's
 * list; NULL: {"index", "id", "error"}, which is what is wrong with it, or else `why`. */
void monitor_line_answer(
    const struct monitor_line *l, const struct json *element, const char *why, struct buf *out);

#endif
