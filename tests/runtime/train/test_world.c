/*
 * Goal: ranks that were told of each other find a collective and follow one plan, and a world that
 * cannot form ends all of them in time, whatever holds them. Method: each rank in a child process,
 * this test as the agent of all; the simulated NCCL's abort never comes back.
 * needs: cuda threads
 */
#include "runtime/train/world.h"

#include "api/exitcode.h"
#include "api/names.h"
#include "base/clock.h"
#include "runtime/model/device.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#define RANKS 2

static char folder[64];
static struct agent agents[RANKS];

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static bool take_none(void *user, const struct wire_frame *f)
{
    (void)user;
    (void)f;
    return false;
}

/* 1 more than the highest rank that answered; this rank tells it. */
static int count_ranks(struct coll *c, int rank, struct door *d, struct err *e)
{
    int32_t most = rank + 1;
    int rc = coll_allreduce(c, &most, 1, DTYPE_I32, COLL_MAX, e);
    if (rc)
        return rc;
    return door_send_fields(
        d, WIRE_STEP, (struct door_field[]){{"step", most, NULL}, {NULL, 0, NULL}}, e);
}

/* -- the plan -- */

static int64_t budgets[RANKS]; /* 0: no plan is asked for */

static struct planner_input input_of(int rank)
{
    return (struct planner_input){
        .model = {.config = tiny_config(true), .train = true, .sequence_length = 32},
        .batch_sequences = 64,
        .world = RANKS,
        .budget_bytes = budgets[rank]};
}

/* Tells micro-batch, data axis and memory of the plan. */
static int tell_plan(struct coll *c, struct dev *dev, int rank, struct door *d, struct err *e)
{
    const struct speed_world w = {.coll = c, .dev = dev, .rank = rank, .world = RANKS};
    struct planner_input in = input_of(rank);
    struct planner_plan p;
    int rc = world_plan(&w, &in, NULL, &p, e);
    if (rc)
        return rc;
    return door_send_fields(d, WIRE_STEP,
        (struct door_field[]){{"micro", (double)p.micro_sequences, NULL},
            {"data", p.layout.dp, NULL}, {"memory", (double)p.memory.total, NULL}, {NULL, 0, NULL}},
        e);
}

static int open_world(
    struct door *d, struct orders *o, struct dev **dev, struct coll **c, struct err *e)
{
    int64_t budget;
    int rc;
    if ((rc = orders_take(o, d, e)) || (rc = door_listen(d, take_none, NULL, e)) ||
        (rc = device_open(o->spec->device.resource, o->replica, 1, dev, &budget, e)))
        return rc;
    return world_connect(o, d, *dev, c, e);
}

/* As the program does it, which gives back what it has. */
static int body(int fd)
{
    static struct door d;
    struct orders o;
    struct dev *dev = NULL;
    struct coll *c = NULL;
    struct err e = {0};
    door_init(&d, fd, NULL);
    int rc = open_world(&d, &o, &dev, &c, &e);
    if (!rc)
        rc = budgets[0] ? tell_plan(c, dev, o.rank, &d, &e) : count_ranks(c, o.rank, &d, &e);
    if (rc)
        door_send_failed(&d, &e);
    else
        door_send_done(&d, 0, NULL, &e);
    coll_destroy(c);
    dev_close(dev);
    orders_done(&o);
    return (int)exit_class_of(rc ? e.code : ERR_NONE);
}

static void start_all(const char *resource)
{
    struct jobspec s = agent_job(TASK_TRAIN, resource, folder);
    int port[RANKS];
    for (int i = 0; i < RANKS; i++) {
        agent_spawn(&agents[i], body);
        port[i] = agent_prepare(&agents[i], &s, folder);
    }
    for (int i = 0; i < RANKS; i++) {
        char text[512];
        snprintf(text, sizeof text,
            "{\"rank\":%d,\"world\":2,\"ranks\":["
            "{\"rank\":0,\"replica\":0,\"host\":\"127.0.0.1\",\"port\":%d},"
            "{\"rank\":1,\"replica\":1,\"host\":\"127.0.0.1\",\"port\":%d}]}",
            i, port[0], port[1]);
        agent_send(&agents[i], WIRE_START, text);
    }
}

