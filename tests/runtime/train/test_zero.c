/*
 * Goal: ranks that divide the optimizer's state, gradients and weights learn what they learn when
 * each keeps all of them, and keep no more than their part. Method: the slices of many worlds by
 * every optimizer, in order and cut only where they may; several owners in one process beside one
 * that owns all, to the bit; whole trainings of 2, 3 and 4 ranks by every stage beside the same
 * with nothing divided, to the bit where no clipping rounds a sum of slices; cut and gone on with,
 * in other stages and worlds; a world that is not the one asked for; and what a rank may allocate.
 * needs: sample
 */
#include "runtime/train/optim.h"

#include "base/io.h"
#include "kernels/ops.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS 8

static struct err e;

/* -- slices -- */

static const struct optim_conf plain = {.learning_rate = 0.01,
    .weight_decay = 0.1,
    .beta1 = 0.9,
    .beta2 = 0.99,
    .epsilon = 1e-8,
    .momentum = 0.9,
    .schedule = SCHEDULE_CONSTANT,
    .steps = 10,
    .seed = 9};

/* Where a slice begins: at a tensor, or where this optimizer may be cut. */
static void check_cut(const struct optim_conf *c, const struct tensors *t, int64_t at)
{
    int i = 0;
    if (at == t->elements)
        return;
    while (i + 1 < t->count && at >= t->at[i + 1].offset)
        i++;
    const struct tensor *x = &t->at[i];
    bool hidden = x->layer >= 0 && x->dims == 2, embeds = x->role <= TENSOR_TYPES;
    int64_t inside = at - x->offset;
    if (c->name == OPTIMIZER_ADAFACTOR || (c->name == OPTIMIZER_MUON && hidden))
        ck_assert_msg(!inside, "%s is cut at %lld", x->name, (long long)inside);
    else if (c->state == OPTIMIZER_STATE_INT8 && x->dims == 2 && !embeds && x->count >= 4096)
        ck_assert_msg(inside % OP_STATE_BLOCK == 0, "%s: %lld", x->name, (long long)inside);
}

START_TEST(slices_cover_once_and_cut_where_they_may)
{
    const struct model_config config = shape_of("smollm2-135m"), small = tiny_wide();
    struct tensors tables[2];
    ck_assert(!tensors_create(&config, &tables[0], &e) && !tensors_create(&small, &tables[1], &e));
    for (int i = 0; i < 15 * 2; i++) {
        struct optim_conf c = plain;
        const struct tensors *t = &tables[i % 2];
        c.name = (enum optimizer_name)(i / 2 % 5);
        c.state = (enum optimizer_state)(i / 10);
        for (int ranks = 1; ranks < 70; ranks += ranks < 9 ? 1 : 20) {
            int64_t next = 0, first, count;
            for (int rank = 0; rank < ranks; rank++) {
                optim_slice(&c, t, ranks, rank, &first, &count);
                ck_assert_int_eq(first, next);
                ck_assert_int_ge(count, 0);
                check_cut(&c, t, first);
                if (c.name <= OPTIMIZER_LION)
                    ck_assert_int_le(count, t->elements / ranks + 2048);
                next += count;
            }
            ck_assert_int_eq(next, t->elements);
        }
    }
    tensors_done(&tables[0]);
    tensors_done(&tables[1]);
}
END_TEST

/* -- owners in one process -- */

#define OWNERS 3

struct owner {
    struct pass *pass;
    struct optim *o;
};

static struct owner open_owner(
    struct dev *d, const struct optim_conf *c, enum dtype t, int owners, int owner)
{
    struct model_conf conf = {.config = tiny_wide(),
        .t = t,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 2,
        .owners = owners,
        .owner = owner};
    struct owner x = {.pass = tiny_pass(d, &conf)};
    tiny_fill(d, pass_model(x.pass), 1);
    ck_assert_msg(!optim_create(d, c, x.pass, &x.o, &e), "%s", e.text);
    return x;
}

static void close_owner(struct owner *x)
{
    optim_destroy(x->o);
    tiny_pass_close(x->pass);
}

static void take_step(struct dev *d, struct owner *x, int64_t step)
{
    struct model *m = pass_model(x->pass);
    uint64_t seed = (uint64_t)step;
    double norm;
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct tensor *p = &model_trained(m)->at[i];
        mem_autofree float *g = mem_array((size_t)p->count, sizeof *g);
        for (int64_t j = 0; j < p->count; j++)
            g[j] = (float)tiny_random(&seed);
        dev_upload(d, pass_gradient(x->pass) + p->offset, g, (size_t)p->count * 4);
    }
    ck_assert_msg(!optim_step(x->o, step, &norm, &e), "%s", e.text);
}

