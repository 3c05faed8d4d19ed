/*
 * Goal: whatever the connection does, the copy becomes equal to what the server holds, and every
 * removal is reported; an object that cannot be taken hides no other. Method: a fake API server
 * that pages, cuts watches inside a line, forgets old versions, refuses and resets; the copy is
 * compared with the server's objects after each. Objects that no parser takes, in lists and
 * watches.
 * needs: threads
 */
#include "controller/kube/informer.h"

#include "base/clock.h"
#include "base/table.h"
#include "tests/controller/fakekube.h"

struct copy {
    struct table keys; /* key -> resourceVersion */
    int removals, fail_next;
    const char *refuse; /* the key that the owner cannot decode, or NULL */
};

static int changed(void *user, const char *key, const struct json *object, struct err *e)
{
    struct copy *c = user;
    if (c->fail_next > 0 && !--c->fail_next)
        return err_set(e, ERR_MEMORY, "as ordered");
    if (!object) {
        c->removals += table_remove(&c->keys, key) != NULL;
        return 0;
    }
    if (c->refuse && !strcmp(key, c->refuse))
        return err_set(e, ERR_DATA, "not to be decoded");
    const char *version = json_str(json_get(object, "metadata"), "resourceVersion", "0");
    return table_put(&c->keys, key, (void *)(uintptr_t)strtoul(version, NULL, 10), e);
}

static struct metric skipped_total = {.name = "skipped", .kind = METRIC_COUNTER};

struct set {
    struct fakekube *f;
    struct kube *k;
    struct informer *i;
    struct copy copy;
};

static void start(struct set *s, const char *selector)
{
    struct err e;
    *s = (struct set){.f = fakekube_start()};
    s->k = fakekube_client(s->f);
    const struct informer_conf conf = {.name = "pods",
        .path = "/api/v1/pods",
        .selector = selector,
        .changed_fn = changed,
        .user = &s->copy,
        .skipped = &skipped_total};
    ck_assert_int_eq(informer_create(s->k, &conf, &s->i, &e), 0);
}

static void stop(struct set *s)
{
    kube_destroy(s->k);
    informer_destroy(s->i);
    table_done(&s->copy.keys);
    fakekube_stop(s->f);
}

static void add(struct set *s, int n)
{
    char path[128], text[256];
    snprintf(path, sizeof path, "/api/v1/namespaces/n/pods/p%d", n);
    snprintf(text, sizeof text, "{\"metadata\":{\"name\":\"p%d\",\"namespace\":\"n\"}}", n);
    fakekube_put(s->f, path, text);
}

static void drop(struct set *s, int n)
{
    char path[128];
    snprintf(path, sizeof path, "/api/v1/namespaces/n/pods/p%d", n);
    fakekube_remove(s->f, path);
}

/* Is the copy what the server holds, versions and all? */
static bool equal(struct set *s)
{
    size_t live = 0;
    bool same = informer_synced(s->i);
    pthread_mutex_lock(&s->f->lock);
    for (int i = 0; i < s->f->count; i++) {
        const struct fakekube_object *o = &s->f->objects[i];
        char key[128];
        snprintf(key, sizeof key, "n/%s", strrchr(o->path, '/') + 1);
        uintptr_t version = (uintptr_t)table_get(&s->copy.keys, key);
        same &= o->deleted ? !version : version == (uintptr_t)o->version;
        live += !o->deleted;
    }
    same &= live == s->copy.keys.count && live == informer_count(s->i);
    pthread_mutex_unlock(&s->f->lock);
    return same;
}

static void until_equal(struct set *s)
{
    struct err e = {0};
    int64_t deadline = clock_ms() + 15000;
    while (!equal(s) && clock_ms() < deadline) {
        int64_t due = informer_turn(s->i);
        int64_t wait = due < 0 ? 20 : due - clock_ms();
        ck_assert_msg(
            !http_turn(kube_http(s->k), NULL, 0, wait < 20 ? wait : 20, &e), "%s", e.text);
    }
    ck_assert_msg(equal(s), "the copy has %zu keys", s->copy.keys.count);
}

