/*
 * loras: lru says what comes next; an order to look at a folder, or to read it, is a thread that
 * ends with it. What such a thread uses is its order's alone, but for the model's files, which both
 * only read. What was read is put on the device here: a device has one thread.
 *
 * A place is free when it is not listed and idle; what is there then goes at once.
 */
#include "runtime/serve/loras.h"

#include "api/limits.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/serve/lru.h"

#include <assert.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PUT_BYTES (8 << 20) /* that go to the device between two steps: some milliseconds */
#define END_MS    2000      /* what a thread has left to end in */

struct loras_order { /* of a thread, which owns it until it has ended */
    pthread_t thread;
    _Atomic bool ended;
    struct inbox *inbox;
    int adapter; /* from 0 on */
    bool numbers;
    bool looks; /* for nobody: whether it is as it should be */
    bool kept;  /* it has ended late, with what goes to the device at its turn */
    char name[LIMIT_PATH_BYTES], path[LIMIT_PATH_BYTES];
    struct jobspec_served_adapter of;
    struct model_config own;
    struct weights *weights;
    struct adapter_folder *folder; /* what came of it, or */
    struct err why;
};

struct loras_item {
    char *name, *path; /* NULL: nobody has had the place */
    bool listed;
    bool seen, wrong;         /* it was looked at, and had what `why` says */
    int64_t seen_ms;          /* when that was */
    struct loras_order *late; /* left behind; or NULL */
    int waiting;              /* requests, those apart that it was loaded for: up to this number, */
    int64_t promised;         /* they begin whoever else waits, and count as its users until then */
    int64_t failed;           /* the last of them by its number when loading failed, */
    struct err why;           /* and why */
    int64_t began_ms;         /* of the load under way, or the last one */
    uint64_t digest;
};

struct loras {
    struct loras_conf conf;
    struct lru_view view;
    struct lru_item *item;         /* (LORAS_PLACES) */
    struct loras_item *lora;       /* likewise */
    struct loras_order *order;     /* or NULL */
    int64_t ordered_ms;            /* when it was */
    struct adapter_folder *folder; /* that goes to the device; or NULL */
    int putting;                   /* whose it is */
    int64_t numbers;               /* of requests; also the time of lru_item.used */
    bool news;                     /* of the list, or of what was looked at */
    struct loras_figures figures;
};

static const char *name_of(const struct loras *l, int i)
{
    return l->lora[i].name;
}

/* -- the thread -- */

static void *read_folder(void *user)
{
    struct loras_order *o = user;
    const struct adapter_model m = {
        weights_config(o->weights), &o->own, o->numbers ? o->weights : NULL};
    omp_set_num_threads(1); /* of this thread: the others are the model's */
    (void)adapter_folder_open(&o->of, &m, &o->folder, &o->why);
    struct inbox *inbox = o->inbox;
    atomic_store(&o->ended, true);
    if (inbox)
        inbox_wake(inbox);
    return NULL;
}

static int give_order(struct loras *l, int adapter, bool numbers, bool looks, struct err *e)
{
    struct loras_order *o = mem_zalloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory to load an adapter");
    *o = (struct loras_order){.adapter = adapter,
        .numbers = numbers,
        .looks = looks,
        .inbox = l->conf.inbox,
        .own = *l->conf.own,
        .weights = l->conf.weights};
    snprintf(o->name, sizeof o->name, "%s", l->lora[adapter].name);
    snprintf(o->path, sizeof o->path, "%s", l->lora[adapter].path);
    o->of = (struct jobspec_served_adapter){o->name, o->path};
    int failed = pthread_create(&o->thread, NULL, read_folder, o);
    if (failed) {
        mem_free(o);
        return err_sys(e, ERR_MEMORY, failed, "no thread to load an adapter on");
    }
    l->order = o;
    l->ordered_ms = clock_ms();
    return 0;
}

/* Its thread has ended, or ends in time. */
static bool end_order(struct loras_order *o, int64_t wait_ms)
{
    if (clock_join(o->thread, wait_ms)) {
        log_warn("an adapter that storage holds up is left behind", LOG_S("adapter", o->name));
        return false;
    }
    adapter_folder_close(o->folder);
    mem_free(o);
    return true;
}

/* -- life -- */