/* As the collective does it: each takes the others' slices. */
static void exchange(struct dev *d, const struct optim_conf *c, struct owner *x)
{
    const struct tensors *t = model_trained(pass_model(x->pass));
    for (int i = 0; i < OWNERS; i++)
        for (int k = 0; k < OWNERS; k++) {
            int64_t first, count;
            optim_slice(c, t, OWNERS, k, &first, &count);
            if (i != k)
                dev_copy(d, model_master(pass_model(x[i].pass)) + first,
                    model_master(pass_model(x[k].pass)) + first, (size_t)count * 4);
        }
}

static void owners_do_what_one_does(const struct optim_conf *c, enum dtype t)
{
    struct owner one, x[OWNERS];
    struct dev *d;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    one = open_owner(d, c, t, 0, 0);
    for (int i = 0; i < OWNERS; i++)
        x[i] = open_owner(d, c, t, OWNERS, i);
    for (int step = 1; step <= 3; step++) {
        take_step(d, &one, step);
        for (int i = 0; i < OWNERS; i++)
            take_step(d, &x[i], step);
        exchange(d, c, x);
        const float *want = model_master(pass_model(one.pass));
        for (int i = 0; i < OWNERS; i++)
            ck_assert_msg(!memcmp(model_master(pass_model(x[i].pass)), want,
                              (size_t)model_trainable(pass_model(one.pass)) * 4),
                "optimizer %d, state %d, step %d, owner %d", c->name, c->state, step, i);
    }
    close_owner(&one);
    for (int i = 0; i < OWNERS; i++)
        close_owner(&x[i]);
    dev_close(d);
}

START_TEST(owners_together_do_what_one_does)
{
    for (int i = 0; i < 15; i++) {
        struct optim_conf c = plain;
        c.name = (enum optimizer_name)(i % 5);
        c.state =
            c.name == OPTIMIZER_ADAFACTOR ? OPTIMIZER_STATE_FP32 : (enum optimizer_state)(i / 5);
        c.masks_from = c.state ? 0 : 2;
        c.layer_decay = i % 2 ? 0.5 : 1;
        owners_do_what_one_does(&c, DTYPE_F32);
        owners_do_what_one_does(&c, DTYPE_BF16);
    }
}
END_TEST

/* -- what a process keeps -- */

/* Private memory, in bytes. */
static int64_t private_bytes(void)
{
    long long pages;
    FILE *f = fopen("/proc/self/statm", "re");
    ck_assert(f && fscanf(f, "%*d %*d %*d %*d %*d %lld", &pages) == 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void measure(const struct optim_conf *c, int owners, int owner, int64_t out[2])
{
    struct model_conf conf = {.config = tiny_wide(),
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 2,
        .optimizer_fn = optim_bytes,
        .optimizer = c,
        .owners = owners,
        .owner = owner};
    struct optim *o;
    struct model *m;
    struct pass *pass;
    struct memplan p;
    struct dev *d;
    conf.config.vocab = 60000;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e) && !memplan_model(&conf, NULL, &p, &e));
    ck_assert(!model_create(d, &conf, &m, &e) && !pass_create(m, &pass, &e));
    out[0] = -private_bytes();
    ck_assert_msg(!optim_create(d, c, pass, &o, &e), "%s", e.text);
    out[0] += private_bytes();
    out[1] = p.optimizer;
    optim_destroy(o);
    tiny_pass_close(pass);
    dev_close(d);
}

/* By how much a process grows when its optimizer is made, and what was planned. */
static void grow(const struct optim_conf *c, int owners, int owner, int64_t out[2])
{
    int64_t *told = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    ck_assert(told != MAP_FAILED);
    pid_t child = fork(); /* where no memory of others is used again */
    if (!child) {
        measure(c, owners, owner, told);
        _exit(0);
    }
    ck_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
    out[0] = told[0];
    out[1] = told[1];
    munmap(told, 16);
}

#define SLACK (5 << 20) /* two huge pages, by which large memory is aligned and rounded */

