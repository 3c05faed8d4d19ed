/*
 * Goal: a training on "cuda" is the training on the processor: the same losses, checkpoints that go
 * from one to the other and back, collectives that end when a rank dies; and it repeats itself bit
 * for bit. Method: the plugin beside this program: a GPU's (make gpu-check), or that of
 * tests/cudasim, whose device memory the host cannot read: any access outside of the device table
 * ends the rank by a signal. Fifty steps with one rank, twenty with ranks of one pod and of
 * several, over NCCL (simulated: its host version) and staged; a stop and a resume on the other
 * device and on the same; every optimizer; state divided over two ranks; gradients that cross in
 * less; the last rank killed, also where NCCL cannot let go of it, and the training taken up again.
 * needs: cuda gpu sample
 */
#include "runtime/train/train.h"

#include "base/io.h"
#include "runtime/files/safetensors.h"
#include "tests/gpu/gpu.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 20
#define BATCH 4 /* small: the simulator takes its time */
#define T     8

#define NEAR      1e-5 /* of a loss in F32 */
#define NEAR_BF16 5e-3

static struct err e;

static struct jobspec job(const char *run, int steps)
{
    struct jobspec s = training_job(run);

    s.train.steps = steps;
    s.train.batch_sequences = BATCH;
    s.train.sequence_length = T;
    s.train.evaluate_every_steps = 0;
    return s;
}

/* On the device, whose ranks share what there is of it: NCCL where it can connect them. */
static struct training on_device(const struct jobspec *s, int size, int incarnation)
{
    return (struct training){.spec = s,
        .size = size,
        .incarnation = incarnation,
        .kind = "cuda",
        .devices = gpu()->devices,
        .staged = !gpu_connects(size)};
}

static void all_ended(const struct outcome *o, int size, enum exit_class class)
{
    for (int i = 0; i < size; i++)
        ck_assert_msg(
            o->exit[i] == class, "rank %d of %d: class %d, %s", i, size, o->exit[i], o->message);
}

static struct outcome whole(struct training t)
{
    struct outcome o = training_run(&t);

    all_ended(&o, t.size, EXIT_CLASS_DONE);
    ck_assert_int_eq(o.first, 1);
    ck_assert_int_eq(o.last, t.spec->train.steps);
    ck_assert(o.done && o.evaluations == 2 && o.saves >= 1);
    return o;
}

static struct outcome whole_on_cpu(const struct jobspec *s)
{
    return whole((struct training){.spec = s, .size = 1, .incarnation = 1});
}

static void same_losses(
    const struct outcome *want, const struct outcome *got, double tolerance, const char *what)
{
    double worst = fabs(got->validation / want->validation - 1);

    ck_assert_int_eq(got->last, want->last);
    for (int k = 1; k <= want->last; k++) {
        double far = fabs(got->loss[k] / want->loss[k] - 1);

        worst = far > worst ? far : worst;
        ck_assert_msg(far < tolerance, "%s, step %d: %.9g, the cpu %.9g (%.2g)", what, k,
            got->loss[k], want->loss[k], far);
    }
    ck_assert_msg(worst < tolerance, "%s: validation %.9g, the cpu %.9g", what, got->validation,
        want->validation);
    printf("%s: losses differ by at most %.2g (allowed %.2g)\n", what, worst, tolerance);
}

/* Every step once, in order, although a look at the device settles several. */
static void check_log(const char *run, int rank, int64_t first_of_step)
{
    char path[256], line[256];
    long long step, first, count;
    int want = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s/samples/1-%d.log", training_folder, run, rank);
    f = fopen(path, "re");
    ck_assert_msg(f != NULL, "%s", path);
    while (fgets(line, sizeof line, f)) {
        ck_assert_int_eq(sscanf(line, "%lld %lld %lld", &step, &first, &count), 3);
        ck_assert_int_eq(step, ++want);
        ck_assert_int_eq(first, (step - 1) * BATCH + first_of_step);
        ck_assert_int_eq(count, BATCH / 2);
    }
    fclose(f);
    ck_assert_int_eq(want, STEPS);
}