int loras_create(const struct loras_conf *c, struct loras **out, struct err *e)
{
    struct loras *l = mem_zalloc(sizeof *l);
    const struct jobspec_serve *s = c->serve;
    if (!l)
        return err_set(e, ERR_MEMORY, "no memory for adapters");
    l->conf = *c;
    assert(beside_count(c->beside) == LORAS_PLACES);
    l->item = mem_array(LORAS_PLACES, sizeof *l->item);
    l->lora = mem_array(LORAS_PLACES, sizeof *l->lora);
    l->view = (struct lru_view){l->item, LORAS_PLACES, s->adapter_memory};
    int rc = l->item && l->lora ? loras_list(l, s->adapters, s->adapter_count, 0, e)
                                : err_set(e, ERR_MEMORY, "no memory for a table of adapters");
    if (rc)
        (void)loras_destroy(l);
    else
        *out = l;
    return rc;
}

/* For at most END_MS. */
static bool end_orders(struct loras *l)
{
    int64_t until_ms = clock_ms() + END_MS;
    bool ended = !l->order || end_order(l->order, END_MS);
    for (int i = 0; i < l->view.count && l->lora; i++)
        ended = (!l->lora[i].late || end_order(l->lora[i].late, until_ms - clock_ms())) && ended;
    return ended;
}

bool loras_destroy(struct loras *l)
{
    if (!l)
        return true;
    bool ended = end_orders(l);
    adapter_folder_close(l->folder);
    for (int i = 0; l->lora && i < LORAS_PLACES; i++) {
        mem_free(l->lora[i].name);
        mem_free(l->lora[i].path);
    }
    mem_free(l->item);
    mem_free(l->lora);
    mem_free(l);
    return ended;
}

/* -- requests -- */

struct loras_ticket loras_wait(struct loras *l, int adapter)
{
    const struct loras_ticket t = {adapter, ++l->numbers, clock_ms()};
    struct lru_item *x = &l->item[adapter - 1];
    l->lora[adapter - 1].waiting++;
    x->waits = x->waits ? x->waits : t.number;
    return t;
}

/* What it takes is looked at anew when somebody wants it. */
static void forget(struct loras *l, int i)
{
    beside_drop(l->conf.beside, i);
    l->item[i].bytes = 0;
    l->item[i].there = false;
    l->lora[i].promised = 0;
}

static bool is_loading(const struct loras *l, int i)
{
    return (l->order && l->order->adapter == i) || (l->folder && l->putting == i);
}

static bool is_kept(const struct loras *l, int i)
{
    return l->lora[i].late && l->lora[i].late->kept;
}

static bool is_promised(const struct loras *l, const struct loras_ticket *t)
{
    return t->number <= l->lora[t->adapter - 1].promised;
}

void loras_give_up(struct loras *l, const struct loras_ticket *t)
{
    int i = t->adapter - 1;
    if (is_promised(l, t)) {
        l->item[i].users--;
        return;
    }
    if (--l->lora[i].waiting || is_kept(l, i))
        return;
    l->item[i].waits = 0;
    if (!l->item[i].there && !is_loading(l, i))
        forget(l, i);
}

/* Why it is not there yet. */
static int tell_late(const struct loras *l, int i, struct err *e)
{
    bool reads = is_loading(l, i) || !l->item[i].bytes;
    return err_set(e, ERR_HANG, "%.100s: %s for %d s", name_of(l, i),
        reads ? "its folder has been read"
              : "adapters of other requests have taken spec.serve.adapterMemory",
        LORAS_WAIT_MS / 1000);
}

int loras_begin(struct loras *l, const struct loras_ticket *t, struct err *e)
{
    int i = t->adapter - 1;
    if (t->number <= l->lora[i].failed) {
        loras_give_up(l, t);
        *e = l->lora[i].why;
        return -(int)e->code;
    }
    if (is_promised(l, t) || lru_may_begin(&l->view, i)) {
        loras_give_up(l, t);
        l->item[i].users++;
        l->item[i].used = ++l->numbers;
        return 0;
    }
    if (clock_ms() - t->since_ms < LORAS_WAIT_MS)
        return -ERR_RETRY;
    int rc = tell_late(l, i, e);
    loras_give_up(l, t);
    return rc;
}

void loras_end(struct loras *l, int adapter)
{
    assert(l->item[adapter - 1].users > 0);
    l->item[adapter - 1].users--;
}

uint64_t loras_digest(const struct loras *l, int adapter)
{
    return l->lora[adapter - 1].digest;
}

/* -- the list -- */

