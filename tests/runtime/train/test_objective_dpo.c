/*
 * Goal: a model learns which of two answers is better, and what it learns depends on neither the
 * world nor the interruptions. Method: real ranks, one process each, on a tiny Llama and pairs made
 * here: twenty steps with 1 and 3 ranks, whole and with adapters; a stop and a resume, with the
 * file of the reference as it was, damaged, and absent; evaluation by a file of its own; points of
 * TensorBoard; and jobs that must be refused. That losses are TRL's is what test_preference shows.
 * needs: sample
 */
#include "base/buf.h"
#include "base/io.h"
#include "runtime/files/hash.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>
#include <unistd.h>

#define STEPS 20
#define PAIRS 120

#define HEADER 40 /* bytes of the reference's file before its numbers, a digest of these last */

static struct err e;
static char pairs_path[256], other_path[256];

/* The better answer goes on with the words of the prompt, the worse one does not. */
static void write_pairs(const char *path, int count, uint32_t x)
{
    static const char *const words[] = {"the", "sun", "is", "up"};
    static const char *const others[] = {"qz", "xk", "vj", "w"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < count; i++) {
        uint32_t w[4];
        for (int k = 0; k < 4; k++) {
            x = x * 1664525u + 1013904223u;
            w[k] = x >> 30;
        }
        buf_printf(&b, "{\"prompt\":\"%s %s\",\"chosen\":\" %s\",\"rejected\":\" %s%s\"}\n",
            words[w[0]], words[w[1]], words[w[2]], others[w[3]], w[0] ? "" : others[w[1]]);
    }
    golden_write(path, b.data, b.len);
}

static void setup(void)
{
    training_setup();
    snprintf(pairs_path, sizeof pairs_path, "%s", training_path("pairs.jsonl"));
    snprintf(other_path, sizeof other_path, "%s", training_path("others.jsonl"));
    write_pairs(pairs_path, PAIRS, 1);
    write_pairs(other_path, 30, 2);
}

static struct jobspec job(const char *run)
{
    struct jobspec s = training_job(run);
    s.train.objective = OBJECTIVE_DPO;
    s.train.dpo.beta = 0.1;
    s.train.data.train = pairs_path;
    s.train.data.format = FORMAT_AUTO;
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 8;
    s.train.optimizer.learning_rate = 2e-3;
    return s;
}

static struct jobspec lora_job(const char *run)
{
    struct jobspec s = job(run);
    training_lora(&s);
    s.train.optimizer.learning_rate = 1e-2;
    return s;
}

static struct outcome run(const struct jobspec *s, int size, int incarnation, int stop_after)
{
    return training_run(&(struct training){
        .spec = s, .size = size, .incarnation = incarnation, .stop_after = stop_after});
}

static void same_losses(const struct outcome *a, const struct outcome *b, double tolerance)
{
    for (int k = 1; k <= STEPS; k++) {
        double far = fabs(a->loss[k] / b->loss[k] - 1);
        ck_assert_msg(far <= tolerance, "step %d: %.9g, not %.9g", k, b->loss[k], a->loss[k]);
    }
}

START_TEST(losses_do_not_depend_on_the_world)
{
    struct outcome first = {.first = 0};
    for (int lora = 0; lora < 2; lora++)
        for (int world = 1; world <= 3; world += 2) {
            char name[16];
            snprintf(name, sizeof name, "w%d%d", lora, world);
            struct jobspec s = lora ? lora_job(name) : job(name);
            if (lora)
                s.train.lora.dropout = 0.2;
            struct outcome o = training_run_whole(&s, world);
            if (world == 1) {
                first = o;
                ck_assert(lora || fabs(o.loss[1] - log(2)) < 1e-6);
                ck_assert_double_eq_tol(o.first_validation, log(2), 1e-6);
                ck_assert_double_lt(o.loss[STEPS], 0.7 * o.loss[1]);
                ck_assert_double_lt(o.validation, 0.7 * o.first_validation);
                ck_assert_int_eq(o.held_out, 4);
            }
            same_losses(&first, &o, 2e-5);
        }
}
END_TEST

/* The request meets the running step or the next. */
static struct outcome interrupted(const struct jobspec *s, void (*between_fn)(const char *path))
{
    char path[256];
    struct outcome a = run(s, 2, 1, 9);
    ck_assert(a.drained && a.last >= 10 && a.last < STEPS);
    snprintf(path, sizeof path, "%s/reference.bin", s->checkpoint.path);
    ck_assert(io_exists(path));
    if (between_fn)
        between_fn(path);
    struct outcome b = run(s, 2, 2, 0);
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
    ck_assert_int_eq(b.first, a.last + 1);
    for (int k = 1; k <= a.last; k++)
        b.loss[k] = a.loss[k];
    return b;
}

