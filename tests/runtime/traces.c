/*
 * traces: see traces.h. Times of so many microseconds since 1970 are rounded to a quarter of one.
 */
#include "tests/runtime/traces.h"

#include "base/json.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT   (16 << 20)
#define ROUNDED 1.0 /* us */

/* Of two that begin at once the longer one holds the other. */
static int by_place(const void *a, const void *b)
{
    const struct traces_span *x = a, *y = b;
    if (x->line != y->line)
        return x->line - y->line;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end < y->end) - (x->end > y->end);
}

static void read_span(struct traces *t, const struct json *v)
{
    ck_assert_int_lt(t->count, TRACES_MAX);
    struct traces_span *s = &t->span[t->count++];
    double begin = json_num(v, "ts", -1), us = json_num(v, "dur", -1);
    ck_assert(begin > 0 && us >= 0);
    *s = (struct traces_span){.line = (int)json_int(v, "tid", -1),
        .begin = begin,
        .end = begin + us,
        .number = -1,
        .inside = -1};
    ck_assert_int_eq(json_int(v, "pid", -1), t->rank);
    snprintf(s->name, sizeof s->name, "%s", json_str(v, "name", ""));
    const struct json *args = json_get(v, "args");
    if (args) {
        ck_assert_uint_eq(json_count(args), 1);
        s->number = (int64_t)json_number_value(json_first(args));
    }
}

static void nest(struct traces *t)
{
    int at = -1; /* the innermost that is open */
    for (int i = 0; i < t->count; i++) {
        struct traces_span *s = &t->span[i];
        while (
            at >= 0 && (t->span[at].line != s->line || t->span[at].end <= s->begin + ROUNDED / 2))
            at = t->span[at].inside;
        ck_assert_msg(at < 0 || s->end <= t->span[at].end + ROUNDED,
            "%s, %.1f to %.1f, ends behind %s, which it begins in", s->name, s->begin, s->end,
            at < 0 ? "" : t->span[at].name);
        s->inside = at;
        at = i;
    }
}

void traces_read(const char *path, struct traces *t)
{
    struct err e = {0};
    json_auto struct json *tree = NULL;
    ck_assert_msg(!json_read_file(path, LIMIT, &tree, &e), "%s: %s", path, e.text);
    *t = (struct traces){.lost = (int)json_int(json_get(tree, "otherData"), "lost", -1)};
    const struct json *events = json_get(tree, "traceEvents");
    ck_assert(json_is_array(events));
    t->rank = (int)json_int(json_first(events), "pid", -1);
    for (const struct json *v = json_first(events); v; v = json_next(v))
        if (!strcmp(json_str(v, "ph", ""), "X"))
            read_span(t, v);
        else
            ck_assert_str_eq(json_str(v, "ph", ""), "M");
    qsort(t->span, (size_t)t->count, sizeof *t->span, by_place);
    nest(t);
}

int traces_count(const struct traces *t, const char *name, const char *in, int line)
{
    int n = 0;
    for (int i = 0; i < t->count; i++) {
        int at = i;
        while (in && (at = t->span[at].inside) >= 0 && strcmp(t->span[at].name, in) != 0) {
        }
        n += !strcmp(t->span[i].name, name) && at >= 0 && (line < 0 || t->span[i].line == line);
    }
    return n;
}