/* Nobody has it, or waits for it; nor is it read. */
static bool is_idle(const struct loras *l, int i)
{
    return !l->item[i].users && !l->lora[i].waiting && !l->lora[i].late && !is_loading(l, i);
}

/* What was looked at is as it should be, or not. */
static void note_seen(struct loras *l, int i, bool wrong)
{
    struct loras_item *x = &l->lora[i];
    l->news |= x->listed && (!x->seen || wrong || x->wrong);
    x->seen = true;
    x->wrong = wrong;
    x->seen_ms = clock_ms();
}

static void drop_adapter(struct loras *l, int i, const char *why)
{
    log_info(why, LOG_S("adapter", name_of(l, i)));
    forget(l, i);
    l->figures.dropped++;
    l->news = true;
}

/* One that is listed no more, and that nobody has; -1: there is none. */
static int next_left(const struct loras *l)
{
    for (int i = 0; i < LORAS_PLACES; i++)
        if (l->item[i].there && !l->lora[i].listed && is_idle(l, i))
            return i;
    return -1;
}

static void drop_left(struct loras *l)
{
    for (int i; (i = next_left(l)) >= 0;)
        drop_adapter(l, i, "an adapter that is listed no more is dropped");
}

static bool is_of(const struct loras_item *x, const char *name, const char *path)
{
    return x->name && !strcmp(x->name, name) && (!path || !strcmp(x->path, path));
}

static int find_place(const struct loras *l, const char *name, const char *path, bool listed)
{
    for (int i = 0; i < LORAS_PLACES; i++)
        if (l->lora[i].listed == listed && is_of(&l->lora[i], name, path))
            return i;
    return -1;
}

/* -ERR_RETRY: there is none. */
static int take_place(struct loras *l, const char *name, const char *path, int *out, struct err *e)
{
    int i = 0;
    while (i < LORAS_PLACES && (l->lora[i].listed || !is_idle(l, i)))
        i++;
    if (i == LORAS_PLACES)
        return err_set(e, ERR_RETRY, "%.100s: requests have %d other adapters", name, LORAS_PLACES);
    char *named = mem_strdup(name), *at = mem_strdup(path);
    if (!named || !at) {
        mem_free(named);
        mem_free(at);
        return err_set(e, ERR_MEMORY, "no memory for an adapter's name");
    }
    if (l->item[i].there)
        drop_adapter(l, i, "an adapter that is listed no more is dropped");
    forget(l, i);
    mem_free(l->lora[i].name);
    mem_free(l->lora[i].path);
    l->item[i] = (struct lru_item){0};
    l->lora[i] = (struct loras_item){.name = named, .path = at};
    *out = i;
    return 0;
}

int loras_find(struct loras *l, const char *name, const char *path, struct err *e)
{
    int i = find_place(l, name, path, true);
    if (i < 0 && path)
        i = find_place(l, name, path, false);
    if (i >= 0)
        return i + 1;
    if (!path) {
        err_set(e, ERR_USER, "there is no adapter %.100s", name);
        return 0;
    }
    struct err why = {0};
    if (!take_place(l, name, path, &i, &why))
        return i + 1;
    err_set(e, ERR_USER, "%s", why.text); /* whatever it is, it is the request's alone */
    return 0;
}

static bool is_wanted(
    const struct loras_item *x, const struct jobspec_served_adapter *adapters, int count)
{
    for (int k = 0; k < count; k++)
        if (is_of(x, adapters[k].name, adapters[k].path))
            return true;
    return false;
}

int loras_list(struct loras *l, const struct jobspec_served_adapter *adapters, int count,
    int64_t number, struct err *e)
{
    for (int i = 0; i < LORAS_PLACES; i++)
        if (l->lora[i].listed && !is_wanted(&l->lora[i], adapters, count))
            l->lora[i].listed = false;
    drop_left(l);
    for (int k = 0, i, rc; k < count; k++) {
        if (find_place(l, adapters[k].name, adapters[k].path, true) >= 0)
            continue;
        if ((rc = take_place(l, adapters[k].name, adapters[k].path, &i, e)))
            return rc;
        l->lora[i].listed = true;
    }
    l->figures.list = number;
    l->news = true; /* not of one that waits for a place, which is tried at each step */
    return 0;
}

/* -- loading -- */

