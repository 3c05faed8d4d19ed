/*
 * Goal: whatever changes the arithmetic or the order of samples is seen and named, whatever does
 * not is free, and a field that nobody thought of counts. Method: identities of a job before and
 * after one change each, from a table; every leaf of the encoded job is either in the identity or
 * in a list that stands here.
 * needs: faults
 */
#include "runtime/train/identity.h"

#include "base/json.h"
#include "tests/runtime/bytes.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

static struct err e;
static struct jobspec s;
static struct weights *weights;
static struct data *data;

static struct identity_source source(void)
{
    return (struct identity_source){
        .spec = &s, .weights = weights, .data = data, .train_samples = 500, .steps = 50};
}

static const int32_t ids[] = {5, 6, 7, 8, 9, 10, 11};

static void setup(void)
{
    training_setup();
    s = training_job("run");
    training_lora(&s);
    ck_assert_msg(!weights_open(s.model.source, NULL, &weights, &e), "%s", e.text);
    ck_assert(!data_from_ids(ids, 7, 3, &data, &e));
}

static void teardown(void)
{
    weights_close(weights);
    data_close(data);
    training_teardown();
}

static struct identity_difference difference(
    const struct identity_source *a, const struct identity_source *b, const struct jobspec *was)
{
    char x[CKPT_IDENTITY_BYTES], y[CKPT_IDENTITY_BYTES];
    struct identity_source before = *a;
    struct identity_difference d;

    before.spec = was;
    ck_assert_msg(!identity_write(&before, x, &e), "%s", e.text);
    ck_assert_msg(!identity_write(b, y, &e), "%s", e.text);
    ck_assert_msg(!identity_compare(x, y, &d, &e), "%s", e.text);
    return d;
}

#define CHANGE(want, statement) \
    do { \
        struct jobspec was = s; \
        struct identity_source a = source(); \
        statement; \
        struct identity_difference d = difference(&a, &a, &was); \
        ck_assert_msg(d.count >= 1 && !strcmp(d.key, want), "%s: %d, %s", want, d.count, d.key); \
        ck_assert_str_ne(d.was, d.is); \
        s = was; \
    } while (0)

START_TEST(what_changes_the_arithmetic_counts)
{
    CHANGE("spec.precision", s.precision = PRECISION_BF16);
    CHANGE("spec.model.init", s.model.init = INIT_RANDOM);
    CHANGE("spec.train.objective", s.train.objective = OBJECTIVE_TOKEN_CLASSIFICATION);
    CHANGE("spec.train.method", s.train.method = METHOD_FULL);
    CHANGE("spec.train.lora.rank", s.train.lora.rank = 5);
    CHANGE("spec.train.lora.alpha", s.train.lora.alpha = 4);
    CHANGE("spec.train.dropout", s.train.dropout = 0.1);
    CHANGE("spec.train.attentionDropout", s.train.attention_dropout = 0.1);
    CHANGE("spec.train.modelDropout", s.train.model_dropout = true);
    CHANGE("spec.train.lora.dropout", s.train.lora.dropout = 0.1);
    CHANGE("spec.train.lora.rankStabilized", s.train.lora.rank_stabilized = true);
    CHANGE("spec.train.lora.dora", s.train.lora.dora = true);
    CHANGE("spec.train.lora.quantizedBase", s.train.lora.quantized_base = BASE_Q8_0);
    s.train.lora.adalora.initial_rank = 12;
    CHANGE("spec.train.lora.adalora.beta1", s.train.lora.adalora.beta1 = 0.9);
    CHANGE("spec.train.lora.adalora.interval", s.train.lora.adalora.interval = 7);
    s.train.lora.adalora.initial_rank = 0;
    CHANGE("spec.train.lora.targets", s.train.lora.targets[1] = "v_proj");
    CHANGE("spec.train.sequenceLength", s.train.sequence_length++);
    s.train.objective = OBJECTIVE_PAIR_MATCHING;
    CHANGE("spec.train.pair.loss", s.train.pair.loss = PAIR_COSINE);
    s.train.pair.temperature = 0.05;
    CHANGE("spec.train.pair.temperature", s.train.pair.temperature = 0.1);
    s.train.objective = OBJECTIVE_CAUSAL_LM;
    CHANGE("spec.train.batchSequences", s.train.batch_sequences++);
    CHANGE("spec.train.seed", s.train.seed++);
    CHANGE("spec.train.optimizer.learningRate", s.train.optimizer.learning_rate *= 1.0001);
    CHANGE("spec.train.optimizer.schedule", s.train.optimizer.schedule = SCHEDULE_LINEAR);
    CHANGE("spec.train.optimizer.warmupSteps", s.train.optimizer.warmup_steps++);
    CHANGE("spec.train.optimizer.weightDecay", s.train.optimizer.weight_decay = 0);
    CHANGE("spec.train.optimizer.beta1", s.train.optimizer.beta1 = 0.8);
    CHANGE("spec.train.optimizer.beta2", s.train.optimizer.beta2 = 0.8);
    CHANGE("spec.train.optimizer.epsilon", s.train.optimizer.epsilon = 1e-6);
    CHANGE("spec.train.optimizer.clipNorm", s.train.optimizer.clip_norm = 0);
    CHANGE("spec.train.optimizer.name", s.train.optimizer.name = OPTIMIZER_LION);
    CHANGE("spec.train.optimizer.state", s.train.optimizer.state = OPTIMIZER_STATE_INT8);
    CHANGE("spec.train.optimizer.momentum", s.train.optimizer.momentum = 0.5);
    CHANGE("spec.train.optimizer.minLearningRate", s.train.optimizer.min_learning_rate = 1e-5);
    CHANGE("spec.train.optimizer.lrScaling", s.train.optimizer.lr_scaling = LR_SCALING_LINEAR);
    s.train.optimizer.lr_scaling = LR_SCALING_SQUARE_ROOT;
    CHANGE("spec.train.optimizer.lrBatchSequences", s.train.optimizer.lr_batch_sequences = 4);
    CHANGE("spec.train.optimizer.decaySteps", s.train.optimizer.decay_steps = 7);
    CHANGE("spec.train.optimizer.layerDecay", s.train.optimizer.layer_decay = 0.5);
}
END_TEST

