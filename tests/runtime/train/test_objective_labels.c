/*
 * Goal: a BERT learns to label words or whole texts, and what is reported of it is the same for
 * every world and for a training that was interrupted. Method: real ranks, one process each, on the
 * tiny BERTs of tests/golden and sentences made here, with names of persons and places: three
 * epochs with 1, 2 and 3 ranks; texts that a word tells apart; a stop and a resume; the reports of
 * validation and test by frames, TensorBoard's points and report.json; the exported folder; and
 * inputs that must be refused. That the numbers are seqeval's and scikit-learn's is what
 * test_entities and test_classes show.
 * needs: sample
 */
#include "base/buf.h"
#include "base/io.h"
#include "runtime/family/weights.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define MODEL     GOLDEN "tiny-bert"
#define SENTENCES 64
#define BATCH     4
#define EPOCH     (SENTENCES / BATCH) /* steps */
#define EPOCHS    3
#define LAST      (EPOCH * EPOCHS)

static struct err e;
static uint32_t random_state;

static const char *pick(const char *const *words, uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return words[(random_state >> 16) % n];
}

/* Of one word or two. */
static void add_name(struct buf *b, bool person)
{
    static const char *const words[2][3] = {{"berlin", "ion", "as"}, {"anna", "ed", "lia"}};
    const char *type = person ? "PER" : "LOC";
    buf_printf(b, "%s x O\n%s x B-%s\n", person ? "by" : "in", pick(words[person], 3), type);
    if (pick((const char *const[]){"", "y", ""}, 3)[0])
        buf_printf(b, "%s x I-%s\n", pick(words[person], 3), type);
}

/* Sentences of unlike lengths, different ones by seed. */
static void write_sentences(const char *name, int count, uint32_t seed)
{
    static const char *const words[] = {"the", "of", "and", "was", "-"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    random_state = seed;
    buf_str(&b, "-DOCSTART- -X- O\n\n");
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 1 + i % 3; k++)
            buf_printf(&b, "%s x O\n", pick(words, 5));
        add_name(&b, i % 2);
        if (i % 4 < 2)
            add_name(&b, !(i % 2));
        buf_str(&b, ". x O\n\n");
    }
    golden_write(training_path(name), b.data, b.len);
}

static char train_path[256], dev_path[256], test_path[256];

static void setup(void)
{
    training_setup();
    write_sentences("train.conll", SENTENCES, 1);
    write_sentences("dev.conll", 13, 2);
    write_sentences("test.conll", 11, 3);
    snprintf(train_path, sizeof train_path, "%s", training_path("train.conll"));
    snprintf(dev_path, sizeof dev_path, "%s", training_path("dev.conll"));
    snprintf(test_path, sizeof test_path, "%s", training_path("test.conll"));
}

static struct jobspec job(const char *run)
{
    struct jobspec s = training_job(run);
    s.model.source = MODEL;
    s.train.objective = OBJECTIVE_TOKEN_CLASSIFICATION;
    s.train.data.format = FORMAT_CONLL;
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

static struct outcome run(const struct jobspec *s, int size, int incarnation, int stop_after)
{
    return training_run(&(struct training){
        .spec = s, .size = size, .incarnation = incarnation, .stop_after = stop_after});
}

static struct outcome run_whole(const struct jobspec *s, int size)
{
    struct outcome o = run(s, size, 1, 0);
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "rank %d: %s", i, o.message);
    ck_assert(o.done && o.first == 1 && o.last == LAST);
    return o;
}

/* Each with the loss it was learnt with, and what was found at its end. */
static void check_epochs(const struct json *report)
{
    int n = 0;
    double before = INFINITY;
    json_each (epoch, json_get(report, "epochs")) {
        n++;
        ck_assert_int_eq(json_int(epoch, "epoch", 0), n);
        ck_assert_int_eq(json_int(epoch, "step", 0), n * EPOCH);
        ck_assert_double_lt(json_num(epoch, "trainLoss", NAN), before);
        ck_assert_double_gt(json_num(epoch, "validationLoss", NAN), 0);
        ck_assert_double_ge(json_num(epoch, "validationF1", NAN), 0);
        before = json_num(epoch, "trainLoss", NAN);
    }
    ck_assert_int_eq(n, EPOCHS);
}

