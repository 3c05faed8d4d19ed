/*
 * monitor_internal: the state of a monitor, which monitor.c (streams and the rank), monitor_keep.c
 * (what outlives it) and monitor_tell.c (what is told of it) share.
 */
#ifndef AGENT_MONITOR_INTERNAL_H
#define AGENT_MONITOR_INTERNAL_H

#include "agent/alerts.h"
#include "agent/hooks.h"
#include "agent/monitor.h"
#include "agent/monitor_line.h"
#include "agent/intake.h"
#include "agent/saver.h"

struct watched { /* a client's stream */
    struct monitor *m;
    struct watched *next;
    struct web_exchange *x;
    size_t at; /* of its body: read so far */
    int64_t lines;
    bool begun, asks; /* answers; of it something is at the rank */
};

struct watched_batch {  /* lines that the rank is asked about together */
    uint64_t id;        /* 0: free */
    struct watched *of; /* NULL: the source's, or its client has gone */
    bool source, sent;
    struct monitor_line lines[MONITOR_TEXTS];
    int count, texts; /* of these, those with a text */
    size_t bytes;
    struct buf frame, said;
};

struct monitor {
    const struct jobspec *spec;
    int (*send_fn)(void *user, enum wire_type type, const char *json);
    void *user;
    bool ready, draining;
    struct alerts *alerts;
    struct hooks *hooks;
    struct intake *intake; /* NULL: no source */
    struct watched *streams;
    int stream_count;
    struct watched_batch batches[LIMIT_RANK_WATCHING];
    uint64_t next_id;
    int64_t now_ms;             /* monotonic, of the last tick */
    int64_t said_ms, heard_ms;  /* the latest time of a line, and when that came; -1: none yet */
    int64_t texts, wrong, late; /* lines so far */
    struct intake_view source;  /* of the last tick */
    /* what is kept */
    struct saver *saver;
    bool held; /* it is this monitor's to keep, and was taken up */
    bool changed, late_said;
    int64_t claim_due_ms, keep_due_ms;
};

/* -- monitor_keep.c -- */
int monitor_keep_create(struct monitor *m, const char *run_dir, struct err *e);
/* Takes what was kept, once nobody else has it; keeps what has changed, now and then. */
void monitor_keep_tick(struct monitor *m);
void monitor_keep_end(struct monitor *m);

/* -- monitor_tell.c -- */
void monitor_tell_register(const struct monitor *m); /* metrics */
void monitor_tell_text(const char *label);
void monitor_tell_measure(const struct monitor *m);
void monitor_tell_state(const struct monitor *m, struct buf *out); /* the body of GET */

#endif
