/*
 * Goal: models that label texts say as one what the mean of them is, of texts and of words, by
 * logits and by probabilities, where one label holds and where several may. Method: tiny BERTs of
 * tests/golden and copies of them with noise in their weights, in other precisions, each read alone
 * by a reader here; averages are made here from their definitions. That ranks which have some each
 * say the same, in worlds of real processes.
 */
#include "runtime/serve/readers.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/random.h"
#include "tests/far.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/runtime/ensembles.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>
#include <unistd.h>

#define MEMBERS 3
#define TEXTS   6
#define WORDS   9
#define NUMBERS 512

static char folder[64];
static struct err e;
static struct dev *d;
static char paths[MEMBERS][128];

static void setup(void)
{
    golden_folder(folder);
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
}

static void teardown(void)
{
    dev_close(d);
    golden_remove(folder);
}

/* Of a model: itself, and two copies. */
static struct jobspec job(const char *model, enum average average)
{
    static const char *const names[MEMBERS] = {"first", "second", "third"};
    struct jobspec s = {.task = TASK_SERVE, .precision = PRECISION_FP32, .model.source = paths[0]};
    s.serve.ensemble.average = average;
    s.serve.ensemble.member_count = MEMBERS;
    snprintf(paths[0], sizeof paths[0], "%s/first", folder);
    ensembles_copy(model, paths[0], 0, 1, DTYPE_F32);
    for (int i = 0; i < MEMBERS; i++) {
        s.serve.ensemble.members[i] = (struct jobspec_member){.name = names[i]};
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
        if (!i)
            continue;
        ensembles_copy(model, paths[i], 0.7, (uint64_t)i + 3, i == 1 ? DTYPE_BF16 : DTYPE_F16);
        s.serve.ensemble.members[i].source = paths[i];
    }
    return s;
}

static struct reader_conf conf_of(struct weights *w)
{
    return (struct reader_conf){.weights = w, .dev = d, .t = DTYPE_F32, .budget_bytes = 1 << 30};
}

/* Of this rank, if there are several. */
static struct readers_conf all_of(
    const struct jobspec *s, struct weights *w, struct coll *c, int rank)
{
    return (struct readers_conf){s, conf_of(w), c, rank};
}

static int32_t ids[TEXTS][WORDS];
static struct encoder_text texts[TEXTS];

static void make_texts(int64_t vocab)
{
    uint64_t random = 11;
    for (int i = 0; i < TEXTS; i++) {
        texts[i] = (struct encoder_text){ids[i], NULL, 1 + i * (WORDS - 1) / (TEXTS - 1)};
        for (int k = 0; k < WORDS; k++)
            ids[i][k] = (int32_t)(random_next(&random) % (uint64_t)vocab);
    }
}

static int64_t label_alone(const char *path, float *out, bool *apart, int64_t *labels)
{
    struct weights *w;
    struct reader *r;
    int64_t rows = 0;
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    const struct reader_conf c = conf_of(w);
    ck_assert_msg(!reader_open(&c, &r, &e), "%s", e.text);
    make_texts(weights_config(w)->vocab);
    ck_assert_msg(!reader_label(r, texts, TEXTS, out, &e), "%s", e.text);
    const struct reader_facts *f = reader_facts(r);
    for (int i = 0; i < TEXTS; i++)
        rows += f->does == WIRE_DOES_TAG ? texts[i].count : 1;
    *labels = f->labels;
    *apart = f->several || f->labels == 1;
    reader_close(r);
    weights_close(w);
    return rows;
}

static double probability(const float *x, int64_t n, int64_t i, bool apart)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)x[k]);
    return apart ? 1 / (1 + exp(-(double)x[i])) : exp((double)x[i]) / sum;
}

static double distance(const float *got, float each[MEMBERS][NUMBERS], int64_t row, int64_t labels,
    int64_t i, enum average what, bool apart)
{
    double logit = 0, p = 0;
    for (int k = 0; k < MEMBERS; k++) {
        logit += (double)each[k][row * labels + i] / MEMBERS;
        p += probability(each[k] + row * labels, labels, i, apart) / MEMBERS;
    }
    return what == AVERAGE_LOGITS ? fabs((double)got[row * labels + i] - logit)
                                  : fabs(probability(got + row * labels, labels, i, apart) - p);
}