static void follows_the_cpu(int steps, enum precision precision, int size, int pod, bool staged,
    double tolerance, const char *what)
{
    struct jobspec cpu = job("cpu", steps), cuda = job("cuda", steps);
    struct training t = on_device(&cuda, size, 1);
    struct outcome want, got;

    cpu.precision = cuda.precision = precision;
    t.pod = pod;
    t.staged = staged;
    want = whole_on_cpu(&cpu);
    ck_assert_double_lt(want.loss[steps], 0.95 * want.loss[1]);
    got = whole(t);
    same_losses(&want, &got, tolerance, what);
    for (int k = 0; k < 2 && size == 2; k++)
        check_log("cuda", k, k * BATCH / 2);
}

START_TEST(fifty_losses_of_one_rank)
{
    follows_the_cpu(50, PRECISION_FP32, 1, 1, false, NEAR, "one rank, fp32");
    training_teardown();
    training_setup();
    follows_the_cpu(50, PRECISION_BF16, 1, 1, false, NEAR_BF16, "one rank, bf16");
}
END_TEST

START_TEST(losses_of_two_ranks_over_nccl)
{
    follows_the_cpu(STEPS, PRECISION_FP32, 2, 2, false, NEAR, "two ranks of a pod, nccl");
}
END_TEST

START_TEST(losses_of_two_pods_staged)
{
    follows_the_cpu(STEPS, PRECISION_FP32, 2, 1, true, NEAR, "two pods, staged");
}
END_TEST

/* Sums go into slices of the device's memory, and masters, or weights as they are needed, come from
   them. */
START_TEST(owners_of_slices)
{
    struct jobspec cpu = job("cpu", 6);
    struct outcome want = whole_on_cpu(&cpu), got;

    for (int pod = 1; pod <= 2; pod++) {
        struct jobspec cuda = job("cuda", 6);
        struct training t = on_device(&cuda, 2, 1);

        cuda.parallelism.zero_stage = pod == 1 ? 1 : 3;
        t.pod = pod;
        t.staged = pod == 1;
        got = whole(t);
        same_losses(&want, &got, NEAR, pod == 1 ? "owners, staged" : "owners, nccl");
        golden_remove(training_path("cuda"));
        golden_remove(training_path("output"));
    }
}
END_TEST

/* Gradients in codes at every step, and what ranks have changed in numbers of 16 bits; a code that
   falls the other way changes little. */
START_TEST(less_crosses_between_devices)
{
    for (int local = 1; local <= 2; local++) {
        struct jobspec cpu = job("cpu", 4), cuda = job("cuda", 4);
        cpu.train.communication.gradients = local == 1 ? GRADIENTS_INT8 : GRADIENTS_BF16;
        cpu.train.communication.local_steps = local;
        cpu.train.communication.outer_learning_rate = 0.7;
        cpu.train.communication.outer_momentum = 0.9;
        cuda.train.communication = cpu.train.communication;
        struct training t = on_device(&cuda, 2, 1);
        struct outcome got,
            want = whole((struct training){.spec = &cpu, .size = 2, .incarnation = 1, .pod = 1});
        t.pod = 1;
        t.staged = local == 2;
        golden_remove(training_path("output"));
        got = whole(t);
        same_losses(&want, &got, NEAR_BF16, local == 1 ? "codes, nccl" : "local steps, staged");
        golden_remove(training_path("cpu"));
        golden_remove(training_path("cuda"));
        golden_remove(training_path("output"));
    }
}
END_TEST

/* Of its layers' matrices, and of its layers: by NCCL, and through host memory. */
START_TEST(two_ranks_share_a_model)
{
    struct jobspec cpu = job("cpu", 3);
    struct outcome want = whole_on_cpu(&cpu), got;

    for (int tensor = 1; tensor <= 2; tensor++) {
        struct jobspec cuda = job("cuda", 3);
        struct training t = on_device(&cuda, 2, 1);

        cuda.parallelism.tensor = tensor;
        cuda.parallelism.pipeline = 3 - tensor;
        t.pod = tensor == 2 ? 2 : 1;
        t.staged = tensor == 1;
        got = whole(t);
        same_losses(&want, &got, NEAR, tensor == 2 ? "tensor, nccl" : "pipeline, staged");
        t.pod = 3 - t.pod;
        t.staged = !t.staged;
        golden_remove(training_path("cuda"));
        golden_remove(training_path("output"));
        got = whole(t);
        same_losses(&want, &got, NEAR, tensor == 2 ? "tensor, staged" : "pipeline, nccl");
        golden_remove(training_path("cuda"));
        golden_remove(training_path("output"));
    }
}
END_TEST