START_TEST(a_rank_keeps_its_part)
{
    int64_t whole[2], part[2];
    grow(&plain, 0, 0, whole);
    ck_assert(whole[0] >= whole[1] && whole[1] > 8 * SLACK && whole[0] < whole[1] + SLACK);
    for (int owners = 2; owners <= 4; owners++)
        for (int owner = 0; owner < owners; owner++) {
            grow(&plain, owners, owner, part);
            ck_assert_msg(part[0] >= part[1] && part[0] < part[1] + SLACK &&
                    part[1] < whole[1] / owners + 16384,
                "owner %d of %d: grew by %lld, planned %lld; the whole %lld and %lld", owner,
                owners, (long long)part[0], (long long)part[1], (long long)whole[0],
                (long long)whole[1]);
        }
    printf("  state of one rank: %lld bytes of the process, of four ranks %lld\n",
        (long long)whole[0], (long long)part[0]);
}
END_TEST

/* -- whole trainings -- */

/* More layers than stand in a window at once; an embedding that is the head. */
#define LLAMA \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 32, " \
    "\"intermediate_size\": 80, \"num_hidden_layers\": 5, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"
#define GPT2 \
    "{\"model_type\": \"gpt2\", \"vocab_size\": 320, \"n_embd\": 48, \"n_layer\": 4, " \
    "\"n_head\": 4, \"n_positions\": 64, \"layer_norm_epsilon\": 1e-5}"

static void take_shape(struct jobspec *s, const char *config)
{
    static char path[256];
    snprintf(path, sizeof path, "%s", training_path("shape.json"));
    golden_write(path, config, strlen(config));
    s->model.init = INIT_RANDOM;
    s->model.config = path;
}

static struct jobspec job(const char *run, int zero_stage)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 4;
    s.train.optimizer.clip_norm = 0;
    s.parallelism.zero_stage = zero_stage;
    return s;
}

static void near(const struct outcome *a, const struct outcome *b, double most, const char *what)
{
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            most > 0 ? fabs(a->loss[k] / b->loss[k] - 1) <= most : a->loss[k] == b->loss[k],
            "%s, step %d: %.17g, undivided %.17g", what, k, a->loss[k], b->loss[k]);
    ck_assert_msg(fabs(a->validation / b->validation - 1) <= most, "%s: validation %.17g, %.17g",
        what, a->validation, b->validation);
}

static struct outcome run_in_pods(const struct jobspec *s, int size, int pod, int64_t budget_bytes)
{
    struct outcome o = training_run(&(struct training){
        .spec = s, .size = size, .incarnation = 1, .pod = pod, .budget_bytes = budget_bytes});
    for (int i = 0; i < size; i++)
        ck_assert_msg(
            o.exit[i] == EXIT_CLASS_DONE, "rank %d: class %d, %s", i, o.exit[i], o.message);
    ck_assert_int_eq(o.last, s->train.steps);
    return o;
}

/* Stages, decimal digits, beside undivided, and what they left. */
static void learn_the_same(
    void (*change_fn)(struct jobspec *s), int stages, int size, double most, const char *what)
{
    struct jobspec whole = job("whole", 0);
    change_fn(&whole);
    struct outcome a = training_run_whole(&whole, size);
    bool merged = whole.train.method != METHOD_ADAPTER; /* behind sub-layers nothing is */
    ck_assert(!merged ||
        !io_rename(training_path("output/model.safetensors"), training_path("whole.out"), &e));
    for (; stages; stages /= 10) {
        struct jobspec divided = job("divided", stages % 10);
        change_fn(&divided);
        struct outcome b = training_run_whole(&divided, size);
        near(&b, &a, most, what);
        ck_assert_int_lt(b.memory_bytes, a.memory_bytes);
        if (!most && merged)
            training_same_files(
                training_path("whole.out"), training_path("output/model.safetensors"));
        golden_remove(training_path("divided"));
        golden_remove(training_path("output"));
    }
    golden_remove(training_path("whole"));
}

static void clip(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->train.optimizer.clip_norm = 0.1;
}

START_TEST(every_world_learns_the_same)
{
    for (int size = 2; size <= 4; size++) {
        struct jobspec whole = job("whole", 0);
        struct outcome a = training_run_whole(&whole, size);
        for (int stage = 1; stage <= 3; stage++) {
            struct jobspec divided = job("divided", stage);
            struct outcome b = training_run_whole(&divided, size);
            near(&b, &a, 0, "divided");
            training_same_checkpoints("whole", "divided");
            golden_remove(training_path("divided"));
        }
        golden_remove(training_path("whole"));
        golden_remove(training_path("output"));
    }
    learn_the_same(clip, 123, 3, 1e-6, "clipped");
}
END_TEST

