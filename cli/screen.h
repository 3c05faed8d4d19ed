/*
 * screen: what a person sees of a job, as text. Pure: facts in, text out; no terminal, clock or
 * subprocess.
 *
 * screen_draw gives a whole picture of at most `height` lines of `width` columns for a terminal
 * that is redrawn; screen_tell gives only what is new since the last call, a line each, for a log.
 * Both borrow everything.
 */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include "api/jobspec.h"
#include "api/report.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define SCREEN_EVENTS 64
#define SCREEN_TRIALS 512

struct screen_event {
    int64_t ms; /* wall */
    bool warning;
    const char *reason, *message;
    int count; /* how often it was seen */
};

struct screen_trial { /* a run of a search */
    int index, rung;
    const char *state, *parameters;
    double value; /* NaN: none yet */
};

struct screen {
    const char *name, *namespace_; /* namespace_ "": standalone */
    const char *task;              /* "Train" */
    const char *state;             /* "Running"; status.state or the report's */
    const char *why;               /* a sentence when the job waits or failed, or "" */
    const char *layout;            /* "dp2" */
    int ready, replicas;           /* of a search: trials that are over, and all */
    struct screen_trial *trials;   /* of a search, by rung, then index */
    int trial_count, trial_best;   /* best: its index; -1: none */
    bool searches;
    struct report report;
    struct screen_event events[SCREEN_EVENTS]; /* oldest first */
    int event_count;
    int64_t now_ms;   /* wall */
    const char *hint; /* last line, or "" */
};

struct screen_style {
    int width, height;
    bool colour;
};

int screen_draw(const struct screen *s, const struct screen_style *style, struct buf *out);

/* What screen_tell has told; zero it before the first call. */
struct screen_told {
    char state[64], why[256], layout[REPORT_LAYOUT_BYTES];
    int ready, replicas;
    int64_t step, step_ms, checkpoint_step;
    double validation_loss;
    int64_t attempt, ended; /* greatest attempt, and greatest attempt whose end was told */
    int64_t verdict_ms;
    int64_t fired_ms[LIMIT_ALERTS], resolved_ms[LIMIT_ALERTS]; /* of the report's alerts */
    char damaged[LIMIT_NAME_BYTES];
    char layout_reason[LIMIT_REASON_BYTES], layout_balance[LIMIT_REASON_BYTES];
    uint64_t events[2 * SCREEN_EVENTS]; /* hashes of the newest told, a ring */
    unsigned event_next;
    char address[LIMIT_ADDRESS_BYTES];
    bool began;
};
int screen_tell(const struct screen *s, struct screen_told *told, struct buf *out);

/* "dp2 x tp4", "dp1" for one rank, "" for none. */
/* Blocks of eight heights, the lowest value the lowest block; NaN is a space. */
int screen_sparkline(const double *values, int count, struct buf *out);
/* "45s", "3m20s", "2h05m", "4d" */
void screen_duration(int64_t ms, char *out, size_t size);

#endif
