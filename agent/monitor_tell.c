/*
 * monitor_tell: metrics of labels are made as labels come, so many at most; they are never taken
 * back, as metrics are not.
 */
#include "agent/monitor_internal.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/metric.h"

#include <string.h>

#define LABELS_BYTES (2 * LIMIT_LABEL_BYTES + 32) /* of a metric */

struct told_metric {
    struct metric metric;
    char text[LABELS_BYTES];
    char label[LIMIT_LABEL_BYTES];
};

static struct {
    struct told_metric share[LIMIT_ALERTS], firing[LIMIT_ALERTS], texts[ALERTS_LABELS];
    int label_count;
} told;

static struct metric wrong = {.name = NAME_METRIC_WATCH_WRONG,
    .help = "Lines of watched streams that were no texts, or were not classified",
    .kind = METRIC_COUNTER};
static struct metric late = {.name = NAME_METRIC_WATCH_LATE,
    .help = "Texts of watched streams that were older than each window",
    .kind = METRIC_COUNTER};
static struct metric source_late = {.name = NAME_METRIC_WATCH_SOURCE,
    .help = "Seconds for which the source that is watched has not answered; 0: it does",
    .kind = METRIC_GAUGE};
static struct metric state_late = {.name = NAME_METRIC_WATCH_STATE,
    .help = "Seconds for which the folder of what is watched has not answered; 0: it does",
    .kind = METRIC_GAUGE};
static struct metric delivered = {.name = NAME_METRIC_HOOKS_DELIVERED,
    .help = "Changes of alerts that webhooks have taken",
    .kind = METRIC_COUNTER};
static struct metric dropped = {.name = NAME_METRIC_HOOKS_DROPPED,
    .help = "Changes of alerts that were told to no webhook in the end",
    .kind = METRIC_COUNTER};

/* As the text format wants it. */
static void quote(const char *name, const char *value, char out[LABELS_BYTES])
{
    size_t at = (size_t)snprintf(out, LABELS_BYTES, "%s=\"", name);
    for (; *value && at < LABELS_BYTES - 4; value++) {
        if (*value == '"' || *value == '\\' || *value == '\n')
            out[at++] = '\\';
        out[at++] = *value == '\n' ? 'n' : *value;
    }
    snprintf(out + at, LABELS_BYTES - at, "\"");
}

static void add_metric(struct told_metric *l, const char *name, const char *help,
    enum metric_kind kind, const char *key, const char *value)
{
    snprintf(l->label, sizeof l->label, "%s", value);
    quote(key, value, l->text);
    if (l->metric.name) /* of a monitor before this one */
        return;
    l->metric = (struct metric){.name = name, .help = help, .kind = kind, .labels = l->text};
    metric_register(&l->metric);
}

void monitor_tell_register(const struct monitor *m)
{
    const struct jobspec_alert *list = m->spec->serve.classify.alerts;
    int n = m->spec->serve.classify.alert_count;
    struct metric *plain[] = {&wrong, &late, &source_late, &state_late, &delivered, &dropped};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        metric_register(plain[i]);
    for (int i = 0; i < n; i++)
        add_metric(&told.share[i], NAME_METRIC_ALERT_SHARE,
            "Share of an alert's label among the texts of its window", METRIC_GAUGE, "alert",
            list[i].name);
    for (int i = 0; i < n; i++)
        add_metric(&told.firing[i], NAME_METRIC_ALERT_FIRING, "1 while the alert fires",
            METRIC_GAUGE, "alert", list[i].name);
}

void monitor_tell_text(const char *label)
{
    int i = 0;
    while (i < told.label_count && strcmp(told.texts[i].label, label) != 0)
        i++;
    if (i == ALERTS_LABELS)
        return;
    if (i == told.label_count) {
        add_metric(&told.texts[i], NAME_METRIC_WATCH_TEXTS,
            "Texts of watched streams by their labels", METRIC_COUNTER, "label", label);
        told.label_count++;
    }
    metric_add(&told.texts[i].metric, 1);
}

void monitor_tell_measure(const struct monitor *m)
{
    int64_t yes = 0, no = 0;
    for (int i = 0; i < m->spec->serve.classify.alert_count; i++) {
        const struct alerts_view v = alerts_view(m->alerts, i);
        const struct hooks_view h = hooks_view(m->hooks, i);
        metric_set(&told.share[i].metric, v.share);
        metric_set(&told.firing[i].metric, v.firing);
        yes += h.delivered;
        no += h.dropped;
    }
    metric_set(&wrong, (double)m->wrong);
    metric_set(&late, (double)m->late);
    metric_set(&source_late, (double)(m->source.late_ms / 1000));
    metric_set(&state_late, (double)(saver_late_ms(m->saver) / 1000));
    metric_set(&delivered, (double)yes);
    metric_set(&dropped, (double)no);
}