/* Rows go to the experts of the other rank and back: by NCCL, and through host memory. */
START_TEST(two_ranks_share_experts)
{
    struct jobspec cpu = job("cpu", 2);

    cpu.model.init = INIT_RANDOM;
    cpu.model.config = training_mixture();
    struct outcome want = whole_on_cpu(&cpu), got;
    for (int pod = 1; pod <= 2; pod++) {
        struct jobspec cuda = job("cuda", 2);
        struct training t = on_device(&cuda, 2, 1);

        cuda.model.init = INIT_RANDOM;
        cuda.model.config = training_mixture();
        cuda.parallelism.expert = 2;
        t.pod = pod;
        t.staged = pod == 1;
        got = whole(t);
        same_losses(&want, &got, NEAR, pod == 1 ? "experts, staged" : "experts, nccl");
        golden_remove(training_path("cuda"));
        golden_remove(training_path("output"));
    }
}
END_TEST

/* Its sequences: keys and values cross by NCCL, and through host memory. */
START_TEST(two_ranks_share_sequences)
{
    struct jobspec cpu = job("cpu", 3);
    struct outcome want = whole_on_cpu(&cpu), got;

    for (int pod = 1; pod <= 2; pod++) {
        struct jobspec cuda = job("cuda", 3);
        struct training t = on_device(&cuda, 2, 1);

        cuda.parallelism.context = 2;
        t.pod = pod;
        t.staged = pod == 1;
        got = whole(t);
        same_losses(&want, &got, NEAR, pod == 1 ? "context, staged" : "context, nccl");
        golden_remove(training_path("cuda"));
        golden_remove(training_path("output"));
    }
}
END_TEST

/* A device too small for a rank's share at once: gradients and losses of several micro-batches add
 * up on it. */
START_TEST(micro_batches_add_up)
{
    struct jobspec s = job("cpu", 4), wide = job("wide", 1), narrow = job("narrow", 4);
    struct outcome want = whole_on_cpu(&s), all = whole(on_device(&wide, 2, 1)), got;
    struct training t = on_device(&narrow, 2, 1);

    t.budget_bytes = (all.memory_bytes - 1) * 10 / 9;
    got = training_run(&t);
    ck_assert_msg(got.exit[0] == EXIT_CLASS_DONE, "%s", got.message);
    ck_assert_int_lt(got.memory_bytes, all.memory_bytes);
    same_losses(&want, &got, NEAR, "two ranks, micro-batches");
}
END_TEST

/* Runs on after the last report of `sum`, until t.stop_after (0: the end). */
static void go_on(struct training t, struct outcome *sum)
{
    struct outcome o = training_run(&t);

    all_ended(&o, t.size, t.stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE);
    ck_assert_int_eq(o.first, sum->last + 1);
    for (int k = o.first; k <= o.last; k++)
        sum->loss[k] = o.loss[k];
    sum->last = o.last;
    sum->validation = o.validation;
}

START_TEST(checkpoints_change_the_device)
{
    struct jobspec straight = job("straight", 40), moved = job("moved", 40);
    struct outcome want = whole_on_cpu(&straight), sum = {0};
    struct training t = {.spec = &moved, .size = 1, .incarnation = 1, .stop_after = 3};

    go_on(t, &sum);
    t = on_device(&moved, 2, 2);
    t.stop_after = 5;
    go_on(t, &sum);
    go_on((struct training){.spec = &moved, .size = 2, .incarnation = 3}, &sum);
    same_losses(&want, &sum, NEAR, "cpu, cuda, cpu");
}
END_TEST

