/*
 * Goal: a training's losses depend on neither the world nor the interruptions. Method: real ranks,
 * one process each, on a tiny Llama with random weights and a byte tokenizer. Fifty steps at equal
 * global batch with 1, 2 and 4 ranks; a stop on the way and a resume, with the same world (bitwise
 * equal files and losses) and with another; every sample consumed exactly once a step, from the
 * ranks' own logs; every point of TensorBoard exactly once though rank 0 was killed; LoRA to the
 * exported folder; and inputs that must be refused.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "runtime/data/data.h"
#include "runtime/files/safetensors.h"
#include "runtime/family/weights.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/traces.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>
#include <unistd.h>

#define STEPS TRAINING_STEPS
#define BATCH TRAINING_BATCH

static struct err e;

static struct outcome run(const struct jobspec *spec, int size, int incarnation, int stop_after)
{
    return training_run(&(struct training){
        .spec = spec, .size = size, .incarnation = incarnation, .stop_after = stop_after});
}

/* -- what they consumed -- */

#define CORPUS_SAMPLES 562 /* 9,000 tokens and a few in samples of 16 */

/* Adds what a log says to seen[step][position in the batch]. */
static void read_log(const char *path, int64_t samples, int (*seen)[BATCH])
{
    FILE *f = fopen(path, "re");
    long long step, first, count, sample;

    ck_assert_msg(f != NULL, "%s", path);
    while (fscanf(f, "%lld %lld %lld", &step, &first, &count) == 3) {
        ck_assert(step >= 1 && step <= STEPS);
        for (int64_t i = first; i < first + count; i++) {
            ck_assert_int_eq(fscanf(f, "%lld", &sample), 1);
            ck_assert_int_eq(sample, data_sample_at(samples, 42, i));
            ck_assert_int_eq(i / BATCH, step - 1);
            seen[step][i % BATCH]++;
        }
    }
    ck_assert(feof(f));
    fclose(f);
}

static void check_accounts(const char *name, const int *worlds, int incarnations)
{
    int seen[STEPS + 1][BATCH] = {{0}};
    int64_t held = CORPUS_SAMPLES / 50;
    char path[256];

    for (int i = 0; i < incarnations; i++)
        for (int rank = 0; rank < worlds[i]; rank++) {
            snprintf(
                path, sizeof path, "%s/%s/samples/%d-%d.log", training_folder, name, i + 1, rank);
            read_log(path, CORPUS_SAMPLES - held, seen);
        }
    for (int s = 1; s <= STEPS; s++)
        for (int i = 0; i < BATCH; i++)
            ck_assert_msg(seen[s][i] == 1, "position %d of step %d: %d times", i, s, seen[s][i]);
}

/* -- the cases -- */

START_TEST(losses_do_not_depend_on_the_world)
{
    static const int worlds[] = {1, 2, 4};
    struct outcome o[3];
    char name[16];

    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "w%d", worlds[i]);
        struct jobspec s = training_job(name);

        o[i] = training_run_whole(&s, worlds[i]);
        check_accounts(name, &worlds[i], 1);
        ck_assert_int_eq(o[i].evaluations, 4); /* before, at 20 and 40, after */
        ck_assert_int_eq(o[i].saves, 1);
        ck_assert_double_lt(o[i].validation, 0.8 * o[i].first_validation);
    }
    ck_assert_double_lt(o[0].loss[STEPS], 0.7 * o[0].loss[1]);
    for (int i = 1; i < 3; i++)
        for (int k = 1; k <= STEPS; k++) {
            double far = fabs(o[i].loss[k] / o[0].loss[k] - 1);

            ck_assert_msg(far < 1e-5, "%d ranks, step %d: %.9g, one rank %.9g (%.2g)", worlds[i], k,
                o[i].loss[k], o[0].loss[k], far);
        }
}
END_TEST

/* Stops near step 25 (the request meets the running step or the next), then goes on with `second`
 * ranks. */
static struct outcome interrupted(const struct jobspec *s, int first, int second)
{
    struct outcome a = run(s, first, 1, 24), b;

    for (int i = 0; i < first; i++)
        ck_assert_msg(a.exit[i] == EXIT_CLASS_DRAINED, "class %d: %s", a.exit[i], a.message);
    ck_assert(a.drained && a.saves == 1 && a.last >= 25 && a.last < STEPS);
    b = run(s, second, 2, 0);
    for (int i = 0; i < second; i++)
        ck_assert_msg(b.exit[i] == EXIT_CLASS_DONE, "%s", b.message);
    ck_assert_int_eq(b.first, a.last + 1);
    ck_assert_int_eq(b.last, STEPS);
    for (int k = 1; k <= a.last; k++)
        b.loss[k] = a.loss[k];
    return b;
}

