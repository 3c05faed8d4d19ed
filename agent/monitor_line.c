/*
 * monitor_line: a time is in seconds where it is a number, as most programs print it.
 */
#include "agent/monitor_line.h"

#include "agent/openai_internal.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

static bool read_id(const struct json *v, char out[MONITOR_ID_BYTES])
{
    buf_auto struct buf b;
    buf_init(&b, MONITOR_ID_BYTES - 1);
    *out = 0;
    if (!v || json_is_null(v))
        return true;
    if ((!json_is_string(v) && !json_is_number(v)) || json_print(v, &b) || !buf_ok(&b))
        return false;
    memcpy(out, buf_cstr(&b), b.len + 1);
    return true;
}

/* -1: it is none. */
static int64_t read_time(const struct json *v, int64_t wall_ms)
{
    if (!v || json_is_null(v))
        return wall_ms;
    if (json_is_string(v))
        return clock_parse(json_string_value(v));
    double s = json_number_value(v);
    return json_is_number(v) && s >= 0 && s < 1e11 ? (int64_t)floor(s * 1000) : -1;
}

/* 0: it is one. */
static int check_line(
    const struct json *v, int64_t wall_ms, struct monitor_line *out, struct openai_refusal *r)
{
    if (!json_is_object(v))
        return REFUSE(r, NULL, "a line must be a JSON object");
    if (openai_check_fields(v, OPENAI_LINE, "", r))
        return -1;
    if (!*json_str(v, "text", ""))
        return REFUSE(r, "text", "text must not be empty");
    if (!read_id(json_get(v, "id"), out->id))
        return REFUSE(r, "id", "id must be a string or a number, of less than 200 bytes");
    out->ms = read_time(json_get(v, "time"), wall_ms);
    if (out->ms < 0)
        return REFUSE(r, "time", "time must be as 2026-01-31T12:00:00Z, or seconds since 1970");
    return out->ms > wall_ms + MONITOR_AHEAD_MS
        ? REFUSE(r, "time", "time lies more than a minute ahead")
        : 0;
}

void monitor_line_read(const char *line, size_t len, int64_t wall_ms, struct monitor_line *out,
    struct json **tree, const char **text)
{
    struct err ignored = {0};
    struct openai_refusal r = {0};
    out->ms = wall_ms;
    *out->id = 0;
    *tree = NULL;
    *text = NULL;
    int rc = 0;
    if (len > MONITOR_LINE_BYTES)
        rc = REFUSE(&r, NULL, "a line has at most %d bytes", MONITOR_LINE_BYTES);
    else if (json_parse_within(line, len, 4096, tree, &ignored))
        rc = REFUSE(&r, NULL, "a line must be JSON");
    else
        rc = check_line(*tree, wall_ms, out, &r);
    snprintf(out->wrong, sizeof out->wrong, "%.127s", rc ? r.message : "");
    if (!rc)
        *text = json_str(*tree, "text", "");
}

static void copy_list(const struct json *element, const char *key, struct jsonw *w)
{
    const struct json *list = json_get(element, key);
    if (!list)
        return;
    jsonw_open(w, key, '[');
    json_each (one, list) {
        if (json_is_string(one))
            jsonw_str(w, NULL, json_string_value(one));
        else
            jsonw_num(w, NULL, json_number_value(one));
    }
    jsonw_close(w);
}

void monitor_line_answer(
    const struct monitor_line *l, const struct json *element, const char *why, struct buf *out)
{
    char time[40];
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "index", l->index);
    if (*l->id)
        jsonw_raw(&w, "id", l->id);
    if (element && !*l->wrong) {
        clock_format(l->ms, time, sizeof time);
        jsonw_str(&w, "time", time);
        jsonw_str(&w, "label", json_str(element, "label", ""));
        copy_list(element, "labels", &w);
        copy_list(element, "probs", &w);
    } else {
        jsonw_str(&w, "error", *l->wrong ? l->wrong : why);
    }
    jsonw_close(&w);
    jsonw_end(&w);
    buf_str(out, "\n");
}
