/*
 * Goal: embeddings that were kept are found by whoever asks next, to the bit and without the
 * encoder; what is damaged, another encoder's or beyond the bound is made anew; what others put
 * there stays as it is; of those that begin together one embeds; storage that fails or hangs costs
 * no answer. Method: a tiny BERT of tests/golden, texts of one or two token ids, a folder that the
 * test changes behind the module's back, or that hangs (tests/hang.h).
 * needs: faults
 */
#include "runtime/serve/kept.h"

#include "base/clock.h"
#include "base/random.h"
#include "runtime/serve/kept_file.h"
#include "tests/hang.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIM   32
#define TEXTS 300 /* different ones */

static struct err e;
static struct dev *d;
static struct weights *w;
static struct reader *r;
static char folder[64];

static struct reader *open_reader(struct weights **weights, const char *model, enum dtype t)
{
    struct reader *out;
    ck_assert_msg(!weights_open(model, NULL, weights, &e), "%s", e.text);
    const struct reader_conf c = {
        .weights = *weights, .dev = d, .t = t, .budget_bytes = (int64_t)1 << 30};
    ck_assert_msg(!reader_open(&c, &out, &e), "%s", e.text);
    return out;
}

static void setup(void)
{
    ck_assert_msg(!dev_open("cpu", 0, 1, &d, &e), "%s", e.text);
    r = open_reader(&w, GOLDEN "tiny-bert-masked", DTYPE_F32);
    ck_assert_int_eq(reader_facts(r)->dim, DIM);
    golden_folder(folder);
}

static void done(void)
{
    reader_close(r);
    weights_close(w);
    dev_close(d);
    golden_remove(folder);
}

static int open_kept(struct kept_folder **k, int64_t asked)
{
    return kept_open(folder, r, asked, k, &e);
}

static void write_kept(struct kept_folder *k)
{
    kept_write(k);
    ck_assert(kept_rests(k, 20000));
}

/* Texts from..from+n are embedded, some at a time; how many the encoder read, or -1. */
static int64_t ask_of(struct kept_folder *k, struct reader *of, int from, int n, float *out)
{
    int32_t ids[ENCODER_TEXTS][2];
    struct encoder_text texts[ENCODER_TEXTS];
    int64_t made = 0;
    for (int at = 0, some; at < n; at += some) {
        some = n - at < ENCODER_TEXTS ? n - at : ENCODER_TEXTS;
        for (int i = 0; i < some; i++) {
            ids[i][0] = 5 + (from + at + i) % 30;
            ids[i][1] = 5 + (from + at + i) / 30;
            texts[i] = (struct encoder_text){ids[i], NULL, 2};
        }
        if (kept_embed(k, of, texts, some, out + at * DIM, &made, &e))
            return -1;
    }
    return made;
}

static float rows[TEXTS * DIM], again[TEXTS * DIM];

static int64_t ask(struct kept_folder *k, int from, int n)
{
    return ask_of(k, r, from, n, again);
}

/* The only file that bears our name, or NULL; *count: of all. */
static char *a_file(int *count)
{
    static char path[512];
    DIR *dir = opendir(folder);
    bool unfinished;
    *count = 0;
    for (struct dirent *f; (f = readdir(dir));)
        if (kept_file_bears_name(f->d_name, reader_digest(r), &unfinished) && !unfinished) {
            snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
            ++*count;
        }
    closedir(dir);
    return *count ? path : NULL;
}

static void damage(const char *path, int64_t at)
{
    FILE *f = fopen(path, "r+");
    ck_assert(f && !fseek(f, at, at < 0 ? SEEK_END : SEEK_SET));
    int c = getc(f);
    ck_assert(!fseek(f, -1, SEEK_CUR) && putc(c ^ 1, f) != EOF && !fclose(f));
}

START_TEST(another_start_embeds_nothing)
{
    struct kept_folder *k, *other;
    ck_assert(!open_kept(&k, TEXTS));
    ck_assert_int_eq(ask_of(NULL, r, 0, TEXTS, rows), TEXTS);
    ck_assert_int_eq(ask(k, 0, TEXTS), TEXTS);
    ck_assert_int_eq(ask(k, 0, TEXTS), 0); /* what is not written yet, too */
    write_kept(k);
    ck_assert(!memcmp(rows, again, sizeof rows));
    memset(again, 0, sizeof again);
    ck_assert(!open_kept(&other, TEXTS)); /* a replica beside it */
    ck_assert_int_eq(ask(other, 0, TEXTS), 0);
    ck_assert(!memcmp(rows, again, sizeof rows));
    kept_close(other);
    kept_close(k);
    ck_assert(!open_kept(&k, TEXTS));
    ck_assert_int_eq(ask(k, 100, TEXTS - 100), 0);
    ck_assert_int_eq(ask(k, TEXTS, 3), 3); /* what is new alone */
    kept_close(k);
}
END_TEST