/* The newest line of each step, and of each look at what is held out. */
static void check_metrics(const char *name, const struct outcome *o)
{
    char path[64];
    buf_auto struct buf text;
    double loss[STEPS + 1], validation[STEPS + 1];
    snprintf(path, sizeof path, "%s/metrics.jsonl", name);
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path(path), 1 << 20, &text, &e));
    for (int i = 0; i <= STEPS; i++)
        loss[i] = validation[i] = NAN;
    for (char *left, *line = strtok_r(text.data, "\n", &left); line;
         line = strtok_r(NULL, "\n", &left)) {
        json_auto struct json *v = NULL;
        ck_assert_msg(!json_parse(line, strlen(line), &v, &e), "%s", line);
        int step = (int)json_int(v, "step", -1);
        ck_assert(step >= 0 && step <= STEPS);
        loss[step] = json_num(v, "loss", loss[step]);
        validation[step] = json_num(v, "validationLoss", validation[step]);
    }
    for (int i = 1; i <= STEPS; i++)
        ck_assert_msg((float)loss[i] == (float)o->loss[i], "step %d: %.9g", i, loss[i]);
    for (int i = 0; i <= STEPS; i++)
        ck_assert_int_eq(!isnan(validation[i]), i % 20 == 0 || i == STEPS);
}

START_TEST(resume_is_bitwise_equal)
{
    struct jobspec straight = training_job("straight"), cut = training_job("cut");
    struct outcome a = training_run_whole(&straight, 2), b;

    ck_assert(
        !io_rename(training_path("output/model.safetensors"), training_path("straight.out"), &e));
    b = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            a.loss[k] == b.loss[k], "step %d: %.17g, resumed %.17g", k, a.loss[k], b.loss[k]);
    training_same_checkpoints("straight", "cut");
    training_same_files(training_path("straight.out"), training_path("output/model.safetensors"));
    check_accounts("cut", (const int[]){2, 2}, 2);
    check_metrics("straight", &a);
    check_metrics("cut", &b);
}
END_TEST

START_TEST(resume_with_another_world)
{
    struct jobspec straight = training_job("straight"), cut = training_job("cut");
    struct outcome a = training_run_whole(&straight, 1), b = interrupted(&cut, 2, 3);

    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(fabs(a.loss[k] / b.loss[k] - 1) < 1e-5, "step %d: %.9g, resumed %.9g", k,
            a.loss[k], b.loss[k]);
    check_accounts("cut", (const int[]){2, 3}, 2);
}
END_TEST

START_TEST(recomputation_is_the_same_training)
{
    struct jobspec kept = training_job("kept"), again = training_job("again");
    struct outcome a = training_run_whole(&kept, 2), b;

    again.train.recompute = RECOMPUTE_FULL;
    b = training_run_whole(&again, 2);
    for (int k = 1; k <= STEPS; k++)
        ck_assert(a.loss[k] == b.loss[k]);
    training_same_checkpoints("kept", "again");
    ck_assert_int_lt(b.memory_bytes, a.memory_bytes);
}
END_TEST

/* A mixture of experts from a configuration: neither the order of rows nor the balance loss asks
   how the batch is spread; and the folder at the end is one. */
START_TEST(rates_follow_the_batch)
{
    static const char *const runs[][2] = {{"root", "root-twice"}, {"line", "line-twice"}};
    for (int linear = 0; linear < 2; linear++) {
        struct jobspec scaled = training_job(runs[linear][0]),
                       twice = training_job(runs[linear][1]);
        scaled.train.optimizer.lr_scaling = linear ? LR_SCALING_LINEAR : LR_SCALING_SQUARE_ROOT;
        scaled.train.optimizer.lr_batch_sequences = TRAINING_BATCH / (linear ? 2 : 4);
        twice.train.optimizer.learning_rate *= 2;
        struct outcome a = training_run_whole(&scaled, 1), b = training_run_whole(&twice, 1);
        for (int k = 1; k <= STEPS; k++)
            ck_assert(a.loss[k] == b.loss[k]);
        training_same_checkpoints(runs[linear][0], runs[linear][1]);
    }
}
END_TEST

