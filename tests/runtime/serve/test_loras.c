/*
 * Goal: adapters come when they are wanted, within the limit, and go for others, but never while a
 * sequence has them; what is there gives the logits that it gives where all are; what is wrong with
 * a folder is told to who waited for it, and to nobody else, and is forgotten when it is put right;
 * a folder that holds something else now is told by its digest. Method: a tiny Llama with adapters
 * of several ranks and kinds, with room for two; requests by hand; folders that are broken, mended
 * and exchanged meanwhile; a pipe that nobody writes in place of a file; folders that do not answer
 * (tests/hang.h).
 * needs: faults
 */
#include "runtime/serve/loras.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/model/engine.h"
#include "tests/hang.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/peft.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADAPTERS 4
#define T        12
#define V        256

static struct err e;
static char folder[64];
static char paths[ADAPTERS][96];
static const char *const names[ADAPTERS] = {"a", "b", "c", "d"};

static struct served {
    struct jobspec_serve spec;
    struct jobspec_served_adapter named[ADAPTERS];
    struct weights *w;
    struct dev *d;
    struct beside *all, *beside;
    struct inbox *inbox;
    struct loras *loras;
    struct model *m[2]; /* with all that are there, and with those that come */
    struct engine *engine[2];
} s;

static void write_adapter(int i, uint64_t seed)
{
    snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
    const struct peft p = {.folder = paths[i],
        .config = weights_config(s.w),
        .targets = i == 1 ? "q_proj v_proj" : NULL,
        .rank = i == 3 ? 24 : 3,
        .seed = seed,
        .type = i == 2 ? DTYPE_BF16 : DTYPE_F32,
        .dora = i == 2};
    peft_write(&p);
    s.spec.adapters[i] = (struct jobspec_served_adapter){names[i], paths[i]};
}

static void open_engine(int k, const struct beside *beside)
{
    const struct model_conf c = {
        .config = *weights_config(s.w), .t = DTYPE_F32, .kv_capacity = T, .beside = beside};
    ck_assert_msg(!model_create(s.d, &c, &s.m[k], &e), "%s", e.text);
    ck_assert_msg(!model_load(s.m[k], s.w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(s.m[k], &s.engine[k], &e), "%s", e.text);
}

/* Room for a and c, hardly; d takes more than that. */
static void setup(void)
{
    golden_folder(folder);
    s = (struct served){.spec = {.adapters = s.named, .adapter_count = ADAPTERS}};
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &s.w, &e), "%s", e.text);
    ck_assert(!dev_open("cpu", 0, 1, &s.d, &e));
    for (int i = 0; i < ADAPTERS; i++)
        write_adapter(i, (uint64_t)i + 1);
    const struct model_config *c = weights_config(s.w);
    ck_assert_msg(!adapters_describe(&s.spec, c, &s.all, &e), "%s", e.text);
    ck_assert_msg(
        !adapters_load(&s.spec, c, s.w, s.d, s.all, NULL, &(uint64_t){0}, &e), "%s", e.text);
    s.spec.adapter_memory = beside_bytes_of(s.all, 0, c) + beside_bytes_of(s.all, 2, c);
    ck_assert(!inbox_create(1, &s.inbox, &e));
    ck_assert(!beside_create(c, LORAS_PLACES, s.spec.adapter_memory, &s.beside, &e));
    ck_assert_int_eq(beside_bytes(s.beside, c), s.spec.adapter_memory);
    const struct loras_conf conf = {&s.spec, c, s.w, s.d, s.beside, s.inbox, 0, -1};
    ck_assert(!loras_create(&conf, &s.loras, &e));
    open_engine(0, s.all);
    open_engine(1, s.beside);
}

static void teardown(void)
{
    ck_assert(loras_destroy(s.loras));
    for (int k = 0; k < 2; k++) {
        engine_destroy(s.engine[k]);
        model_destroy(s.m[k]);
    }
    beside_destroy(s.beside);
    beside_destroy(s.all);
    inbox_destroy(s.inbox);
    weights_close(s.w);
    dev_close(s.d);
    golden_remove(folder);
}

