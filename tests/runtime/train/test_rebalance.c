/*
 * Goal: where ranks are of unlike speed the slower has fewer of a step's sequences, and all learn
 * what they learn from equal shares; each sequence is learnt from once a step, by the sample logs.
 * Method: real ranks, one process each, of which the last computes with the reference's operations,
 * which are slower by far; with all that ranks may share, and through a stop in between.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "runtime/train/balance.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS (2 * BALANCE_STEPS + 4)

static struct err e;

struct shared {
    int tensor, pipeline, context, zero_stage; /* 0: none */
};

static struct jobspec job(const char *run, struct shared x)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.parallelism.balance = BALANCE_MEASURED;
    s.parallelism.tensor = x.tensor;
    s.parallelism.pipeline = x.pipeline;
    s.parallelism.context = x.context;
    s.parallelism.zero_stage = x.zero_stage;
    golden_remove(training_path("output"));
    return s;
}

static struct outcome run(const struct jobspec *s, int size, int incarnation, int stop_after)
{
    const struct training t = {.spec = s,
        .size = size,
        .incarnation = incarnation,
        .stop_after = stop_after,
        .last_kind = "cpu-ref"};
    return training_run(&t);
}

static struct outcome run_whole(const struct jobspec *s, int size)
{
    struct outcome o = run(s, size, 1, 0);
    for (int i = 0; i < size; i++)
        ck_assert_msg(
            o.exit[i] == EXIT_CLASS_DONE, "rank %d: class %d, %s", i, o.exit[i], o.message);
    ck_assert(o.done && o.last == STEPS);
    return o;
}

static void losses_are_near(const struct outcome *a, const struct outcome *b, int first, int last)
{
    for (int k = first; k <= last; k++)
        ck_assert_msg(fabs(a->loss[k] / b->loss[k] - 1) < 1e-5, "step %d: %.9g, not %.9g", k,
            a->loss[k], b->loss[k]);
}

/* Of each step how many of its sequences each rank's log has; they lie one behind the other. */
static void read_shares(const char *run, int incarnation, int size, int64_t counts[][STEPS + 1])
{
    int64_t next[STEPS + 1] = {0};
    for (int rank = 0; rank < size; rank++) {
        char name[96];
        buf_auto struct buf text;
        buf_init(&text, 1 << 20);
        snprintf(name, sizeof name, "%s/samples/%d-%d.log", run, incarnation, rank);
        ck_assert_msg(!io_read_file(training_path(name), 1 << 20, &text, &e), "%s", e.text);
        for (char *left, *line = strtok_r(text.data, "\n", &left); line;
             line = strtok_r(NULL, "\n", &left)) {
            long long step, first, count;
            ck_assert_int_eq(sscanf(line, "%lld %lld %lld", &step, &first, &count), 3);
            ck_assert(step >= 1 && step <= STEPS && count >= 1);
            ck_assert_int_eq(first, (step - 1) * TRAINING_BATCH + next[step]);
            counts[rank][step] = count;
            next[step] += count;
        }
    }
    for (int step = 1; step <= STEPS; step++)
        ck_assert(!next[step] || next[step] == TRAINING_BATCH);
}

/* Of the last steps, from the metrics. */
static double seconds_of(const char *run)
{
    char name[96];
    int64_t ns[BALANCE_STEPS];
    int n = 0;
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    snprintf(name, sizeof name, "%s/metrics.jsonl", run);
    ck_assert_msg(!io_read_file(training_path(name), 1 << 20, &text, &e), "%s", e.text);
    for (char *left, *line = strtok_r(text.data, "\n", &left); line;
         line = strtok_r(NULL, "\n", &left)) {
        json_auto struct json *v = NULL;
        ck_assert_msg(!json_parse(line, strlen(line), &v, &e), "%s", line);
        if (json_get(v, "seconds"))
            ns[n++ % BALANCE_STEPS] = (int64_t)(1e9 * json_num(v, "seconds", 0));
    }
    ck_assert_int_eq(n, STEPS);
    return 1e-9 * (double)balance_median(ns, BALANCE_STEPS);
}

/* However busy the machine is: the reference's operations are ten times as slow, or more. */
static void has_least(int64_t counts[][STEPS + 1], int size, int slow, const char *told)
{
    int64_t most = 0;
    for (int i = 0; i < size; i++) {
        most = counts[i][STEPS] > most ? counts[i][STEPS] : most;
        ck_assert_msg(!counts[i][STEPS] || counts[i][STEPS] >= counts[slow][STEPS], "%s", told);
    }
    ck_assert_msg(counts[slow][STEPS] > 0 && counts[slow][STEPS] < most, "%s", told);
}