/* Replicas that begin together write the same. */
START_TEST(replicas_write_beside_each_other)
{
    struct kept_folder *k[3];
    int count;
    for (int i = 0; i < 3; i++)
        ck_assert(!open_kept(&k[i], 50));
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ask(k[i], 0, 40), 40);
    for (int i = 0; i < 3; i++)
        write_kept(k[i]);
    a_file(&count);
    ck_assert_int_eq(count, 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ask(k[i], 0, 40), 0);
        ck_assert_int_eq(ask(k[i], 40 + i, 1), 1);
        write_kept(k[i]);
    }
    ck_assert_int_eq(ask(k[2], 40, 2), 0); /* theirs, seen when it wrote */
    for (int i = 0; i < 3; i++)
        kept_close(k[i]);
}
END_TEST

/* A byte of each kind: mark, header, keys, a number, the end; and a file that was cut. */
START_TEST(what_is_damaged_is_made_anew)
{
    static const int64_t places[] = {0, 14, 40, 80, 400, -1};
    for (size_t i = 0; i <= sizeof places / sizeof *places; i++) {
        struct kept_folder *k;
        int count;
        bool foreign = i == 0 || i == 1; /* nothing tells that it was ours */
        ck_assert(!open_kept(&k, 50));
        ck_assert_int_eq(ask(k, 0, 20), 20);
        memcpy(rows, again, 20 * DIM * sizeof *rows);
        write_kept(k);
        kept_close(k);
        char *path = a_file(&count);
        ck_assert_int_eq(count, 1);
        if (i < sizeof places / sizeof *places)
            damage(path, places[i]);
        else
            ck_assert(!truncate(path, 1000));
        ck_assert(!open_kept(&k, 50));
        int64_t made = ask(k, 0, 20);
        ck_assert_msg(made > 0 && (made == 20 || i > 3), "%d: %d", (int)i, (int)made);
        ck_assert(!memcmp(rows, again, 20 * DIM * sizeof *rows));
        kept_close(k);
        ck_assert(!open_kept(&k, 50));
        ck_assert_int_gt(ask(k, 0, 20), 0); /* it was not written before it was closed */
        write_kept(k);
        kept_close(k);
        a_file(&count);
        ck_assert_int_eq(count, 1 + foreign);
        ck_assert(!open_kept(&k, 50));
        ck_assert_msg(!ask(k, 0, 20), "%d", (int)i);
        ck_assert(!memcmp(rows, again, 20 * DIM * sizeof *rows));
        kept_close(k);
        golden_remove(folder);
        golden_folder(folder);
    }
}
END_TEST

/* Its name, mark and count of links; what it has is compared. */
START_TEST(what_others_wrote_is_left_alone)
{
    static const char text[] = "somebody's";
    char path[512], name[512], half[512];
    struct kept_folder *k;
    int count;
    buf_auto struct buf b;
    buf_init(&b, 100);
    ck_assert(!open_kept(&k, 50));
    ask(k, 0, 20);
    write_kept(k);
    kept_close(k);
    snprintf(name, sizeof name, "%s", a_file(&count));
    ck_assert(!io_remove(name, &e));
    golden_write(name, text, sizeof text - 1); /* just the name that it would get */
    snprintf(path, sizeof path, "%s/notes.vectors", folder);
    golden_write(path, text, sizeof text - 1);
    snprintf(half, sizeof half, "%s/%016llx-0123456789abcdef.unfinished", folder,
        (unsigned long long)reader_digest(r));
    golden_write(half, text, sizeof text - 1);
    clock_set_fake(INT64_C(4000000000000), INT64_C(4000000000000)); /* much later */
    for (int i = 0; i < 40; i++) { /* more files than there are of ours */
        ck_assert(!open_kept(&k, 50));
        ask(k, i * 10, 20);
        write_kept(k);
        kept_close(k);
    }
    clock_set_real();
    const char *const all[] = {name, path, half};
    for (int i = 0; i < 3; i++) {
        buf_reset(&b);
        ck_assert_msg(!io_read_file(all[i], 100, &b, &e), "%s", e.text);
        ck_assert_str_eq(buf_cstr(&b), text);
    }
}
END_TEST

/* What a writer left that was killed goes, after a while. */
START_TEST(what_is_left_unfinished_goes)
{
    char half[512], whole[512];
    struct kept_folder *k;
    int count;
    ck_assert(!open_kept(&k, 50));
    ask(k, 0, 20);
    write_kept(k);
    kept_close(k);
    snprintf(whole, sizeof whole, "%s", a_file(&count));
    snprintf(half, sizeof half, "%s/%016llx-0123456789abcdef.unfinished", folder,
        (unsigned long long)reader_digest(r));
    ck_assert(!rename(whole, half) && !truncate(half, 500));
    ck_assert(!open_kept(&k, 50));
    kept_close(k);
    ck_assert(io_exists(half)); /* its writer may be at work */
    clock_set_fake(INT64_C(4000000000000), INT64_C(4000000000000));
    ck_assert(!open_kept(&k, 50));
    kept_close(k);
    clock_set_real();
    ck_assert(!io_exists(half));
}
END_TEST