START_TEST(lists_come_in_pages_and_changes_follow)
{
    struct set s;
    start(&s, "llmjob.dev/job");
    for (int i = 0; i < 1203; i++)
        add(&s, i);
    until_equal(&s);
    ck_assert_int_eq(atomic_load(&s.f->lists), 3);
    add(&s, 5);
    add(&s, 1300);
    drop(&s, 7);
    until_equal(&s);
    ck_assert_int_eq(s.copy.removals, 1);
    ck_assert_int_eq(atomic_load(&s.f->lists), 3);
    ck_assert_uint_eq(informer_version(s.i), (uint64_t)s.f->version);
    stop(&s);
}
END_TEST

START_TEST(a_watch_cut_inside_a_line_is_resumed)
{
    struct set s;
    start(&s, NULL);
    add(&s, 1);
    until_equal(&s);
    for (int i = 0; i < 3; i++) {
        atomic_store(&s.f->cut, true);
        add(&s, 10 + i);
        until_equal(&s);
    }
    ck_assert_int_eq(atomic_load(&s.f->lists), 1);
    ck_assert_int_ge(atomic_load(&s.f->watches), 4);
    stop(&s);
}
END_TEST

START_TEST(versions_forgotten_by_the_server_cause_a_list_that_finds_removals)
{
    struct set s;
    start(&s, NULL);
    for (int i = 0; i < 5; i++)
        add(&s, i);
    until_equal(&s);
    fakekube_fault(s.f, "watch=true", FAULT_STATUS, 410, 1);
    atomic_store(&s.f->cut, true);
    drop(&s, 2);
    until_equal(&s);
    s.f->oldest = s.f->version + 1; /* an ERROR event, until the next change */
    atomic_store(&s.f->cut, true);
    drop(&s, 3);
    s.f->oldest = 0;
    add(&s, 9);
    until_equal(&s);
    ck_assert_int_ge(atomic_load(&s.f->lists), 2);
    ck_assert_int_eq(s.copy.removals, 2);
    stop(&s);
}
END_TEST

START_TEST(refusals_and_resets_are_sat_out)
{
    struct set s;
    start(&s, NULL);
    for (int i = 0; i < 700; i++)
        add(&s, i);
    fakekube_fault(s.f, "limit=500", FAULT_STATUS, 500, 1);
    fakekube_fault(s.f, "limit=", FAULT_RESET, 0, 1);
    fakekube_fault(s.f, "continue=", FAULT_STATUS, 410, 1);
    fakekube_fault(s.f, "watch=true", FAULT_RESET, 0, 1);
    fakekube_fault(s.f, "watch=true", FAULT_STATUS, 429, 1);
    until_equal(&s);
    add(&s, 3);
    until_equal(&s);
    stop(&s);
}
END_TEST

static void until_version(struct set *s)
{
    struct err e = {0};
    int64_t deadline = clock_ms() + 15000;
    while (informer_version(s->i) < (uint64_t)s->f->version && clock_ms() < deadline) {
        informer_turn(s->i);
        ck_assert_msg(!http_turn(kube_http(s->k), NULL, 0, 20, &e), "%s", e.text);
    }
    ck_assert_uint_eq(informer_version(s->i), (uint64_t)s->f->version);
}

static void poison(struct set *s, const char *name, const char *spec)
{
    buf_auto struct buf text;
    char path[128];
    buf_init(&text, 8 << 20);
    snprintf(path, sizeof path, "/api/v1/namespaces/n/pods/%s", name);
    buf_printf(
        &text, "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"n\"},\"spec\":%s}", name, spec);
    fakekube_put(s->f, path, text.data);
}