/* Between two pods to the bit; around a ring sums are made in an order that places decide. */
START_TEST(pods_learn_the_same)
{
    for (int size = 2; size <= 3; size++) {
        struct jobspec whole = job("whole", 0), divided = job("divided", 3);
        take_shape(&whole, LLAMA);
        take_shape(&divided, LLAMA);
        struct outcome a = run_in_pods(&whole, size, 1, 0), b = run_in_pods(&divided, size, 1, 0);
        near(&b, &a, size == 2 ? 0 : 1e-6, "a rank a pod");
        golden_remove(training_path("whole"));
        golden_remove(training_path("divided"));
        golden_remove(training_path("output"));
    }
}
END_TEST

/* Less memory than one batch a rank needs, and seven sequences: one rank takes a micro-batch less
   than the other. What is reduced micro-batch by micro-batch is added up in another order. */
START_TEST(micro_batches_are_as_many_everywhere)
{
    for (int stage = 2; stage <= 3; stage++) {
        struct jobspec s = job("divided", stage);
        take_shape(&s, LLAMA);
        s.train.batch_sequences = 7;
        struct outcome a = run_in_pods(&s, 2, 2, 0);
        golden_remove(training_path("divided"));
        struct outcome b = run_in_pods(&s, 2, 2, (int64_t)((double)a.memory_bytes * 0.98 / 0.9));
        near(&b, &a, 1e-6, "two micro-batches");
        ck_assert_int_lt(b.memory_bytes, a.memory_bytes);
        golden_remove(training_path("divided"));
        golden_remove(training_path("output"));
    }
}
END_TEST

static void use_gpt2(struct jobspec *s)
{
    take_shape(s, GPT2);
    s->precision = PRECISION_BF16;
    s->train.recompute = RECOMPUTE_FULL;
}

static void use_mixture(struct jobspec *s)
{
    s->model.init = INIT_RANDOM;
    s->model.config = training_mixture();
}

static void use_masked(struct jobspec *s)
{
    s->model.source = GOLDEN "tiny-bert-masked";
    s->train.objective = OBJECTIVE_MASKED_LM;
    s->train.masking.share = 0.15;
    s->train.batch_sequences = 32;
    s->train.recompute = RECOMPUTE_SELECTIVE;
}

static void use_bf16(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->precision = PRECISION_BF16;
    s->train.optimizer.state = OPTIMIZER_STATE_BF16;
}

static void use_fp16(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->precision = PRECISION_FP16;
}

static void use_codes(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->precision = PRECISION_BF16;
    s->train.optimizer.state = OPTIMIZER_STATE_INT8;
}

static void use_adafactor(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->train.optimizer.name = OPTIMIZER_ADAFACTOR;
}

static void use_muon(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->train.optimizer.name = OPTIMIZER_MUON;
    s->train.optimizer.momentum = 0.95;
    s->train.optimizer.state = OPTIMIZER_STATE_INT8;
}

static void use_sparsity(struct jobspec *s)
{
    s->precision = PRECISION_BF16;
    s->train.sparsity.pattern = SPARSITY_UNSTRUCTURED;
    s->train.sparsity.target = 0.5;
    s->train.sparsity.start_step = 2;
    s->train.sparsity.end_step = 6;
    s->train.sparsity.every_steps = 2;
}

static void use_lora(struct jobspec *s)
{
    take_shape(s, LLAMA);
    training_lora(s);
    s->train.optimizer.learning_rate = 1e-2;
    s->train.lora.dropout = 0.1;
    s->precision = PRECISION_BF16;
}

static void use_adapters(struct jobspec *s)
{
    take_shape(s, LLAMA);
    s->train.method = METHOD_ADAPTER;
    s->train.adapter.reduction_factor = 4;
    s->train.optimizer.learning_rate = 1e-2;
}

static void use_dora(struct jobspec *s)
{
    training_lora(s);
    s->train.optimizer.learning_rate = 1e-2;
    s->train.lora.dora = true;
    s->precision = PRECISION_BF16;
}

static void use_adalora(struct jobspec *s)
{
    training_lora(s);
    s->train.optimizer.learning_rate = 1e-2;
    s->train.lora.rank = 2;
    s->train.lora.adalora.initial_rank = 4;
    s->train.lora.adalora.interval = 2;
    s->train.lora.adalora.beta1 = s->train.lora.adalora.beta2 = 0.85;
    s->train.lora.adalora.orthogonal_weight = 0.5;
    s->train.lora.adalora.final_steps = 2;
}

