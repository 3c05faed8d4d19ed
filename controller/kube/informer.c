/*
 * informer: a state machine of one request at a time: IDLE (waits for its time) -> LISTING, page by
 * page -> WATCHING -> IDLE when the stream ends. Every object of a list carries the round in which
 * it was last seen; those of older rounds are reported as removed after the last page. A watch that
 * ends without an error was only rotated by the server and is resumed at once. Errors are logged
 * here, once each; the caches stay usable.
 */
#include "controller/kube/informer.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "controller/kube/split.h"

#include <inttypes.h>

#define PAGE             500
#define WATCH_SECONDS    290   /* the server ends the stream after so long */
#define WATCH_IDLE_MS    90000 /* bookmarks come each minute: silence is a dead connection */
#define LIST_TIMEOUT_MS  60000
#define OBJECT_LIMIT     ((size_t)4 << 20)
#define BACKOFF_FIRST_MS 200
#define BACKOFF_LAST_MS  30000
#define SKIPPED_MAX      256 /* remembered; more are only counted */
#define TOO_LARGE        "it exceeds 4 MiB"
#define KEY_BYTES        (LIMIT_NAME_BYTES + LIMIT_SUBDOMAIN_BYTES)

enum state { IDLE, LISTING, WATCHING };

struct informer {
    struct kube *kube;
    char *name, *path, *selector;
    int (*changed_fn)(void *user, const char *key, const struct json *object, struct err *e);
    void *user;

    enum state state;
    int64_t due_ms;
    int failures;
    bool synced, relist; /* relist: the version at hand is of no use */
    struct split split;
    struct err failure;    /* of the running stream, found while reading it */
    char version[32];      /* to watch from */
    char next_version[32]; /* of the list in progress */
    char *continue_;       /* token of the next page, or NULL */
    uintptr_t round;
    struct table seen;    /* key -> round, as a pointer */
    struct table skipped; /* key -> struct skipped: what cannot be taken at present */
    struct metric *skipped_total;
};

struct skipped {
    struct informer_skipped what;
    uintptr_t round;
    bool told;
};

int informer_create(
    struct kube *k, const struct informer_conf *conf, struct informer **out, struct err *e)
{
    struct informer *i = mem_zalloc(sizeof *i);
    if (i) {
        i->kube = k;
        i->name = mem_strdup(conf->name);
        i->path = mem_strdup(conf->path);
        i->selector = mem_strdup(conf->selector ? conf->selector : "");
        i->changed_fn = conf->changed_fn;
        i->user = conf->user;
        i->skipped_total = conf->skipped;
        i->relist = true;
        split_init(&i->split, SPLIT_LIST, OBJECT_LIMIT, NULL, NULL);
    }
    if (!i || !i->name || !i->path || !i->selector) {
        informer_destroy(i);
        return err_set(e, ERR_MEMORY, "no memory for an informer");
    }
    *out = i;
    return 0;
}

void informer_destroy(struct informer *i)
{
    if (!i)
        return;
    const char *key;
    void *skipped;
    split_done(&i->split);
    table_done(&i->seen);
    for (size_t at = 0; table_next(&i->skipped, &at, &key, &skipped);)
        mem_free(skipped);
    table_done(&i->skipped);
    mem_free(i->continue_);
    mem_free(i->name);
    mem_free(i->path);
    mem_free(i->selector);
    mem_free(i);
}

bool informer_synced(const struct informer *i)
{
    return i->synced;
}

uint64_t informer_version(const struct informer *i)
{
    return strtoull(i->version, NULL, 10);
}

size_t informer_count(const struct informer *i)
{
    return i->seen.count;
}

/* -- objects -- */

static void write_key(const struct skim *o, char *key, size_t size)
{
    snprintf(key, size, "%s%s%s", o->namespace_, *o->namespace_ ? "/" : "", o->name);
}

static void forget_skipped(struct informer *i, const char *key)
{
    mem_free(table_remove(&i->skipped, key));
}

/* An object that cannot be taken. One that is known stays as it was; nothing here can fail. */
static void skip_object(struct informer *i, const struct skim *o, const char *why)
{
    char key[KEY_BYTES];
    struct err ignored;
    write_key(o, key, sizeof key);
    if (i->skipped_total)
        metric_add(i->skipped_total, 1);
    if (table_get(&i->seen, key))
        table_put(&i->seen, key, (void *)i->round, &ignored);
    struct skipped *s = table_get(&i->skipped, key);
    if (s)
        s->round = i->round;
    if (s ? !strcmp(s->what.object.version, o->version) : i->skipped.count >= SKIPPED_MAX)
        return;
    log_warn("object skipped", LOG_S("kind", i->name), LOG_S("object", key),
        LOG_S("version", o->version), LOG_S("why", why));
    if (!s) {
        s = mem_zalloc(sizeof *s);
        if (!s || table_put(&i->skipped, key, s, &ignored)) {
            mem_free(s);
            return;
        }
    }
    *s = (struct skipped){.what.object = *o, .round = i->round};
    snprintf(s->what.why, sizeof s->what.why, "%s", why);
}