/* One step; who has nothing to do waits for the thread. */
static void turn(bool busy)
{
    struct loras_figures f;
    if (loras_rests(s.loras))
        ck_assert_ptr_null(inbox_take(s.inbox, 1000));
    (void)loras_step(s.loras, busy);
    loras_tell(s.loras, &f);
    ck_assert_int_le(f.bytes, s.spec.adapter_memory);
}

/* Until the request has it, or will not. */
static int wait_for(const struct loras_ticket *t, bool busy)
{
    int rc;
    int64_t until = clock_ms() + 20000;
    while ((rc = loras_begin(s.loras, t, &e)) == -ERR_RETRY && clock_ms() < until)
        turn(busy);
    return rc;
}

static int want(int adapter)
{
    const struct loras_ticket t = loras_wait(s.loras, adapter);
    return wait_for(&t, adapter % 2);
}

static void run(int k, int adapter, float *logits)
{
    static const int32_t pages[] = {0, 1};
    int32_t ids[T];
    for (int i = 0; i < T; i++)
        ids[i] = (i * 37 + 11) % 61;
    struct engine_part part = {
        .ids = ids, .count = T, .pages = pages, .adapter = adapter, .logits = logits};
    ck_assert_msg(!engine_run(s.engine[k], &part, 1, &e), "%s", e.text);
}

static bool same_as_all(int adapter)
{
    static float got[V], all[V];
    ck_assert_int_eq(weights_config(s.w)->vocab, V);
    run(0, adapter, all);
    run(1, adapter, got);
    return !memcmp(got, all, sizeof all);
}

static struct loras_figures figures(void)
{
    struct loras_figures f;
    loras_tell(s.loras, &f);
    return f;
}

START_TEST(they_come_and_go)
{
    for (int round = 0; round < 3; round++)
        for (int i = 1; i <= 3; i++) {
            ck_assert_msg(!want(i), "%s", e.text);
            ck_assert(beside_is_open(s.beside, i - 1) && same_as_all(i));
            loras_end(s.loras, i);
        }
    struct loras_figures f = figures(); /* of three that are wanted in turn, none is ever there */
    ck_assert(f.loaded == 9 && f.dropped == 7 && f.there == 2 && !f.failed && f.seconds >= 0);
    ck_assert(!want(3) && !want(2)); /* but now */
    ck_assert_int_eq(figures().loaded, 9);
}
END_TEST

START_TEST(what_is_in_use_stays)
{
    ck_assert(!want(1) && !want(3));
    const struct loras_ticket b = loras_wait(s.loras, 2);
    turn(true); /* its folder is looked at, */
    turn(true); /* and that is known */
    ck_assert(loras_rests(s.loras) && loras_begin(s.loras, &b, &e) == -ERR_RETRY);
    ck_assert(beside_is_open(s.beside, 0) && beside_is_open(s.beside, 2) && same_as_all(1));
    const struct loras_ticket a = loras_wait(s.loras, 1), c = loras_wait(s.loras, 3);
    ck_assert_int_eq(loras_begin(s.loras, &a, &e), -ERR_RETRY); /* it makes room */
    ck_assert(!loras_begin(s.loras, &c, &e));                   /* it need not */
    loras_end(s.loras, 3);
    loras_end(s.loras, 3);
    loras_end(s.loras, 1);
    ck_assert(!wait_for(&b, false) && same_as_all(2));
    loras_end(s.loras, 2);
    ck_assert(!wait_for(&a, false) && same_as_all(1));
    loras_end(s.loras, 1);
    const struct loras_ticket gone = loras_wait(s.loras, 3);
    loras_give_up(s.loras, &gone);
    turn(false);
    ck_assert(loras_rests(s.loras));
}
END_TEST

