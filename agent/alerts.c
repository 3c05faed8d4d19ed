/*
 * alerts: a bucket's number is its time divided by its length, and its place that modulo the number
 * of buckets. When time goes on, buckets are left behind one by one, and each alert is looked at
 * between them: so what happens in a pause happens when it would have, whoever tells the time.
 */
#include "agent/alerts.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define CURVE_WINDOW_POINTS (ALERTS_POINTS / 4) /* in the longest window */

struct alert {
    const struct jobspec_alert *spec;
    int64_t width_ms, newest; /* of a bucket; the number of the newest */
    uint32_t texts[ALERTS_BUCKETS], hits[ALERTS_BUCKETS];
    int64_t text_sum, hit_sum;
    struct alerts_view is; /* but share and items */
};

struct alert_curve {
    char name[LIMIT_LABEL_BYTES];
    uint32_t texts[ALERTS_POINTS];
};

struct alerts {
    struct alert *list;
    int count;
    alerts_change_fn *change_fn;
    void *user;
    int64_t now_ms; /* -1: not told yet */
    int64_t step_ms, newest;
    uint32_t texts[ALERTS_POINTS];
    struct alert_curve labels[ALERTS_LABELS];
    int label_count;
};

int alerts_create(const struct jobspec_alert *list, int count, alerts_change_fn *change_fn,
    void *user, struct alerts **out, struct err *e)
{
    struct alerts *a = mem_zalloc(sizeof *a);
    struct alert *own = mem_array((size_t)count, sizeof *own);
    if (!a || !own) {
        mem_free(a);
        mem_free(own);
        return err_set(e, ERR_MEMORY, "no memory for alerts");
    }
    *a = (struct alerts){
        .list = own, .count = count, .change_fn = change_fn, .user = user, .now_ms = -1};
    for (int i = 0; i < count; i++) {
        int64_t window_ms = 1000 * (int64_t)list[i].window_seconds;
        own[i] = (struct alert){.spec = &list[i],
            .width_ms = window_ms / ALERTS_BUCKETS,
            .is = {.since_ms = -1, .fired_ms = -1, .resolved_ms = -1}};
        if (window_ms / CURVE_WINDOW_POINTS > a->step_ms)
            a->step_ms = window_ms / CURVE_WINDOW_POINTS;
    }
    *out = a;
    return 0;
}

void alerts_destroy(struct alerts *a)
{
    if (!a)
        return;
    mem_free(a->list);
    mem_free(a);
}

/* -- one alert -- */

static double share_of(const struct alert *x)
{
    return x->text_sum ? (double)x->hit_sum / (double)x->text_sum : 0;
}

static struct alerts_change change_of(const struct alerts *a, const struct alert *x, int64_t ms)
{
    return (struct alerts_change){.alert = x->spec,
        .index = (int)(x - a->list),
        .firing = x->is.firing,
        .ms = ms,
        .fired_ms = x->is.fired_ms,
        .share = share_of(x),
        .items = x->text_sum};
}

static void turn_alert(struct alerts *a, struct alert *x, bool firing, int64_t ms)
{
    x->is.firing = firing;
    x->is.since_ms = -1;
    *(firing ? &x->is.fired_ms : &x->is.resolved_ms) = ms;
    const struct alerts_change c = change_of(a, x, ms);
    a->change_fn(a->user, &c);
}

/* Nothing has changed in its window until ms. */
static void wait_alert(struct alerts *a, struct alert *x, int64_t ms)
{
    int64_t for_ms = 1000 * (int64_t)x->spec->for_seconds;
    if (!x->is.firing && x->is.since_ms >= 0 && ms - x->is.since_ms >= for_ms)
        turn_alert(a, x, true, x->is.since_ms + for_ms);
}

static void look_at_alert(struct alerts *a, struct alert *x, int64_t ms)
{
    double clear = x->spec->clear_share < 0 ? x->spec->share : x->spec->clear_share;
    double share = share_of(x);
    bool enough = x->text_sum >= x->spec->min_items;
    if (x->is.firing) {
        if (!enough || share < clear)
            turn_alert(a, x, false, ms);
        return;
    }
    if (!enough || share < x->spec->share)
        x->is.since_ms = -1;
    else if (x->is.since_ms < 0)
        x->is.since_ms = ms;
    wait_alert(a, x, ms);
}