static void expect_a_world(const char *resource)
{
    start_all(resource);
    for (int i = 0; i < RANKS; i++) {
        json_auto struct json *v = agent_expect(&agents[i], WIRE_STEP);
        ck_assert_int_eq(json_int(v, "step", 0), RANKS);
        json_destroy(agent_expect(&agents[i], WIRE_DONE));
        ck_assert_int_eq(agent_end(&agents[i]), EXIT_CLASS_DONE);
    }
}

START_TEST(ranks_find_each_other)
{
    expect_a_world("cpu");
    expect_a_world("nvidia.com/gpu");
    setenv(NAME_ENV_COLL, NAME_ENV_COLL_STAGED, 1);
    expect_a_world("nvidia.com/gpu");
}
END_TEST

START_TEST(an_unknown_kind_is_refused)
{
    setenv(NAME_ENV_COLL, "magic", 1);
    start_all("cpu");
    for (int i = 0; i < RANKS; i++) {
        agent_expect_failed(&agents[i], "user", NAME_ENV_COLL);
        ck_assert_int_eq(agent_end(&agents[i]), EXIT_CLASS_USER);
    }
}
END_TEST

/* The least memory decides, wherever it is, and all take the same. */
START_TEST(one_plan_for_all)
{
    for (int poor = 0; poor < RANKS; poor++) {
        struct planner_plan rich, want;
        struct err e = {0};
        budgets[!poor] = 1 << 30;
        struct planner_input in = input_of(!poor);
        ck_assert_msg(!planner_plan(&in, &rich, &e), "%s", e.text);
        budgets[poor] = in.budget_bytes = rich.memory.total - 1;
        ck_assert_msg(!planner_plan(&in, &want, &e), "%s", e.text);
        ck_assert_int_lt(want.micro_sequences, rich.micro_sequences);
        start_all("cpu");
        for (int i = 0; i < RANKS; i++) {
            json_auto struct json *v = agent_expect(&agents[i], WIRE_STEP);
            ck_assert_int_eq(json_int(v, "micro", 0), want.micro_sequences);
            ck_assert_int_eq(json_int(v, "memory", 0), want.memory.total);
            ck_assert_int_eq(json_int(v, "data", 0), RANKS);
            json_destroy(agent_expect(&agents[i], WIRE_DONE));
            ck_assert_int_eq(agent_end(&agents[i]), EXIT_CLASS_DONE);
        }
    }
}
END_TEST

START_TEST(a_refusal_is_everybody_s)
{
    budgets[0] = 1 << 30;
    budgets[1] = 1000;
    start_all("cpu");
    for (int i = 0; i < RANKS; i++) {
        agent_expect_failed(&agents[i], "memory", "MiB");
        ck_assert_int_eq(agent_end(&agents[i]), exit_class_of(ERR_MEMORY));
    }
}
END_TEST

/* The communicator does not form, and cannot be given up. */
START_TEST(a_rank_held_while_connecting_ends_in_time)
{
    setenv("LLMJOB_CUDASIM_NCCL", "refuses,stuck", 1);
    int64_t start_ms = clock_ms();
    start_all("nvidia.com/gpu");
    for (int i = 0; i < RANKS; i++)
        agent_expect_failed(&agents[i], "peer", "forming a communicator: NCCL: ");
    for (int i = 0; i < RANKS; i++)
        ck_assert_int_eq(agent_wait(&agents[i]), EXIT_CLASS_PEER);
    ck_assert_int_ge(clock_ms() - start_ms, DOOR_END_MS);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"world", 60, setup, teardown},
        (const TTest *const[]){ranks_find_each_other, an_unknown_kind_is_refused, one_plan_for_all,
            a_refusal_is_everybody_s, a_rank_held_while_connecting_ends_in_time, NULL});
}