static struct jobspec mixture_job(const char *run)
{
    struct jobspec s = training_job(run);

    s.model.init = INIT_RANDOM;
    s.model.config = training_mixture();
    return s;
}

/* The busiest of six experts, of which each token goes to two: of all ranks' tokens. */
static void check_loads(const char *board, const char *other)
{
    static struct event events[2][8 * STEPS];
    int n = events_shown(board, events[0], 8 * STEPS), m, found = 0;
    m = events_shown(other, events[1], 8 * STEPS);
    ck_assert_int_eq(n, m);
    for (int i = 0; i < n; i++) {
        if (strcmp(events[0][i].tag, "expert_load/busiest"))
            continue;
        ck_assert_str_eq(events[1][i].tag, events[0][i].tag);
        ck_assert(events[0][i].value >= 1 / 6.0f && events[0][i].value <= 0.5f);
        ck_assert_float_eq_tol(events[0][i].value, events[1][i].value, 1e-3f);
        found++;
    }
    ck_assert_int_eq(found, STEPS);
}

START_TEST(a_mixture_of_experts_is_trained)
{
    struct jobspec one = mixture_job("one"), straight = mixture_job("straight"),
                   cut = mixture_job("cut");
    char board[256], other[256];
    snprintf(board, sizeof board, "%s", training_path("board"));
    snprintf(other, sizeof other, "%s", training_path("other"));
    one.train.tensorboard = board;
    straight.train.tensorboard = other;
    struct outcome o = training_run_whole(&one, 1), a = training_run_whole(&straight, 2), b;
    struct weights *w;
    check_loads(board, other);

    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(fabs(a.loss[k] / o.loss[k] - 1) < 1e-5, "step %d: %.9g, one rank %.9g", k,
            a.loss[k], o.loss[k]);
    ck_assert_double_lt(a.validation, 0.8 * a.first_validation);
    ck_assert(
        !io_rename(training_path("output/model.safetensors"), training_path("straight.out"), &e));
    b = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            a.loss[k] == b.loss[k], "step %d: %.17g, resumed %.17g", k, a.loss[k], b.loss[k]);
    training_same_files(training_path("straight.out"), training_path("output/model.safetensors"));
    ck_assert_msg(!weights_open(training_path("output"), NULL, &w, &e), "%s", e.text);
    ck_assert_int_eq(weights_config(w)->experts, 6);
    weights_close(w);
}
END_TEST

/* A run that is complete but for its export (or whose export is wanted again) only exports. */
START_TEST(complete_is_complete)
{
    struct jobspec s = training_job("again");
    struct outcome o;

    training_run_whole(&s, 1);
    o = run(&s, 1, 2, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_DONE);
    ck_assert(o.done && !o.first && !o.saves);
}
END_TEST

/* A trial writes nothing, but must find the place free, or its writer's; that one goes on from the
   trial's checkpoint, and an output of its own is no obstacle to either. */
START_TEST(what_another_job_exports_is_left_to_it)
{
    struct jobspec trial = training_job("left"), writer = training_job("left");
    trial.train.exported_by = "w";
    writer.name = "w";
    training_run_whole(&trial, 2);
    ck_assert(!io_exists(training_path("output")));
    for (int i = 0; i < 2; i++) {
        struct outcome o = run(&writer, 1, 2 + i, 0);
        ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE && !o.first, "%s", o.message);
        ck_assert(io_exists(training_path("output/model.safetensors")));
    }
    struct outcome o = run(&trial, 1, 4, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_DONE);
    golden_write(training_path("output/notes.txt"), "mine", 4);
    o = run(&trial, 1, 5, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_ptr_nonnull(strstr(o.message, "notes.txt, which llmjob did not write"));
}
END_TEST

static struct jobspec lora_job(const char *name)
{
    struct jobspec s = training_job(name);

    training_lora(&s);
    s.train.optimizer.learning_rate = 1e-2;
    return s;
}

