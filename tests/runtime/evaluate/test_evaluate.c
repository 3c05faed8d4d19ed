/*
 * Goal: an evaluation's figures are right, and the same for any number of ranks. Method: real
 * ranks, one process each, on tiny-llama with a tokenizer of bytes: likelihoods of choices,
 * accuracies and their errors against transformers (choice.json); a perplexity against the
 * conversion's on the same windows, of a folder and of blocks; reports of one, two and three ranks,
 * compared as texts, and of ranks that share the model, by figure; an adapter against the model
 * that it was merged into; what is refused, a stop, and a rank that dies, which leave nothing.
 */
#include "runtime/evaluate/evaluate.h"

#include "base/io.h"
#include "runtime/convert/convert.h"
#include "runtime/evaluate/internal.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;

/* Good until the test ends: those of training_path are not. */
static const char *path(const char *name)
{
    static char paths[64][256];
    static int next;
    char *p = paths[next++ % 64];
    snprintf(p, 256, "%s", training_path(name));
    return p;
}

static struct jobspec job(enum evaluated objective, const char *data, const char *output)
{
    struct jobspec s = training_job("run");
    s.task = TASK_EVALUATE;
    s.train.output = s.checkpoint.path = NULL;
    s.evaluate.objective = objective;
    s.evaluate.data = path(data);
    s.evaluate.format = objective == EVALUATED_CAUSAL_LM ? FORMAT_TEXT : FORMAT_JSONL;
    s.evaluate.sequence_length = 48;
    s.evaluate.output = path(output);
    return s;
}

static struct outcome run(const struct jobspec *s, int size)
{
    return training_run(&(struct training){.spec = s, .size = size, .incarnation = 1});
}

static struct json *report(const char *output)
{
    char name[64];
    snprintf(name, sizeof name, "%s/report.json", output);
    return golden_json(path(name));
}

static struct json *run_well(const struct jobspec *s, int size, const char *output)
{
    struct outcome o = run(s, size);
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "rank %d: %s", i, o.message);
    ck_assert(o.done && o.evaluations == 1);
    return report(output);
}

/* By one, two and three ranks: the report, which all agree on. */
static struct json *run_alike(const struct jobspec *s, const char *output)
{
    buf_auto struct buf first, other;
    buf_init(&first, 1 << 20);
    buf_init(&other, 1 << 20);
    struct json *v = run_well(s, 1, output);
    ck_assert(!json_print(v, &first));
    for (int n = 2; n <= 3; n++) {
        json_auto struct json *again = run_well(s, n, output);
        buf_reset(&other);
        ck_assert(!json_print(again, &other));
        ck_assert_str_eq(buf_cstr(&other), buf_cstr(&first));
    }
    return v;
}

/* -- running text -- */

/* The figure of the conversion's source, and of what it made. */
static void convert(const char *quantize, const char *output, double loss[2])
{
    static struct orders orders;
    static struct door door;
    struct jobspec s = training_job("run");
    struct convert_conf c = {.door = &door, .orders = &orders, .budget_bytes = 1 << 30};
    s.task = TASK_CONVERT;
    s.train.output = s.checkpoint.path = NULL;
    s.convert.quantize = strcmp(quantize, "Q8_0") ? QUANTIZE_NONE : QUANTIZE_Q8_0;
    s.convert.evaluate.data = path("corpus.txt");
    s.convert.evaluate.format = FORMAT_TEXT;
    s.convert.evaluate.sequence_length = 48;
    s.convert.evaluate.sequences = 9;
    s.convert.output = path(output);
    orders.spec = &s;
    door_init(&door, -1, NULL);
    ck_assert_int_eq(dev_open("cpu", 0, 1, &c.dev, &e), 0);
    ck_assert_msg(!convert_run(&c, &e), "%s", e.text);
    dev_close(c.dev);
    json_auto struct json *v = report(output);
    loss[0] = json_num(json_get(v, "source"), "loss", NAN);
    loss[1] = json_num(json_get(v, "output"), "loss", NAN);
}

