/*
 * Goal: a folder's documents are found as they are now: all of them when it is opened, and later
 * what came, changed or went, without a step that takes more than it may; what cannot be read is
 * passed over. Method: a folder of small files, and a tiny BERT as the encoder; time is the test's
 * own, so that each look at the folder is at hand; steps are counted; kept embeddings' storage
 * hangs (tests/hang.h).
 */
#include "runtime/serve/retrieve.h"

#include "base/clock.h"
#include "runtime/door/door.h"
#include "runtime/model/device.h"
#include "runtime/model/memplan.h"
#include "tests/hang.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BUDGET ((int64_t)1 << 28)

static char root[64];
static struct err e;
static struct door door;
static struct dev *dev;
static struct retrieve *r;
static int64_t now_ms;
static struct jobspec_retrieval spec;
static char kept[96]; /* "": nothing is */

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    ck_assert_msg(!io_write_new(path, text, strlen(text), 0644, &e), "%s", e.text);
    const struct timespec times[2] = {{now_ms / 1000, 0}, {now_ms / 1000, 0}};
    ck_assert(!utimensat(AT_FDCWD, path, times, 0));
}

static void setup(void)
{
    now_ms = 1700000000000;
    clock_set_fake(now_ms, now_ms);
    golden_folder(root);
    *kept = 0;
    door_init(&door, -1, NULL);
    ck_assert_msg(!dev_open("cpu", 0, 2, &dev, &e), "%s", e.text);
    spec = (struct jobspec_retrieval){.documents = root,
        .encoder.source = GOLDEN "tiny-bert-masked",
        .chunk_tokens = 32,
        .overlap_tokens = 8,
        .max_chunks = 40,
        .results = 3,
        .not_found = "no",
        .scan_seconds = 5};
}

static void done(void)
{
    retrieve_close(r);
    r = NULL;
    dev_close(dev);
    golden_remove(root);
    if (*kept)
        golden_remove(kept);
    clock_set_real();
}

/* Programs are counted with the model beside it: here is its vocabulary alone. */
static void check_plan(void)
{
    struct jobspec job = {.precision = PRECISION_FP32, .serve.retrieval = spec};
    job.serve.embedding_cache = *kept ? kept : NULL;
    int64_t bytes, device;
    ck_assert_msg(!retrieve_plan(&job, true, &bytes, &e), "%s", e.text);
    ck_assert_int_eq(bytes, retrieve_bytes(r));
    ck_assert(!retrieve_plan(&job, false, &device, &e));
    ck_assert(device < bytes && bytes < memplan_programs(0));
    job.serve.retrieval.documents = NULL;
    ck_assert(!retrieve_plan(&job, true, &bytes, &e) && !bytes);
}

static int open_it(void)
{
    const struct retrieve_conf c = {&spec, dev, PRECISION_FP32, BUDGET, *kept ? kept : NULL, &door};
    int rc = retrieve_open(&c, &r, &e);
    return rc ? rc : retrieve_index(r, &e);
}

/* After so much time; how many steps there were. */
static int later(int seconds)
{
    int steps = 0;
    now_ms += seconds * 1000;
    clock_set_fake(now_ms, now_ms);
    for (; !retrieve_wait(r); steps++) {
        ck_assert_msg(!retrieve_step(r, 1, &e), "%s", e.text);
        ck_assert_int_lt(steps, 500);
    }
    return steps;
}

/* The files whose words are found, with spaces between them. */
static void check_found(const char *words, const char *files)
{
    struct library_hit hits[LIBRARY_HITS];
    char got[512] = "";
    size_t at = 0;
    const struct retrieve_query q = {words, 1, 0, LIBRARY_HITS};
    int n = retrieve_search(r, &q, hits, &e);
    ck_assert_msg(n >= 0, "%s", e.text);
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%s", i ? " " : "", hits[i].file);
    ck_assert_str_eq(got, files);
}