START_TEST(lora_in_bf16_ends_in_a_folder)
{
    struct jobspec s = lora_job("lora");
    struct safetensors *f;
    struct weights *w;
    struct outcome o;

    s.precision = PRECISION_BF16;
    s.train.tensorboard = training_path("board");
    o = training_run_whole(&s, 2);
    ck_assert_double_lt(o.loss[STEPS], 0.9 * o.loss[1]);
    ck_assert_msg(!weights_open(s.train.output, NULL, &w, &e), "%s", e.text);
    ck_assert_ptr_nonnull(weights_find(w, "model.layers.1.mlp.down_proj.weight"));
    ck_assert_ptr_null(weights_find(w, "lm_head.weight"));
    weights_close(w);
    ck_assert_msg(
        !safetensors_open(training_path("output/adapter/adapter_model.safetensors"), &f, &e), "%s",
        e.text);
    ck_assert_int_eq(safetensors_count(f), 8);
    ck_assert_ptr_nonnull(
        safetensors_find(f, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"));
    safetensors_close(f);
    ck_assert(io_exists(training_path("output/adapter/adapter_config.json")));
    ck_assert(io_exists(training_path("board")));
}
END_TEST

/* What is left out is drawn by the sample's place: neither the world nor an interruption shows. */
START_TEST(dropout_follows_the_samples)
{
    struct jobspec one = lora_job("one"), two = lora_job("two"), cut = lora_job("cut");
    struct jobspec none = lora_job("none");
    struct outcome a, b, c, d;

    one.train.lora.dropout = two.train.lora.dropout = cut.train.lora.dropout = 0.2;
    one.train.dropout = two.train.dropout = cut.train.dropout = 0.1;
    one.train.attention_dropout = two.train.attention_dropout = 0.15;
    cut.train.attention_dropout = 0.15;
    a = training_run_whole(&one, 1);
    b = training_run_whole(&two, 2);
    c = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++) {
        ck_assert_msg(fabs(b.loss[k] / a.loss[k] - 1) < 1e-5,
            "two ranks, step %d: %.9g, one rank %.9g", k, b.loss[k], a.loss[k]);
        ck_assert_msg(
            b.loss[k] == c.loss[k], "step %d: %.17g, resumed %.17g", k, b.loss[k], c.loss[k]);
    }
    d = training_run_whole(&none, 1);
    ck_assert(d.loss[STEPS] != a.loss[STEPS]);
    none.train.dropout = 0.1;
    d = run(&none, 1, 2, 0);
    ck_assert_int_eq(d.exit[0], EXIT_CLASS_USER); /* that is another training */
}
END_TEST

/* Lengths of rows are trained, saved and gone on with beside the factors. */
START_TEST(dora_goes_on_and_ends_in_an_adapter)
{
    struct jobspec straight = lora_job("straight"), cut = lora_job("cut");
    struct safetensors *f;
    straight.train.lora.dora = cut.train.lora.dora = true;
    struct outcome a = training_run_whole(&straight, 1), b = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(fabs(a.loss[k] / b.loss[k] - 1) < 1e-5, "step %d: %.9g, resumed %.9g", k,
            a.loss[k], b.loss[k]);
    ck_assert_double_lt(a.loss[STEPS], 0.9 * a.loss[1]);
    ck_assert_msg(
        !safetensors_open(training_path("output/adapter/adapter_model.safetensors"), &f, &e), "%s",
        e.text);
    ck_assert_int_eq(safetensors_count(f), 12);
    const struct safetensors_tensor *m =
        safetensors_find(f, "base_model.model.model.layers.1.mlp.down_proj.lora_magnitude_vector");
    ck_assert(m && m->dims == 1 && m->shape[0] == 64);
    safetensors_close(f);
    json_auto struct json *config =
        golden_json(training_path("output/adapter/adapter_config.json"));
    ck_assert(json_bool(config, "use_dora", false));
}
END_TEST

/* Beside a quantized base neither the world nor an interruption shows, and it is another training
   than beside a whole one. */
START_TEST(a_quantized_base_is_trained_beside)
{
    struct jobspec one = lora_job("one"), two = lora_job("two"), cut = lora_job("cut");
    struct safetensors *f;
    one.train.lora.quantized_base = two.train.lora.quantized_base = BASE_Q8_0;
    cut.train.lora.quantized_base = BASE_Q8_0;
    struct outcome a = training_run_whole(&one, 1), b = training_run_whole(&two, 2);
    struct outcome c = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++) {
        ck_assert_msg(fabs(b.loss[k] / a.loss[k] - 1) < 1e-5,
            "two ranks, step %d: %.9g, one rank %.9g", k, b.loss[k], a.loss[k]);
        ck_assert_msg(
            b.loss[k] == c.loss[k], "step %d: %.17g, resumed %.17g", k, b.loss[k], c.loss[k]);
    }
    ck_assert_double_lt(a.loss[STEPS], 0.9 * a.loss[1]);
    ck_assert_msg(
        !safetensors_open(training_path("output/adapter/adapter_model.safetensors"), &f, &e), "%s",
        e.text);
    ck_assert_int_eq(safetensors_count(f), 8);
    safetensors_close(f);
    one.train.lora.quantized_base = BASE_NONE;
    ck_assert_int_eq(run(&one, 1, 2, 0).exit[0], EXIT_CLASS_USER);
}
END_TEST