START_TEST(a_perplexity_is_the_conversions)
{
    double loss[2];
    struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "report");
    s.evaluate.samples = 9;
    json_auto struct json *v = run_alike(&s, "report");
    convert("Q8_0", "q8", loss);
    double is = json_num(v, "loss", NAN);
    ck_assert_double_eq(is, loss[0]);
    ck_assert_double_eq(json_num(v, "perplexity", NAN), exp(is));
    ck_assert_int_eq(json_int(v, "sequences", 0), 9);
    ck_assert_int_eq(json_int(v, "tokens", 0), 9 * 48);
    ck_assert_int_eq(json_int(v, "bytes", 0), 9 * 48); /* a token is a byte */
    ck_assert_double_eq_tol(json_num(v, "bitsPerByte", NAN), is / log(2), 1e-12);
    ck_assert_str_eq(json_str(v, "objective", ""), "CausalLM");
    s.model.source = path("q8/model.gguf");
    json_auto struct json *blocks = run_well(&s, 2, "report");
    ck_assert_double_eq(json_num(blocks, "loss", NAN), loss[1]);
    ck_assert_double_ne(loss[1], loss[0]);
    s.evaluate.samples = 0; /* all there are */
    json_auto struct json *all = run_well(&s, 2, "report");
    ck_assert_int_gt(json_int(all, "sequences", 0), 150);
}
END_TEST

/* -- choices -- */

static void write_questions(const struct json *golden)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    json_each (q, json_get(golden, "questions")) {
        ck_assert(!json_print(q, &b));
        buf_char(&b, '\n');
    }
    golden_write(path("q.jsonl"), b.data, b.len);
}

static void check_likelihoods(struct evaluation *v, const struct json *golden)
{
    struct questions q = {.list = NULL};
    const struct questions_conf c = {
        .path = path("q.jsonl"), .tok = v->meter.tok, .length = v->meter.length};
    ck_assert_msg(!questions_open(&c, &q, &e), "%s", e.text);
    int i = 0;
    json_each (row, json_get(golden, "likelihoods")) {
        double losses[QUESTIONS_CHOICES];
        int64_t tokens = 0;
        int k = 0;
        ck_assert_msg(!evaluate_losses(v, &q, &q.list[i++], losses, &tokens, &e), "%s", e.text);
        json_each (x, row) {
            double want = json_number_value(x), is = -losses[k++];
            ck_assert_msg(
                fabs(is - want) < 1e-4, "question %d, choice %d: %.9g, not %.9g", i, k, is, want);
        }
        ck_assert_int_gt(tokens, 0);
    }
    ck_assert_int_eq(i, q.count);
    questions_done(&q);
}

START_TEST(likelihoods_are_transformers)
{
    static struct door door;
    json_auto struct json *golden = golden_json(GOLDEN "choice.json");
    struct jobspec s = job(EVALUATED_MULTIPLE_CHOICE, "q.jsonl", "report");
    struct evaluation v = {.spec = &s, .measure = {.door = &door, .spec = &s}};
    door_init(&door, -1, NULL);
    write_questions(golden);
    v.measure.budget_bytes = 1 << 30;
    v.meter = (struct meter){.conf = &v.measure, .length = json_int(golden, "length", 0)};
    ck_assert_int_eq(dev_open("cpu", 0, 1, &v.measure.dev, &e), 0);
    ck_assert(!weights_open(s.model.source, NULL, &v.weights, &e));
    ck_assert_msg(!meter_begin(&v.meter, v.weights, &e), "%s", e.text);
    ck_assert_msg(!meter_load(&v.meter, v.weights, &e), "%s", e.text);
    check_likelihoods(&v, golden);
    meter_close(&v.meter);
    weights_close(v.weights);
    dev_close(v.measure.dev);
}
END_TEST

START_TEST(accuracies_are_lm_evals)
{
    static const char *const names[][2] = {{"accuracy", "acc"},
        {"accuracyStandardError", "acc_stderr"}, {"accuracyNorm", "acc_norm"},
        {"accuracyNormStandardError", "acc_norm_stderr"}};
    json_auto struct json *golden = golden_json(GOLDEN "choice.json");
    struct jobspec s = job(EVALUATED_MULTIPLE_CHOICE, "q.jsonl", "report");
    write_questions(golden);
    s.evaluate.sequence_length = (int)json_int(golden, "length", 0);
    json_auto struct json *v = run_alike(&s, "report");
    ck_assert_int_eq(json_int(v, "questions", 0), 24);
    ck_assert_int_gt(json_int(v, "truncated", 0), 2);
    ck_assert_double_gt(json_num(v, "loss", 0), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(
            json_num(v, names[i][0], NAN), json_num(golden, names[i][1], -1), 1e-12);
}
END_TEST

/* -- adapters -- */

START_TEST(an_adapter_counts_as_if_it_were_merged)
{
    struct jobspec s = training_job("lora");
    training_lora(&s);
    s.train.steps = 12;
    struct outcome o = run(&s, 1);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "report");
    s.evaluate.samples = 3;
    json_auto struct json *base = run_well(&s, 1, "report");
    s.evaluate.adapter = path("output/adapter");
    json_auto struct json *added = run_alike(&s, "report");
    ck_assert_str_eq(json_str(added, "adapter", ""), s.evaluate.adapter);
    s.evaluate.adapter = NULL;
    s.model.source = path("output");
    json_auto struct json *merged = run_well(&s, 1, "report");
    double is = json_num(added, "loss", NAN);
    ck_assert_double_lt(fabs(is / json_num(merged, "loss", NAN) - 1), 1e-6);
    ck_assert_double_lt(is, 0.99 * json_num(base, "loss", NAN));
    s.precision = PRECISION_BF16;
    s.model.source = path("model");
    s.evaluate.adapter = path("output/adapter");
    json_auto struct json *half = run_well(&s, 1, "report");
    ck_assert_double_lt(fabs(is / json_num(half, "loss", NAN) - 1), 1e-2);
}
END_TEST