/* -- the state, as JSON -- */

static void write_time(struct jsonw *w, const char *key, int64_t ms)
{
    char text[40];
    if (ms < 0) {
        jsonw_null(w, key);
        return;
    }
    clock_format(ms, text, sizeof text);
    jsonw_str(w, key, text);
}

static void write_alert(const struct monitor *m, int i, struct jsonw *w)
{
    const struct jobspec_alert *a = &m->spec->serve.classify.alerts[i];
    const struct alerts_view v = alerts_view(m->alerts, i);
    const struct hooks_view h = hooks_view(m->hooks, i);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", a->name);
    jsonw_str(w, "label", a->label);
    jsonw_str(w, "state", v.firing ? "firing" : v.since_ms >= 0 ? "pending" : "inactive");
    jsonw_num(w, "share", v.share);
    jsonw_int(w, "texts", v.items);
    write_time(w, "since", v.since_ms);
    write_time(w, "fired", v.fired_ms);
    write_time(w, "resolved", v.resolved_ms);
    jsonw_int(w, "windowSeconds", a->window_seconds);
    jsonw_num(w, "fireShare", a->share);
    jsonw_num(w, "clearShare", a->clear_share < 0 ? a->share : a->clear_share);
    jsonw_int(w, "forSeconds", a->for_seconds);
    jsonw_int(w, "minItems", a->min_items);
    if (a->webhook) { /* not where: whoever has a key may read this */
        jsonw_open(w, "webhook", '{');
        jsonw_int(w, "waiting", h.waiting);
        jsonw_int(w, "delivered", h.delivered);
        jsonw_int(w, "retried", h.retried);
        jsonw_int(w, "dropped", h.dropped);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static void write_disk(
    struct jsonw *w, const char *key, const char *state, int64_t late_ms, const char *message)
{
    jsonw_open(w, key, '{');
    jsonw_str(w, "state", late_ms ? "late" : state);
    jsonw_int(w, "lateSeconds", late_ms / 1000);
    jsonw_str(w, "message", message);
    jsonw_close(w);
}

static void write_disks(const struct monitor *m, struct jsonw *w)
{
    const struct intake_view *v = &m->source;
    const char *state = !v->begun ? "waiting"
        : v->fails.code           ? "failing"
        : v->behind               ? "reading"
                                  : "read";
    if (m->intake)
        write_disk(w, "source", state, v->late_ms, v->fails.code ? v->fails.text : "");
    else
        jsonw_null(w, "source");
    write_disk(w, "kept", m->held ? "kept" : "waiting", saver_late_ms(m->saver), "");
}

void monitor_tell_state(const struct monitor *m, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "object", "monitor");
    jsonw_str(&w, "model", m->spec->serve.model_name);
    write_time(&w, "now", alerts_now_ms(m->alerts));
    jsonw_int(&w, "texts", m->texts);
    jsonw_int(&w, "wrong", m->wrong);
    jsonw_int(&w, "late", m->late);
    jsonw_int(&w, "streams", m->stream_count);
    write_disks(m, &w);
    jsonw_open(&w, "alerts", '[');
    for (int i = 0; i < m->spec->serve.classify.alert_count; i++)
        write_alert(m, i, &w);
    jsonw_close(&w);
    jsonw_open(&w, "curves", '{');
    alerts_write_curves(m->alerts, &w);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}

/* -- the report -- */

/* The same for as long as it is so. */
static const char *what_ails(const struct monitor *m)
{
    if (m->source.late_ms)
        return "the source does not answer";
    if (m->source.fails.code)
        return "the source cannot be read";
    return saver_late_ms(m->saver) ? "the folder of what is watched does not answer" : "";
}

int monitor_report(const struct monitor *m, struct arena *a, struct report *out, struct err *e)
{
    int n = m ? m->spec->serve.classify.alert_count : 0;
    struct report_alert *list = n ? arena_array(a, (size_t)n, sizeof *list) : NULL;
    if (n && !list)
        return err_set(e, ERR_MEMORY, "out of memory for the report");
    for (int i = 0; i < n; i++) {
        const struct alerts_view v = alerts_view(m->alerts, i);
        list[i] = (struct report_alert){.name = m->spec->serve.classify.alerts[i].name,
            .firing = v.firing,
            .fired_ms = v.fired_ms > 0 ? v.fired_ms : 0,
            .resolved_ms = v.resolved_ms > 0 ? v.resolved_ms : 0,
            .message = what_ails(m)};
    }
    out->alerts = list;
    out->alert_count = n;
    return 0;
}