START_TEST(all_documents_are_indexed_at_first)
{
    char path[256];
    snprintf(path, sizeof path, "%s/sub", root);
    ck_assert(!io_mkdirs(path, 0755, &e));
    put("a.txt", "anna was in berlin");
    put("sub/b.md", "# Title\nin paris");
    put("sub/c.html", "<p>in <b>rome");
    put("d.jsonl", "{\"text\":\"in london\"}\n");
    put("e.pdf", "in madrid");
    put("f.txt", "in \xff vienna");
    ck_assert_msg(!open_it(), "%s", e.text);
    ck_assert_int_eq(retrieve_wait(r), 5000);
    check_found("berlin", "a.txt");
    check_found("title", "sub/b.md");
    check_found("rome", "sub/c.html");
    check_found("london", "d.jsonl");
    check_found("madrid", "");
    check_found("vienna", "");
    struct library_hit hits[4];
    const struct retrieve_query all = {"in berlin", 1, 1, 4};
    ck_assert_int_eq(retrieve_search(r, &all, hits, &e), 4);
    ck_assert_str_eq(hits[0].file, "a.txt");
    for (int i = 0; i < 4; i++)
        ck_assert(hits[i].cosine > -1.001 && hits[i].cosine < 1.001);
    const struct retrieve_query none = {"", 1, 1, 4};
    ck_assert_int_eq(retrieve_search(r, &none, hits, &e), -ERR_USER);
    check_plan();
}
END_TEST

START_TEST(what_changes_is_indexed_anew)
{
    put("a.txt", "the cat");
    put("b.txt", "the dog");
    ck_assert_msg(!open_it(), "%s", e.text);
    check_found("cat", "a.txt");
    ck_assert_int_eq(retrieve_step(r, 1, &e), 0); /* not yet: nothing happens */
    put("c.txt", "the bird");
    check_found("bird", "");
    later(6);
    check_found("bird", "c.txt");
    put("a.txt", "the cow"); /* of the same length */
    later(6);
    check_found("cat", "");
    check_found("cow", "a.txt");
    char path[128];
    snprintf(path, sizeof path, "%s/b.txt", root);
    ck_assert(!io_remove(path, &e));
    later(6);
    check_found("dog", "");
    check_found("the", "c.txt a.txt"); /* by hash */
    later(6);
    ck_assert_int_le(later(6), 4); /* nothing changed: nothing is read */
}
END_TEST

/* Whose time and size are as they were: while it is young it is read again. */
START_TEST(a_change_within_a_tick_is_seen)
{
    put("a.txt", "the cat");
    ck_assert(!open_it());
    put("a.txt", "the cow");
    later(6);
    check_found("cow", "a.txt");
}
END_TEST

START_TEST(a_long_document_takes_many_steps_and_is_there_at_once)
{
    char text[3000] = "", *p = text;
    put("a.txt", "old words");
    ck_assert(!open_it());
    for (int i = 0; i < 100; i++)
        p += snprintf(p, 20, "new words %d. ", i);
    put("a.txt", text);
    now_ms += 6000;
    clock_set_fake(now_ms, now_ms);
    int steps = 0;
    for (bool whole = false; !retrieve_wait(r); steps++) {
        struct library_hit hits[LIBRARY_HITS];
        const struct retrieve_query q = {"old new", 1, 0, LIBRARY_HITS};
        int n = retrieve_search(r, &q, hits, &e);
        ck_assert_msg(n == 1 || n > 10, "%d after %d steps", n, steps);
        ck_assert_msg(n > 1 || !whole, "it was there, and is not after %d steps", steps);
        whole = n > 1;
        ck_assert(!retrieve_step(r, 1, &e));
    }
    ck_assert_int_gt(steps, 10);
    check_found("old", "");
}
END_TEST

static void long_text(char *text, size_t size, int sections)
{
    size_t at = 0;
    for (int i = 0; i < sections; i++)
        at += (size_t)snprintf(text + at, size - at, "# s%d\nwords\n", i);
}

START_TEST(there_are_only_so_many_chunks)
{
    static char text[4000];
    put("a.md", "# a\nfirst");
    long_text(text, sizeof text, 30);
    put("b.md", text);
    ck_assert_msg(!open_it(), "%s", e.text);
    long_text(text, sizeof text, 35); /* which does not fit beside the old one */
    put("b.md", text);
    later(6);
    check_found("s34", "b.md");
    long_text(text, sizeof text, 60);
    put("c.md", text); /* does not fit at all */
    later(6);
    check_found("s34", "b.md");
    check_found("s59", "");
    check_found("first", "a.md");
    retrieve_close(r);
    r = NULL;
    ck_assert_int_eq(open_it(), -ERR_USER);
    ck_assert_str_eq(
        e.text, "spec.serve.retrieval.maxChunks: c.md: there would be more than 40 chunks");
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    struct jobspec_retrieval good = spec;
    spec.documents = "/nonexistent";
    ck_assert_int_eq(open_it(), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "spec.serve.retrieval.documents: /nonexistent"), "%s", e.text);
    spec = good;
    spec.chunk_tokens = 4000;
    ck_assert_int_eq(open_it(), -ERR_USER);
    ck_assert_msg(strstr(e.text, "retrieval.chunkTokens: the encoder reads"), "%s", e.text);
    spec = good;
    spec.encoder.source = GOLDEN "tiny-bert";
    ck_assert_int_eq(open_it(), -ERR_USER);
    ck_assert_msg(strstr(e.text, "retrieval.encoder: the model tells labels"), "%s", e.text);
    spec = good;
    const struct retrieve_conf c = {&spec, dev, PRECISION_FP32, 100000, NULL, &door};
    ck_assert_int_eq(retrieve_open(&c, &r, &e), -ERR_MEMORY);
}
END_TEST