const struct informer_skipped *informer_untold(struct informer *i)
{
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&i->skipped, &at, &key, &v);) {
        struct skipped *s = v;
        if (s->told)
            continue;
        s->told = true;
        return &s->what;
    }
    return NULL;
}

static int put_object(
    struct informer *i, const struct skim *o, const struct json *object, struct err *e)
{
    char key[KEY_BYTES];
    write_key(o, key, sizeof key);
    bool known = table_get(&i->seen, key) != NULL;
    /* First: what the owner has must be found again when it is gone. */
    int rc = table_put(&i->seen, key, (void *)i->round, e);
    if (rc)
        return rc;
    rc = i->changed_fn(i->user, key, object, e);
    if (rc == -ERR_DATA && !known)
        table_remove(&i->seen, key);
    if (!rc)
        forget_skipped(i, key);
    return rc;
}

static int remove_key(struct informer *i, const char *key, struct err *e)
{
    table_remove(&i->seen, key);
    forget_skipped(i, key);
    return i->changed_fn(i->user, key, NULL, e);
}

/* Takes an object out of its text; one that cannot be taken is no failure. */
static int take_object(
    struct informer *i, const struct skim *o, const char *text, size_t len, bool watch)
{
    json_auto struct json *v = NULL;
    struct err why;
    int rc = *o->name ? json_parse(text, len, &v, &why)
                      : err_set(&why, ERR_DATA, "it has no usable name");
    if (!rc)
        rc = put_object(i, o, watch ? json_get(v, "object") : v, &why);
    if (rc == -ERR_DATA) {
        skip_object(i, o, why.text);
        return 0;
    }
    if (rc)
        i->failure = why;
    return rc;
}

static int take_metadata(struct informer *i, const struct json *meta, struct err *e)
{
    const char *version = json_str(meta, "resourceVersion", "");
    const char *more = json_str(meta, "continue", "");
    if (strlen(version) < sizeof i->next_version)
        snprintf(i->next_version, sizeof i->next_version, "%s", version);
    mem_free(i->continue_);
    i->continue_ = NULL;
    if (*more && !(i->continue_ = mem_strdup(more)))
        return err_set(e, ERR_MEMORY, "no memory for a continue token");
    return 0;
}

static int list_piece(void *user, enum split_piece kind, char *text, size_t len)
{
    struct informer *i = user;
    json_auto struct json *meta = NULL;
    struct skim o;
    if (kind == SPLIT_METADATA) {
        int rc = json_parse(text, len, &meta, &i->failure);
        return rc ? rc : take_metadata(i, meta, &i->failure);
    }
    len = skim_object(text, len, false, &o);
    if (kind == SPLIT_HEAD) {
        skip_object(i, &o, TOO_LARGE);
        return 0;
    }
    return take_object(i, &o, text, len, false);
}

static int watch_error(struct informer *i, const char *text, size_t len)
{
    json_auto struct json *event = NULL;
    int rc = json_parse(text, len, &event, &i->failure);
    if (rc)
        return rc;
    const struct json *status = json_get(event, "object");
    if (json_int(status, "code", 0) == 410)
        i->relist = true;
    return err_set(&i->failure, ERR_RETRY, "watch: %s", json_str(status, "message", "error"));
}

static int watch_piece(void *user, enum split_piece kind, char *text, size_t len)
{
    struct informer *i = user;
    struct skim o;
    int rc = 0;
    len = skim_object(text, len, true, &o);
    if (!strcmp(o.type, "ERROR"))
        return watch_error(i, text, len);
    if (!strcmp(o.type, "DELETED") && *o.name) {
        char key[KEY_BYTES];
        write_key(&o, key, sizeof key);
        rc = remove_key(i, key, &i->failure);
    } else if (kind == SPLIT_HEAD) {
        skip_object(i, &o, TOO_LARGE);
    } else if (strcmp(o.type, "BOOKMARK") != 0) {
        rc = take_object(i, &o, text, len, true);
    }
    if (rc)
        return rc;
    i->failures = 0;
    /* Also past what was skipped: else a resumed watch would begin with it again. */
    if (*o.version)
        snprintf(i->version, sizeof i->version, "%s", o.version);
    return 0;
}

static int feed_stream(void *user, const char *bytes, size_t len)
{
    struct informer *i = user;
    return split_feed(&i->split, bytes, len, &i->failure);
}