/* Ranks are chosen alike by all, also by those who go on; the adapter has what stayed. */
START_TEST(adalora_goes_on_and_ends_in_an_adapter)
{
    struct jobspec straight = lora_job("straight"), cut = lora_job("cut");
    struct safetensors *f;
    int64_t kept = 0;
    straight.train.lora.rank = cut.train.lora.rank = 2;
    straight.train.lora.adalora.initial_rank = cut.train.lora.adalora.initial_rank = 4;
    straight.train.lora.adalora.interval = cut.train.lora.adalora.interval = 1;
    straight.train.lora.adalora.beta1 = cut.train.lora.adalora.beta1 = 0.85;
    straight.train.lora.adalora.beta2 = cut.train.lora.adalora.beta2 = 0.85;
    straight.train.lora.adalora.orthogonal_weight = cut.train.lora.adalora.orthogonal_weight = 0.5;
    straight.train.lora.adalora.final_steps = cut.train.lora.adalora.final_steps = 2;
    struct outcome a = training_run_whole(&straight, 2), b = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            a.loss[k] == b.loss[k], "step %d: %.17g, resumed %.17g", k, a.loss[k], b.loss[k]);
    ck_assert_msg(
        !safetensors_open(training_path("output/adapter/adapter_model.safetensors"), &f, &e), "%s",
        e.text);
    for (int i = 0; i < safetensors_count(f); i++)
        if (strstr(safetensors_at(f, i)->name, ".lora_E"))
            kept += safetensors_at(f, i)->shape[0];
    ck_assert_int_eq(safetensors_count(f), 4 * 3);
    ck_assert_int_eq(kept, 4 * 2);
    safetensors_close(f);
    json_auto struct json *config =
        golden_json(training_path("output/adapter/adapter_config.json"));
    ck_assert_str_eq(json_str(config, "peft_type", ""), "ADALORA");
    ck_assert_int_eq(json_int(config, "total_step", 0), STEPS);
    ck_assert_int_eq((int)json_count(json_get(config, "rank_pattern")), 4);
}
END_TEST

/* Every tag once at each step from 1 to last, and a validation loss where one is due. */
static void check_points(const char *board, int last)
{
    static const char *const tags[] = {
        "loss/train", "learning_rate", "gradient_norm", "tokens_per_second"};
    static struct event events[8 * STEPS];
    int n = events_shown(board, events, 8 * STEPS);

    for (int i = 0; i < 4; i++)
        for (int step = 1; step <= last; step++)
            ck_assert_msg(events_at(events, n, tags[i], (uint64_t)step) == 1,
                "%s at step %d: %d times", tags[i], step,
                events_at(events, n, tags[i], (uint64_t)step));
    /* a loss of validation follows its step's other points */
    for (int step = 0; step < last || step == STEPS; step++)
        ck_assert_int_eq(events_at(events, n, "loss/validation", (uint64_t)step),
            step % 20 == 0 || step == STEPS);
}

/* Rank 0 is killed between two checkpoints: all that it had told is in its files, and when the
 * training has gone on from the last checkpoint, nothing is there twice or missing. */