/* What report.json says of the test. */
static double reported_f1(void)
{
    json_auto struct json *v = golden_json(training_path("output/report.json"));
    const struct json *test = json_get(v, "test");
    const struct json *micro = json_path(test, "entities.lenient.micro avg");
    ck_assert_str_eq(json_str(v, "objective", ""), "TokenClassification");
    ck_assert_int_eq(json_int(v, "step", 0), LAST);
    ck_assert_int_eq(json_int(test, "sentences", 0), 11);
    ck_assert_double_gt(json_num(test, "loss", -1), 0);
    ck_assert_ptr_nonnull(json_path(test, "entities.lenient.PER"));
    ck_assert_ptr_nonnull(json_path(test, "entities.strict.LOC"));
    ck_assert_double_eq(json_num(micro, "support", 0), 17);
    check_epochs(v);
    return json_num(micro, "f1-score", -1);
}

START_TEST(sentences_are_learnt_alike_in_any_world)
{
    struct outcome o[3];
    double test_f1 = 0;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i + 1);
        struct jobspec s = job(name);
        o[i] = run_whole(&s, i + 1);
        ck_assert_int_eq(o[i].evaluations, 1 + EPOCHS); /* before, and at each epoch's end */
        ck_assert_double_lt(o[i].validation, 0.5 * o[i].first_validation);
        ck_assert_double_gt(o[i].f1, 0.5);
        ck_assert(i == 0 || reported_f1() == test_f1);
        test_f1 = reported_f1();
        ck_assert_double_gt(test_f1, 0.5);
    }
    ck_assert_double_lt(o[0].loss[LAST], 0.5 * o[0].loss[1]);
    for (int i = 1; i < 3; i++) {
        ck_assert(o[i].f1 == o[0].f1);
        ck_assert_double_lt(fabs(o[i].validation / o[0].validation - 1), 1e-4);
        for (int k = 1; k <= LAST; k++) {
            double far = fabs(o[i].loss[k] / o[0].loss[k] - 1);
            ck_assert_msg(far < 1e-4, "%d ranks, step %d: %.9g, one rank %.9g (%.2g)", i + 1, k,
                o[i].loss[k], o[0].loss[k], far);
        }
    }
}
END_TEST

START_TEST(the_folder_has_the_labels)
{
    static const char *const names[] = {"B-LOC", "B-PER", "I-LOC", "I-PER", "O"};
    struct jobspec s = job("labels");
    struct weights *w;
    s.precision = PRECISION_BF16;
    s.train.epochs = 1;
    struct outcome o = run(&s, 2, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert_int_eq(o.last, EPOCH);
    json_auto struct json *config = golden_json(training_path("output/config.json"));
    const struct json *id2label = json_get(config, "id2label");
    ck_assert_str_eq(json_string_value(json_first(json_get(config, "architectures"))),
        "BertForTokenClassification");
    ck_assert_uint_eq(json_count(id2label), 5);
    for (int i = 0; i < 5; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        ck_assert_str_eq(json_str(id2label, key, ""), names[i]);
        ck_assert_int_eq(json_int(json_get(config, "label2id"), names[i], -1), i);
    }
    ck_assert_msg(!weights_open(s.train.output, NULL, &w, &e), "%s", e.text);
    ck_assert_int_eq(weights_config(w)->labels, 5);
    weights_close(w);
}
END_TEST

/* The files' labels decide, not those that the model was made for; adapters train beside them. */
START_TEST(a_fresh_classifier_learns_beside_adapters)
{
    struct jobspec s = job("fresh");
    buf_auto struct buf text;
    struct weights *w;
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(train_path, 1 << 20, &text, &e));
    for (char *p = text.data; (p = strstr(p, "-LOC"));)
        memcpy(p, "-PER", 4);
    golden_write(train_path, text.data, text.len);
    s.train.data.validation = s.train.data.test = NULL;
    training_lora(&s);
    struct outcome o = run(&s, 2, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert_double_lt(o.loss[o.last], 0.7 * o.loss[1]);
    ck_assert_msg(!weights_open(s.train.output, NULL, &w, &e), "%s", e.text);
    ck_assert_int_eq(weights_config(w)->labels, 3);
    weights_close(w);
    json_auto struct json *config = golden_json(training_path("output/config.json"));
    ck_assert_str_eq(json_str(json_get(config, "id2label"), "2", ""), "O");
    ck_assert(io_exists(training_path("output/adapter/adapter_model.safetensors")));
}
END_TEST

static struct buf report_text(void)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path("output/report.json"), 1 << 20, &text, &e));
    return text;
}

