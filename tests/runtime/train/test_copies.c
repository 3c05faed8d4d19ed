/*
 * Goal: with copies in memory a death costs at most one step and no bit, whatever ranks share; and
 * a copy that is not whole, damaged or another training's is never gone on from. Method: real ranks
 * with memory that outlives them, of which one is killed while the training runs; the next world
 * begins behind the step that was told last, or one before, with the losses of ranks that nobody
 * killed, and its last checkpoint is theirs to the bit. A pod is lost with its memory. With
 * FAULT=1 ranks die at labelled points, too (base/point.h). tests/prove/kill_matrix.sh does the
 * same with the four programs, whole.
 * needs: faults sample
 */
#include "runtime/train/train.h"

#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/sample.h"
#include "tests/unit.h"

#include <unistd.h>

#define STEPS 12
#define KILL  5
#define PODS  3

struct layout_of {
    const char *name;
    int size, pod, zero, tensor, pipeline;
};

static struct jobspec job(const char *run, const struct layout_of *l)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.checkpoint.in_memory_every_steps = 1;
    s.parallelism.zero_stage = l->zero;
    s.parallelism.tensor = l->tensor;
    s.parallelism.pipeline = l->pipeline;
    return s;
}

static int copies[PODS];

static void same_losses(const struct outcome *want, const struct outcome *got)
{
    for (int k = got->first; k <= STEPS; k++)
        ck_assert_msg(got->loss[k] == want->loss[k], "step %d: loss %.17g, undisturbed %.17g", k,
            got->loss[k], want->loss[k]);
}

struct death {
    struct layout_of layout;
    const char *at; /* LLMJOB_DIE_AT; NULL: the last rank is killed when step KILL is told */
    bool pod_goes;  /* the last one, with its memory */
};

static struct outcome run_world(const struct jobspec *s, const struct death *d, int incarnation)
{
    return training_run(&(struct training){.spec = s,
        .size = d->layout.size,
        .pod = d->layout.pod,
        .incarnation = incarnation,
        .kill_after = incarnation == 1 && !d->at ? KILL : 0,
        .die_at = d->at,
        .copies = copies});
}

static void lose_last_pod(const struct layout_of *l)
{
    int last = (l->size - 1) / l->pod;
    close(copies[last]);
    copies[last] = training_copies();
}

/* World by world until one is done: each goes on at most one step before what was told last. */
static void die_and_go_on(const struct jobspec *s, const struct death *d, struct outcome *end)
{
    const char *name = d->layout.name, *at = d->at ? d->at : "told";
    struct outcome o = run_world(s, d, 1);
    int told = o.last, incarnation = 1;
    ck_assert_msg(!o.done && told >= KILL - 1 && told < STEPS, "%s, %s: %s", name, at, o.message);
    if (d->pod_goes)
        lose_last_pod(&d->layout);
    while (!o.done && ++incarnation < 4) {
        o = run_world(s, d, incarnation);
        ck_assert_msg(!o.first || (o.first >= told && o.first <= told + 1),
            "%s, %s: step %d was told, and the next world begins with %d", name, at, told, o.first);
        told = o.last > told ? o.last : told;
    }
    ck_assert_msg(o.done, "%s, %s: %s", name, at, o.message);
    *end = o;
}

static void one_step_at_most(const struct death *d)
{
    struct jobspec want = job("want", &d->layout), mine = job("main", &d->layout);
    struct outcome end, whole;
    for (int i = 0; i < PODS; i++)
        copies[i] = training_copies();
    whole = run_world(&want, &(struct death){.layout = d->layout, .at = ""}, 1);
    ck_assert_msg(whole.done, "%s: %s", d->layout.name, whole.message);
    die_and_go_on(&mine, d, &end);
    same_losses(&whole, &end);
    training_same_checkpoints("main", "want");
    for (int i = 0; i < PODS; i++)
        close(copies[i]);
    golden_remove(training_path("main"));
    golden_remove(training_path("want"));
}

#define ZERO1 \
    { \
        "zero1", 2, 1, 1, 0, 0 \
    }
#define PIPE \
    { \
        "pp2", 2, 1, 0, 0, 2 \
    }

START_TEST(a_death_costs_one_step_at_most)
{
    static const struct death deaths[] = {
        {{"dp2 in a pod", 2, 2, 0, 0, 0}, NULL, false},
        {{"dp2", 2, 1, 0, 0, 0}, NULL, false},
        {ZERO1, NULL, false},
        {{"zero3", 2, 1, 3, 0, 0}, NULL, false},
        {{"tp2", 2, 1, 0, 2, 0}, NULL, false},
        {PIPE, NULL, false},
        {{"zero1, two in a pod", 4, 2, 1, 0, 0}, NULL, false},
        {{"zero1 on 3 pods", 3, 1, 1, 0, 0}, NULL, true},
        {ZERO1, NULL, true},
        {PIPE, NULL, true},
#ifdef LLMJOB_FAULT
        {ZERO1, "copy:6:0:1", false},
        {ZERO1, "copy:6:1:1", true},
        {ZERO1, "seal:6:0:1", false},
        {ZERO1, "seal:6:1:1", true},
        {ZERO1, "cross:6:0:1", false},
        {ZERO1, "cross:6:1:1", true},
        {ZERO1, "forward:6:1:1", false},
        {ZERO1, "optimizer:6:1:1", true},
        {ZERO1, "allreduce:6:0:1", false},
        {ZERO1, "forward:6:0:1,recall:0:1:2", false},
        {ZERO1, "forward:6:0:1,load:0:0:2", false},
        {PIPE, "seal:6:1:1", false},
        {PIPE, "exchange:6:0:1", false},
        {ZERO1, "cross:6:1:1,copy:7:0:2", false},
#endif
    };
    sample_print();
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++)
        if (sample_takes(i))
            one_step_at_most(&deaths[i]);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"copies", 900, training_setup, training_teardown},
        (const TTest *const[]){a_death_costs_one_step_at_most, NULL});
}
