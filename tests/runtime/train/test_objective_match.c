/*
 * Goal: a BERT learns to tell which texts belong together, and what it learns and what is reported
 * of it is the same for every world, for every micro-batch and for a training that was interrupted.
 * Method: real ranks, one process each, on the tiny BERT of tests/golden and pairs made here, of
 * words that mean the same: three epochs with 1, 2 and 3 ranks, and in little memory; labels; a
 * stop and a resume; report.json, TensorBoard's points and the exported folder; and inputs that
 * must be refused. That losses and gradients are torch's is what test_cosines shows, that figures
 * are scikit-learn's what test_ranking does.
 * needs: cuda sample
 */
#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "runtime/family/weights.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define MODEL  GOLDEN "tiny-bert"
#define PAIRS  64
#define BATCH  8
#define EPOCH  (PAIRS / BATCH) /* steps */
#define EPOCHS 3
#define LAST   (EPOCH * EPOCHS)

static struct err e;
static uint32_t random_state;

static uint32_t draw(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 16) % n;
}

/* A word among others that say nothing. */
static void write_text(struct buf *b, const char *word)
{
    static const char *const words[] = {"the", "of", "and", "was", "in"};
    uint32_t n = 1 + draw(4), at = draw(n);
    for (uint32_t i = 0; i < n; i++)
        buf_printf(b, "%s%s", i ? " " : "", i == at ? word : words[draw(5)]);
}

enum form { UNLABELLED, LABELLED, TABLE };

/* a and b hold the two words for one thing; with labels the same word or not, 1 or 0. */
static void write_pairs(const char *name, int count, uint32_t seed, enum form form)
{
    static const char *const a[] = {"anna", "berlin", "q", "x", "ed", "is"};
    static const char *const b[] = {"lia", "ion", "k", "z", "by", "to"};
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    random_state = seed;
    if (form == TABLE)
        buf_str(&out, "b\ta\n");
    for (int i = 0; i < count; i++) {
        uint32_t x = draw(6), y = form == LABELLED && i % 2 ? draw(6) : x;
        const bool table = form == TABLE;
        buf_str(&out, table ? "" : "{\"a\": \"");
        write_text(&out, table ? b[y] : a[x]);
        buf_str(&out, table ? "\t" : "\", \"b\": \"");
        write_text(&out, table || form == LABELLED ? a[table ? x : y] : b[y]);
        if (form == LABELLED)
            buf_printf(&out, "\", \"label\": %d}\n", x == y);
        else
            buf_str(&out, table ? "\n" : "\"}\n");
    }
    golden_write(training_path(name), out.data, out.len);
}

static char train_path[256], dev_path[256], test_path[256];

static void setup(void)
{
    training_setup();
    write_pairs("train.jsonl", PAIRS, 1, UNLABELLED);
    write_pairs("dev.tsv", 13, 2, TABLE);
    write_pairs("test.jsonl", 11, 3, UNLABELLED);
    snprintf(train_path, sizeof train_path, "%s", training_path("train.jsonl"));
    snprintf(dev_path, sizeof dev_path, "%s", training_path("dev.tsv"));
    snprintf(test_path, sizeof test_path, "%s", training_path("test.jsonl"));
}

static struct jobspec job(const char *run)
{
    struct jobspec s = training_job(run);
    s.model.source = MODEL;
    s.train.objective = OBJECTIVE_PAIR_MATCHING;
    s.train.pair.temperature = 0.05;
    s.train.data.format = FORMAT_AUTO;
    s.train.data.train = train_path;
    s.train.data.validation = dev_path;
    s.train.data.test = test_path;
    s.train.sequence_length = 32;
    s.train.batch_sequences = BATCH;
    s.train.steps = 0;
    s.train.epochs = EPOCHS;
    s.train.evaluate_every_steps = 0;
    s.train.optimizer.warmup_steps = 0;
    s.train.optimizer.learning_rate = 1e-2;
    return s;
}

static struct jobspec labelled_job(const char *run)
{
    struct jobspec s = job(run);
    write_pairs("train.jsonl", PAIRS, 4, LABELLED);
    write_pairs("test.jsonl", 30, 5, LABELLED);
    s.train.pair.loss = PAIR_COSINE;
    s.train.pair.temperature = -1;
    s.train.data.validation = test_path;
    return s;
}

static struct outcome run(const struct training *t)
{
    struct outcome o = training_run(t);
    for (int i = 0; i < t->size; i++)
        ck_assert_msg(o.exit[i] == (t->stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE),
            "rank %d: class %d, %s", i, o.exit[i], o.message);
    return o;
}

static struct outcome run_whole(const struct jobspec *s, int size)
{
    struct outcome o = run(&(struct training){.spec = s, .size = size, .incarnation = 1});
    ck_assert(o.done && o.first == 1 && o.last == LAST);
    return o;
}

static struct buf report_text(void)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path("output/report.json"), 1 << 20, &text, &e));
    return text;
}