static void compare(const char *model, enum average what, bool several)
{
    static float each[MEMBERS][NUMBERS], got[NUMBERS];
    struct jobspec s = job(model, what);
    struct weights *w;
    struct readers *r;
    double far = 0, between = 0;
    struct readers_facts all;
    int64_t labels, rows = 0;
    bool apart;
    for (int k = 0; k < MEMBERS; k++)
        rows = label_alone(paths[k], each[k], &apart, &labels);
    ck_assert(apart == several && rows * labels <= NUMBERS);
    ck_assert_msg(!weights_open(s.model.source, NULL, &w, &e), "%s", e.text);
    const struct readers_conf c = all_of(&s, w, NULL, 0);
    ck_assert_msg(!readers_open(&c, &r, &e) && !readers_load(r, &e), "%s", e.text);
    readers_tell(r, &all);
    const struct reader_facts *f = reader_facts(readers_first(r));
    ck_assert(all.count == MEMBERS && all.of == MEMBERS && all.context == f->context);
    ck_assert_int_eq(all.parameters, MEMBERS * f->parameters);
    int64_t own = f->memory_bytes - reader_programs(&c.job); /* of the first */
    ck_assert(all.bytes - reader_programs(&c.job) > own && own > 0);
    ck_assert_msg(!readers_label(r, texts, TEXTS, got, &e), "%s", e.text);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < labels; i++) {
            far = farther(far, distance(got, each, row, labels, i, what, apart));
            between = farther(between,
                fabs((double)each[0][row * labels + i] - (double)each[1][row * labels + i]));
        }
    printf("%s: at most %.2g from the mean; members %.2g from each other\n", model, far, between);
    ck_assert_double_le(far, 1e-5);
    ck_assert_double_gt(between, 1e-3);
    readers_close(r);
    weights_close(w);
    for (int k = 0; k < MEMBERS; k++)
        golden_remove(paths[k]);
}

/* tiny-bert-texts with more than one label a text. */
static void several(char path[128])
{
    buf_auto struct buf b, out;
    char config[160];
    snprintf(path, 128, "%s/several", folder);
    ensembles_copy(GOLDEN "tiny-bert-texts", path, 0, 1, DTYPE_F32);
    snprintf(config, sizeof config, "%s/config.json", path);
    buf_init(&b, 1 << 16);
    buf_init(&out, 1 << 16);
    ck_assert_msg(!io_read_file(config, 1 << 16, &b, &e), "%s", e.text);
    char *open = strchr(buf_cstr(&b), '{');
    buf_str(&out, "{\"problem_type\": \"multi_label_classification\", ");
    buf_str(&out, open + 1);
    golden_write(config, out.data, out.len);
}

/* _i: of what. */
START_TEST(they_say_the_mean_of_what_each_says)
{
    char path[128];
    several(path);
    compare(GOLDEN "tiny-bert-texts", (enum average)_i, false);
    compare(GOLDEN "tiny-bert", (enum average)_i, false); /* which labels words */
    compare(path, (enum average)_i, true);
}
END_TEST

START_TEST(memory_is_planned_for_all)
{
    struct jobspec s = job(GOLDEN "tiny-bert-texts", AVERAGE_LOGITS);
    struct weights *w;
    struct readers *r;
    struct readers_facts all;
    const char *name;
    ck_assert_msg(!weights_open(s.model.source, NULL, &w, &e), "%s", e.text);
    struct readers_conf c = all_of(&s, w, NULL, 0);
    ck_assert_msg(!readers_open(&c, &r, &e), "%s", e.text);
    readers_tell(r, &all);
    ck_assert(!all.parameters && !readers_first(r)); /* nothing is loaded */
    int64_t bytes = all.bytes, sum = reader_programs(&c.job);
    for (int i = 0; i < MEMBERS; i++)
        sum += readers_member(r, i, &name);
    ck_assert_int_eq(bytes, sum);
    ck_assert_str_eq(name, "third");
    readers_close(r);
    c.job.budget_bytes = bytes - 1;
    ck_assert_int_eq(readers_open(&c, &r, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, "the members need ") && strstr(e.text, "third"), "%s", e.text);
    c.job.budget_bytes = bytes;
    c.job.context = 1000000;
    ck_assert_int_eq(readers_open(&c, &r, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "members: first: "), "%s", e.text);
    weights_close(w);
}
END_TEST

/* -- ranks that have some each -- */

static struct jobspec shared;
static int there; /* members that all ranks find */