static void leave_bucket(struct alert *x, int64_t number)
{
    int at = (int)(number % ALERTS_BUCKETS);
    x->text_sum -= x->texts[at];
    x->hit_sum -= x->hits[at];
    x->texts[at] = x->hits[at] = 0;
}

static void advance_alert(struct alerts *a, struct alert *x, int64_t now_ms)
{
    int64_t last = now_ms / x->width_ms;
    for (int64_t n = x->newest + 1; n <= last && n <= x->newest + ALERTS_BUCKETS; n++) {
        wait_alert(a, x, n * x->width_ms);
        leave_bucket(x, n);
        look_at_alert(a, x, n * x->width_ms);
    }
    x->newest = last;
    look_at_alert(a, x, now_ms);
}

static bool add_to_alert(struct alert *x, int64_t ms, const char *const *labels, int count)
{
    int64_t number = ms / x->width_ms;
    int at = (int)(number % ALERTS_BUCKETS);
    if (number <= x->newest - ALERTS_BUCKETS)
        return false;
    bool hit = false;
    for (int i = 0; i < count; i++)
        hit |= !strcmp(labels[i], x->spec->label);
    x->texts[at]++;
    x->hits[at] += hit;
    x->text_sum++;
    x->hit_sum += hit;
    return true;
}

/* -- the curves -- */

static void advance_curves(struct alerts *a, int64_t now_ms)
{
    int64_t last = now_ms / a->step_ms, first = a->newest + 1;
    if (first <= last - ALERTS_POINTS)
        first = last - ALERTS_POINTS + 1;
    for (int64_t n = first; n <= last; n++) {
        a->texts[n % ALERTS_POINTS] = 0;
        for (int i = 0; i < a->label_count; i++)
            a->labels[i].texts[n % ALERTS_POINTS] = 0;
    }
    a->newest = last;
}

static struct alert_curve *curve_of(struct alerts *a, const char *label)
{
    for (int i = 0; i < a->label_count; i++)
        if (!strcmp(a->labels[i].name, label))
            return &a->labels[i];
    if (a->label_count == ALERTS_LABELS)
        return NULL;
    struct alert_curve *c = &a->labels[a->label_count++];
    snprintf(c->name, sizeof c->name, "%s", label);
    return c;
}

static void add_to_curves(struct alerts *a, int64_t ms, const char *const *labels, int count)
{
    int64_t number = ms / a->step_ms;
    if (number <= a->newest - ALERTS_POINTS)
        return;
    a->texts[number % ALERTS_POINTS]++;
    for (int i = 0; i < count; i++) {
        struct alert_curve *c = curve_of(a, labels[i]);
        if (c)
            c->texts[number % ALERTS_POINTS]++;
    }
}

static void write_points(const struct alerts *a, const uint32_t *texts, struct jsonw *w)
{
    jsonw_open(w, "texts", '[');
    for (int64_t n = a->newest - ALERTS_POINTS + 1; n <= a->newest; n++)
        jsonw_int(w, NULL, n < 0 ? 0 : texts[n % ALERTS_POINTS]);
    jsonw_close(w);
}

void alerts_write_curves(const struct alerts *a, struct jsonw *w)
{
    jsonw_int(w, "stepMs", a->step_ms);
    jsonw_int(w, "lastMs", a->newest * a->step_ms);
    write_points(a, a->texts, w);
    jsonw_open(w, "labels", '[');
    for (int i = 0; i < a->label_count; i++) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "name", a->labels[i].name);
        write_points(a, a->labels[i].texts, w);
        jsonw_close(w);
    }
    jsonw_close(w);
}

/* -- all of them -- */

/* What is told first: nothing came before it. */
static void begin_at(struct alerts *a, int64_t now_ms)
{
    a->now_ms = now_ms;
    a->newest = now_ms / a->step_ms;
    for (int i = 0; i < a->count; i++)
        a->list[i].newest = now_ms / a->list[i].width_ms;
}

void alerts_advance(struct alerts *a, int64_t now_ms)
{
    if (now_ms < 0 || now_ms <= a->now_ms)
        return;
    if (a->now_ms < 0)
        begin_at(a, now_ms);
    a->now_ms = now_ms;
    advance_curves(a, now_ms);
    for (int i = 0; i < a->count; i++)
        advance_alert(a, &a->list[i], now_ms);
}