/* By the engine, one behind sub-layers gives what the training's own pass last said of its
   validation file; and it is not without effect. */
START_TEST(an_adapter_behind_sublayers_is_evaluated)
{
    struct jobspec s = training_job("adapter");
    s.train.method = METHOD_ADAPTER;
    s.train.adapter.kind = ADAPTER_PFEIFFER;
    s.train.adapter.reduction_factor = 4;
    s.train.adapter.activation = ADAPTER_SILU;
    s.train.steps = 12;
    s.train.data.validation = path("corpus.txt");
    struct outcome o = run(&s, 1);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "report");
    s.evaluate.sequence_length = TRAINING_T;
    s.evaluate.samples = 16; /* as a training's evaluation */
    json_auto struct json *base = run_well(&s, 1, "report");
    s.evaluate.adapter = path("output/adapter");
    json_auto struct json *added = run_alike(&s, "report");
    double is = json_num(added, "loss", NAN);
    ck_assert_double_lt(fabs(is / o.validation - 1), 1e-5);
    ck_assert_double_lt(is, 0.99 * json_num(base, "loss", NAN));
    s.parallelism.tensor = 2;
    o = run(&s, 2);
    ck_assert_int_eq(o.exit[1], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, "spec.evaluate.adapter: ") &&
            strstr(o.message, "stands behind sub-layers"),
        "%s", o.message);
}
END_TEST

/* -- ranks that share the model -- */

struct shares {
    int world, tensor, pipeline;
};
static const struct shares shares[] = {{2, 2, 0}, {2, 0, 2}, {4, 2, 2}, {4, 2, 1}, {4, 1, 2}};

static bool is_near(double is, double want)
{
    return (isnan(is) && isnan(want)) || fabs(is - want) <= 1e-5 * fabs(want);
}

/* Of two reports every figure. */
static void figures_are_near(const struct json *is, const struct json *want)
{
    json_each (x, want) {
        const struct json *y = json_get(is, json_key(x));
        ck_assert_msg(y != NULL, "no %s", json_key(x));
        if (json_is_number(x))
            ck_assert_msg(is_near(json_number_value(y), json_number_value(x)),
                "%s: %.9g, one rank %.9g", json_key(x), json_number_value(y), json_number_value(x));
    }
}

static void share(struct jobspec *s, const struct shares *x)
{
    s->parallelism.data =
        x->world / ((x->tensor ? x->tensor : 1) * (x->pipeline ? x->pipeline : 1));
    s->parallelism.tensor = x->tensor;
    s->parallelism.pipeline = x->pipeline;
}

static void shares_find(struct jobspec *s, const struct shares *x, int count)
{
    json_auto struct json *want = run_well(s, 1, "report");
    for (int i = 0; i < count; i++) {
        share(s, &x[i]);
        json_auto struct json *is = run_well(s, x[i].world, "report");
        figures_are_near(is, want);
    }
    share(s, &(struct shares){0});
}

START_TEST(shares_of_a_model_find_what_one_rank_finds)
{
    json_auto struct json *golden = golden_json(GOLDEN "choice.json");
    struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "report");
    s.evaluate.samples = 9;
    shares_find(&s, shares, 5);
    s = job(EVALUATED_MULTIPLE_CHOICE, "q.jsonl", "report");
    write_questions(golden);
    s.evaluate.sequence_length = (int)json_int(golden, "length", 0);
    shares_find(&s, shares, 3);
}
END_TEST

/* One that is added to its weights; one behind sub-layers is refused. */
START_TEST(shares_take_an_adapter)
{
    struct jobspec s = training_job("lora");
    training_lora(&s);
    s.train.steps = 4;
    struct outcome o = run(&s, 1);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "report");
    s.evaluate.samples = 3;
    s.evaluate.adapter = path("output/adapter");
    shares_find(&s, &shares[2], 1);
}
END_TEST