static void damage(const char *path)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    ck_assert(!io_read_file(path, 1 << 20, &b, &e));
    b.data[b.len - 9] ^= 1;
    ck_assert(!io_write_file(path, b.data, b.len, 0644, &e));
}

/* Other numbers, of which the file says that they are what they should be. */
static void forge(const char *path)
{
    buf_auto struct buf b;
    uint64_t digest;
    buf_init(&b, 1 << 20);
    ck_assert(!io_read_file(path, 1 << 20, &b, &e));
    for (size_t at = HEADER; at < b.len; at += 8) {
        float chosen;
        memcpy(&chosen, b.data + at, 4);
        chosen -= 5;
        memcpy(b.data + at, &chosen, 4);
    }
    digest = hash_xxh3(b.data + HEADER, b.len - HEADER);
    memcpy(b.data + HEADER - 8, &digest, 8);
    ck_assert(!io_write_file(path, b.data, b.len, 0644, &e));
}

static void lose(const char *path)
{
    ck_assert_int_eq(unlink(path), 0);
}

START_TEST(resume_is_bitwise_equal)
{
    static void (*const between[])(const char *path) = {NULL, damage, lose};
    static const char *const names[] = {"kept", "damaged", "deleted"};
    struct jobspec straight = job("straight");
    struct outcome a = training_run_whole(&straight, 2);
    for (int i = 0; i < 3; i++) {
        struct jobspec cut = job(names[i]);
        cut.checkpoint.every_steps = 3; /* behind it */
        struct outcome b = interrupted(&cut, between[i]);
        same_losses(&a, &b, 0);
        training_same_checkpoints("straight", names[i]);
        training_same_files(
            training_path("straight/reference.bin"), training_path("kept/reference.bin"));
    }
}
END_TEST

START_TEST(what_stands_in_the_file_is_gone_by)
{
    struct jobspec straight = job("straight"), cut = job("forged");
    struct outcome a = training_run_whole(&straight, 2), b = interrupted(&cut, forge);
    ck_assert_double_lt(b.loss[STEPS], 0.9 * a.loss[STEPS]);
}
END_TEST

START_TEST(adapters_in_bf16_with_a_file_to_validate)
{
    static const char *const tags[] = {"rewards/chosen", "rewards/rejected", "rewards/accuracies",
        "rewards/margins", "logps/chosen", "logps/rejected", "loss"};
    static struct event events[32 * STEPS];
    struct jobspec s = lora_job("lora");
    s.precision = PRECISION_BF16;
    s.train.data.validation = other_path;
    s.train.tensorboard = training_path("board");
    s.train.dpo.loss = DPO_IPO;
    struct outcome o = training_run_whole(&s, 2);
    ck_assert_int_eq(o.held_out, 0);
    ck_assert_double_lt(o.validation, 0.9 * o.first_validation);
    ck_assert(io_exists(training_path("output/adapter/adapter_model.safetensors")));
    int n = events_shown(training_path("board"), events, 32 * STEPS);
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "%s/train", tags[i]);
        for (int step = 1; step <= STEPS; step++)
            ck_assert_int_eq(events_at(events, n, tag, (uint64_t)step), 1);
        snprintf(tag, sizeof tag, "%s/validation", tags[i]);
        for (int step = 0; step <= STEPS; step++)
            ck_assert_int_eq(
                events_at(events, n, tag, (uint64_t)step), step % 8 == 0 || step == STEPS);
    }
}
END_TEST

START_TEST(gradients_in_fp16_are_near)
{
    training_near_in_fp16(job);
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
    s.train.data.train = training_path("corpus.txt");
    refused(&s, EXIT_CLASS_USER, "DPO learns from pairs of answers");
    s = job("refused");
    s.model.source = GOLDEN "tiny-bert";
    refused(&s, EXIT_CLASS_USER, "spec.train.objective: DPO needs a model that goes from left");
    s = job("refused");
    write_pairs(pairs_path, 6, 1);
    s.train.steps = 0;
    s.train.epochs = 1;
    refused(&s, EXIT_CLASS_USER, "has only 6 pairs to train on");
    write_pairs(pairs_path, PAIRS, 1);
    s = job("other");
    s.train.steps = 3;
    s.train.optimizer.warmup_steps = 0;
    training_run_whole(&s, 1);
    s.train.dpo.beta = 0.2;
    refused(&s, EXIT_CLASS_USER, "spec.train.dpo.beta: 0.1 in the checkpoint, 0.2 now");
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"objective_dpo", 120, setup, training_teardown},
        (const TTest *const[]){losses_do_not_depend_on_the_world, resume_is_bitwise_equal,
            what_stands_in_the_file_is_gone_by, adapters_in_bf16_with_a_file_to_validate,
            gradients_in_fp16_are_near, what_is_refused, NULL});
}