/* Of files and of embeddings; what is asked for stays. */
START_TEST(there_are_only_so_many)
{
    struct kept_folder *k;
    int count;
    int64_t made = 0;
    for (int i = 0; i < 40; i++) {
        ck_assert(!open_kept(&k, 30));
        made += ask(k, 0, 20); /* always the same */
        made += ask(k, 20 + i * 5, 5);
        write_kept(k);
        kept_close(k);
        a_file(&count);
        ck_assert_int_le(count, KEPT_FILES + 1);
    }
    ck_assert_int_eq(made, 20 + 40 * 5);
    struct stat st;
    int64_t bytes = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *f; (f = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        bytes += !stat(path, &st) && S_ISREG(st.st_mode) ? st.st_size : 0;
    }
    closedir(dir);
    ck_assert_int_lt(bytes, 60 * (kept_file_record(DIM) + KEPT_FILE_KEY) + 100 * KEPT_FILES);
    ck_assert_int_lt(kept_bytes(384, 8192), (int64_t)6 << 20);
}
END_TEST

START_TEST(another_encoder_has_its_own)
{
    struct weights *other_weights;
    struct reader *other = open_reader(&other_weights, GOLDEN "tiny-bert-masked", DTYPE_BF16);
    struct kept_folder *k, *j;
    ck_assert(reader_digest(other) != reader_digest(r));
    ck_assert(!open_kept(&k, 50) && !kept_open(folder, other, 50, &j, &e));
    ck_assert_int_eq(ask(k, 0, 20), 20);
    write_kept(k);
    ck_assert_int_eq(ask_of(j, other, 0, 20, again), 20);
    write_kept(j);
    kept_close(k);
    kept_close(j);
    ck_assert(!open_kept(&k, 50) && !kept_open(folder, other, 50, &j, &e));
    ck_assert_int_eq(ask(k, 0, 20) + ask_of(j, other, 0, 20, again), 0);
    kept_close(k);
    kept_close(j);
    reader_close(other);
    weights_close(other_weights);
}
END_TEST

/* Random writers beside each other, damage among it: what is found is always right. */
START_TEST(whatever_happens_embeddings_are_right)
{
    ck_assert_int_eq(ask_of(NULL, r, 0, 140, rows), 140);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct kept_folder *k[2];
        uint64_t random = seed;
        for (int i = 0; i < 2; i++)
            ck_assert(!open_kept(&k[i], 100));
        for (int step = 0; step < 40; step++) {
            struct kept_folder **at = &k[random_next(&random) % 2];
            int from = (int)(random_next(&random) % 90), count;
            int64_t n = 1 + (int64_t)(random_next(&random) % 50);
            ck_assert(ask(*at, from, (int)n) >= 0);
            ck_assert_msg(!memcmp(rows + from * DIM, again, (size_t)n * DIM * sizeof *rows),
                "seed %llu step %d", (unsigned long long)seed, step);
            if (random_next(&random) % 3 == 0)
                write_kept(*at);
            char *path = random_next(&random) % 8 ? NULL : a_file(&count);
            struct stat st;
            if (path && !stat(path, &st))
                damage(path, (int64_t)(random_next(&random) % (uint64_t)st.st_size));
            if (random_next(&random) % 6 == 0) {
                kept_close(*at);
                ck_assert(!open_kept(at, 100));
            }
        }
        kept_close(k[0]);
        kept_close(k[1]);
        golden_remove(folder);
        golden_folder(folder);
    }
}
END_TEST

/* All are embedded, and a sentence says why nothing is kept. */
START_TEST(storage_that_fails_costs_no_answer)
{
    struct kept_folder *k;
    char path[128];
    snprintf(path, sizeof path, "%s/file", folder);
    golden_write(path, "x", 1);
    ck_assert(!kept_open(path, r, 50, &k, &e));
    ck_assert_int_eq(ask(k, 0, 300), 300);
    write_kept(k);
    kept_close(k);
}
END_TEST