/* Passes of many texts, of few, and of one. */
static int read_all(struct readers *all, struct readers *one)
{
    static float got[NUMBERS], want[NUMBERS];
    static const int64_t n[] = {TEXTS, 3, 1};
    struct readers_facts f;
    readers_tell(all, &f);
    if (f.count != there || f.of != MEMBERS)
        return 1;
    for (int k = 0; k < 3; k++) {
        memset(got, k, sizeof got);
        memset(want, k, sizeof want);
        if (readers_rest(all, &e) || readers_label(all, texts + k, n[k], got, &e) ||
            readers_label(one, texts + k, n[k], want, &e))
            return 2;
        if (memcmp(got, want, sizeof got) != 0)
            return 3;
    }
    return readers_rest(one, &e) || readers_end(one, &e) || readers_end(all, &e) ? 4 : 0;
}

static int shared_body(struct coll *c, int rank, const struct ranks *w)
{
    struct weights *files;
    struct readers *all = NULL, *one = NULL;
    struct jobspec alone = shared;
    int step = 0;
    (void)w;
    d = ranks_device;
    alone.serve.ensemble.ranks = 0;
    if (there < MEMBERS) { /* each misses another one: of those that all find one is left */
        shared.serve.ensemble.members[1].source = rank == 0 ? "/nowhere" : paths[1];
        shared.serve.ensemble.members[2].source = rank == 1 ? "/nowhere" : paths[2];
        alone.serve.ensemble.members[1].source = alone.serve.ensemble.members[2].source = "/none";
    }
    if (weights_open(shared.model.source, NULL, &files, &e))
        return 10;
    make_texts(weights_config(files)->vocab);
    const struct readers_conf ours = all_of(&shared, files, c, rank),
                              own = all_of(&alone, files, NULL, 0);
    if (readers_open(&ours, &all, &e) || readers_load(all, &e) ||
        (!rank && (readers_open(&own, &one, &e) || readers_load(one, &e))))
        step = 11;
    else if (!rank)
        step = read_all(all, one);
    else if (readers_follow(all, &e) != -ERR_DRAINED)
        step = 12;
    if (!step && there < MEMBERS && rank && readers_first(all))
        step = 13;
    if (step)
        fprintf(stderr, "rank %d: step %d, %s\n", rank, step, e.text);
    readers_close(all);
    readers_close(one);
    weights_close(files);
    return step;
}

static void share(const char *model, int ranks, int members)
{
    shared = job(model, AVERAGE_PROBABILITIES);
    shared.serve.ensemble.ranks = ranks;
    shared.serve.ensemble.allow_missing = members < MEMBERS;
    there = members;
    ranks_run((struct ranks){.size = ranks, .replica = {0, 1, 1}, .kind = "cpu"}, shared_body);
    for (int k = 0; k < MEMBERS; k++)
        golden_remove(paths[k]);
}

/* To the bit; of texts and of words; with one member of three that all find, too, where a rank has
   none. */
START_TEST(ranks_say_what_one_rank_says)
{
    share(GOLDEN "tiny-bert-texts", 2, MEMBERS);
    share(GOLDEN "tiny-bert", 3, MEMBERS);
    share(GOLDEN "tiny-bert-texts", 2, 1);
}
END_TEST

static int gone_body(struct coll *c, int rank, const struct ranks *w)
{
    struct weights *files;
    struct readers *all = NULL;
    float got[NUMBERS];
    (void)w;
    d = ranks_device;
    if (weights_open(shared.model.source, NULL, &files, &e))
        return 1;
    make_texts(weights_config(files)->vocab);
    const struct readers_conf ours = all_of(&shared, files, c, rank);
    if (readers_open(&ours, &all, &e) || readers_load(all, &e))
        return 2;
    if (rank == 1)
        _exit(0); /* without a word */
    int rc = rank ? readers_follow(all, &e) : readers_label(all, texts, TEXTS, got, &e);
    readers_close(all);
    weights_close(files);
    return rc == -ERR_PEER ? 0 : 3;
}

START_TEST(a_rank_that_is_gone_ends_the_wait_for_it)
{
    shared = job(GOLDEN "tiny-bert-texts", AVERAGE_LOGITS);
    shared.serve.ensemble.ranks = 2;
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}, .timeout_ms = 10000, .kind = "cpu"},
        gone_body);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("readers");
    TCase *tc = tcase_create("readers");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, they_say_the_mean_of_what_each_says, 0, 2);
    tcase_add_test(tc, memory_is_planned_for_all);
    tcase_add_test(tc, ranks_say_what_one_rank_says);
    tcase_add_test(tc, a_rank_that_is_gone_ends_the_wait_for_it);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
