/*
 * intake: a ring of items, each with the place behind it. The text of one is copied when it is put
 * there: the loop takes it while the thread reads on.
 */
#include "agent/intake.h"

#include "agent/aside.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

struct intake_item {
    struct follow_item is; /* text: its own */
    struct follow_place behind;
};

struct intake {
    struct aside aside;
    char *path; /* of follow, which may outlive the job */
    bool directory;
    struct follow *follow; /* the thread's, once it has begun */
    bool begun, looked, failed;
    struct err fails;
    struct intake_item items[INTAKE_ITEMS];
    int first, count;
    size_t bytes;
    /* the loop's alone */
    struct intake_item taken;
    struct follow_place marked;
};

static void item_free(struct intake_item *x)
{
    mem_free((char *)x->is.text);
    *x = (struct intake_item){0};
}

static void intake_free(struct aside *a)
{
    struct intake *r = (struct intake *)a;
    for (int i = 0; i < r->count; i++)
        item_free(&r->items[(r->first + i) % INTAKE_ITEMS]);
    item_free(&r->taken);
    follow_destroy(r->follow);
    mem_free(r->path);
    mem_free(r);
}

/* -- the thread -- */

static bool intake_full(const struct intake *r)
{
    return r->count == INTAKE_ITEMS || (r->count && r->bytes >= INTAKE_BYTES);
}

/* Waits for memory, if there is none: what was read must not be lost. */
static void put_item(struct intake *r, const struct follow_item *is)
{
    struct intake_item *x = &r->items[(r->first + r->count) % INTAKE_ITEMS];
    char *text;
    while (!(text = mem_alloc(is->len + 1)) && !r->aside.ends)
        aside_wait(&r->aside, INTAKE_FILE_MS);
    if (!text)
        return;
    memcpy(text, is->text, is->len);
    text[is->len] = 0;
    *x = (struct intake_item){.is = *is, .behind = follow_place(r->follow)};
    x->is.text = text;
    r->count++;
    r->bytes += is->len;
}

static void look(struct intake *r)
{
    struct follow_item is;
    struct err e = {0};
    aside_work(&r->aside);
    int rc = follow_next(r->follow, clock_wall_ms(), &is, &e);
    if (rc < 0 && !r->failed)
        log_warn("the source cannot be read", LOG_ERR(&e));
    r->failed = rc < 0;
    aside_back(&r->aside);
    r->fails = e;
    r->looked = rc <= 0;
    if (rc > 0)
        put_item(r, &is);
    else
        aside_wait(&r->aside, r->directory ? INTAKE_DIRECTORY_MS : INTAKE_FILE_MS);
}

static void read_source(struct aside *a)
{
    struct intake *r = (struct intake *)a;
    while (!a->ends)
        if (!r->begun || intake_full(r))
            aside_wait(a, -1);
        else
            look(r);
}

/* -- its owner -- */

int intake_create(const char *path, bool directory, struct intake **out, struct err *e)
{
    struct intake *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory to follow %s", path);
    r->directory = directory;
    r->marked.us = -1;
    r->path = mem_strdup(path);
    int rc = r->path ? follow_create(r->path, directory, &r->follow, e)
                     : err_set(e, ERR_MEMORY, "no memory to follow %s", path);
    rc = rc ? rc : aside_start(&r->aside, path, read_source, intake_free, e);
    if (rc)
        intake_free(&r->aside);
    else
        *out = r;
    return rc;
}

void intake_destroy(struct intake *r)
{
    if (r && !aside_end(&r->aside, INTAKE_END_MS))
        log_warn("the source is left: it does not answer");
}

void intake_begin(struct intake *r, const struct follow_place *from)
{
    aside_lock(&r->aside);
    follow_go(r->follow, from);
    r->marked = *from;
    r->taken.behind = *from;
    r->begun = true;
    aside_tell(&r->aside);
    aside_unlock(&r->aside);
}

struct intake_view intake_view(struct intake *r)
{
    int64_t late_ms = aside_late_ms(&r->aside);
    aside_lock(&r->aside);
    struct intake_view v = {.begun = r->begun,
        .waiting = r->count,
        .whole = r->looked || intake_full(r) || late_ms,
        .late_ms = late_ms,
        .fails = r->fails};
    aside_unlock(&r->aside);
    v.behind = v.begun && (v.waiting || !v.whole || v.late_ms);
    return v;
}

bool intake_next(struct intake *r, struct follow_item *out)
{
    struct intake_item x = {0};
    aside_lock(&r->aside);
    if (r->count) {
        x = r->items[r->first];
        r->first = (r->first + 1) % INTAKE_ITEMS;
        r->count--;
        r->bytes -= x.is.len;
        aside_tell(&r->aside);
    }
    aside_unlock(&r->aside);
    if (!x.is.text)
        return false;
    item_free(&r->taken);
    r->taken = x;
    *out = x.is;
    out->name = x.is.name ? r->taken.behind.name : NULL;
    return true;
}

void intake_mark(struct intake *r)
{
    r->marked = r->taken.behind;
}

void intake_write(const struct intake *r, struct jsonw *w)
{
    follow_place_write(&r->marked, r->directory, w);
}