/* It would be loaded for nobody if it went as soon as the first of two has had it. */
START_TEST(what_is_loaded_stays_for_who_waited)
{
    const struct loras_ticket first = loras_wait(s.loras, 2), second = loras_wait(s.loras, 2);
    ck_assert(!wait_for(&first, false) && !want(1));
    const struct loras_ticket c = loras_wait(s.loras, 3);
    loras_end(s.loras, 2);
    turn(true); /* its folder is looked at, */
    turn(true); /* and that is known */
    ck_assert(loras_rests(s.loras) && figures().loaded == 2 && !figures().dropped);
    ck_assert(!loras_begin(s.loras, &second, &e) && same_as_all(2));
    loras_end(s.loras, 2);
    ck_assert(!wait_for(&c, false) && same_as_all(3));
    loras_end(s.loras, 3);
    const struct loras_ticket gone = loras_wait(s.loras, 2);
    while (figures().loaded < 4)
        turn(false);
    loras_give_up(s.loras, &gone);
    ck_assert(!want(3));
}
END_TEST

static void write_text(int i, const char *file, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", paths[i], file);
    golden_write(path, text, strlen(text));
}

START_TEST(a_damaged_folder_costs_its_own)
{
    ck_assert(!want(1));
    write_text(1, "adapter_model.safetensors", "nothing of the kind");
    const struct loras_ticket t[] = {loras_wait(s.loras, 2), loras_wait(s.loras, 2)};
    for (int i = 0; i < 2; i++) {
        e = (struct err){0};
        ck_assert_int_eq(wait_for(&t[i], true), -ERR_DATA);
        ck_assert_msg(!strncmp(e.text, "b: ", 3) && strstr(e.text, paths[1]), "%s", e.text);
    }
    ck_assert_int_eq(figures().failed, 1); /* of both */
    ck_assert(same_as_all(1));
    ck_assert_int_eq(want(2), -ERR_DATA);
    ck_assert_int_eq(figures().failed, 2);
    write_adapter(1, 2);
    ck_assert_msg(!want(2) && same_as_all(2), "%s", e.text);
    ck_assert_int_eq(want(4), -ERR_USER);
    ck_assert_msg(!strncmp(e.text, "d: takes ", 9) && strstr(e.text, "spec.serve.adapterMemory"),
        "%s", e.text);
    ck_assert(same_as_all(1) && same_as_all(2));
}
END_TEST

START_TEST(another_one_is_told_from_it)
{
    ck_assert(!want(1));
    uint64_t digest = loras_digest(s.loras, 1);
    loras_end(s.loras, 1);
    for (int i = 0; i < 2; i++) {
        ck_assert(!want(3)); /* a goes for both */
        ck_assert(!want(2));
        loras_end(s.loras, 3);
        loras_end(s.loras, 2);
        ck_assert(!beside_is_open(s.beside, 0));
        if (i)
            write_adapter(0, 99);
        ck_assert(!want(1));
        ck_assert_int_eq(same_as_all(1), !i);
        ck_assert_int_eq(loras_digest(s.loras, 1) == digest, !i);
        loras_end(s.loras, 1);
    }
}
END_TEST

/* It is left behind, and the weights stay open. */
START_TEST(storage_that_hangs_holds_up_nobody)
{
    char path[128];
    snprintf(path, sizeof path, "%s/adapter_config.json", paths[1]);
    ck_assert(!unlink(path) && !mkfifo(path, 0600));
    const struct loras_ticket t = loras_wait(s.loras, 2);
    for (int i = 0; i < 5; i++) {
        (void)loras_step(s.loras, true);
        ck_assert_int_eq(loras_begin(s.loras, &t, &e), -ERR_RETRY);
    }
    ck_assert(loras_rests(s.loras));
    const struct loras_ticket late = {t.adapter, t.number, t.since_ms - LORAS_WAIT_MS};
    ck_assert_int_eq(loras_begin(s.loras, &late, &e), -ERR_HANG);
    ck_assert_msg(strstr(e.text, "b: its folder has been read for 60 s"), "%s", e.text);
    int fd = open(path, O_WRONLY); /* now there is nothing in it */
    ck_assert_int_ge(fd, 0);
    close(fd);
    turn(false);
    ck_assert_int_eq(figures().failed, 1);
}
END_TEST