static void check_points(const char *board, int last)
{
    static const char *const tags[] = {
        "loss", "f1", "precision", "recall", "accuracy", "f1_strict"};
    static struct event events[20 * LAST];
    char tag[64];
    int n = events_shown(board, events, 20 * LAST);
    for (int i = 0; i < 6; i++)
        for (int step = 0; step <= LAST; step++) {
            snprintf(tag, sizeof tag, "%s/validation", tags[i]);
            ck_assert_msg(
                events_at(events, n, tag, (uint64_t)step) == (step % EPOCH == 0 && step <= last),
                "%s at %d", tag, step);
            snprintf(tag, sizeof tag, "%s/test", tags[i]);
            ck_assert_msg(
                events_at(events, n, tag, (uint64_t)step) == (step == LAST && step <= last),
                "%s at %d", tag, step);
        }
}

START_TEST(an_interruption_does_not_show)
{
    struct jobspec straight = job("straight"), cut = job("cut");
    char board[256];
    snprintf(board, sizeof board, "%s/board", training_folder);
    struct outcome a = run_whole(&straight, 2), b;
    double f1 = reported_f1();
    cut.train.tensorboard = board;
    b = run(&cut, 2, 1, EPOCH + 2);
    ck_assert(b.drained && b.last > EPOCH && b.last < LAST);
    check_points(board, b.last);
    buf_auto struct buf straight_report = report_text();
    b = run(&cut, 2, 2, 0);
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE && b.last == LAST, "%s", b.message);
    ck_assert(b.loss[LAST] == a.loss[LAST] && b.validation == a.validation && b.f1 == a.f1);
    buf_auto struct buf cut_report = report_text();
    ck_assert_str_eq(buf_cstr(&cut_report), buf_cstr(&straight_report)); /* its epochs too */
    ck_assert(reported_f1() == f1);
    check_points(board, LAST);
    /* Complete is complete: exported again, with the report, and nothing is told twice. */
    b = run(&cut, 1, 3, 0);
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE && !b.first && !b.evaluations, "%s", b.message);
    ck_assert(reported_f1() == f1);
    check_points(board, LAST);
}
END_TEST