START_TEST(a_stop_of_shares_leaves_nothing)
{
    for (int i = 0; i < 3; i++) {
        struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no");
        share(&s, &shares[i]);
        struct outcome o = training_run(&(struct training){
            .spec = &s, .size = shares[i].world, .incarnation = 1, .stop_after = 8});
        for (int r = 0; r < shares[i].world; r++)
            ck_assert_int_eq(o.exit[r], EXIT_CLASS_DRAINED);
        ck_assert(o.drained && !io_exists(s.evaluate.output));
    }
}
END_TEST

START_TEST(a_share_that_dies_ends_the_others)
{
    for (int i = 0; i < 3; i++) {
        struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no");
        share(&s, &shares[i]);
        struct outcome o = training_run(&(struct training){
            .spec = &s, .size = shares[i].world, .incarnation = 1, .kill_after = 8});
        for (int r = 0; r + 1 < shares[i].world; r++)
            ck_assert_msg(o.exit[r] == EXIT_CLASS_PEER, "rank %d: class %d", r, o.exit[r]);
        ck_assert_msg(o.end_ms < 20000, "%lld ms", (long long)o.end_ms);
        ck_assert(!io_exists(s.evaluate.output));
    }
}
END_TEST

/* -- what ends early -- */

static void refused(const struct jobspec *s, enum exit_class class, const char *word)
{
    struct outcome o = run(s, 1);
    ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
    ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
    ck_assert(!io_exists(s->evaluate.output));
}

START_TEST(what_cannot_be_measured_is_refused)
{
    struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no");
    s.model.source = GOLDEN "tiny-bert";
    refused(&s, EXIT_CLASS_USER, "spec.evaluate.objective: CausalLM needs a model that predicts");
    s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no");
    s.evaluate.sequence_length = 129;
    refused(&s, EXIT_CLASS_USER, "spec.evaluate.sequenceLength: 129 exceeds the model's context");
    s = job(EVALUATED_CAUSAL_LM, "none.txt", "no");
    refused(&s, EXIT_CLASS_DATA, "none.txt");
    s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no");
    s.evaluate.adapter = path("none");
    refused(&s, EXIT_CLASS_DATA, "none/adapter_config.json");
    s = job(EVALUATED_MULTIPLE_CHOICE, "q.jsonl", "no");
    golden_write(s.evaluate.data, "\n{\"context\": \"a\"}\n", 18);
    refused(&s, EXIT_CLASS_DATA, "q.jsonl: line 2: \"choices\"");
    golden_write(s.evaluate.data, "{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0}", 46);
    s.evaluate.chat = true;
    refused(&s, EXIT_CLASS_USER, "spec.evaluate.chat: ");
}
END_TEST

START_TEST(other_data_of_another_rank_is_refused)
{
    struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no"), other = s;
    other.evaluate.data = path("short.txt");
    char text[100];
    memset(text, 'a', sizeof text);
    golden_write(other.evaluate.data, text, sizeof text);
    struct training t = {.spec = &s, .last = &other, .size = 2, .incarnation = 1};
    struct outcome o = training_run(&t);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_int_eq(o.exit[1], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, "rank 1 reads another model or other data"), "%s", o.message);
}
END_TEST

START_TEST(a_stop_leaves_nothing)
{
    struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "no");
    struct outcome o =
        training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .stop_after = 8});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_DRAINED);
    ck_assert_int_eq(o.exit[1], EXIT_CLASS_DRAINED);
    ck_assert(o.drained && !io_exists(s.evaluate.output));
}
END_TEST

/* What somebody else put there stays; our own report is replaced. */
START_TEST(the_output_follows_the_houses_rules)
{
    struct jobspec s = job(EVALUATED_CAUSAL_LM, "corpus.txt", "report");
    s.evaluate.samples = 1;
    json_destroy(run_well(&s, 1, "report"));
    json_destroy(run_well(&s, 1, "report"));
    golden_write(path("report/mine.txt"), "x", 1);
    struct outcome o = run(&s, 1);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, "spec.evaluate.output: "), "%s", o.message);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"evaluate", 120, training_setup, training_teardown},
        (const TTest *const[]){a_perplexity_is_the_conversions, likelihoods_are_transformers,
            accuracies_are_lm_evals, an_adapter_counts_as_if_it_were_merged,
            an_adapter_behind_sublayers_is_evaluated, shares_of_a_model_find_what_one_rank_finds,
            shares_take_an_adapter, a_stop_of_shares_leaves_nothing,
            a_share_that_dies_ends_the_others, what_cannot_be_measured_is_refused,
            other_data_of_another_rank_is_refused, a_stop_leaves_nothing,
            the_output_follows_the_houses_rules, NULL});
}