/* What the processor finished is only exported: what the device was given, it gives back. */
START_TEST(exports_are_equal_to_the_bit)
{
    struct jobspec s = job("done", 4);
    struct training t = on_device(&s, 1, 2);
    struct outcome o;

    whole_on_cpu(&s);
    ck_assert(!io_rename(training_path("output/model.safetensors"), training_path("cpu"), &e));
    o = training_run(&t);
    all_ended(&o, 1, EXIT_CLASS_DONE);
    ck_assert(o.done && !o.first && !o.saves);
    training_same_files(training_path("cpu"), training_path("output/model.safetensors"));
}
END_TEST

static void same_to_the_bit(const struct outcome *a, const struct outcome *b, int first)
{
    for (int k = first; k <= a->last; k++)
        ck_assert_msg(
            a->loss[k] == b->loss[k], "step %d: %.17g, and then %.17g", k, a->loss[k], b->loss[k]);
    ck_assert(a->validation == b->validation);
}

START_TEST(a_resume_is_bitwise_equal)
{
    struct jobspec straight = job("straight", STEPS), cut = job("cut", STEPS);
    struct outcome want = whole(on_device(&straight, 1, 1)), sum = {0};
    struct training t = on_device(&cut, 1, 1);

    t.stop_after = 4;
    go_on(t, &sum);
    go_on(on_device(&cut, 1, 2), &sum);
    same_to_the_bit(&want, &sum, 1);
    training_same_checkpoints("straight", "cut");
}
END_TEST

/* BF16 with adapters, to the exported folder: the frozen weights too are read from the device. */
START_TEST(lora_in_bf16)
{
    struct jobspec s = job("lora", 6);
    struct safetensors *f;
    struct outcome o;

    training_lora(&s);
    s.precision = PRECISION_BF16;
    s.train.optimizer.learning_rate = 2e-2;
    o = whole(on_device(&s, 2, 1));
    ck_assert_double_lt(o.loss[6], 0.98 * o.loss[1]);
    ck_assert_msg(
        !safetensors_open(training_path("output/adapter/adapter_model.safetensors"), &f, &e), "%s",
        e.text);
    ck_assert_int_eq(safetensors_count(f), 8);
    safetensors_close(f);
}
END_TEST

START_TEST(dropout_is_the_cpus)
{
    struct jobspec cpu = job("cpu", 6), cuda = job("cuda", 6);
    struct outcome want, got;

    training_lora(&cpu);
    training_lora(&cuda);
    cpu.train.lora.dropout = cuda.train.lora.dropout = 0.3;
    cpu.train.optimizer.learning_rate = cuda.train.optimizer.learning_rate = 2e-2;
    want = whole_on_cpu(&cpu);
    got = whole(on_device(&cuda, 2, 1));
    same_losses(&want, &got, NEAR, "two ranks, dropout");
}
END_TEST

START_TEST(other_optimizers)
{
    static const double momentum[] = {-1, 0.9, -1, -1, 0.95};

    for (enum optimizer_name name = OPTIMIZER_SGD; name <= OPTIMIZER_MUON; name++) {
        struct jobspec cpu = job("cpu", 6), cuda = job("cuda", 6);
        char what[40];

        cpu.train.optimizer.name = cuda.train.optimizer.name = name;
        cpu.train.optimizer.momentum = cuda.train.optimizer.momentum = momentum[name];
        struct outcome want = whole_on_cpu(&cpu), got = whole(on_device(&cuda, 1, 1));

        ck_assert_double_lt(want.validation, want.first_validation);
        snprintf(what, sizeof what, "optimizer %d", name);
        same_losses(&want, &got, NEAR, what);
        training_teardown();
        training_setup();
    }
}
END_TEST

/* The others hear of it by the closed socket, whatever NCCL says, and can let go of the device. */
static struct outcome kill_the_last(struct training t)
{
    struct outcome o;

    t.kill_after = 5;
    o = training_run(&t);
    all_ended(&o, t.size - 1, EXIT_CLASS_PEER);
    ck_assert_int_lt(o.end_ms, 5000);
    ck_assert_int_lt(o.last, t.spec->train.steps);
    return o;
}

static void killed_over_nccl(int size, int pod)
{
    struct jobspec s = job("killed", STEPS);
    struct training t = on_device(&s, size, 1);

    t.pod = pod;
    kill_the_last(t);
}

