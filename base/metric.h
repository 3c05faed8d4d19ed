/*
 * metric: counters, gauges and histograms in Prometheus' text format. Registered once at start (a
 * static table), updated with relaxed atomics from any thread, printed by metric_print.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "base/buf.h"

#include <stdint.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    const char *name; /* llmjob_..., units last: _seconds, _bytes, _total */
    const char *help;
    enum metric_kind kind;
    const char *labels;          /* fixed, "verb=\"get\"", or NULL */
    const struct metric *of;     /* another name for its values, or NULL; not updated itself */
    _Atomic int64_t value_milli; /* thousandths */
    _Atomic int64_t sum_milli;
    _Atomic int64_t bucket[12]; /* histogram: le 0.005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 +Inf */
    struct metric *next;
};

void metric_register(struct metric *m); /* at start, before threads */
void metric_add(struct metric *m, double v);
void metric_set(struct metric *m, double v);
void metric_observe(struct metric *m, double v);
void metric_print(struct buf *out);

#endif