START_TEST(storage_that_hangs_is_left_behind)
{
    const struct loras_conf conf = {
        &s.spec, weights_config(s.w), s.w, s.d, s.beside, s.inbox, 100, -1};
    int hang[2];
    if (!hang_possible())
        return;
    ck_assert(loras_destroy(s.loras) && !loras_create(&conf, &s.loras, &e));
    for (int i = 0; i < 2; i++) { /* c's comes behind both */
        hang[i] = hang_begin(paths[i]);
        const struct loras_ticket t = loras_wait(s.loras, i + 1);
        const struct loras_ticket c = loras_wait(s.loras, 3);
        ck_assert_msg(!wait_for(&c, true) && same_as_all(3), "%s", e.text);
        loras_end(s.loras, 3);
        ck_assert_int_eq(loras_begin(s.loras, &t, &e), i ? -ERR_RETRY : -ERR_HANG);
        ck_assert_int_eq(i ? wait_for(&t, false) : 0, i ? -ERR_HANG : 0);
        ck_assert_msg(
            !strncmp(e.text, names[i], 1) && strstr(e.text, "does not answer"), "%s", e.text);
    }
    for (int i = 0; i < 2; i++) {
        const struct loras_ticket again = loras_wait(s.loras, i + 1);
        (void)loras_step(s.loras, true); /* no thread, and no wait */
        ck_assert_int_eq(loras_begin(s.loras, &again, &e), -ERR_HANG);
        ck_assert_int_eq(figures().failed, i + 3);
        ck_assert(loras_rests(s.loras));
    }
    for (int i = 0; i < 2; i++)
        hang_end(paths[i], hang[i]);
    int64_t until_ms = clock_ms() + 20000;
    while (want(1) && clock_ms() < until_ms) /* its thread hears of it */
        ck_assert_msg(strstr(e.text, "does not answer"), "%s", e.text);
    ck_assert(same_as_all(1));
}
END_TEST

static void turn_until(int64_t loaded, int64_t failed)
{
    int64_t until_ms = clock_ms() + 20000;
    while (figures().loaded < loaded || figures().failed < failed) {
        ck_assert_int_lt(clock_ms(), until_ms);
        if (loras_rests(s.loras))
            ck_assert_ptr_null(inbox_take(s.inbox, 10));
        (void)loras_step(s.loras, false);
    }
}

/* Who reads a pipe gets text. */
static void answer(const char *path, const struct buf *text)
{
    int fd = open(path, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text->data, text->len), (ssize_t)text->len);
    close(fd);
}

/* Both its size and its numbers come so late that nobody waits for them any more: it is loaded all
   the same, when there is room for it, and whoever asks then finds it there. */
START_TEST(what_is_read_late_is_kept)
{
    const struct loras_conf conf = {
        &s.spec, weights_config(s.w), s.w, s.d, s.beside, s.inbox, 50, -1};
    char path[128];
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    ck_assert(loras_destroy(s.loras) && !loras_create(&conf, &s.loras, &e));
    snprintf(path, sizeof path, "%s/adapter_config.json", paths[1]);
    ck_assert(!io_read_file(path, 1 << 16, &text, &e) && !unlink(path) && !mkfifo(path, 0600));
    ck_assert_int_eq(want(2), -ERR_HANG);
    answer(path, &text);
    turn_until(0, 2); /* its numbers, likewise */
    ck_assert_int_eq(want(2), -ERR_HANG);
    ck_assert(!want(1) && !want(3)); /* what there is room for */
    answer(path, &text);
    for (int i = 0; i < 3; i++) { /* no room is made of what is in use */
        const struct loras_ticket t = loras_wait(s.loras, 2);
        ck_assert_ptr_null(inbox_take(s.inbox, i ? 0 : 1000));
        (void)loras_step(s.loras, true);
        ck_assert_int_eq(loras_begin(s.loras, &t, &e), -ERR_RETRY);
        loras_give_up(s.loras, &t); /* and who gives up does not change that */
    }
    ck_assert(same_as_all(1) && same_as_all(3));
    loras_end(s.loras, 1);
    turn_until(3, 0);
    ck_assert(!beside_is_open(s.beside, 0) && beside_is_open(s.beside, 1));
    const struct loras_ticket t = loras_wait(s.loras, 2);
    ck_assert_int_eq(loras_begin(s.loras, &t, &e), 0);
    ck_assert(same_as_all(2) && same_as_all(3));
    ck_assert_int_eq(figures().failed, 3);
}
END_TEST

static int list(int from, int count, int64_t number)
{
    return loras_list(s.loras, s.spec.adapters + from, count, number, &e);
}