/* What a complete list did not contain is gone. */
static int remove_unlisted(struct informer *i, struct err *e)
{
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&i->skipped, &at, &key, &v);) {
        if (((struct skipped *)v)->round == i->round)
            continue;
        table_remove(&i->skipped, key);
        mem_free(v);
    }
    for (size_t at = 0; table_next(&i->seen, &at, &key, &v);) {
        if ((uintptr_t)v == i->round)
            continue;
        char name[KEY_BYTES];
        snprintf(name, sizeof name, "%s", key);
        int rc = remove_key(i, name, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* -- requests -- */

static int64_t jitter_ms(int64_t span_ms)
{
    uint32_t r = 0;
    struct err ignored;
    io_random(&r, sizeof r, &ignored);
    return span_ms > 0 ? r % span_ms : 0;
}

static void back_off(struct informer *i, const struct err *why)
{
    int shift = i->failures < 10 ? i->failures : 10;
    int64_t delay = (int64_t)BACKOFF_FIRST_MS << shift;
    if (delay > BACKOFF_LAST_MS)
        delay = BACKOFF_LAST_MS;
    i->failures++;
    i->due_ms = clock_ms() + delay / 2 + jitter_ms(delay);
    log_warn("informer interrupted", LOG_S("kind", i->name), LOG_I("failures", i->failures),
        LOG_ERR(why));
}

/* What a stream failed with, in reading it or in the answer. */
static int check_stream(const struct informer *i, const struct http_response *r, struct err *e)
{
    if (i->failure.code == ERR_NONE)
        return kube_check(r, e);
    *e = i->failure;
    return -(int)e->code;
}

static int finish_page(struct informer *i, const struct http_response *r, struct err *e)
{
    int rc = check_stream(i, r, e);
    if (rc)
        return rc;
    if (!split_at_end(&i->split))
        return err_set(e, ERR_RETRY, "a list that ends in the middle");
    return i->continue_ ? 0 : remove_unlisted(i, e);
}

static void list_done(void *user, const struct http_response *r)
{
    struct informer *i = user;
    struct err e = {0};
    i->state = IDLE;
    if (r->error.code == ERR_DRAINED && i->failure.code == ERR_NONE)
        return;
    if (finish_page(i, r, &e)) {
        /* A continue token that is too old (410) or any doubt: from the first page again. */
        mem_free(i->continue_);
        i->continue_ = NULL;
        err_wrap(&e, "list");
        back_off(i, &e);
        return;
    }
    i->due_ms = 0;
    if (i->continue_)
        return;
    snprintf(i->version, sizeof i->version, "%s", i->next_version);
    i->relist = false;
    i->failures = 0;
    if (!i->synced)
        log_debug("informer synced", LOG_S("kind", i->name), LOG_I("count", i->seen.count));
    i->synced = true;
}

static void watch_done(void *user, const struct http_response *r)
{
    struct informer *i = user;
    struct err e = {0};
    i->state = IDLE;
    if (r->error.code == ERR_DRAINED && i->failure.code == ERR_NONE)
        return;
    if (r->status == 410)
        i->relist = true;
    int rc = check_stream(i, r, &e);
    /* What cannot be applied would be missed for ever after a resume. */
    if (rc == -ERR_MEMORY || rc == -ERR_DATA)
        i->relist = true;
    i->due_ms = clock_ms() + jitter_ms(100);
    if (rc)
        back_off(i, &e);
}

static void add_query(const struct informer *i, struct buf *path)
{
    buf_printf(path, "%s?", i->path);
    for (const char *p = i->selector; *p; p++) {
        if (p == i->selector)
            buf_str(path, "labelSelector=");
        if (strchr("=,/!()", *p))
            buf_printf(path, "%%%02X", *p);
        else
            buf_char(path, *p);
    }
    if (*i->selector)
        buf_char(path, '&');
}

static int start_list(struct informer *i, struct err *e)
{
    buf_auto struct buf path;
    buf_init(&path, 16 << 10);
    add_query(i, &path);
    buf_printf(&path, "limit=%d", PAGE);
    if (i->continue_)
        buf_printf(&path, "&continue=%s", i->continue_);
    else
        i->round++;
    if (!buf_ok(&path))
        return err_set(e, ERR_MEMORY, "no memory for a path");
    split_done(&i->split);
    split_init(&i->split, SPLIT_LIST, OBJECT_LIMIT, list_piece, i);
    mem_free(i->continue_);
    i->continue_ = NULL;
    i->state = LISTING;
    const struct kube_call call = {.method = "GET",
        .path = path.data,
        .timeout_ms = LIST_TIMEOUT_MS,
        .data_fn = feed_stream,
        .done_fn = list_done,
        .user = i};
    return kube_start(i->kube, &call, e);
}

static int start_watch(struct informer *i, struct err *e)
{
    buf_auto struct buf path;
    buf_init(&path, 16 << 10);
    add_query(i, &path);
    buf_printf(&path, "watch=true&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=%s",
        WATCH_SECONDS, i->version);
    if (!buf_ok(&path))
        return err_set(e, ERR_MEMORY, "no memory for a path");
    split_done(&i->split);
    split_init(&i->split, SPLIT_WATCH, OBJECT_LIMIT, watch_piece, i);
    i->state = WATCHING;
    const struct kube_call call = {.method = "GET",
        .path = path.data,
        .idle_timeout_ms = WATCH_IDLE_MS,
        .data_fn = feed_stream,
        .done_fn = watch_done,
        .user = i};
    return kube_start(i->kube, &call, e);
}

int64_t informer_turn(struct informer *i)
{
    if (i->state != IDLE)
        return -1;
    if (clock_ms() < i->due_ms)
        return i->due_ms;
    struct err e;
    i->failure = (struct err){0};
    if (i->relist ? start_list(i, &e) : start_watch(i, &e)) {
        i->state = IDLE;
        back_off(i, &e);
        return i->due_ms;
    }
    return -1;
}