START_TEST(who_is_to_stop_does_not_wait_for_an_index)
{
    put("a.txt", "the cat");
    atomic_store(&door.stop, true);
    ck_assert_int_eq(open_it(), -ERR_DRAINED);
    atomic_store(&door.stop, false);
    ck_assert(!retrieve_index(r, &e));
    check_found("cat", "a.txt");
}
END_TEST

/* What was indexed stays found while the folder is away. */
START_TEST(a_folder_that_is_gone_changes_nothing)
{
    char away[128];
    put("a.txt", "the cat");
    ck_assert(!open_it());
    snprintf(away, sizeof away, "%s.away", root);
    ck_assert(!rename(root, away));
    later(6);
    check_found("cat", "a.txt");
    ck_assert_int_gt(retrieve_wait(r), 0);
    ck_assert(!rename(away, root));
    put("b.txt", "the cow");
    later(6);
    check_found("cow", "b.txt");
}
END_TEST

/* Until kept embeddings are written. */
static void await_storage(void)
{
    while (retrieve_wait(r) == RETRIEVE_REST_MS)
        sched_yield();
}

/* A restart, and a replica beside it, read nothing again; of what changes they read what is new. */
START_TEST(kept_chunks_are_not_embedded_again)
{
    struct library_hit hits[4];
    double cosines[2] = {0};
    golden_folder(kept);
    put("a.md", "# One\nanna was in berlin\n# Two\nin paris");
    put("b.md", "the cat\n# Three\nthe dog");
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(!open_it(), "%s", e.text);
        ck_assert_int_eq(retrieve_embedded(r), i ? 0 : 4);
        const struct retrieve_query q = {"in berlin", 1, 1, 4};
        ck_assert_int_eq(retrieve_search(r, &q, hits, &e), 4);
        ck_assert(!i || cosines[0] == hits[0].cosine);
        cosines[0] = hits[0].cosine;
        check_plan();
        if (i < 2)
            retrieve_close(r);
    }
    put("a.md", "# One\nanna was in berlin\n# Two\nin rome");
    later(6);
    check_found("rome", "a.md");
    ck_assert_int_eq(retrieve_embedded(r), 1);
    await_storage();
    struct retrieve *first = r;
    ck_assert(!open_it()); /* while the first one serves */
    ck_assert_int_eq(retrieve_embedded(r), 0);
    retrieve_close(first);
    retrieve_close(r);
    golden_remove(kept); /* all of it is made anew */
    ck_assert(!open_it());
    ck_assert_int_eq(retrieve_embedded(r), 4);
}
END_TEST

START_TEST(storage_that_hangs_holds_up_no_search)
{
    if (!hang_possible())
        return;
    golden_folder(kept);
    put("a.md", "anna was in berlin");
    ck_assert_msg(!open_it(), "%s", e.text);
    await_storage();
    int hang = hang_begin(kept);
    put("b.md", "in rome");
    later(6);
    ck_assert_int_eq(retrieve_wait(r), RETRIEVE_REST_MS); /* b's is being written */
    ck_assert_int_eq(retrieve_step(r, 1, &e), 0);
    check_found("rome", "b.md");
    hang_end(kept, hang);
    await_storage();
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"retrieve", 60, setup, done},
        (const TTest *const[]){all_documents_are_indexed_at_first, what_changes_is_indexed_anew,
            a_change_within_a_tick_is_seen, a_long_document_takes_many_steps_and_is_there_at_once,
            there_are_only_so_many_chunks, what_cannot_be_is_refused,
            who_is_to_stop_does_not_wait_for_an_index, a_folder_that_is_gone_changes_nothing,
            kept_chunks_are_not_embedded_again, storage_that_hangs_holds_up_no_search, NULL});
}