/* The one of that name, wanted, as it is. */
static int found(int i, const char *path)
{
    int at = loras_find(s.loras, names[i], path, &e);
    return at && !want(at) ? at : 0;
}

/* a has a sequence and another that waits; who came when it was listed gets it, too. */
START_TEST(what_is_listed_no_more_ends_as_it_began)
{
    static float before[V], after[V];
    ck_assert(found(0, NULL) == 1);
    run(1, 1, before);
    ck_assert(!list(1, 2, 1)); /* b and c */
    turn(false);
    ck_assert(beside_is_open(s.beside, 0));
    run(1, 1, after);
    ck_assert_mem_eq(before, after, sizeof after);
    ck_assert_int_eq(loras_find(s.loras, "a", NULL, &e), 0);
    ck_assert_msg(strstr(e.text, "there is no adapter a"), "%s", e.text);
    ck_assert_int_eq(found(0, paths[0]), 1);
    loras_end(s.loras, 1);
    turn(false);
    ck_assert(beside_is_open(s.beside, 0));
    loras_end(s.loras, 1);
    ck_assert(!loras_rests(s.loras));
    turn(false);
    ck_assert(!beside_is_open(s.beside, 0) && figures().there == 0 && figures().dropped == 1);
    ck_assert(found(1, NULL) == 2 && same_as_all(2));
    loras_end(s.loras, 2);
    ck_assert(found(0, paths[0])); /* it had waited elsewhere, and was accepted before */
}
END_TEST

/* Whoever has the old one keeps it; the place of what nobody has is the next one's. */
START_TEST(another_path_is_another_adapter)
{
    static float old[V], now[V];
    struct jobspec_served_adapter b = {"a", paths[1]};
    ck_assert(found(0, NULL) == 1);
    run(1, 1, old);
    ck_assert(!loras_list(s.loras, &b, 1, 7, &e));
    int at = found(0, paths[1]);
    ck_assert(at > 1 && loras_find(s.loras, "a", NULL, &e) == at);
    run(1, at, now);
    ck_assert(memcmp(old, now, sizeof now) != 0);
    run(0, 2, old);
    ck_assert_mem_eq(old, now, sizeof now);
    ck_assert(same_as_all(1) && loras_find(s.loras, "a", paths[0], &e) == 1);
    ck_assert(loras_digest(s.loras, 1) != loras_digest(s.loras, at));
    ck_assert_int_eq(figures().list, 7);
}
END_TEST

/* What leaves and comes back is read anew, as it then is. */
START_TEST(one_that_comes_back_is_looked_at_anew)
{
    ck_assert(found(0, NULL) && same_as_all(1));
    ck_assert(!list(1, 3, 1)); /* a is in use meanwhile */
    write_adapter(0, 99);
    ck_assert(!list(0, 4, 2));
    int again = found(0, paths[0]);
    ck_assert(again > 1);
    ck_assert(same_as_all(1) && loras_digest(s.loras, 1) != loras_digest(s.loras, again));
}
END_TEST

/* All places but those that are listed have requests that wait. */
START_TEST(a_list_waits_for_places)
{
    static struct loras_ticket t[LORAS_PLACES];
    static char many[LORAS_PLACES][16];
    static struct jobspec_served_adapter all[LIMIT_ADAPTERS];
    for (int i = 0; i < LORAS_PLACES; i++) {
        snprintf(many[i], sizeof many[i], "n%d", i);
        if (i < LIMIT_ADAPTERS)
            all[i] = (struct jobspec_served_adapter){many[i], paths[0]};
    }
    ck_assert(!loras_list(s.loras, all, LIMIT_ADAPTERS, 1, &e));
    for (int i = LIMIT_ADAPTERS; i < LORAS_PLACES; i++) {
        int at = loras_find(s.loras, many[i], paths[1], &e);
        ck_assert_int_gt(at, 0);
        t[i] = loras_wait(s.loras, at);
    }
    ck_assert_int_eq(loras_find(s.loras, "more", paths[1], &e), 0);
    ck_assert_msg(e.code == ERR_USER && strstr(e.text, "more: requests have"), "%s", e.text);
    const struct loras_ticket one = loras_wait(s.loras, loras_find(s.loras, "n0", NULL, &e));
    ck_assert_int_eq(list(0, ADAPTERS, 2), 0); /* n1 to n255 had no requests */
    for (int i = ADAPTERS; i < LIMIT_ADAPTERS; i++)
        all[i] = (struct jobspec_served_adapter){many[i], paths[2]};
    ck_assert_int_eq(loras_list(s.loras, all, LIMIT_ADAPTERS, 3, &e), -ERR_RETRY);
    ck_assert_int_eq(figures().list, 2);
    loras_give_up(s.loras, &one);
    ck_assert_int_eq(loras_list(s.loras, all, LIMIT_ADAPTERS, 3, &e), 0);
    ck_assert_int_eq(figures().list, 3);
    for (int i = LIMIT_ADAPTERS; i < LORAS_PLACES; i++)
        loras_give_up(s.loras, &t[i]);
}
END_TEST