static void check_report(const struct outcome *o)
{
    json_auto struct json *v = golden_json(training_path("output/report.json"));
    const struct json *ranking = json_path(v, "test.ranking");
    int n = 0;
    ck_assert_str_eq(json_str(v, "objective", ""), "PairMatching");
    ck_assert_int_eq(json_int(json_get(v, "test"), "pairs", 0), 11);
    ck_assert_double_gt(json_num(json_get(v, "test"), "loss", -1), 0);
    ck_assert_int_le(json_int(ranking, "queries", 0), 11);
    ck_assert_int_gt(json_int(ranking, "candidates", 0), 5);
    ck_assert_double_gt(json_num(ranking, "ndcg@10", -1), 0.4);
    ck_assert_double_gt(json_num(ranking, "recall@10", -1), 0.8);
    ck_assert_double_ge(json_num(ranking, "recall@5", -1), json_num(ranking, "recall@1", 9));
    json_each (epoch, json_get(v, "epochs")) {
        n++;
        ck_assert_int_eq(json_int(epoch, "step", 0), n * EPOCH);
        ck_assert(!json_get(epoch, "validationF1"));
        if (n == EPOCHS)
            ck_assert_double_eq(json_num(epoch, "validationMatch", -1), o->match);
    }
    ck_assert_int_eq(n, EPOCHS);
}

static void check_same(const struct outcome *a, const struct outcome *b, const char *of)
{
    ck_assert_double_lt(fabs(a->validation / b->validation - 1), 1e-4);
    ck_assert_double_eq(a->match, b->match);
    for (int k = 1; k <= LAST; k++)
        ck_assert_msg(fabs(a->loss[k] / b->loss[k] - 1) < 1e-4, "%s, step %d: %.9g, not %.9g", of,
            k, a->loss[k], b->loss[k]);
}

START_TEST(pairs_are_learnt_alike_in_any_world)
{
    static const char *const runs[] = {"w1", "w2", "w3"};
    struct outcome o[3];
    for (int i = 0; i < 3; i++) {
        struct jobspec s = job(runs[i]);
        o[i] = run_whole(&s, i + 1);
        ck_assert_int_eq(o[i].evaluations, 1 + EPOCHS);
        check_report(&o[i]);
        if (i)
            check_same(&o[i], &o[0], runs[i]);
    }
    printf("match %.4f, loss %.4f from %.4f\n", o[0].match, o[0].loss[LAST], o[0].loss[1]);
    ck_assert_double_lt(o[0].loss[LAST], 0.5 * o[0].loss[1]);
    ck_assert_double_lt(o[0].validation, 0.8 * o[0].first_validation);
}
END_TEST

static struct jobspec dropping_job(const char *run)
{
    struct jobspec s = job(run);
    training_lora(&s);
    s.train.lora.dropout = 0.3;
    return s;
}

/* What is left out is left out both times, whoever computes it. */
START_TEST(dropout_follows_the_pairs)
{
    struct jobspec s = dropping_job("much");
    struct outcome much = run_whole(&s, 1);
    s = dropping_job("little");
    struct outcome little = run(&(struct training){
        .spec = &s, .size = 2, .incarnation = 1, .budget_bytes = much.memory_bytes * 3 / 4});
    ck_assert_int_lt(little.memory_bytes, much.memory_bytes * 3 / 4);
    check_same(&little, &much, "dropout");
    s.train.lora.dropout = 0;
    s.checkpoint.path = training_path("none");
    struct outcome none = run_whole(&s, 1);
    ck_assert_double_gt(fabs(none.loss[LAST] / much.loss[LAST] - 1), 1e-6);
}
END_TEST

/* In micro-batches of a few texts, which go forward twice. */
START_TEST(little_memory_changes_nothing)
{
    struct jobspec s = job("much");
    struct outcome much = run_whole(&s, 1);
    s = job("little");
    struct outcome little = run(&(struct training){
        .spec = &s, .size = 1, .incarnation = 1, .budget_bytes = much.memory_bytes * 3 / 4});
    ck_assert_int_lt(little.memory_bytes, much.memory_bytes * 3 / 4);
    check_same(&little, &much, "little");
}
END_TEST

START_TEST(a_gpu_learns_what_a_processor_does)
{
    struct jobspec s = job("cpu");
    s.train.steps = 3;
    s.train.epochs = 0;
    struct outcome cpu = run(&(struct training){.spec = &s, .size = 1, .incarnation = 1});
    s.checkpoint.path = training_path("gpu");
    struct outcome gpu =
        run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .kind = "cuda"});
    for (int k = 1; k <= 3; k++)
        ck_assert_double_lt(fabs(gpu.loss[k] / cpu.loss[k] - 1), 1e-4);
    ck_assert_double_lt(fabs(gpu.validation / cpu.validation - 1), 1e-4);
    ck_assert_double_eq(gpu.match, cpu.match);
}
END_TEST