START_TEST(points_outlive_a_killed_rank)
{
    struct jobspec s = training_job("killed");
    struct outcome a, b;
    char board[256];

    snprintf(board, sizeof board, "%s/board", training_folder);
    s.train.tensorboard = board;
    s.checkpoint.every_steps = 10;
    a = training_run(&(struct training){.spec = &s, .size = 1, .incarnation = 1, .kill_after = 25});
    ck_assert(a.last >= 25 && a.last < STEPS && !a.done);
    check_points(board, a.last);
    b = run(&s, 1, 2, 0);
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
    ck_assert(b.first > 10 && b.first <= a.last + 1 && b.first % 10 == 1);
    check_points(board, STEPS);
    for (int k = 1; k < b.first; k++)
        b.loss[k] = a.loss[k];
    check_metrics("killed", &b);
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
    struct jobspec s = training_job("refused");

    s.model.source = "/nowhere/model.gguf";
    refused(&s, EXIT_CLASS_DATA, "/nowhere/model.gguf");
    s = training_job("refused");
    s.train.data.train = "/nowhere/corpus.txt";
    refused(&s, EXIT_CLASS_DATA, "/nowhere/corpus.txt");
    s = training_job("refused");
    s.train.sequence_length = 256;
    refused(&s, EXIT_CLASS_USER, "sequenceLength");
    s = training_job("refused");
    s.train.method = METHOD_LORA;
    s.train.lora.rank = 4;
    s.train.lora.alpha = 4;
    s.train.lora.target_count = 1;
    s.train.lora.targets[0] = "query";
    refused(&s, EXIT_CLASS_USER, "query");
    s = training_job("refused");
    s.train.optimizer.learning_rate = 1e30;
    s.train.optimizer.clip_norm = 0;
    refused(&s, EXIT_CLASS_USER, "learningRate");
    s = training_job("refused");
    s.train.steps = 0;
    s.train.epochs = 1;
    s.train.optimizer.schedule = SCHEDULE_WSD;
    s.train.optimizer.decay_steps = 1000;
    refused(&s, EXIT_CLASS_USER,
        "decaySteps: 1000, together with warmupSteps 1005, but the training has");
    s = training_job("other");
    training_run_whole(&s, 1);
    s.train.seed = 43;
    refused(&s, EXIT_CLASS_USER, "another training");
}
END_TEST

static struct jobspec adapter_job(const char *name)
{
    struct jobspec s = training_job(name);
    s.train.method = METHOD_ADAPTER;
    s.train.adapter.kind = ADAPTER_HOULSBY;
    s.train.adapter.reduction_factor = 8;
    s.train.adapter.activation = ADAPTER_RELU;
    s.train.optimizer.learning_rate = 1e-2;
    return s;
}

/* Neither the world nor an interruption shows; no model stands in the output, but the adapter and
   the name of the model that it is for. */
START_TEST(adapters_behind_sublayers_go_on)
{
    struct jobspec straight = adapter_job("straight"), cut = adapter_job("cut");
    struct outcome a = training_run_whole(&straight, 2), b;
    ck_assert_int_eq(
        rename(training_path("output/adapter/adapter.safetensors"), training_path("straight.out")),
        0);
    golden_remove(training_path("output"));
    b = interrupted(&cut, 2, 2);
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            a.loss[k] == b.loss[k], "step %d: %.17g, resumed %.17g", k, a.loss[k], b.loss[k]);
    ck_assert_double_lt(a.loss[STEPS], 0.9 * a.loss[1]);
    training_same_files(
        training_path("straight.out"), training_path("output/adapter/adapter.safetensors"));
    json_auto struct json *config =
        golden_json(training_path("output/adapter/adapter_config.json"));
    ck_assert_str_eq(json_str(config, "model_name", ""), straight.model.source);
    ck_assert(!io_exists(training_path("output/config.json")));
    cut.train.adapter.kind = ADAPTER_PFEIFFER;
    refused(&cut, EXIT_CLASS_USER, "spec.train.adapter.kind");
    cut.model.source = training_path("output");
    cut.train.output = training_path("elsewhere");
    refused(&cut, EXIT_CLASS_DATA, "holds an adapter alone, without the model");
}
END_TEST

/* Kind: files of the user that a job replaces. Found before the first step, not after the last. */
START_TEST(what_is_in_the_way_of_the_output_stays)
{
    struct jobspec s = training_job("in-the-way");
    struct outcome o;

    ck_assert(!io_mkdirs(training_path("output"), 0755, &e));
    ck_assert(!io_write_file(training_path("output/notes.md"), "mine", 4, 0644, &e));
    o = run(&s, 1, 1, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_ptr_nonnull(strstr(o.message, "holds notes.md"));
    ck_assert_int_eq(o.last, 0);
    ck_assert(io_exists(training_path("output/notes.md")));
    ck_assert(!io_exists(training_path("output/config.json")));
    ck_assert_int_eq(unlink(training_path("output/notes.md")), 0);
    training_run_whole(&s, 1);
    ck_assert(io_exists(training_path("output/config.json")));
}
END_TEST

/* A corpus of n sequences of TRAINING_T tokens. */
static void shorten(struct jobspec *s, int n)
{
    buf_auto struct buf text;

    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path("corpus.txt"), 1 << 20, &text, &e));
    s->train.data.train = training_path("small.txt");
    golden_write(s->train.data.train, text.data, (size_t)(n * TRAINING_T + 1));
    s->train.steps = 0;
    s->train.epochs = 1;
}