static void look_until(int unseen, int wrong)
{
    int64_t until_ms = clock_ms() + 20000;
    struct loras_figures f;
    while ((f = figures()).unseen != unseen || f.wrong != wrong) {
        ck_assert_int_lt(clock_ms(), until_ms);
        if (loras_rests(s.loras))
            ck_assert_ptr_null(inbox_take(s.inbox, 10));
        (void)loras_step(s.loras, false);
    }
}

/* Nobody asks for any: b's folder is damaged, and mended; d takes too much. */
START_TEST(what_is_wrong_is_told_before_anybody_asks)
{
    const struct loras_conf conf = {
        &s.spec, weights_config(s.w), s.w, s.d, s.beside, s.inbox, 0, 20};
    write_text(1, "adapter_model.safetensors", "nothing of the kind");
    ck_assert(loras_destroy(s.loras) && !loras_create(&conf, &s.loras, &e));
    ck_assert_int_eq(figures().unseen, ADAPTERS);
    look_until(0, 2);
    struct loras_figures f = figures();
    ck_assert_msg(!strncmp(f.why, "b: ", 3) && strstr(f.why, "(and 1 more)"), "%s", f.why);
    ck_assert(!f.loaded && !f.there && f.failed == 2);
    write_adapter(1, 2);
    look_until(0, 1);
    ck_assert_msg(!strncmp(figures().why, "d: takes", 8), "%s", figures().why);
    ck_assert(!list(0, 3, 1)); /* without d */
    ck_assert(figures().wrong == 0 && !*figures().why);
    ck_assert(!want(2) && same_as_all(2));
}
END_TEST

static int load_once(void *user)
{
    (void)user;
    struct loras *loras = NULL;
    struct err why = {0};
    const struct loras_conf c = {&s.spec, weights_config(s.w), s.w, s.d, s.beside, s.inbox, 0, -1};
    int rc = loras_create(&c, &loras, &why);
    if (rc)
        return rc;
    const struct loras_ticket t = loras_wait(loras, 3);
    while ((rc = loras_begin(loras, &t, &why)) == -ERR_RETRY) {
        if (loras_rests(loras))
            ck_assert_ptr_null(inbox_take(s.inbox, 1000));
        (void)loras_step(loras, false);
    }
    ck_assert(loras_destroy(loras));
    beside_drop(s.beside, 2);
    ck_assert_int_eq(rc, -(int)why.code);
    return rc;
}

START_TEST(each_failure_is_told)
{
    fault_each(FAULT_MEM, load_once, NULL);
    fault_each(FAULT_IO, load_once, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"loras", 60, setup, teardown},
        (const TTest *const[]){they_come_and_go, what_is_in_use_stays,
            what_is_loaded_stays_for_who_waited, a_damaged_folder_costs_its_own,
            another_one_is_told_from_it, storage_that_hangs_holds_up_nobody,
            storage_that_hangs_is_left_behind, what_is_read_late_is_kept,
            what_is_listed_no_more_ends_as_it_began, another_path_is_another_adapter,
            one_that_comes_back_is_looked_at_anew, a_list_waits_for_places,
            what_is_wrong_is_told_before_anybody_asks, each_failure_is_told, NULL});
}