/* To all that wait for it now; who comes later has it tried again. */
static void fail_load(struct loras *l, int i, const struct err *why)
{
    struct loras_item *x = &l->lora[i];
    bool known = x->late || (x->wrong && !x->waiting); /* which was said once */
    if (!known)
        log_warn("an adapter is not loaded", LOG_S("adapter", name_of(l, i)), LOG_ERR(why));
    x->failed = l->numbers;
    x->why = *why;
    l->item[i].waits = 0;
    l->figures.failed += !known || x->waiting;
    note_seen(l, i, true);
    forget(l, i);
}

static int note_size(struct loras *l, int i, const struct adapter_folder *f, struct err *e)
{
    int rc = adapter_folder_describe(f, l->conf.beside, i, e);
    if (rc)
        return rc;
    int64_t bytes = beside_bytes_of(l->conf.beside, i, l->conf.own), limit = l->view.limit_bytes;
    if (bytes > limit)
        return err_set(e, ERR_USER, "%.100s: takes %.1f MiB, and spec.serve.adapterMemory is %.1f",
            name_of(l, i), (double)bytes / (1 << 20), (double)limit / (1 << 20));
    l->item[i].bytes = bytes ? bytes : 1; /* of one that changes nothing */
    return 0;
}

/* What its thread has made of it. */
static void take_order(struct loras *l)
{
    struct loras_order *o = l->order;
    int i = o->adapter;
    struct err why = o->why;
    l->order = NULL;
    if (why.code || (!o->numbers && note_size(l, i, o->folder, &why))) {
        fail_load(l, i, &why);
    } else if (o->numbers) {
        l->folder = o->folder;
        l->putting = i;
        o->folder = NULL;
    } else {
        note_seen(l, i, false);
        if (!l->lora[i].waiting)
            forget(l, i);
    }
    (void)end_order(o, END_MS);
}

/* -- storage that does not answer -- */

static int tell_silent(const struct loras *l, int i, struct err *e)
{
    return err_set(e, ERR_HANG, "%.100s: the storage of its folder, %.100s, does not answer",
        name_of(l, i), l->lora[i].path);
}

/* What was read late goes on as if somebody waited for it: so one is loaded however long that
   takes. Where that failed it is read anew for whoever wants it. */
static void take_late(struct loras *l, int i)
{
    struct loras_order *o = l->lora[i].late;
    struct lru_item *x = &l->item[i];
    struct err why = o->why;
    if (why.code || note_size(l, i, o->folder, &why)) {
        log_warn("an adapter that was read late is not loaded", LOG_S("adapter", o->name),
            LOG_ERR(&why));
        l->lora[i].why = why;
        note_seen(l, i, true);
        forget(l, i);
    } else if (o->looks && !l->lora[i].waiting) {
        note_seen(l, i, false);
        forget(l, i);
    } else {
        log_info("the storage of an adapter answers", LOG_S("adapter", o->name),
            LOG_I("ms", clock_ms() - l->lora[i].began_ms));
        note_seen(l, i, false);
        x->waits = x->waits ? x->waits : ++l->numbers;
        o->kept = o->numbers;
    }
    if (o->kept)
        return;
    (void)end_order(o, END_MS);
    l->lora[i].late = NULL;
}

static void take_late_ones(struct loras *l)
{
    for (int i = 0; i < l->view.count; i++)
        if (l->lora[i].late && !l->lora[i].late->kept && atomic_load(&l->lora[i].late->ended))
            take_late(l, i);
}

/* Its turn has come. */
static void put_kept(struct loras *l, int i)
{
    struct loras_order *o = l->lora[i].late;
    l->folder = o->folder;
    l->putting = i;
    o->folder = NULL;
    (void)end_order(o, END_MS);
    l->lora[i].late = NULL;
}

static void leave_late(struct loras *l)
{
    struct err why = {0};
    int64_t late_ms = l->conf.late_ms ? l->conf.late_ms : LORAS_LATE_MS;
    if (!l->order || clock_ms() - l->ordered_ms < late_ms)
        return;
    int i = l->order->adapter;
    (void)tell_silent(l, i, &why);
    fail_load(l, i, &why);
    l->lora[i].late = l->order;
    l->order = NULL;
}

static int put_some(struct loras *l, bool busy, bool *left, struct err *e)
{
    struct beside *b = l->conf.beside;
    int i = l->putting;
    int rc = beside_is_open(b, i) ? 0 : beside_open(b, i, l->conf.own, l->conf.dev, e);
    return rc ? rc : adapter_folder_put(l->folder, b, i, busy ? PUT_BYTES : INT64_MAX, left, e);
}