/* What a small file trains on is what its user thinks it is, or he is told the figures. */
START_TEST(a_small_file_is_trained_on_or_refused)
{
    struct jobspec s = training_job("small");
    struct outcome o;

    shorten(&s, 5);
    refused(&s, EXIT_CLASS_USER,
        "spec.train.batchSequences: 8, but spec.train.data.train has only 5 sequences");
    s.train.steps = 3; /* asked for */
    s.train.epochs = 0;
    s.train.optimizer.warmup_steps = 0;
    o = training_run_whole(&s, 1);
    ck_assert_int_eq(o.evaluations, 0); /* nothing is kept from so few */
    s = training_job("medium");
    s.train.optimizer.warmup_steps = 0;
    shorten(&s, 16); /* one is held out, and 15 are no two batches */
    o = run(&s, 1, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert(o.last == 1 && o.evaluations == 2 && o.held_out == 1);
    s = training_job("own");
    s.train.optimizer.warmup_steps = 0;
    shorten(&s, 16);
    s.train.data.validation = training_path("corpus.txt");
    o = run(&s, 1, 1, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert(o.last == 2 && o.evaluations == 2 && o.held_out == 0);
}
END_TEST

#define WEIGHTS 90432 /* of the Llama of training_setup */

/* Two ranks, each a pod, whose gradients cross while backward goes on. */
START_TEST(a_trace_tells_where_time_goes)
{
    static struct traces t;
    struct jobspec s = training_job("traced");
    s.train.steps = 6;
    s.checkpoint.every_steps = 4;
    s.checkpoint.asynchronous = false;
    s.train.trace.from_step = 3;
    s.train.trace.steps = 2;
    struct outcome o =
        training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .pod = 1});
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    for (int rank = 0; rank < 2; rank++) {
        char name[40];
        snprintf(name, sizeof name, "traced/trace-%d.json", rank);
        traces_read(training_path(name), &t);
        ck_assert_int_eq(t.rank, rank);
        ck_assert_int_eq(t.lost, 0);
        ck_assert_int_eq(traces_count(&t, "step", NULL, 0), 2);
        ck_assert_int_ge(traces_count(&t, "forward", "step", 0), 2);
        ck_assert_int_eq(
            traces_count(&t, "backward", "step", 0), traces_count(&t, "forward", "step", 0));
        ck_assert_int_ge(traces_count(&t, "layer", "backward", 0), 4);
        ck_assert_int_eq(traces_count(&t, "optimizer", "step", 0), 2);
        ck_assert_int_eq(traces_count(&t, "checkpoint", "step", 0), 1); /* behind step 4 */
        ck_assert_int_ge(traces_count(&t, "barrier", "checkpoint", 0), 1);
        ck_assert_int_eq(traces_count(&t, "wait", "step", 0), 2);
        ck_assert_int_ge(traces_count(&t, "allreduce", "step", 0), 2);   /* losses */
        ck_assert_int_ge(traces_count(&t, "allreduce", NULL, 1), 2 * 2); /* lots */
        int64_t bytes = 0;
        for (int i = 0; i < t.count; i++)
            bytes += t.span[i].line == 1 ? t.span[i].number : 0;
        ck_assert_int_eq(bytes, 2 * 4 * WEIGHTS);
    }
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"train", 120, training_setup, training_teardown},
        (const TTest *const[]){losses_do_not_depend_on_the_world, resume_is_bitwise_equal,
            resume_with_another_world, recomputation_is_the_same_training, rates_follow_the_batch,
            a_mixture_of_experts_is_trained, complete_is_complete,
            what_another_job_exports_is_left_to_it, lora_in_bf16_ends_in_a_folder,
            dropout_follows_the_samples, dora_goes_on_and_ends_in_an_adapter,
            adalora_goes_on_and_ends_in_an_adapter, adapters_behind_sublayers_go_on,
            a_quantized_base_is_trained_beside, points_outlive_a_killed_rank, what_is_refused,
            what_is_in_the_way_of_the_output_stays, a_small_file_is_trained_on_or_refused,
            a_trace_tells_where_time_goes, NULL});
}