START_TEST(what_is_preferred_counts)
{
    s.train.objective = OBJECTIVE_DPO;
    s.train.dpo.beta = 0.1;
    CHANGE("spec.train.dpo.beta", s.train.dpo.beta = 0.2);
    CHANGE("spec.train.dpo.labelSmoothing", s.train.dpo.label_smoothing = 0.1);
    CHANGE("spec.train.dpo.loss", s.train.dpo.loss = DPO_IPO);
}
END_TEST

START_TEST(what_is_read_counts)
{
    static const int32_t shuffled[] = {5, 6, 7, 8, 10, 9, 11};
    struct identity_source a = source(), b = a;
    struct data *other = NULL;
    ck_assert(!data_from_ids(shuffled, 7, 3, &other, &e));

    b.data = other;
    ck_assert_str_eq(difference(&a, &b, &s).key, "spec.train.data.train");
    b = a;
    b.validation = other;
    struct identity_difference d = difference(&a, &b, &s);
    ck_assert_str_eq(d.key, "spec.train.data.validation");
    ck_assert_str_eq(d.was, "absent");
    ck_assert_str_eq(difference(&b, &a, &s).is, "absent");
    b = a;
    b.train_samples++;
    d = difference(&a, &b, &s);
    ck_assert(d.count == 1 && !strcmp(d.was, "500") && !strcmp(d.is, "501"));
    b = a;
    b.steps++;
    ck_assert_str_eq(difference(&a, &b, &s).key, "spec.train.steps");
    s.train.optimizer.schedule = SCHEDULE_CONSTANT; /* then no step depends on how many follow */
    ck_assert_int_eq(difference(&a, &b, &s).count, 0);
    s.train.lora.adalora.initial_rank = 12; /* ranks do */
    ck_assert_str_eq(difference(&a, &b, &s).key, "spec.train.steps");
    data_close(other);
}
END_TEST

/* Named as what they are of, though the data's digest has changed with them; a checkpoint that says
   nothing of them goes on. */
START_TEST(labels_are_of_all_files)
{
    char *names[] = {(char[]){"a"}, (char[]){"b"}, (char[]){"c"}};
    const struct data_labels two = {.names = names, .count = 2},
                             three = {.names = names, .count = 3};
    struct identity_source a = source(), b = a, none = a;
    a.labels = &two;
    b.labels = &three;
    struct identity_difference d = difference(&a, &b, &s);
    ck_assert(d.count == 1 && !strncmp(d.key, "labels of spec.train.data (train, ", 34));
    ck_assert(!strncmp(d.was, "2, content ", 11) && !strncmp(d.is, "3, content ", 11));
    b.train_samples++; /* and whatever else is different */
    ck_assert(!strncmp(difference(&a, &b, &s).key, "labels of ", 10));
    ck_assert_int_eq(difference(&none, &a, &s).count, 0);
    ck_assert_int_eq(difference(&a, &a, &s).count, 0);
}
END_TEST