START_TEST(the_slow_one_has_less)
{
    int64_t counts[2][STEPS + 1] = {{0}};
    struct jobspec s = job("unlike", (struct shared){0});
    struct jobspec equal = job("equal", (struct shared){0});
    equal.parallelism.balance = BALANCE_EQUAL;
    struct outcome want = run_whole(&equal, 2), o = run_whole(&s, 2);
    losses_are_near(&o, &want, 1, STEPS);
    ck_assert(fabs(o.validation / want.validation - 1) < 1e-5);
    read_shares("unlike", 1, 2, counts);
    has_least(counts, 2, 1, o.balance);
    printf("a step takes %.4f s by equal shares, %.4f s by measured ones: %s\n",
        seconds_of("equal"), seconds_of("unlike"), o.balance);
    ck_assert_msg(strstr(o.balance, "a step's 8 sequences: "), "%s", o.balance);
    ck_assert_msg(strstr(o.balance, "; rank 1 on n1 computes one in ") ||
            strstr(o.balance, "; rank 1 on n1: "),
        "%s", o.balance);
    ck_assert_str_eq(want.balance, "");
}
END_TEST

START_TEST(those_that_share_count_as_one)
{
    static const struct shared kinds[] = {
        {.tensor = 2}, {.pipeline = 2}, {.context = 2}, {.zero_stage = 1}};
    static const char *const names[] = {"tensor", "pipeline", "context", "state"};
    for (int i = 0; i < 4; i++) {
        if (!sample_takes((uint64_t)i))
            continue;
        int64_t counts[TRAINING_WORLD][STEPS + 1] = {{0}};
        struct jobspec s = job(names[i], kinds[i]), equal = job("level", kinds[i]);
        equal.parallelism.balance = BALANCE_EQUAL;
        golden_remove(training_path("level"));
        struct outcome want = run_whole(&equal, 4), o = run_whole(&s, 4);
        losses_are_near(&o, &want, 1, STEPS);
        read_shares(names[i], 1, 4, counts);
        int groups = i == 3 ? 4 : 2;
        int last = kinds[i].pipeline ? 1 : 4 - 4 / groups; /* who logs for the slow one's group */
        has_least(counts, 4, last, o.balance);
    }
}
END_TEST

/* A world that stops and one of another size that goes on: nothing is lost or repeated. */
START_TEST(another_world_shares_anew)
{
    int64_t first[3][STEPS + 1] = {{0}}, then[2][STEPS + 1] = {{0}};
    struct jobspec s = job("stopped", (struct shared){0}), equal = job("even", (struct shared){0});
    equal.parallelism.balance = BALANCE_EQUAL;
    struct outcome want = run_whole(&equal, 2), o = run(&s, 3, 1, BALANCE_STEPS + 1);
    ck_assert_msg(o.drained, "%s", o.message);
    losses_are_near(&o, &want, 1, o.last);
    int next = o.last + 1;
    o = run(&s, 2, 2, 0);
    ck_assert_msg(o.done && o.first == next, "%s", o.message);
    losses_are_near(&o, &want, next, STEPS);
    read_shares("stopped", 1, 3, first);
    read_shares("stopped", 2, 2, then);
    for (int k = 1; k <= STEPS; k++)
        ck_assert((k < next) == (first[0][k] > 0) && (k >= next) == (then[0][k] > 0));
}
END_TEST

#define SIX_LAYERS \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 48, " \
    "\"intermediate_size\": 80, \"num_hidden_layers\": 6, \"num_attention_heads\": 6, " \
    "\"num_key_value_heads\": 3, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"

/* A pipeline alone has one share of the batch; its slow stage has fewer layers. */
START_TEST(stages_follow_speed)
{
    struct jobspec jobs[] = {job("staged", (struct shared){.pipeline = 2}),
        job("even", (struct shared){.pipeline = 2}), job("alone", (struct shared){0})};
    jobs[1].parallelism.balance = BALANCE_EQUAL;
    golden_write(training_path("six.json"), SIX_LAYERS, strlen(SIX_LAYERS));
    char path[256];
    snprintf(path, sizeof path, "%s", training_path("six.json"));
    for (int i = 0; i < 3; i++) {
        jobs[i].model.init = INIT_RANDOM;
        jobs[i].model.config = path;
    }
    struct outcome o = run_whole(&jobs[0], 2), even = run_whole(&jobs[1], 2);
    struct outcome alone = run_whole(&jobs[2], 1);
    ck_assert_msg(
        strstr(o.balance, "stages of ") && !strstr(o.balance, "stages of 3 3"), "%s", o.balance);
    ck_assert_msg(
        strstr(o.balance, "layers; a step's 8 sequences: 8; rank 1 on n1: "), "%s", o.balance);
    ck_assert_str_eq(alone.balance, "");
    losses_are_near(&o, &even, 1, STEPS);
    losses_are_near(&o, &alone, 1, STEPS);
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"rebalance", 120, training_setup, training_teardown},
        (const TTest *const[]){the_slow_one_has_less, those_that_share_count_as_one,
            another_world_shares_anew, stages_follow_speed, NULL});
}
