/*
 * metric: a list of registered metrics and their text. Values are kept in thousandths in an
 * integer, so that updates are single relaxed atomic additions from any thread. Metrics of one name
 * that differ in labels are printed as one family if they were registered one after the other.
 */
#include "base/metric.h"

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define BUCKETS 12
static const double bounds[BUCKETS - 1] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
static const char *const bound_names[BUCKETS] = {
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"};

static struct metric *first;

void metric_register(struct metric *m)
{
    struct metric **at = &first;
    for (; *at; at = &(*at)->next)
        if (*at == m)
            return;
    m->next = NULL;
    *at = m;
}

static int64_t milli(double v)
{
    return llround(v * 1000);
}

void metric_add(struct metric *m, double v)
{
    atomic_fetch_add_explicit(&m->value_milli, milli(v), memory_order_relaxed);
}

void metric_set(struct metric *m, double v)
{
    atomic_store_explicit(&m->value_milli, milli(v), memory_order_relaxed);
}

void metric_observe(struct metric *m, double v)
{
    int i = 0;
    while (i < BUCKETS - 1 && !(v <= bounds[i]))
        i++;
    atomic_fetch_add_explicit(&m->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->sum_milli, milli(v), memory_order_relaxed);
}

static int64_t load(const _Atomic int64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static void print_milli(struct buf *out, int64_t v)
{
    unsigned long long a = v < 0 ? -(unsigned long long)v : (unsigned long long)v;
    buf_printf(out, "%s%llu", v < 0 ? "-" : "", a / 1000);
    if (a % 1000)
        buf_printf(out, ".%03llu", a % 1000);
    buf_char(out, '\n');
}

static void print_plain(
    struct buf *out, const struct metric *m, const char *suffix, int64_t value_milli)
{
    buf_printf(out, "%s%s", m->name, suffix);
    if (m->labels)
        buf_printf(out, "{%s}", m->labels);
    buf_char(out, ' ');
    print_milli(out, value_milli);
}

static const struct metric *values_of(const struct metric *m)
{
    return m->of ? m->of : m;
}

/* One pass over the buckets, so that count and the last bucket agree while others observe. */
static void print_histogram(struct buf *out, const struct metric *m)
{
    const struct metric *values = values_of(m);
    int64_t total = 0;
    for (int i = 0; i < BUCKETS; i++) {
        total += load(&values->bucket[i]);
        buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %lld\n", m->name, m->labels ? m->labels : "",
            m->labels ? "," : "", bound_names[i], (long long)total);
    }
    print_plain(out, m, "_sum", load(&values->sum_milli));
    print_plain(out, m, "_count", total * 1000);
}

void metric_print(struct buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    const char *family = "";
    for (const struct metric *m = first; m; m = m->next) {
        if (strcmp(family, m->name))
            buf_printf(
                out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, kinds[m->kind]);
        family = m->name;
        if (m->kind == METRIC_HISTOGRAM)
            print_histogram(out, m);
        else
            print_plain(out, m, "", load(&values_of(m)->value_milli));
    }
}
