/*
 * Goal: a draft that does not pay takes no more of the time than its share, and rests longer and
 * longer; one that pays guesses in all but a few steps; and each becomes the other where what it
 * brings changes. Method: steps of told times, counted; and of a tiny model those of drafts that
 * are the model itself, or another of its size, by a clock that goes on as often as it is read.
 * needs: sample
 */
#include "runtime/serve/thrift.h"

#include "base/random.h"
#include "runtime/serve/batcher.h"
#include "tests/runtime/ensembles.h"
#include "tests/runtime/serve/served.h"
#include "tests/sample.h"

#define SHARE 0.02
#define PLAIN 10.0 /* ms of a step */

struct counts {
    int64_t drafted, steps;
    double ms, plain_ms; /* what it took, and would have without */
};

/* n tokens of one sequence, by a draft whose guesses, three a step, take draft_ms, and of which so
   many are right. */
static void decode(struct thrift *t, int64_t n, double draft_ms, int right, struct counts *c)
{
    for (int64_t drawn = 0; drawn < n;) {
        bool guesses = thrift_guesses(t, 1) && thrift_reads(t, 1);
        const struct thrift_step s = {.next = 1,
            .guesses = guesses ? 3 : 0,
            .right = guesses ? right : 0,
            .draft_ms = guesses ? draft_ms : 0,
            .pass_ms = guesses ? 1.2 * PLAIN : PLAIN};
        thrift_note(t, &s);
        drawn += 1 + s.right;
        c->steps++;
        c->drafted += guesses;
        c->ms += s.draft_ms + s.pass_ms;
        c->plain_ms += (1 + s.right) * PLAIN;
    }
}

/* As large as the model: three guesses take three of its steps, and come true or not. */
START_TEST(one_that_does_not_pay_takes_its_share)
{
    for (int right = 0; right < 3; right++) {
        struct thrift t;
        struct counts c = {0};
        thrift_init(&t, SHARE);
        for (int k = 0; k < 10; k++) {
            decode(&t, 200, 3 * PLAIN, right, &c);
            ck_assert_double_le(c.ms, 1.03 * c.plain_ms + 40);
        }
        ck_assert(t.stops > 1 && t.loses && c.drafted > 0);
        ck_assert_int_le(c.drafted, c.steps / 20);
        decode(&t, 20000, 3 * PLAIN, right, &c);
        ck_assert_double_le(c.ms, 1.021 * c.plain_ms);
        ck_assert_double_gt(t.need_ms, 400);
    }
}
END_TEST

START_TEST(one_that_pays_guesses)
{
    struct thrift t;
    struct counts c = {0}, later = {0};
    thrift_init(&t, SHARE);
    decode(&t, 3000, 0.3 * PLAIN, 2, &c);
    ck_assert_double_le(c.ms, 0.6 * c.plain_ms);
    ck_assert(t.stops == 0 && !t.loses);
    decode(&t, 3000, 0.3 * PLAIN, 2, &later);
    ck_assert_int_ge(later.drafted, later.steps * 62 / 64);
    ck_assert_int_lt(later.drafted, later.steps);
}
END_TEST

START_TEST(what_changes_is_found_out)
{
    struct thrift t;
    struct counts well = {0}, badly = {0}, again = {0};
    thrift_init(&t, SHARE);
    decode(&t, 3000, 0.3 * PLAIN, 3, &well);
    decode(&t, 5000, 0.9 * PLAIN, 0, &badly);
    ck_assert(t.stops > 0 && t.loses);
    ck_assert_double_le(badly.ms, 1.02 * badly.plain_ms + 2000); /* and what had been won */
    decode(&t, 20000, 0.3 * PLAIN, 3, &again);
    ck_assert(!t.rests && !t.loses);
    ck_assert_double_le(again.ms, 0.6 * again.plain_ms);
}
END_TEST

/* Prompts that it reads draw on the credit, too, and one too long is not begun. */
START_TEST(reading_costs)
{
    struct thrift t;
    thrift_init(&t, SHARE);
    ck_assert(!thrift_guesses(&t, 1)); /* no step was timed yet */
    ck_assert(thrift_reads(&t, 40) && !thrift_reads(&t, 41));
    thrift_note(&t, &(struct thrift_step){.prompts = true, .draft_ms = 60, .pass_ms = 200});
    ck_assert(t.rests && t.stops == 1 && !thrift_reads(&t, 0));
    thrift_init(&t, 0); /* no account is kept */
    thrift_note(&t, &(struct thrift_step){.next = 1, .draft_ms = 1000});
    ck_assert(!t.loses);
    ck_assert(thrift_reads(&t, 1e9) && thrift_guesses(&t, 1));
}
END_TEST