/* One of each kind that a parser refuses; a few that come late in the text or are large. */
static int poison_all(struct set *s)
{
    buf_auto struct buf deep, many, large;
    buf_init(&deep, 1 << 10);
    buf_init(&many, 1 << 20);
    buf_init(&large, 8 << 20);
    for (int i = 0; i < 200; i++)
        buf_char(&deep, i < 100 ? '[' : ']');
    for (int i = 0; i < 100000; i++)
        buf_str(&many, i ? ",0" : "[0");
    buf_char(&many, ']');
    buf_char(&large, '"');
    for (int i = 0; i < 5 << 18; i++)
        buf_str(&large, "\\u003c");
    buf_char(&large, '"');
    const char *const specs[] = {"\"\\u0000\"", deep.data, many.data, large.data, "nonsense"};
    const int n = (int)(sizeof specs / sizeof *specs);
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "bad%d", i);
        poison(s, name, specs[i]);
    }
    return n;
}

START_TEST(an_object_that_cannot_be_taken_hides_no_other)
{
    struct set s;
    start(&s, NULL);
    add(&s, 1);
    int bad = poison_all(&s);
    poison(&s, "undecodable", "{}");
    s.copy.refuse = "n/undecodable";
    add(&s, 2);
    until_version(&s);
    ck_assert(informer_synced(s.i));
    ck_assert_int_eq(atomic_load(&s.f->lists), 1);
    ck_assert_uint_eq(s.copy.keys.count, 2);
    ck_assert_int_eq((int)skipped_total.value_milli, 1000 * (bad + 1));
    for (int i = 0; i <= bad; i++)
        ck_assert_ptr_nonnull(informer_untold(s.i));
    ck_assert_ptr_null(informer_untold(s.i));
    /* The same in a watch, and again what is skipped is told once a version. */
    poison(&s, "bad0", "\"\\u0000\"");
    add(&s, 3);
    until_version(&s);
    const struct informer_skipped *what = informer_untold(s.i);
    ck_assert_ptr_nonnull(what);
    ck_assert_str_eq(what->object.name, "bad0");
    ck_assert_str_eq(what->object.namespace_, "n");
    ck_assert(*what->object.uid && *what->why);
    ck_assert_ptr_null(informer_untold(s.i));
    ck_assert_uint_eq(s.copy.keys.count, 3);
    ck_assert_int_eq(atomic_load(&s.f->lists), 1);
    stop(&s);
}
END_TEST

START_TEST(what_turns_bad_is_as_it_was_until_it_is_deleted)
{
    struct set s;
    start(&s, NULL);
    add(&s, 1);
    until_equal(&s);
    poison(&s, "p1", "\"\\u0000\"");
    add(&s, 2);
    until_version(&s);
    ck_assert_ptr_nonnull(table_get(&s.copy.keys, "n/p1"));
    /* A list that holds it in a form that cannot be read does not remove it either. */
    fakekube_fault(s.f, "watch=true", FAULT_STATUS, 410, 1);
    atomic_store(&s.f->cut, true);
    add(&s, 3);
    until_version(&s);
    ck_assert_int_eq(atomic_load(&s.f->lists), 2);
    ck_assert_int_eq(s.copy.removals, 0);
    ck_assert_ptr_nonnull(informer_untold(s.i));
    ck_assert_ptr_null(informer_untold(s.i));
    drop(&s, 1);
    until_equal(&s);
    ck_assert_int_eq(s.copy.removals, 1);
    stop(&s);
}
END_TEST

START_TEST(what_the_owner_could_not_take_is_listed_again)
{
    struct set s;
    start(&s, NULL);
    add(&s, 1);
    until_equal(&s);
    s.copy.fail_next = 1;
    add(&s, 2);
    until_equal(&s);
    ck_assert_int_ge(atomic_load(&s.f->lists), 2);
    stop(&s);
}
END_TEST

UNIT_MAIN("informer", lists_come_in_pages_and_changes_follow, a_watch_cut_inside_a_line_is_resumed,
    versions_forgotten_by_the_server_cause_a_list_that_finds_removals,
    refusals_and_resets_are_sat_out, an_object_that_cannot_be_taken_hides_no_other,
    what_turns_bad_is_as_it_was_until_it_is_deleted, what_the_owner_could_not_take_is_listed_again)
