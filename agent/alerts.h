/*
 * alerts: what the labels of a stream come to: windows of counts, and alerts that fire and resolve
 * (spec.serve.classify.alerts). Pure: the time is told, and never goes back; the same texts at the
 * same times give the same changes at the same times, however often time is told in between.
 *
 * A window is ALERTS_BUCKETS buckets of equal length, of which the newest is being filled: so it
 * reaches back windowSeconds, less at most a sixtieth. An alert is alarming while at least minItems
 * texts are in its window and the share with its label is at least `share`. It fires when that has
 * been so for forSeconds, and resolves when fewer texts are there or the share is below
 * `clearShare`. Each text counts at its own time, also when it comes late; one that is older than a
 * window counts for none there.
 */
#ifndef AGENT_ALERTS_H
#define AGENT_ALERTS_H

#include "api/jobspec.h"
#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define ALERTS_BUCKETS 60
#define ALERTS_LABELS  32 /* that are told apart in the curves; texts with others count there too */
#define ALERTS_POINTS  120 /* of a curve, that cover four times the longest window */

struct alerts;

struct alerts_change {
    const struct jobspec_alert *alert;
    int index; /* of it */
    bool firing;
    int64_t ms;       /* when, by the stream's time */
    int64_t fired_ms; /* when it fired: that, if it is firing */
    double share;     /* of the window then, */
    int64_t items;    /* and its texts */
};
typedef void alerts_change_fn(void *user, const struct alerts_change *c);

struct alerts_view { /* of one alert */
    bool firing;
    int64_t since_ms;              /* alarming, and not yet firing, since then; -1: it is not */
    int64_t fired_ms, resolved_ms; /* last; -1: never */
    double share;                  /* of the window; 0 of an empty one */
    int64_t items;
};

/* list (count) is borrowed. change_fn hears of each change within the call that brings it. */
int alerts_create(const struct jobspec_alert *list, int count, alerts_change_fn *change_fn,
    void *user, struct alerts **out, struct err *e);
void alerts_destroy(struct alerts *a);

/* It is now_ms; what is earlier than was told before changes nothing. */
void alerts_advance(struct alerts *a, int64_t now_ms);
/* A text of that time has these labels. False: it is older than each window. */
bool alerts_add(struct alerts *a, int64_t ms, const char *const *labels, int count);

int64_t alerts_now_ms(const struct alerts *a); /* -1: nothing was told yet */
struct alerts_view alerts_view(const struct alerts *a, int index);
/* A change that brought the alert to what it is now; false: there was none. */
bool alerts_last_change(const struct alerts *a, int index, struct alerts_change *out);
/* The curves, into the object that w has open: {"stepMs", "lastMs", "texts": [n ...], "labels":
 * [{"name", "texts": [n ...]}]}, the oldest first. */
void alerts_write_curves(const struct alerts *a, struct jsonw *w);

/* All but the curves, into the object that w has open; and back. What is of an alert that is
 * another now, or damaged, is left alone: false. */
void alerts_write(const struct alerts *a, struct jsonw *w);
bool alerts_read(struct alerts *a, const struct json *v);

#endif