/* One byte of one file of a model, among the header's, the weights' or the configuration's. */
START_TEST(which_model_it_is_counts)
{
    static const struct {
        const char *file;
        int at; /* from the end when negative */
        const char *key;
    } bytes[] = {{"model.safetensors", -1, "spec.model.source"},
        {"model.safetensors", -40000, "spec.model.source"},
        {"config.json", -1, "spec.model.source: config.json"}};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        struct identity_source a = source(), b = a;
        struct weights *other = NULL;
        buf_auto struct buf text;
        char path[300];
        buf_init(&text, 1 << 24);
        snprintf(path, sizeof path, "%s/model/%s", training_folder, bytes[i].file);
        ck_assert(!io_read_file(path, 1 << 24, &text, &e));
        if (!strcmp(bytes[i].file, "config.json"))
            buf_char(&text, ' ');
        else
            text.data[(int)text.len + bytes[i].at] ^= 1;
        char x[CKPT_IDENTITY_BYTES], y[CKPT_IDENTITY_BYTES];
        struct identity_difference d;
        ck_assert(!identity_write(&a, x, &e));
        golden_write(path, text.data, text.len); /* by rename: the link is replaced */
        ck_assert_msg(!weights_open(s.model.source, NULL, &other, &e), "%s", e.text);
        b.weights = other;
        ck_assert(!identity_write(&b, y, &e));
        ck_assert(!identity_compare(x, y, &d, &e));
        ck_assert_msg(d.count == 1 && !strcmp(d.key, bytes[i].key), "%d, %s", d.count, d.key);
        weights_close(weights);
        weights = other;
    }
}
END_TEST

START_TEST(what_changes_no_bit_is_free)
{
    static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct jobspec was = s;
    struct identity_source a = source();

    s.name = "other";
    s.replicas = 5;
    s.train.output = "/elsewhere";
    s.train.tensorboard = "/elsewhere";
    s.train.histogram_every_steps = 7;
    s.train.exported_by = "another";
    s.train.trace.steps = 3;
    s.train.generate.every_steps = s.train.generate.prompt_count = 1;
    s.train.generate.prompts[0] = "Once";
    s.train.evaluate_every_steps = 7;
    s.train.recompute = RECOMPUTE_FULL;
    s.train.data.train = "/another/path";
    s.train.data.test = "/another/path"; /* of which nothing is learnt */
    s.train.data.format = FORMAT_AUTO;   /* what it leads to is compared */
    s.train.data.skip_bad_records = 3;
    s.checkpoint.keep = 9;
    s.checkpoint.every_steps = 3;
    s.model.source = "/another/path";
    s.model.sha256 = digest;
    /* the configuration is read from where the weights were opened */
    ck_assert_int_eq(difference(&a, &a, &was).count, 0);
    was = s; /* given to both lives it must be the same */
    s.model.sha256 = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    ck_assert_str_eq(difference(&a, &a, &was).key, "spec.model.sha256");
}
END_TEST

/* A leaf that the encoder writes below model, train and precision and that is in neither list would
 * go unseen. */
static int check_leaves(const struct json *v, const char *name, const struct json *identity)
{
    static const char *const free_leaves[] = {"spec.model.source", "spec.train.data.train",
        "spec.train.data.format", "spec.train.data.skipBadRecords", "spec.train.steps",
        "spec.train.output", "spec.train.evaluateEverySteps", "spec.train.recompute",
        "spec.train.tensorboard", "spec.train.histogramEverySteps", "spec.train.trace.fromStep",
        "spec.train.trace.steps", "spec.train.data.validation", "spec.train.data.test"};
    int n = 0;
    if (json_is_object(v)) {
        json_each (m, v) {
            char inner[200];
            snprintf(inner, sizeof inner, "%s.%s", name, json_key(m));
            n += check_leaves(m, inner, identity);
        }
        return n;
    }
    for (size_t i = 0; i < sizeof free_leaves / sizeof *free_leaves; i++)
        if (!strcmp(free_leaves[i], name))
            return 0;
    ck_assert_msg(json_get(identity, name) != NULL, "%s does not count", name);
    return 1;
}