START_TEST(a_killed_rank_ends_its_peer_over_nccl)
{
    killed_over_nccl(2, 2);
    training_teardown();
    training_setup();
    killed_over_nccl(2, 1);
}
END_TEST

START_TEST(a_killed_rank_ends_its_peers_over_nccl)
{
    killed_over_nccl(3, 1);
}
END_TEST

/* A communicator that cannot be aborted, on whose device the others' work waits for ever. */
START_TEST(a_stuck_abort_does_not_keep_a_rank)
{
    struct jobspec s = job("killed", STEPS);
    struct training t = on_device(&s, 2, 1);
    struct outcome o;

    setenv("LLMJOB_CUDASIM_NCCL", "stuck", 1);
    t.end_ms = 500;
    o = kill_the_last(t);
    ck_assert_str_eq(o.message, "rank 1 closed its connection");
}
END_TEST

/* The next incarnation goes on after the last checkpoint, to the bit as if nothing had been. */
START_TEST(a_killed_training_is_taken_up_again)
{
    struct jobspec straight = job("straight", STEPS), killed = job("killed", STEPS);
    struct training t = on_device(&killed, 2, 1), whole_one = on_device(&straight, 2, 1);
    struct outcome want, before, after;

    t.pod = whole_one.pod = 1;
    t.staged = whole_one.staged = true;
    killed.checkpoint.every_steps = straight.checkpoint.every_steps = 2;
    want = whole(whole_one);
    before = kill_the_last(t);
    t.incarnation = 2;
    after = training_run(&t);
    all_ended(&after, 2, EXIT_CLASS_DONE);
    ck_assert_int_gt(after.first, 2); /* what was saved, and not more than the killed did */
    ck_assert_int_le(after.first, before.last + 1);
    ck_assert_int_eq(after.first % 2, 1);
    same_to_the_bit(&want, &after, after.first);
    training_same_checkpoints("straight", "killed");
}
END_TEST

static void refused(
    const struct jobspec *s, int64_t budget_bytes, enum exit_class class, const char *word)
{
    struct training t = on_device(s, 1, 9);
    struct outcome o;

    t.budget_bytes = budget_bytes;
    o = training_run(&t);
    ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
    ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
}

START_TEST(what_is_refused)
{
    struct jobspec s = job("refused", STEPS);

    refused(&s, 1 << 20, EXIT_CLASS_MEMORY, "needs");
    s.train.optimizer.learning_rate = 1e30;
    s.train.optimizer.clip_norm = 0;
    refused(&s, 0, EXIT_CLASS_USER, "learningRate");
    s = job("refused", STEPS);
    gpu_show(0);
    refused(&s, 0, EXIT_CLASS_DEVICE, "GPU");
}
END_TEST

int main(void)
{
    gpu_open();
    return unit_run_sampled(&(struct unit){"cuda_train", 120, training_setup, training_teardown},
        GPU_TESTS(GPU_ANY(fifty_losses_of_one_rank), GPU_RANKS(losses_of_two_ranks_over_nccl, 2),
            GPU_ANY(losses_of_two_pods_staged), GPU_RANKS(owners_of_slices, 2),
            GPU_RANKS(two_ranks_share_a_model, 2), GPU_RANKS(two_ranks_share_sequences, 2),
            GPU_RANKS(two_ranks_share_experts, 2), GPU_RANKS(less_crosses_between_devices, 2),
            GPU_ANY(micro_batches_add_up), GPU_ANY(checkpoints_change_the_device),
            GPU_ANY(exports_are_equal_to_the_bit), GPU_ANY(a_resume_is_bitwise_equal),
            GPU_ANY(lora_in_bf16), GPU_ANY(dropout_is_the_cpus), GPU_ANY(other_optimizers),
            GPU_RANKS(a_killed_rank_ends_its_peer_over_nccl, 2),
            GPU_RANKS(a_killed_rank_ends_its_peers_over_nccl, 3),
            GPU_SIMULATED(a_stuck_abort_does_not_keep_a_rank),
            GPU_ANY(a_killed_training_is_taken_up_again), GPU_ANY(what_is_refused)));
}
