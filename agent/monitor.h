/*
 * monitor: a served classifier watches streams of texts (spec.serve.classify): what clients post to
 * /v1/monitor, line by line, and what a source brings that is followed (agent/follow). Its labels
 * go to alerts (agent/alerts), whose changes are told to webhooks (agent/hooks), to the log, in
 * metrics and in the report, from which the controller makes Events.
 *
 *   POST /v1/monitor   lines as agent/monitor_line reads them, 1 MiB in all; each is answered by
 *                      a line, in chunks as they come
 *   GET /v1/monitor    the windows, the curves and the alerts, as the page /monitor shows them
 *
 * Texts go to the rank as requests to classify, MONITOR_TEXTS at most, of each stream one at a time
 * and LIMIT_RANK_WATCHING in all; a stream whose client does not take its answers waits. Time is
 * the stream's: the latest that a line told, and, while nothing waits to be read and the rank is
 * there, what has passed since but for MONITOR_GRACE_MS; so what comes of lines that were recorded
 * does not depend on how fast they are read.
 *
 * No disk is waited for but when a monitor ends: the source is read (agent/intake) and the state
 * kept (agent/saver) beside the loop. Of folders that do not answer the log, metrics and GET tell.
 *
 * Windows, and how far the source was read, are kept in one file, together: after a break each text
 * of the source counts once. One who has them at a time: the next waits. Functions that take a
 * monitor take NULL, and do nothing. One loop.
 */
#ifndef AGENT_MONITOR_H
#define AGENT_MONITOR_H

#include "api/jobspec.h"
#include "api/report.h"
#include "api/wire.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/web.h"

#include <stdbool.h>
#include <stdint.h>

#define MONITOR_STREAMS  32                  /* of clients, at once */
#define MONITOR_TEXTS    32                  /* of a request to the rank, */
#define MONITOR_BYTES    (128 << 10)         /* or, beyond the first, so many of texts */
#define MONITOR_LEFT     (256 << 10)         /* of answers not taken, with which a stream waits */
#define MONITOR_GRACE_MS 2000                /* that lines may be apart */
#define MONITOR_ID       ((uint64_t)1 << 51) /* of its requests, upward */

struct monitor;

/* spec is borrowed; job_dir: of the job file; run_dir: where the state is kept that names no
 * folder. *out NULL: the job watches nothing. */
int monitor_create(const struct jobspec *spec, const char *job_dir, const char *run_dir,
    struct monitor **out, struct err *e);
/* Keeps its state. */
void monitor_destroy(struct monitor *m);

void monitor_set_rank(struct monitor *m,
    int (*send_fn)(void *user, enum wire_type type, const char *json), void *user);
void monitor_ready(struct monitor *m); /* the rank takes requests */
/* It is gone: clients' streams end, what was followed is asked again. */
void monitor_lost(struct monitor *m);
void monitor_drain(struct monitor *m); /* no further streams, nor texts of the source */
/* False: the frame is not of the monitor's requests. */
bool monitor_frame(struct monitor *m, const struct wire_frame *frame);
/* At OPENAI_LINE's path, of a client that may ask. */
void monitor_request(struct monitor *m, struct web_exchange *x);
void monitor_tick(struct monitor *m, int64_t now_ms);
/* Its alerts into the report, which is otherwise whole; in the arena. */
int monitor_report(const struct monitor *m, struct arena *a, struct report *out, struct err *e);
int monitor_streams(const struct monitor *m); /* of clients */
int monitor_at_rank(const struct monitor *m); /* requests */

#endif