/* It holds up no answer: neither who writes, nor, once it is late, who asks. */
START_TEST(storage_that_hangs_is_passed_by)
{
    struct kept_folder *k;
    if (!hang_possible())
        return;
    ck_assert(!open_kept(&k, 50));
    ck_assert_int_eq(ask(k, 0, 40), 40);
    int hang = hang_begin(folder);
    kept_write(k);
    ck_assert(!kept_rests(k, 50));
    clock_set_fake(clock_ms() + KEPT_LATE_MS, 0);
    ck_assert(kept_rests(k, 0));
    ck_assert_int_eq(ask(k, 0, 40), 40); /* what it has cannot be asked for */
    kept_write(k);
    clock_set_real();
    hang_end(folder, hang);
    ck_assert(kept_rests(k, 20000));
    ck_assert_int_ge(ask(k, 0, 40), 0); /* what was to be written may be lost */
    write_kept(k);
    kept_close(k);
    ck_assert(!open_kept(&k, 50));
    ck_assert_int_eq(ask(k, 0, 40), 0);
    kept_close(k);
}
END_TEST

static struct kept_folder *waits;

static void *ask_beside(void *made)
{
    static float out[TEXTS * DIM];
    *(int64_t *)made = ask_of(waits, r, 0, 40, out);
    return memcmp(rows, out, 40 * DIM * sizeof *rows) ? made : NULL;
}

/* Whose turn it is not finds what was made; one that does not get on is waited for so long alone,
   and who has all waits for nobody. */
START_TEST(one_embeds_for_all)
{
    struct kept_folder *k, *other;
    pthread_t thread;
    int64_t made, since_ms;
    void *differs;
    ck_assert_int_eq(ask_of(NULL, r, 0, TEXTS, rows), TEXTS);
    ck_assert(!open_kept(&k, TEXTS) && !open_kept(&waits, TEXTS) && !open_kept(&other, TEXTS));
    kept_take_turns(k, 20000);
    kept_take_turns(waits, 20000);
    kept_take_turns(other, 50);
    ck_assert_int_eq(ask(k, 0, 20), 20);
    since_ms = clock_ms();
    ck_assert_int_eq(ask(other, 0, 20), 20);
    ck_assert_int_ge(clock_ms() - since_ms, 50);
    ck_assert_int_eq(pthread_create(&thread, NULL, ask_beside, &made), 0);
    ck_assert_int_eq(ask(k, 20, 20), 20);
    write_kept(k);
    ck_assert(!pthread_join(thread, &differs) && !differs);
    ck_assert_int_eq(made, 0);
    kept_close(other); /* without a word */
    ck_assert(!open_kept(&other, TEXTS));
    kept_take_turns(other, 20000);
    since_ms = clock_ms();
    ck_assert_int_eq(ask(other, 0, 40), 0);
    ck_assert_int_eq(ask(k, 40, 1), 1); /* after its turn nobody waits again */
    write_kept(waits);
    ck_assert_int_eq(ask(other, 50, 1), 1);
    ck_assert_int_lt(clock_ms() - since_ms, 10000);
    kept_close(other);
    kept_close(waits);
    kept_close(k);
}
END_TEST

/* Nor does it hold up who waits for a turn. */
START_TEST(storage_that_hangs_gives_no_turn)
{
    struct kept_folder *k;
    if (!hang_possible())
        return;
    ck_assert(!open_kept(&k, 50));
    kept_take_turns(k, 50);
    int hang = hang_begin(folder);
    ck_assert_int_eq(ask(k, 0, 40), 40);
    ck_assert_int_eq(ask(k, 0, 40), 40);
    hang_end(folder, hang);
    ck_assert(kept_rests(k, 20000));
    ck_assert_int_eq(ask(k, 0, 40), 40);
    write_kept(k);
    kept_close(k);
    ck_assert(!open_kept(&k, 50));
    ck_assert_int_eq(ask(k, 0, 40), 0);
    kept_close(k);
}
END_TEST

static int keep_some(void *user)
{
    struct kept_folder *k;
    (void)user;
    int rc = open_kept(&k, 50);
    if (rc)
        return rc;
    kept_take_turns(k, 20000);
    rc = ask(k, 0, 3) < 0 ? -(int)e.code : 0;
    write_kept(k);
    kept_close(k);
    return rc;
}

/* Of the folder's calls: told, and no more. */
START_TEST(each_call_may_fail)
{
    for (uint64_t at = 1; at < 40; at++) {
#ifdef LLMJOB_FAULT
        fault_arm(FAULT_IO, at);
        ck_assert_int_eq(keep_some(NULL), 0);
        fault_arm(FAULT_IO, 0);
#endif
        ck_assert_int_eq(keep_some(NULL), 0);
        golden_remove(folder);
        golden_folder(folder);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"kept", 60, setup, done},
        (const TTest *const[]){another_start_embeds_nothing, replicas_write_beside_each_other,
            what_is_damaged_is_made_anew, what_others_wrote_is_left_alone,
            what_is_left_unfinished_goes, there_are_only_so_many, another_encoder_has_its_own,
            whatever_happens_embeddings_are_right, storage_that_fails_costs_no_answer,
            storage_that_hangs_is_passed_by, one_embeds_for_all, storage_that_hangs_gives_no_turn,
            each_call_may_fail, NULL});
}
