/*
 * roster: a version counts who has it; the last one frees it. A version is sent as a whole, so that
 * one which the rank has missed is made good by the next.
 */
#include "agent/roster.h"

#include "agent/meter.h"
#include "api/limits.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

#define LIST_BYTES (LIMIT_JOB_FILE_BYTES + LIMIT_ADAPTERS * 64)

/* A rank that does not hear of it is about to end, and the next one is told. */
static void tell_rank(const struct roster *r)
{
    struct jsonw w;
    buf_auto struct buf frame;
    buf_init(&frame, LIMIT_FRAME_BYTES);
    if (!r->open || !r->now->number)
        return;
    jsonw_init(&w, &frame);
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "list", r->now->number);
    jsonw_open(&w, "adapters", '[');
    for (int i = 0; i < r->now->count; i++) {
        jsonw_open(&w, NULL, '{');
        jsonw_str(&w, "name", r->now->adapters[i].name);
        jsonw_str(&w, "path", r->now->adapters[i].path);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    jsonw_close(&w);
    if (jsonw_end(&w) || r->send_fn(r->user, WIRE_LISTED, buf_cstr(&frame)))
        log_warn("the rank is not told of adapters", LOG_I("list", r->now->number));
}

int roster_change(
    struct roster *r, const struct jobspec_served_adapter *adapters, int count, struct err *e)
{
    if (r->versions == ROSTER_VERSIONS)
        return err_set(e, ERR_RETRY,
            "spec.serve.adapters: requests of %d earlier lists are still answered",
            ROSTER_VERSIONS - 1);
    struct roster_list *l = mem_zalloc(sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "no memory for a list of adapters");
    *l = (struct roster_list){.refs = 1,
        .versions = &r->versions,
        .number = r->now ? r->now->number + 1 : 0,
        .live = r->live};
    r->versions++;
    l->arena = arena_create(LIST_BYTES);
    l->adapters = l->arena ? report_copy_adapters(adapters, count, l->arena) : NULL;
    l->count = count;
    if (!l->adapters) {
        roster_release(l);
        return err_set(e, ERR_MEMORY, "no memory for %d adapters", count);
    }
    roster_release(r->now);
    r->now = l;
    tell_rank(r);
    return 0;
}

int roster_init(struct roster *r, const struct jobspec_serve *s, struct err *e)
{
    *r = (struct roster){.live = s->adapter_memory > 0, .told = {.list = -1}};
    return roster_change(r, s->adapters, s->adapter_count, e);
}

void roster_done(struct roster *r)
{
    roster_release(r->now);
    r->now = NULL;
}

const struct roster_list *roster_now(const struct roster *r)
{
    return r ? r->now : NULL;
}

struct roster_list *roster_hold(struct roster *r)
{
    if (r)
        r->now->refs++;
    return r ? r->now : NULL;
}

void roster_release(struct roster_list *list)
{
    if (!list || --list->refs)
        return;
    --*list->versions;
    arena_destroy(list->arena);
    mem_free(list);
}

void roster_open(struct roster *r, roster_send_fn *send_fn, void *user)
{
    if (!r)
        return;
    r->open = true;
    r->send_fn = send_fn;
    r->user = user;
    tell_rank(r);
}

void roster_hear(struct roster *r, const struct wire_frame *told)
{
    json_auto struct json *v = NULL;
    if (!r || json_parse_within(told->data, told->len, LIMIT_FRAME_VALUES, &v, NULL))
        return;
    meter_adapters(v);
    r->told.list = json_int(v, "list", 0);
    r->told.unseen = (int)json_int(v, "unseen", 0);
    snprintf(r->told.why, sizeof r->told.why, "%s", json_str(v, "wrong", ""));
}

void roster_lost(struct roster *r)
{
    if (!r)
        return;
    r->open = false;
    r->told.list = -1;
    *r->told.why = 0;
}

void roster_report(const struct roster *r, struct report *out)
{
    if (!r || !r->live)
        return;
    bool whole = r->told.list == r->now->number && !r->told.unseen;
    out->adapters_list = whole ? report_adapters(r->now->adapters, r->now->count) : 0;
    out->adapters_wrong = r->told.list == r->now->number ? r->told.why : "";
}