START_TEST(sentences_are_held_out_where_no_file_is_given)
{
    struct jobspec s = job("held");
    s.train.data.validation = s.train.data.test = NULL;
    s.train.evaluate_every_steps = 5;
    s.train.epochs = 1;
    struct outcome o = run(&s, 1, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert_int_eq(o.held_out, 4);
    ck_assert_int_eq(o.last, 15);
    ck_assert_int_eq(o.evaluations, 4);
    ck_assert(o.f1 >= 0 && o.f1 <= 1);
    json_auto struct json *report = golden_json(training_path("output/report.json"));
    ck_assert(!json_get(report, "test"));
    ck_assert_uint_eq(json_count(json_get(report, "epochs")), 1);
}
END_TEST

static void refused(const struct jobspec *s, enum exit_class class, const char *word)
{
    struct outcome o = run(s, 1, 9, 0);
    ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
    ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
}

START_TEST(what_is_refused)
{
    struct jobspec s = job("refused");
    s.model.source = training_path("model");
    refused(&s, EXIT_CLASS_USER, "spec.train.objective: TokenClassification needs");
    s = training_job("refused");
    s.model.source = MODEL;
    refused(&s, EXIT_CLASS_USER, "spec.train.objective: CausalLM needs");
    s = job("refused");
    s.train.batch_sequences = SENTENCES + 1;
    refused(&s, EXIT_CLASS_USER, "has only 64 sentences to train on");
    s = job("refused");
    s.train.data.validation = training_path("other.conll");
    golden_write(s.train.data.validation, "anna x ORG\n", 11);
    refused(&s, EXIT_CLASS_DATA, "other.conll: line 1: ");
}
END_TEST

/* Nothing learns it, but it can be found wanting. */
START_TEST(a_label_of_the_validation_file_alone_has_a_number)
{
    struct jobspec s = job("alone");
    s.train.epochs = 1;
    s.train.data.validation = training_path("other.conll");
    golden_write(s.train.data.validation, "anna x B-ORG\n", 13);
    struct outcome o = run(&s, 2, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    json_auto struct json *config = golden_json(training_path("output/config.json"));
    const struct json *id2label = json_get(config, "id2label");
    ck_assert_uint_eq(json_count(id2label), 6);
    ck_assert_str_eq(json_str(id2label, "1", ""), "B-ORG");
}
END_TEST

/* The same words with other labels are another training. */
START_TEST(labels_are_part_of_a_training)
{
    struct jobspec s = job("labels");
    s.train.epochs = 1;
    ck_assert_int_eq(run(&s, 1, 1, 0).exit[0], EXIT_CLASS_DONE);
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(train_path, 1 << 20, &text, &e));
    for (char *p = text.data; (p = strstr(p, "-PER"));)
        memcpy(p, "-ORG", 4);
    golden_write(train_path, text.data, text.len);
    s.train.data.validation = s.train.data.test = NULL;
    refused(&s, EXIT_CLASS_USER,
        "is of another training: labels of spec.train.data (train, validation, test): 5, content");
}
END_TEST

/* One that only a new test file has is no affair of the training file, and it is not blamed. */
START_TEST(a_label_of_a_new_test_file_is_named_so)
{
    struct jobspec s = job("new");
    s.train.epochs = 1;
    ck_assert_int_eq(run(&s, 1, 1, 0).exit[0], EXIT_CLASS_DONE);
    s.train.data.test = training_path("other.conll");
    golden_write(s.train.data.test, "anna x B-ORG\n", 13);
    refused(&s, EXIT_CLASS_USER, "labels of spec.train.data (train, validation, test): 5, content");
}
END_TEST

/* Parts of speech and their like: reported one by one. */
START_TEST(plain_labels_are_reported_themselves)
{
    struct jobspec s = job("plain");
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    const char *const files[] = {train_path, dev_path, test_path};
    for (int i = 0; i < 3; i++) {
        buf_reset(&text);
        ck_assert(!io_read_file(files[i], 1 << 20, &text, &e));
        for (char *p = text.data; (p = strstr(p, " x ")); p++)
            if (p[4] == '-')
                p[4] = '_';
        golden_write(files[i], text.data, text.len);
    }
    struct outcome o = run_whole(&s, 2);
    json_auto struct json *v = golden_json(training_path("output/report.json"));
    const struct json *classes = json_path(v, "test.classes");
    ck_assert_ptr_null(json_path(v, "test.entities"));
    ck_assert_ptr_nonnull(json_path(classes, "labels.B_PER"));
    ck_assert_double_gt(json_num(classes, "accuracy", 0), 0.7);
    ck_assert(json_is_null(json_get(classes, "rocAuc")));
    ck_assert(o.f1 > 0.3 && o.f1 <= 1);
    check_epochs(v);
}
END_TEST

/* -- whole texts -- */

enum { OF_JSONL, OF_CSV, OF_TSV };

/* Of words that say nothing, and one that decides. */
static void write_texts(const char *name, int count, uint32_t seed, int form)
{
    static const char *const words[] = {"the", "of", "and", "was", "in"};
    static const char *const deciding[2][3] = {{"anna", "ed", "lia"}, {"berlin", "ion", "as"}};
    static const char *const labels[] = {"ham", "spam"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    random_state = seed;
    if (form != OF_JSONL)
        buf_str(&b, form == OF_CSV ? "label,text\n" : "text\tlabel\n");
    for (int i = 0; i < count; i++) {
        char text[128];
        int n = 0;
        for (int k = 0; k < 2 + i % 4; k++)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s ",
                k == i / 2 % 2 ? pick(deciding[i % 2], 3) : pick(words, 5));
        if (form == OF_JSONL)
            buf_printf(&b, "{\"text\": \"%s\", \"label\": \"%s\"}\n", text, labels[i % 2]);
        else if (form == OF_CSV)
            buf_printf(&b, "%s,\"%s\"\n", labels[i % 2], text);
        else
            buf_printf(&b, "%s\t%s\n", text, labels[i % 2]);
    }
    golden_write(training_path(name), b.data, b.len);
}

static struct jobspec texts_job(const char *run)
{
    static char train[256], dev[256], test[256];
    struct jobspec s = job(run);
    write_texts("train.jsonl", SENTENCES, 1, OF_JSONL);
    write_texts("dev.csv", 13, 2, OF_CSV);
    write_texts("test.tsv", 11, 3, OF_TSV);
    snprintf(train, sizeof train, "%s", training_path("train.jsonl"));
    snprintf(dev, sizeof dev, "%s", training_path("dev.csv"));
    snprintf(test, sizeof test, "%s", training_path("test.tsv"));
    s.model.source = GOLDEN "tiny-bert-texts";
    s.train.objective = OBJECTIVE_SEQUENCE_CLASSIFICATION;
    s.train.data.format = FORMAT_AUTO;
    s.train.data.train = train;
    s.train.data.validation = dev;
    s.train.data.test = test;
    return s;
}

START_TEST(texts_are_learnt_alike_in_any_world)
{
    char board[256];
    static struct event events[20 * LAST];
    struct outcome o[2];
    snprintf(board, sizeof board, "%s/board", training_folder);
    for (int i = 0; i < 2; i++) {
        struct jobspec s = texts_job(i ? "texts2" : "texts1");
        s.train.tensorboard = i ? board : NULL;
        o[i] = run_whole(&s, i + 1);
        json_auto struct json *v = golden_json(training_path("output/report.json"));
        const struct json *test = json_get(v, "test"), *classes = json_get(test, "classes");
        ck_assert_str_eq(json_str(v, "objective", ""), "SequenceClassification");
        ck_assert_int_eq(json_int(test, "texts", 0), 11);
        ck_assert_int_eq(json_int(classes, "support", 0), 11);
        ck_assert_int_eq(json_int(json_path(classes, "labels.spam"), "support", 0), 5);
        ck_assert_double_gt(json_num(classes, "accuracy", 0), 0.8);
        ck_assert_double_gt(json_num(classes, "rocAuc", 0), 0.8);
        ck_assert_double_gt(o[i].f1, 0.8);
        check_epochs(v);
    }
    ck_assert(o[1].f1 == o[0].f1);
    for (int k = 1; k <= LAST; k++)
        ck_assert_double_lt(fabs(o[1].loss[k] / o[0].loss[k] - 1), 1e-3);
    int n = events_shown(board, events, 20 * LAST);
    ck_assert(events_at(events, n, "roc_auc/test", LAST));
    ck_assert(events_at(events, n, "f1/validation", EPOCH));
    ck_assert(!events_at(events, n, "f1_strict/test", LAST));
    struct weights *w;
    ck_assert_msg(!weights_open(training_path("output"), NULL, &w, &e), "%s", e.text);
    ck_assert(weights_config(w)->labels == 2 && weights_config(w)->pooled);
    ck_assert_str_eq(weights_labels(w)[1], "spam");
    weights_close(w);
}
END_TEST

/* -- pairs of texts -- */

/* A person and a place in each, and which of the texts has the person decides. */
static void write_pairs(const char *name, int count, uint32_t seed, bool csv)
{
    static const char *const people[] = {"anna", "ed", "lia"},
                             *const places[] = {"berlin", "ion", "as"};
    static const char *const labels[] = {"first", "second"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    random_state = seed;
    buf_str(&b, csv ? "text_pair,label,text\n" : "");
    for (int i = 0; i < count; i++) {
        const char *person = pick(people, 3), *place = pick(places, 3);
        const char *texts[] = {i % 2 ? place : person, i % 2 ? person : place};
        const char *before = i / 2 % 3 ? i / 2 % 3 == 1 ? "the " : "of the " : "";
        if (csv)
            buf_printf(&b, "%s,%s,%s%s\n", texts[1], labels[i % 2], before, texts[0]);
        else
            buf_printf(&b, "{\"text\": \"%s%s\", \"text_pair\": \"%s\", \"label\": \"%s\"}\n",
                before, texts[0], texts[1], labels[i % 2]);
    }
    golden_write(training_path(name), b.data, b.len);
}

static struct jobspec pairs_job(const char *run)
{
    struct jobspec s = texts_job(run);
    static char test[256];
    write_pairs("train.jsonl", SENTENCES, 1, false);
    write_pairs("dev.csv", 13, 2, true);
    write_pairs("test.jsonl", 11, 3, false);
    snprintf(test, sizeof test, "%s", training_path("test.jsonl"));
    s.train.data.test = test;
    return s;
}

START_TEST(pairs_are_learnt_alike_in_any_world)
{
    struct outcome o[2];
    for (int i = 0; i < 2; i++) {
        struct jobspec s = pairs_job(i ? "pairs2" : "pairs1");
        o[i] = run_whole(&s, i + 1);
        json_auto struct json *v = golden_json(training_path("output/report.json"));
        const struct json *classes = json_path(v, "test.classes");
        ck_assert_int_eq(json_int(json_path(classes, "labels.second"), "support", 0), 5);
        ck_assert_double_gt(json_num(classes, "accuracy", 0), 0.8);
        ck_assert_double_gt(o[i].f1, 0.8);
        check_epochs(v);
    }
    ck_assert(o[1].f1 == o[0].f1);
    for (int k = 1; k <= LAST; k++)
        ck_assert_double_lt(fabs(o[1].loss[k] / o[0].loss[k] - 1), 1e-3);
    struct jobspec s = pairs_job("mixed");
    write_texts("dev.csv", 13, 2, OF_CSV);
    refused(&s, EXIT_CLASS_DATA, "dev.csv: line 2: has no \"text_pair\", but texts before it");
}
END_TEST

/* The same tokens as one text each are something else to the model. */
START_TEST(types_reach_the_model)
{
    struct outcome o[2];
    for (int i = 0; i < 2; i++) {
        struct jobspec s = pairs_job(i ? "joined" : "typed");
        buf_auto struct buf text;
        buf_init(&text, 1 << 20);
        s.train.epochs = 1;
        s.train.data.validation = s.train.data.test = NULL;
        ck_assert(!io_read_file(s.train.data.train, 1 << 20, &text, &e));
        for (char *p = text.data; i && (p = strstr(p, "\", \"text_pair\": \""));)
            memcpy(p, "      [SEP]      ", 17);
        golden_write(s.train.data.train, text.data, text.len);
        o[i] = run(&s, 1, 1, 0);
        ck_assert_msg(o[i].exit[0] == EXIT_CLASS_DONE, "%s", o[i].message);
    }
    ck_assert_double_gt(fabs(o[1].loss[1] / o[0].loss[1] - 1), 1e-3);
    ck_assert_double_gt(fabs(o[1].first_validation / o[0].first_validation - 1), 1e-3);
}
END_TEST

/* Either kind of deciding word may stand in a text, or both, or none. */
static void write_sets(const char *name, int count, uint32_t seed)
{
    static const char *const people[] = {"anna", "ed", "lia"},
                             *const places[] = {"berlin", "ion", "as"};
    static const char *const sets[] = {
        "[]", "[\"person\"]", "[\"place\"]", "[\"place\", \"person\"]"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    random_state = seed;
    for (int i = 0; i < count; i++)
        buf_printf(&b, "{\"text\": \"the %s of %s\", \"labels\": %s}\n",
            i & 1 ? pick(people, 3) : "was", i & 2 ? pick(places, 3) : "in", sets[i & 3]);
    golden_write(training_path(name), b.data, b.len);
}

static struct jobspec sets_job(const char *run)
{
    struct jobspec s = texts_job(run);
    static char dev[256], test[256];
    write_sets("train.jsonl", SENTENCES, 1);
    write_sets("dev.jsonl", 16, 2);
    write_sets("test.jsonl", 12, 3);
    snprintf(dev, sizeof dev, "%s", training_path("dev.jsonl"));
    snprintf(test, sizeof test, "%s", training_path("test.jsonl"));
    s.train.data.validation = dev;
    s.train.data.test = test;
    return s;
}

START_TEST(several_labels_are_learnt_alike_in_any_world)
{
    struct outcome o[2];
    for (int i = 0; i < 2; i++) {
        struct jobspec s = sets_job(i ? "sets2" : "sets1");
        o[i] = run_whole(&s, i + 1);
        json_auto struct json *v = golden_json(training_path("output/report.json"));
        const struct json *classes = json_path(v, "test.classes");
        ck_assert_int_eq(json_int(json_get(v, "test"), "texts", 0), 12);
        ck_assert_int_eq(json_int(json_path(classes, "labels.place"), "support", 0), 6);
        ck_assert_ptr_nonnull(json_get(classes, "samples avg"));
        ck_assert_double_gt(json_num(classes, "rocAuc", 0), 0.75);
        ck_assert_double_gt(o[i].f1, 0.7); /* all of all: 0.67 */
        ck_assert_double_lt(o[i].validation, 0.7 * o[i].first_validation);
        check_epochs(v);
    }
    ck_assert(o[1].f1 == o[0].f1);
    for (int k = 1; k <= LAST; k++)
        ck_assert_double_lt(fabs(o[1].loss[k] / o[0].loss[k] - 1), 1e-3);
    json_auto struct json *config = golden_json(training_path("output/config.json"));
    ck_assert_str_eq(json_str(config, "problem_type", ""), "multi_label_classification");
    struct weights *w;
    ck_assert_msg(!weights_open(training_path("output"), NULL, &w, &e), "%s", e.text);
    ck_assert(weights_config(w)->labels == 2 && weights_config(w)->several);
    ck_assert_str_eq(weights_labels(w)[0], "person");
    weights_close(w);
}
END_TEST

START_TEST(sets_survive_an_interruption)
{
    struct jobspec straight = sets_job("straight"), cut = sets_job("cut");
    straight.train.epochs = cut.train.epochs = 2;
    struct outcome a = run(&straight, 2, 1, 0), b;
    ck_assert_msg(a.exit[0] == EXIT_CLASS_DONE, "%s", a.message);
    ck_assert(!rename(training_path("output/model.safetensors"), training_path("straight.file")));
    b = run(&cut, 2, 1, EPOCH + 2);
    ck_assert(b.drained && b.last < 2 * EPOCH);
    b = run(&cut, 2, 2, 0);
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
    ck_assert(b.validation == a.validation && b.f1 == a.f1);
    training_same_files(training_path("straight.file"), training_path("output/model.safetensors"));
    golden_write(cut.train.data.test, "{\"text\": \"a\", \"label\": \"place\"}\n", 32);
    refused(&cut, EXIT_CLASS_DATA, "test.jsonl: line 1: has \"label\", but texts before it");
}
END_TEST

static struct jobspec decoder_job(const char *run)
{
    struct jobspec s = texts_job(run);
    s.model.source = training_path("model");
    s.train.sequence_length = 48; /* bytes */
    s.train.optimizer.learning_rate = 5e-3;
    return s;
}

/* Labels at the last token, of a Llama; a classifier that is there is gone on with. */
START_TEST(decoders_learn_texts_alike_in_any_world)
{
    struct outcome o[2];
    struct weights *w;
    for (int i = 0; i < 2; i++) {
        struct jobspec s = decoder_job(i ? "decoder2" : "decoder1");
        o[i] = run_whole(&s, i + 1);
        ck_assert_double_lt(o[i].validation, 0.8 * o[i].first_validation);
    }
    for (int k = 1; k <= LAST; k++) /* rounding grows at this rate */
        ck_assert_double_lt(fabs(o[1].loss[k] / o[0].loss[k] - 1), k <= 10 ? 1e-4 : 2e-2);
    json_auto struct json *config = golden_json(training_path("output/config.json"));
    ck_assert_str_eq(json_string_value(json_first(json_get(config, "architectures"))),
        "LlamaForSequenceClassification");
    ck_assert(!rename(training_path("output"), training_path("classifier")));
    ck_assert_msg(!weights_open(training_path("classifier"), NULL, &w, &e), "%s", e.text);
    ck_assert(weights_config(w)->labels == 2 && weights_config(w)->last);
    ck_assert_str_eq(weights_labels(w)[1], "spam");
    weights_close(w);
    struct jobspec s = decoder_job("on");
    char from[256];
    snprintf(from, sizeof from, "%s", training_path("classifier"));
    s.model.source = from;
    training_lora(&s);
    struct outcome on = run(&s, 2, 1, 0);
    ck_assert_msg(on.exit[0] == EXIT_CLASS_DONE, "%s", on.message);
    ck_assert_double_lt(fabs(on.first_validation / o[1].validation - 1), 1e-4);
    struct safetensors *adapter;
    ck_assert(
        !safetensors_open(training_path("output/adapter/adapter_model.safetensors"), &adapter, &e));
    ck_assert_ptr_nonnull(safetensors_find(adapter, "base_model.model.score.weight"));
    safetensors_close(adapter);
    json_auto struct json *peft = golden_json(training_path("output/adapter/adapter_config.json"));
    ck_assert_str_eq(json_str(peft, "task_type", ""), "SEQ_CLS");
    ck_assert_str_eq(json_string_value(json_first(json_get(peft, "modules_to_save"))), "score");
    ck_assert_uint_eq(json_count(json_get(peft, "modules_to_save")), 1);
}
END_TEST

START_TEST(adapters_learn_texts_below_a_pooler_that_is_there)
{
    struct jobspec s = texts_job("lora");
    s.train.data.validation = s.train.data.test = NULL;
    training_lora(&s);
    struct outcome o = run(&s, 2, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert_double_lt(o.loss[o.last], 0.8 * o.loss[1]);
    s.model.source = MODEL; /* has none */
    refused(&s, EXIT_CLASS_USER, "spec.train.method: LoRA trains no pooler");
    s = texts_job("refused");
    s.model.source = GOLDEN "tiny-gpt2";
    refused(&s, EXIT_CLASS_USER, "spec.train.objective: SequenceClassification needs");
    s = texts_job("refused");
    golden_write(s.train.data.test, "text\tlabel\na\n", 13);
    refused(&s, EXIT_CLASS_DATA, "test.tsv: line 2: 1 column");
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"objective_labels", 120, setup, training_teardown},
        (const TTest *const[]){sentences_are_learnt_alike_in_any_world, the_folder_has_the_labels,
            a_fresh_classifier_learns_beside_adapters, an_interruption_does_not_show,
            sentences_are_held_out_where_no_file_is_given, what_is_refused,
            a_label_of_the_validation_file_alone_has_a_number, labels_are_part_of_a_training,
            a_label_of_a_new_test_file_is_named_so, plain_labels_are_reported_themselves,
            texts_are_learnt_alike_in_any_world, pairs_are_learnt_alike_in_any_world,
            types_reach_the_model, several_labels_are_learnt_alike_in_any_world,
            sets_survive_an_interruption, decoders_learn_texts_alike_in_any_world,
            adapters_learn_texts_below_a_pooler_that_is_there, NULL});
}