START_TEST(every_optimizer_and_precision_learns_the_same)
{
    static const struct {
        const char *name;
        void (*fn)(struct jobspec *s);
        int stages;
    } kinds[] = {{"BF16", use_bf16, 123}, {"FP16", use_fp16, 13}, {"Int8", use_codes, 13},
        {"Adafactor", use_adafactor, 13}, {"Muon", use_muon, 13}, {"sparsity", use_sparsity, 1}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        learn_the_same(kinds[i].fn, kinds[i].stages, 2, 0, kinds[i].name);
}
END_TEST

START_TEST(every_model_learns_the_same)
{
    learn_the_same(use_gpt2, 23, 3, 0, "GPT-2");
    learn_the_same(use_mixture, 3, 2, 0, "a mixture of experts");
    learn_the_same(use_masked, 3, 2, 0, "masked tokens");
}
END_TEST

START_TEST(adapters_learn_the_same)
{
    learn_the_same(use_lora, 23, 2, 0, "LoRA");
    learn_the_same(use_adapters, 3, 2, 0, "adapters");
    learn_the_same(use_dora, 1, 3, 0, "DoRA");
    learn_the_same(use_adalora, 1, 2, 0, "AdaLoRA");
}
END_TEST

static struct outcome go_on(const char *run, int stage, int size, int incarnation, int stop_after)
{
    struct jobspec s = job(run, stage);
    struct outcome o = training_run(&(struct training){
        .spec = &s, .size = size, .incarnation = incarnation, .stop_after = stop_after});
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == (stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE),
            "rank %d: class %d, %s", i, o.exit[i], o.message);
    return o;
}

/* In three parts, each of a stage and a world; the last one ends it. */
static struct outcome in_parts(const char *run, const int stages[3], const int sizes[3])
{
    struct outcome o = {0}, part;
    for (int i = 0; i < 3; i++) {
        part = go_on(run, stages[i], sizes[i], i + 1, i < 2 ? 2 + 3 * i : 0);
        for (int k = part.first; k <= part.last; k++)
            o.loss[k] = part.loss[k];
    }
    ck_assert_int_eq(part.last, STEPS);
    o.validation = part.validation;
    return o;
}

START_TEST(stages_and_worlds_go_on_with_each_other)
{
    struct outcome a = go_on("straight", 0, 2, 1, 0), b;
    b = in_parts("cut", (const int[]){1, 1, 1}, (const int[]){2, 2, 2});
    near(&b, &a, 0, "cut and resumed");
    training_same_checkpoints("straight", "cut");
    b = in_parts("stages", (const int[]){0, 1, 0}, (const int[]){2, 2, 2});
    near(&b, &a, 0, "stages 0, 1, 0");
    training_same_checkpoints("straight", "stages");
    b = in_parts("worlds", (const int[]){1, 1, 1}, (const int[]){2, 3, 1});
    near(&b, &a, 1e-5, "worlds of 2, 3 and 1");
    b = in_parts("all", (const int[]){3, 0, 2}, (const int[]){2, 2, 2});
    near(&b, &a, 0, "stages 3, 0, 2");
    training_same_checkpoints("straight", "all");
    b = in_parts("wide", (const int[]){2, 3, 3}, (const int[]){3, 4, 2});
    near(&b, &a, 1e-5, "worlds of 3, 4 and 2");
}
END_TEST

START_TEST(a_world_of_another_size_is_refused)
{
    struct jobspec s = job("asked", 1);
    struct outcome o;
    s.parallelism.data = 3;
    o = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1});
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(o.exit[i], EXIT_CLASS_USER);
    ck_assert_ptr_nonnull(strstr(o.message, "spec.parallelism.data: 3, but the world has 2 ranks"));
    training_run_whole(&s, 3);
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"zero", 120, training_setup, training_teardown},
        (const TTest *const[]){slices_cover_once_and_cut_where_they_may,
            owners_together_do_what_one_does, a_rank_keeps_its_part, every_world_learns_the_same,
            pods_learn_the_same, micro_batches_are_as_many_everywhere,
            every_optimizer_and_precision_learns_the_same, every_model_learns_the_same,
            adapters_learn_the_same, stages_and_worlds_go_on_with_each_other,
            a_world_of_another_size_is_refused, NULL});
}