bool alerts_add(struct alerts *a, int64_t ms, const char *const *labels, int count)
{
    bool counted = false;
    if (ms < 0)
        return false;
    alerts_advance(a, ms);
    for (int i = 0; i < a->count; i++) {
        struct alert *x = &a->list[i];
        if (!add_to_alert(x, ms, labels, count))
            continue;
        counted = true;
        look_at_alert(a, x, a->now_ms);
    }
    add_to_curves(a, ms, labels, count);
    return counted;
}

int64_t alerts_now_ms(const struct alerts *a)
{
    return a->now_ms;
}

struct alerts_view alerts_view(const struct alerts *a, int index)
{
    struct alerts_view v = a->list[index].is;
    v.share = share_of(&a->list[index]);
    v.items = a->list[index].text_sum;
    return v;
}

bool alerts_last_change(const struct alerts *a, int index, struct alerts_change *out)
{
    const struct alert *x = &a->list[index];
    int64_t ms = x->is.firing ? x->is.fired_ms : x->is.resolved_ms;
    if (ms >= 0)
        *out = change_of(a, x, ms);
    return ms >= 0;
}

/* -- kept and taken up again -- */

static void write_counts(struct jsonw *w, const char *key, const uint32_t *counts)
{
    jsonw_open(w, key, '[');
    for (int i = 0; i < ALERTS_BUCKETS; i++)
        jsonw_int(w, NULL, counts[i]);
    jsonw_close(w);
}

void alerts_write(const struct alerts *a, struct jsonw *w)
{
    jsonw_int(w, "now", a->now_ms);
    jsonw_open(w, "alerts", '[');
    for (int i = 0; i < a->count; i++) {
        const struct alert *x = &a->list[i];
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "name", x->spec->name);
        jsonw_str(w, "label", x->spec->label);
        jsonw_int(w, "windowSeconds", x->spec->window_seconds);
        jsonw_int(w, "newest", x->newest);
        jsonw_bool(w, "firing", x->is.firing);
        jsonw_int(w, "since", x->is.since_ms);
        jsonw_int(w, "fired", x->is.fired_ms);
        jsonw_int(w, "resolved", x->is.resolved_ms);
        write_counts(w, "texts", x->texts);
        write_counts(w, "hits", x->hits);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static bool read_counts(const struct json *v, const char *key, uint32_t *out, int64_t *sum)
{
    const struct json *list = json_get(v, key);
    int n = 0;
    *sum = 0;
    if (!json_is_array(list) || json_count(list) != ALERTS_BUCKETS)
        return false;
    json_each (one, list) {
        double x = json_number_value(one);
        if (!json_is_number(one) || !(x >= 0 && x <= INT32_MAX) || x != floor(x))
            return false;
        out[n++] = (uint32_t)x;
        *sum += (uint32_t)x;
    }
    return true;
}

/* x: all but what it is made of is read. */
static bool read_alert(const struct json *v, struct alert *x, int64_t now_ms)
{
    if (strcmp(json_str(v, "label", ""), x->spec->label) != 0 ||
        json_int(v, "windowSeconds", 0) != x->spec->window_seconds ||
        !read_counts(v, "texts", x->texts, &x->text_sum) ||
        !read_counts(v, "hits", x->hits, &x->hit_sum))
        return false;
    for (int i = 0; i < ALERTS_BUCKETS; i++)
        if (x->hits[i] > x->texts[i])
            return false;
    x->newest = json_int(v, "newest", -1);
    x->is = (struct alerts_view){.firing = json_bool(v, "firing", false),
        .since_ms = json_int(v, "since", -1),
        .fired_ms = json_int(v, "fired", -1),
        .resolved_ms = json_int(v, "resolved", -1)};
    return x->newest == now_ms / x->width_ms && x->is.since_ms <= now_ms &&
        x->is.fired_ms <= now_ms && x->is.resolved_ms <= now_ms &&
        (!x->is.firing || x->is.fired_ms >= 0);
}

static const struct json *find_alert(const struct json *list, const char *name)
{
    json_each (one, list)
        if (!strcmp(json_str(one, "name", ""), name))
            return one;
    return NULL;
}

bool alerts_read(struct alerts *a, const struct json *v)
{
    int64_t now_ms = json_int(v, "now", -1);
    bool all = true;
    if (now_ms < 0)
        return false;
    begin_at(a, now_ms);
    for (int i = 0; i < a->count; i++) {
        struct alert *x = &a->list[i], read = *x;
        const struct json *kept = find_alert(json_get(v, "alerts"), x->spec->name);
        bool same = kept && read_alert(kept, &read, now_ms);
        if (same)
            *x = read;
        all &= same;
    }
    return all;
}
