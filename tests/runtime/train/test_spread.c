/*
 * Goal: histograms tell of the step's whole gradient and of the weights, every so many steps, and
 * change nothing. Method: short trainings on real ranks on a tiny Llama, with one rank and two,
 * with adapters and with experts, beside one without histograms: losses and checkpoints equal to
 * the bit; squares over all tensors come to the gradient's norm, numbers to the tensors' elements.
 */
#include "runtime/train/train.h"

#include "runtime/files/safetensors.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS  6
#define EVENTS 2000

static struct err e;
static struct event events[EVENTS];

static struct jobspec job(const char *name)
{
    struct jobspec s = training_job(name);
    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 2;
    s.train.evaluate_every_steps = 0;
    s.train.tensorboard = training_path(name[0] == 'n' ? "board-n" : "board");
    return s;
}

static struct outcome run(const struct jobspec *s, int size)
{
    struct outcome o = training_run(&(struct training){.spec = s, .size = size, .incarnation = 1});
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "%s", o.message);
    return o;
}

static bool begins(const char *tag, const char *with)
{
    return !strncmp(tag, with, strlen(with));
}

/* Of one step: how many histograms of a kind there are, their numbers and squares together. */
static int sum_up(const char *kind, int count, uint64_t step, double *numbers, double *squares)
{
    int n = 0;
    *numbers = *squares = 0;
    for (int i = 0; i < count; i++) {
        const struct event *x = &events[i];
        if (x->step != step || !begins(x->tag, kind))
            continue;
        ck_assert_int_gt(x->histogram.bounds, 0);
        ck_assert(x->histogram.counted == x->histogram.count);
        ck_assert(x->histogram.min <= x->histogram.max);
        ck_assert_int_eq(events_at(events, count, x->tag, step), 1);
        *numbers += x->histogram.count;
        *squares += x->histogram.squares;
        n++;
    }
    return n;
}

static double scalar(int count, const char *tag, uint64_t step)
{
    for (int i = 0; i < count; i++)
        if (events[i].step == step && !strcmp(events[i].tag, tag))
            return (double)events[i].value;
    return NAN;
}

/* Of a file of the output. */
static double count_elements(const char *file, int *tensors)
{
    struct safetensors *f;
    double sum = 0;
    ck_assert_msg(!safetensors_open(training_path(file), &f, &e), "%s", e.text);
    *tensors = safetensors_count(f);
    for (int i = 0; i < *tensors; i++)
        sum +=
            (double)(safetensors_at(f, i)->bytes / dtype_block_bytes(safetensors_at(f, i)->type));
    safetensors_close(f);
    return sum;
}

/* At steps 3 and 6 of 6: so many tensors, with so many elements. */
static void check_histograms(int tensors, double elements)
{
    int count = events_shown(training_path("board"), events, EVENTS);
    for (uint64_t step = 1; step <= STEPS; step++) {
        double numbers, squares;
        int n = sum_up("gradients/", count, step, &numbers, &squares);
        ck_assert_int_eq(n, step % 3 ? 0 : tensors);
        if (!n)
            continue;
        ck_assert_double_eq(numbers, elements);
        ck_assert_double_eq_tol(sqrt(squares) / scalar(count, "gradient_norm", step), 1, 1e-5);
        ck_assert_int_eq(sum_up("weights/", count, step, &numbers, &squares), tensors);
        ck_assert_double_eq(numbers, elements);
    }
}

START_TEST(histograms_tell_of_the_whole_gradient)
{
    for (int size = 1; size <= 2; size++) {
        struct jobspec s = job(size == 1 ? "one" : "two"), none = job(size == 1 ? "n1" : "n2");
        int tensors;
        s.train.histogram_every_steps = 3;
        struct outcome a = run(&s, size), b = run(&none, size);
        for (int k = 1; k <= STEPS; k++)
            ck_assert(a.loss[k] == b.loss[k]);
        training_same_checkpoints(size == 1 ? "one" : "two", size == 1 ? "n1" : "n2");
        double elements = count_elements("output/model.safetensors", &tensors);
        check_histograms(tensors, elements);
        golden_remove(training_path("board"));
    }
}
END_TEST

START_TEST(of_adapters_only_they_are_told_of)
{
    struct jobspec s = job("lora");
    int tensors;
    training_lora(&s);
    s.train.histogram_every_steps = 3;
    s.precision = PRECISION_BF16;
    run(&s, 1);
    double elements = count_elements("output/adapter/adapter_model.safetensors", &tensors);
    check_histograms(tensors, elements);
}
END_TEST

/* Six experts with three matrices in two layers, of which each three are one. */
START_TEST(experts_of_a_layer_are_one)
{
    struct jobspec s = job("mixture");
    int tensors;
    s.model.init = INIT_RANDOM;
    s.model.config = training_mixture();
    s.train.histogram_every_steps = 3;
    run(&s, 1);
    double elements = count_elements("output/model.safetensors", &tensors);
    check_histograms(tensors - 2 * 3 * 5, elements);
    int count = events_shown(training_path("board"), events, EVENTS);
    ck_assert_int_eq(
        events_at(events, count, "gradients/model.layers.1.mlp.experts.down_proj.weight", 3), 1);
}
END_TEST

int main(void)
{
    return unit_run_with(
        &(struct unit){
            .name = "spread", .timeout_s = 120, .setup = training_setup, .done = training_teardown},
        (const TTest *const[]){histograms_tell_of_the_whole_gradient,
            of_adapters_only_they_are_told_of, experts_of_a_layer_are_one, NULL});
}