START_TEST(every_field_counts_by_default)
{
    buf_auto struct buf text;
    json_auto struct json *job = NULL, *identity = NULL;
    struct identity_source a = source();
    char x[CKPT_IDENTITY_BYTES];
    static const char *const parts[] = {"model", "train", "precision"};
    int n = 0;

    s.train.tensorboard = "/t";
    s.train.data.validation = s.train.data.test = "/v";
    buf_init(&text, 1 << 20);
    ck_assert(!jobspec_encode(&s, &text, &e));
    ck_assert(!json_parse(text.data, text.len, &job, &e));
    ck_assert(!identity_write(&a, x, &e));
    ck_assert(!json_parse(x, strlen(x), &identity, &e));
    for (int i = 0; i < 3; i++) {
        char name[40];
        snprintf(name, sizeof name, "spec.%s", parts[i]);
        n += check_leaves(json_get(json_get(job, "spec"), parts[i]), name, identity);
    }
    ck_assert_int_ge(n, 17);
}
END_TEST

/* Takes one member out of an identity, as if it was written before the field was known. */
static void forget(char text[CKPT_IDENTITY_BYTES], const char *key)
{
    char member[100];
    snprintf(member, sizeof member, "\"%s\":", key);
    char *at = strstr(text, member), *end = at ? strchr(at, ',') : NULL;
    ck_assert_msg(end != NULL, "%s: no %s", text, key);
    memmove(at, end + 1, strlen(end + 1) + 1);
}

START_TEST(a_field_that_is_newer_had_its_default)
{
    struct identity_source a = source();
    char x[CKPT_IDENTITY_BYTES], y[CKPT_IDENTITY_BYTES];
    struct identity_difference d;

    s.train.optimizer.beta2 = 0.999; /* the default */
    ck_assert(!identity_write(&a, y, &e));
    memcpy(x, y, sizeof x);
    forget(x, "spec.train.optimizer.beta2");
    static const char *const newer[] = {
        "name", "state", "minLearningRate", "layerDecay", "lrScaling"}; /* than 0.1.0 */
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        char key[64];
        snprintf(key, sizeof key, "spec.train.optimizer.%s", newer[i]);
        forget(x, key);
    }
    ck_assert(!identity_compare(x, y, &d, &e));
    ck_assert_int_eq(d.count, 0);
    s.train.optimizer.beta2 = 0.99;
    ck_assert(!identity_write(&a, y, &e));
    ck_assert(!identity_compare(x, y, &d, &e));
    ck_assert(d.count == 1 && !strcmp(d.key, "spec.train.optimizer.beta2"));
    ck_assert(!strcmp(d.was, "0.999") && !strcmp(d.is, "0.99"));
    s.train.lora.rank_stabilized = true; /* of a group that not every job has */
    s.train.optimizer.beta2 = 0.999;
    ck_assert(!identity_write(&a, y, &e));
    forget(x, "spec.train.lora.rankStabilized");
    ck_assert(!identity_compare(x, y, &d, &e));
    ck_assert(d.count == 1 && !strcmp(d.key, "spec.train.lora.rankStabilized"));
    ck_assert(!strcmp(d.was, "false") && !strcmp(d.is, "true"));
    s.train.lora.rank_stabilized = false;
    s.train.optimizer.beta2 = 0.99;
    ck_assert(!identity_write(&a, y, &e));
    forget(y, "spec.train.seed"); /* and what is known no more is a difference */
    ck_assert(!identity_compare(x, y, &d, &e));
    ck_assert_int_eq(d.count, 2);
}
END_TEST

static int write_it(void *user)
{
    struct identity_source a = source();
    char x[CKPT_IDENTITY_BYTES];
    struct identity_difference d;
    (void)user;
    int rc = identity_write(&a, x, &e);
    return rc ? rc : identity_compare(x, x, &d, &e);
}

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, write_it, NULL);
    fault_each(FAULT_IO, write_it, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"identity", 60, setup, teardown},
        (const TTest *const[]){what_changes_the_arithmetic_counts, what_is_preferred_counts,
            what_is_read_counts, labels_are_of_all_files, which_model_it_is_counts,
            what_changes_no_bit_is_free, every_field_counts_by_default,
            a_field_that_is_newer_had_its_default, failed_calls_are_reported, NULL});
}