static void note_loaded(struct loras *l, int i)
{
    note_seen(l, i, false);
    l->item[i].there = true;
    l->item[i].used = ++l->numbers;
    l->item[i].users = l->lora[i].waiting;
    l->item[i].waits = 0;
    l->lora[i].waiting = 0;
    l->lora[i].promised = l->numbers;
    l->lora[i].digest = adapter_folder_digest(l->folder);
    l->figures.loaded++;
    l->news = true;
    l->figures.seconds = (double)(clock_ms() - l->lora[i].began_ms) / 1000;
    log_info("an adapter is loaded", LOG_S("adapter", name_of(l, i)),
        LOG_I("bytes", l->item[i].bytes), LOG_I("ms", clock_ms() - l->lora[i].began_ms));
}

/* Has it ended? */
static bool put_folder(struct loras *l, bool busy)
{
    int i = l->putting;
    bool left = false;
    struct err why = {0};
    int rc = put_some(l, busy, &left, &why);
    if (!rc && left)
        return false;
    if (rc)
        fail_load(l, i, &why);
    else
        note_loaded(l, i);
    adapter_folder_close(l->folder);
    l->folder = NULL;
    return true;
}

static void begin_order(struct loras *l, const struct lru_step *s)
{
    struct err why = {0};
    if (is_kept(l, s->which)) {
        put_kept(l, s->which);
        return;
    }
    if (s->change == LRU_LOOK && !l->lora[s->which].late)
        l->lora[s->which].began_ms = clock_ms();
    if (l->lora[s->which].late ? tell_silent(l, s->which, &why)
                               : give_order(l, s->which, s->change == LRU_LOAD, false, &why))
        fail_load(l, s->which, &why);
}

/* One that is listed and was not looked at, or not since it was wrong; -1: there is none now. */
static int next_unseen(const struct loras *l)
{
    int64_t look_ms = l->conf.look_ms ? l->conf.look_ms : LORAS_LOOK_MS, now_ms = clock_ms();
    for (int i = 0; i < LORAS_PLACES; i++) {
        const struct loras_item *x = &l->lora[i];
        if (look_ms >= 0 && x->listed && !x->late &&
            (!x->seen || (x->wrong && now_ms - x->seen_ms >= look_ms)))
            return i;
    }
    return -1;
}

static void look_at_next(struct loras *l)
{
    struct err why = {0};
    int i = next_unseen(l);
    if (i < 0)
        return;
    l->lora[i].began_ms = clock_ms();
    if (give_order(l, i, false, true, &why))
        fail_load(l, i, &why);
}

static bool take_news(struct loras *l)
{
    bool news = l->news;
    l->news = false;
    return news;
}

bool loras_step(struct loras *l, bool busy)
{
    if (l->order && atomic_load(&l->order->ended))
        take_order(l);
    take_late_ones(l);
    leave_late(l);
    drop_left(l);
    if (l->folder && put_folder(l, busy))
        return take_news(l); /* who has waited for it comes first */
    struct lru_step s = {LRU_NONE, -1};
    while (!l->order && !l->folder && (s = lru_next(&l->view)).change == LRU_DROP)
        drop_adapter(l, s.which, "an adapter makes room");
    if (s.change != LRU_NONE)
        begin_order(l, &s);
    else if (!l->order && !l->folder)
        look_at_next(l);
    return take_news(l);
}

bool loras_rests(const struct loras *l)
{
    if (l->order)
        return !atomic_load(&l->order->ended) && next_left(l) < 0 && !l->news;
    return !l->folder && lru_next(&l->view).change == LRU_NONE && next_left(l) < 0 &&
        next_unseen(l) < 0 && !l->news;
}

void loras_tell(const struct loras *l, struct loras_figures *out)
{
    *out = l->figures;
    out->bytes = lru_taken(&l->view);
    const struct loras_item *first = NULL;
    for (int i = 0; i < l->view.count; i++) {
        const struct loras_item *x = &l->lora[i];
        bool wrong = x->listed && x->wrong;
        out->there += l->item[i].there;
        out->unseen += x->listed && !x->seen;
        out->wrong += wrong;
        first = wrong && !first ? x : first;
    }
    if (!first)
        return;
    int n = snprintf(out->why, sizeof out->why, "%s", first->why.text);
    if (out->wrong > 1)
        snprintf(out->why + n, sizeof out->why - (size_t)n, " (and %d more)", out->wrong - 1);
}
