/*
 * Goal: a rank that is killed costs at most the steps since the last commit, and what is learnt is
 * what would have been. Method: real ranks, of which one ends by SIGKILL at a labelled point
 * (base/point.h) of a step or of a save, or another one where the next world forms; the world
 * behind them must begin where the last commit was, and its losses and its last checkpoint be those
 * of ranks that nobody killed, to the bit. In builds without FAULT=1 nobody dies.
 * tests/prove/kill_matrix.sh does the same with the four programs, whole.
 * needs: faults sample
 */
#include "runtime/train/train.h"

#include "base/point.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#define STEPS 10
#define EVERY 4
#ifdef LLMJOB_FAULT
#define DEATHS 100 /* that are tried at most */
#else
#define DEATHS 4 /* which none is */
#endif

static struct jobspec job(const char *run, int zero, int expert)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.checkpoint.every_steps = EVERY;
    s.checkpoint.asynchronous = false; /* what a death costs is told to the step */
    s.parallelism.zero_stage = zero;
    s.parallelism.expert = expert;
    if (expert) {
        s.model.init = INIT_RANDOM;
        s.model.config = training_mixture();
    }
    return s;
}

struct death {
    const char *at; /* the n-th world's */
    int first;      /* step of the world that ends well */
};

static void same_losses(const struct outcome *want, const struct outcome *got, int from)
{
    for (int k = from; k <= STEPS; k++)
        ck_assert_msg(got->loss[k] == want->loss[k], "step %d: loss %.17g, undisturbed %.17g", k,
            got->loss[k], want->loss[k]);
}

/* Each world until one is done. */
static void die_and_go_on(const struct death *d, struct jobspec *s, const struct outcome *want)
{
    struct outcome o;
    int killed = 0, incarnation = 1;
    do {
        o = training_run(
            &(struct training){.spec = s, .size = 2, .incarnation = incarnation, .die_at = d->at});
        bool died = (int)o.exit[0] == -1 || (int)o.exit[1] == -1;
        killed += died;
        ck_assert_msg(died || (o.exit[0] == EXIT_CLASS_DONE && o.exit[1] == EXIT_CLASS_DONE),
            "%s, world %d: %s", d->at, incarnation, o.message);
    } while (!o.done && ++incarnation < 4);
    ck_assert_msg(o.done, "%s: %s", d->at, o.message);
#ifdef LLMJOB_FAULT
    int deaths = strchr(d->at, ',') ? 2 : 1;
    ck_assert_msg(killed == deaths, "%s: %d were killed", d->at, killed);
    ck_assert_msg(o.first == d->first, "%s: went on from step %d", d->at, o.first);
#else
    ck_assert_int_eq(killed, 0);
#endif
    same_losses(want, &o, o.first);
}

static void die_in_each(
    const struct death *deaths, size_t n, struct jobspec (*of)(const char *), bool llama)
{
    struct jobspec s = of("want");
    struct outcome want = training_run_whole(&s, 2);
    ck_assert(!rename(training_path("output/model.safetensors"), training_path("want.out")));
    sample_print();
    for (size_t i = 0; i < n; i++) {
        if (!sample_takes(i) || i >= DEATHS)
            continue;
        struct jobspec mine = of("main");
        die_and_go_on(&deaths[i], &mine, &want);
        if (llama)
            training_same_checkpoints("main", "want");
        training_same_files(training_path("want.out"), training_path("output/model.safetensors"));
        golden_remove(training_path("main"));
    }
}
#define DIE_IN_EACH(deaths, of, llama) \
    die_in_each(deaths, sizeof(deaths) / sizeof *(deaths), of, llama)

static struct jobspec of_slices(const char *run)
{
    return job(run, 1, 0);
}

static struct jobspec of_experts(const char *run)
{
    return job(run, 0, 2);
}

START_TEST(a_rank_that_is_killed_costs_steps_and_no_bit)
{
    static const struct death deaths[] = {/* in a step */
        {"forward:6:0:1", 5}, {"forward:6:1:1", 5}, {"backward:0:0:1", 1}, {"backward:7:1:1", 5},
        {"collective:5:0:1", 5}, {"reduce-scatter:9:0:1", 9}, {"reduce-scatter:9:1:1", 9},
        {"optimizer:3:0:1", 1}, {"optimizer:3:1:1", 1}, {"allgather:6:1:1", 5},
        {"allreduce:8:0:1", 9}, {"allreduce:8:1:1", 9},
        /* in a save */
        {"checkpoint:8:1:1", 5}, {"shard:8:0:1", 5}, {"shard:8:1:1", 5}, {"fsync:8:0:1", 5},
        {"fsync:8:1:1", 5}, {"rename:4:0:1", 1}, {"rename:8:1:1", 5}, {"manifest:8:0:1", 5},
        {"prune:8:0:1", 9}, {"barrier:8:1:1", 9}, {"shard:10:1:1", 9}, {"manifest:10:0:1", 9},
        /* and while the next world forms: before its claim is written, behind it, reading */
        {"manifest:8:0:1,claim:0:0:2", 5}, {"prune:8:0:1,broadcast:0:0:2", 9},
        {"fsync:8:1:1,load:0:1:2", 5}, {"optimizer:6:1:1,forward:4:1:2", 5}};
    DIE_IN_EACH(deaths, of_slices, true);
}
END_TEST

START_TEST(experts_may_die_in_their_exchange)
{
    static const struct death deaths[] = {{"all-to-all:6:0:1", 5}, {"all-to-all:6:1:1", 5}};
    DIE_IN_EACH(deaths, of_experts, false);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"killed", 900, training_setup, training_teardown},
        (const TTest *const[]){
            a_rank_that_is_killed_costs_steps_and_no_bit, experts_may_die_in_their_exchange, NULL});
}