START_TEST(an_interruption_does_not_show)
{
    static struct event events[20 * LAST];
    struct jobspec straight = job("straight"), cut = job("cut");
    char board[256];
    snprintf(board, sizeof board, "%s/board", training_folder);
    struct outcome a = run_whole(&straight, 2), b;
    buf_auto struct buf straight_report = report_text();
    cut.train.tensorboard = board;
    cut.checkpoint.every_steps = 3; /* behind it */
    b = run(&(struct training){.spec = &cut, .size = 2, .incarnation = 1, .stop_after = EPOCH + 2});
    ck_assert(b.drained && b.last > EPOCH && b.last < LAST);
    b = run(&(struct training){.spec = &cut, .size = 2, .incarnation = 2});
    ck_assert(b.loss[LAST] == a.loss[LAST] && b.validation == a.validation && b.match == a.match);
    buf_auto struct buf cut_report = report_text();
    ck_assert_str_eq(buf_cstr(&cut_report), buf_cstr(&straight_report));
    int n = events_shown(board, events, 20 * LAST);
    ck_assert(events_at(events, n, "ndcg@10/validation", EPOCH));
    ck_assert(events_at(events, n, "recall@1/test", LAST));
    ck_assert(events_at(events, n, "loss/test", LAST));
}
END_TEST

START_TEST(labels_are_learnt)
{
    struct jobspec s = labelled_job("labels");
    struct outcome one = run_whole(&s, 1);
    json_auto struct json *v = golden_json(training_path("output/report.json"));
    const struct json *similarity = json_path(v, "test.similarity");
    ck_assert(!json_path(v, "test.ranking"));
    ck_assert_double_eq(json_num(similarity, "spearman", -1), one.match);
    ck_assert_double_gt(json_num(similarity, "pearson", -1), 0.4);
    ck_assert_double_gt(json_num(similarity, "rocAuc", -1), 0.7);
    ck_assert_double_lt(one.loss[LAST], 0.7 * one.loss[1]);
    s = labelled_job("labels2");
    struct outcome two = run_whole(&s, 2);
    check_same(&two, &one, "labels");
}
END_TEST

START_TEST(the_folder_is_a_bare_bert)
{
    struct jobspec s = job("folder");
    struct weights *w;
    s.precision = PRECISION_BF16;
    s.train.data.validation = s.train.data.test = NULL;
    training_lora(&s);
    struct outcome o = run(&(struct training){.spec = &s, .size = 2, .incarnation = 1});
    ck_assert_int_eq(o.held_out, 4);
    ck_assert_double_lt(o.loss[o.last], o.loss[1]);
    json_auto struct json *config = golden_json(training_path("output/config.json"));
    ck_assert_str_eq(json_string_value(json_first(json_get(config, "architectures"))), "BertModel");
    json_auto struct json *modules = golden_json(training_path("output/modules.json"));
    ck_assert_uint_eq(json_count(modules), 3);
    json_auto struct json *pooling = golden_json(training_path("output/1_Pooling/config.json"));
    ck_assert_int_eq(json_int(pooling, "word_embedding_dimension", 0), 32);
    json_auto struct json *adapter =
        golden_json(training_path("output/adapter/adapter_config.json"));
    ck_assert_str_eq(json_str(adapter, "task_type", ""), "FEATURE_EXTRACTION");
    ck_assert_msg(!weights_open(s.train.output, NULL, &w, &e), "%s", e.text);
    ck_assert(!weights_config(w)->labels && !weights_config(w)->pooled);
    weights_close(w);
}
END_TEST

START_TEST(gradients_in_fp16_are_near)
{
    training_near_in_fp16(job);
    training_near_in_fp16(labelled_job);
}
END_TEST

static void refused(const struct jobspec *s, enum exit_class class, const char *word)
{
    struct outcome o = training_run(&(struct training){.spec = s, .size = 1, .incarnation = 9});
    ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
    ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
}

START_TEST(what_is_refused)
{
    struct jobspec s = job("refused");
    s.model.source = training_path("model");
    refused(&s, EXIT_CLASS_USER, "spec.train.objective: PairMatching needs a model that sees");
    s = job("refused");
    s.train.batch_sequences = PAIRS + 1;
    refused(&s, EXIT_CLASS_USER, "has only 64 pairs to train on");
    s = job("refused");
    s.train.pair.loss = PAIR_COSINE;
    refused(&s, EXIT_CLASS_DATA, "train.jsonl: spec.train.pair.loss: Cosine needs a label");
    s = labelled_job("refused");
    s.train.pair.loss = PAIR_IN_BATCH_NEGATIVES;
    refused(&s, EXIT_CLASS_DATA, "train.jsonl: spec.train.pair.loss: InBatchNegatives has no use");
    golden_write(train_path, "{\"a\": \"x\"}\n", 11);
    refused(&s, EXIT_CLASS_DATA, "train.jsonl: line 1: no object with strings \"a\" and \"b\"");
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"objective_match", 120, setup, training_teardown},
        (const TTest *const[]){pairs_are_learnt_alike_in_any_world, little_memory_changes_nothing,
            dropout_follows_the_pairs, a_gpu_learns_what_a_processor_does,
            an_interruption_does_not_show, labels_are_learnt, the_folder_is_a_bare_bert,
            gradients_in_fp16_are_near, what_is_refused, NULL});
}