/* A number of next tokens is timed without the draft before it guesses there. */
START_TEST(steps_of_other_rows_are_timed_first)
{
    struct thrift t;
    struct counts c = {0};
    thrift_init(&t, SHARE);
    decode(&t, 1000, 0.3 * PLAIN, 3, &c);
    ck_assert(thrift_guesses(&t, 1) && !thrift_guesses(&t, 5));
    thrift_note(&t, &(struct thrift_step){.next = 5, .pass_ms = 30});
    ck_assert(thrift_guesses(&t, 5));
}
END_TEST

/* -- drafts themselves -- */

static void setup(void)
{
    golden_folder(adapter_folder);
}

static void teardown(void)
{
    golden_remove(adapter_folder);
}

#define DRAFT_REQUESTS 60
#define DRAFT_TOKENS   50

/* A pass, of the model or of the draft's, takes as long. */
static int64_t count_time(void)
{
    static int64_t now;
    return now += 10000000;
}

/* One request behind the other. */
static void decode_all(struct batcher *b, int64_t vocab, int64_t *tokens)
{
    const struct batcher_terms terms = {.weight = 1};
    struct sampler greedy;
    uint64_t random = sample_setting("LLMJOB_SEED");
    sampler_start(&greedy, 0, 1, 1);
    *tokens = 0;
    for (int k = 0; k < DRAFT_REQUESTS; k++) {
        const int32_t ids[2] = {(int32_t)(random_next(&random) % (uint64_t)vocab),
            (int32_t)(random_next(&random) % (uint64_t)vocab)};
        struct batcher_drawn drawn[MOST];
        struct batcher_seq *q;
        int64_t until = *tokens + DRAFT_TOKENS;
        int n;
        ck_assert_msg(!batcher_add(b, ids, 2, &greedy, &terms, NULL, &q, &e), "%s", e.text);
        while (*tokens < until) {
            ck_assert_msg(!batcher_step(b, drawn, &n, &e), "%s", e.text);
            while (n) {
                *tokens += n;
                ck_assert_msg(!batcher_next(b, drawn, &n, &e), "%s", e.text);
            }
        }
        batcher_remove(b, q);
    }
}

/* The model itself guesses, or one as large whose guesses come true by chance. */
static void drafted(bool itself)
{
    char path[96];
    struct served s = served_open(0, DTYPE_F32, 0, 0);
    struct batcher *b;
    struct batcher_figures f;
    int64_t tokens;
    sample_print();
    snprintf(path, sizeof path, "%s/other", adapter_folder);
    ensembles_copy(folder_of(0), path, 20, 3, DTYPE_F32);
    const int64_t vocab = weights_config(s.w)->vocab;
    const struct draft_conf d = {.source = itself ? folder_of(0) : path,
        .t = DTYPE_F32,
        .vocab = vocab,
        .context = s.context};
    ck_assert_msg(!draft_open(&d, &s.draft, &e) && !draft_load(s.draft, s.d, s.pages, NULL, &e),
        "%s", e.text);
    const struct batcher_conf c = {.engine = s.engine,
        .dev = s.d,
        .vocab = vocab,
        .context = s.context,
        .pages = s.pages,
        .most = 1,
        .rows = 64,
        .guesses = 3,
        .draft = s.draft,
        .draft_share = 0.02,
        .clock_fn = count_time};
    ck_assert_msg(!batcher_create(&c, &b, &e), "%s", e.text);
    decode_all(b, c.vocab, &tokens);
    batcher_tell(b, &f);
    printf("%lld tokens in %lld steps, of %lld guesses %lld right\n", (long long)tokens,
        (long long)f.steps, (long long)f.guessed, (long long)f.right);
    ck_assert(f.guessed > 0);
    if (itself) {
        ck_assert(!f.draft_loses);
        ck_assert_int_lt(f.steps, tokens / 2);
    } else {
        ck_assert(f.draft_loses);
        ck_assert_int_le(f.guessed, 3 * f.steps / 25); /* a step in 50 may be lost */
        ck_assert_int_ge(f.steps, tokens * 9 / 10);
    }
    batcher_destroy(b);
    served_close(&s);
}

START_TEST(a_draft_that_does_not_pay_is_seldom_tried)
{
    drafted(false);
}
END_TEST

START_TEST(a_draft_that_pays_guesses)
{
    drafted(true);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"thrift", 60, setup, teardown},
        (const TTest *const[]){one_that_does_not_pay_takes_its_share, one_that_pays_guesses,
            what_changes_is_found_out, reading_costs, steps_of_other_rows_are_timed_first,
            a_draft_that_does_not_pay_is_seldom_tried, a_draft_that_pays_guesses, NULL});
}
