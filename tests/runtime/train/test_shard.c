/*
 * Goal: slices cover every element once, and a state written by any world is read whole. Method:
 * ranges for many totals and worlds; the tiny model's parameters and the state of each optimizer
 * written by 3 ranks' slices, Adafactor's also by so many that some have nothing to write, states
 * in BF16 and in codes also, and read into a fresh model, whose next step is the same. What pods
 * have beside is written by three and read by one to five.
 */
#include "runtime/train/shard.h"

#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#define WORLD_MAX 64 /* more than the tiny model has blocks */

static struct err e;

START_TEST(ranges_cover_once)
{
    for (int64_t total = 0; total < 30000; total = total * 3 / 2 + 7)
        for (int world = 1; world < 40; world++) {
            int64_t next = 0, first, count;

            for (int rank = 0; rank < world; rank++) {
                shard_range(total, world, rank, &first, &count);
                ck_assert_int_eq(first, next);
                ck_assert_int_ge(count, 0);
                ck_assert_int_le(count, total / world + 2048);
                next += count;
            }
            ck_assert_int_eq(next, total);
        }
}
END_TEST

static struct pass *open(
    struct dev *d, enum optimizer_name name, enum optimizer_state state, struct optim **o)
{
    struct model_conf c = {.config = state ? tiny_wide() : tiny_config(false),
        .t = DTYPE_BF16,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 2};
    struct optim_conf oc = {.name = name,
        .state = state,
        .learning_rate = 0.01,
        .beta1 = 0.9,
        .beta2 = 0.9,
        .epsilon = 1e-8,
        .momentum = 0.9};
    struct pass *pass = tiny_pass(d, &c);
    ck_assert(!optim_create(d, &oc, pass, o, &e));
    return pass;
}

static void write_all(
    const char *folder, struct dev *d, struct model *m, struct optim *o, int world)
{
    struct ckpt_state st = {
        .step = 7, .samples = 70, .incarnation = 1, .world = world, .owner = "a"};
    char hashes[WORLD_MAX][17];
    int64_t bytes[WORLD_MAX];

    ck_assert_msg(!ckpt_claim(folder, 1, "a", &e), "%s", e.text);
    for (int rank = 0; rank < world; rank++) {
        struct ckpt_writer *w;
        struct ckpt_memory held = {
            .bytes = shard_bytes(optim_conf(o), model_trained(m), world, rank)};
        mem_autofree char *memory = held.at = mem_alloc((size_t)held.bytes);

        ck_assert_ptr_nonnull(memory);
        int rc = rank % 2 ? ckpt_begin(folder, 7, rank, &w, &e)
                          : ckpt_hold(folder, 7, rank, &held, &w, &e);
        ck_assert_msg(!rc, "%s", e.text);
        ck_assert_msg(!shard_write(w, d, m, o, world, rank, &e), "%s", e.text);
        ck_assert_msg(!ckpt_finish(w, hashes[rank], &bytes[rank], &e), "%s", e.text);
    }
    ck_assert_msg(
        !ckpt_commit(folder, &st, world, (const char(*)[17])hashes, bytes, 2, &e), "%s", e.text);
}

static void same(struct dev *d, const void *a, const void *b, size_t bytes)
{
    mem_autofree char *x = mem_alloc(bytes), *y = mem_alloc(bytes);

    dev_download(d, x, a, bytes);
    dev_download(d, y, b, bytes);
    ck_assert(!memcmp(x, y, bytes));
}

/* Names in the file besides: row and column of matrices, and scales, which no slice cuts. Returns
   how many states are codes. */
static int same_states(struct dev *d, struct model *m, struct optim *const o[2])
{
    int states = 0, coded = 0;

    for (int i = 0; i < model_trained(m)->count; i++)
        for (int k = 0; k < OPTIM_STATES; k++) {
            struct optim_state a = optim_state(o[0], i, k), b = optim_state(o[1], i, k);

            ck_assert_int_eq(a.count, b.count);
            ck_assert_int_eq(a.scales, b.scales);
            if (a.count)
                same(d, a.at, b.at, (size_t)dtype_bytes(a.type, a.count));
            if (a.scales)
                same(d, a.scale, b.scale, (size_t)a.scales * 4);
            states += a.count > 0;
            coded += a.type == DTYPE_U8 && a.count;
        }
    ck_assert_int_ge(states, model_trained(m)->count);
    return coded;
}

/* What the model holds becomes its gradient; gaps between parts stay zero. */
static void take_step(struct dev *d, struct pass *pass, struct optim *o, int64_t step)
{
    struct model *m = pass_model(pass);
    double norm;
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct tensor *p = &model_trained(m)->at[i];

        dev_copy(
            d, pass_gradient(pass) + p->offset, model_master(m) + p->offset, (size_t)p->count * 4);
    }
    ck_assert(!optim_step(o, step, &norm, &e));
}

static void goes_round(enum optimizer_name name, enum optimizer_state state, int world)
{
    struct ckpt_reader *r;
    struct ckpt_state st;
    struct optim *o[2];
    struct pass *pass[2];
    struct model *m[2];
    char folder[64];
    struct dev *d;
    size_t n;

    golden_folder(folder);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    for (int i = 0; i < 2; i++) {
        pass[i] = open(d, name, state, &o[i]);
        m[i] = pass_model(pass[i]);
    }
    tiny_fill(d, m[0], 3);
    n = (size_t)model_trainable(m[0]) * 4;
    take_step(d, pass[0], o[0], 1);
    write_all(folder, d, m[0], o[0], world);
    ck_assert_msg(!ckpt_open_newest(folder, INT64_MAX, &r, &st, &e), "%s", e.text);
    ck_assert_int_eq(st.step, 7);
    ck_assert_msg(!shard_read(r, d, m[1], o[1], 0, &e), "%s", e.text);
    ckpt_close(r);
    same(d, model_master(m[0]), model_master(m[1]), n);
    ck_assert_int_eq(same_states(d, m[0], o) > 0, state == OPTIMIZER_STATE_INT8);
    same(d, model_compute_copy(m[0]), model_compute_copy(m[1]), n / 2);
    for (int i = 0; i < 2; i++) /* and what follows is the same */
        take_step(d, pass[i], o[i], 2);
    same(d, model_master(m[0]), model_master(m[1]), n);
    same_states(d, m[0], o);
    for (int i = 0; i < 2; i++) {
        optim_destroy(o[i]);
        tiny_pass_close(pass[i]);
    }
    dev_close(d);
    golden_remove(folder);
}

START_TEST(state_goes_round)
{
    int64_t first, count;

    for (enum optimizer_name name = OPTIMIZER_ADAMW; name <= OPTIMIZER_MUON; name++)
        goes_round(name, OPTIMIZER_STATE_FP32, 3);
    goes_round(OPTIMIZER_ADAFACTOR, OPTIMIZER_STATE_FP32, WORLD_MAX);
    goes_round(OPTIMIZER_ADAMW, OPTIMIZER_STATE_BF16, 3);
    goes_round(OPTIMIZER_ADAMW, OPTIMIZER_STATE_INT8, 7);
    goes_round(OPTIMIZER_MUON, OPTIMIZER_STATE_INT8, 2);
    shard_range(5000, WORLD_MAX, 0, &first, &count);
    ck_assert_int_eq(count, 0);
}
END_TEST

/* -- beside the optimizer's state -- */

#define PODS 3 /* that write, a rank each */

/* Of element i of the flat range what pod `of` has. */
static float own(int of, int64_t i)
{
    return (float)(i % 1000) + 1000 * (float)(of + 1);
}

static void write_extras(
    struct ckpt_writer *w, struct dev *d, struct model *m, int rank, float *numbers)
{
    int64_t n = model_trainable(m);
    struct shard_extra extras[] = {{".own", numbers, 0, n, rank, PODS, false},
        {".slice", NULL, 0, 0, 0, 0, false}, {".all", numbers, 0, n, 0, 0, true}};
    shard_range(n, PODS, rank, &extras[1].first, &extras[1].count);
    extras[1].at = numbers + extras[1].first;
    for (int64_t i = 0; i < n; i++)
        numbers[i] = own(rank, i);
    for (int i = 0; i < 3; i++)
        ck_assert_msg(!shard_write_extra(w, d, m, &extras[i], PODS, rank, &e), "%s", e.text);
}

static void write_pods(const char *folder, struct dev *d, struct model *m, float *numbers)
{
    struct ckpt_state st = {
        .step = 7, .samples = 70, .incarnation = 1, .world = PODS, .owner = "a"};
    int64_t bytes[PODS];
    char hashes[PODS][17];
    ck_assert_msg(!ckpt_claim(folder, 1, "a", &e), "%s", e.text);
    for (int rank = 0; rank < PODS; rank++) {
        struct ckpt_writer *w;
        ck_assert_msg(!ckpt_begin(folder, 7, rank, &w, &e), "%s", e.text);
        write_extras(w, d, m, rank, numbers);
        ck_assert_msg(!ckpt_finish(w, hashes[rank], &bytes[rank], &e), "%s", e.text);
    }
    ck_assert_msg(
        !ckpt_commit(folder, &st, PODS, (const char(*)[17])hashes, bytes, 2, &e), "%s", e.text);
}

/* What x has of element i: of several, the sum of those that it takes up; else what was written by
   whoever had it. */
static float wanted(const struct shard_extra *x, int64_t elements, int64_t i)
{
    float sum = 0;
    for (int rank = 0; rank < PODS; rank++) {
        int64_t first, count;
        shard_range(elements, PODS, rank, &first, &count);
        bool has = x->among ? rank % x->among == x->of : i >= first && i < first + count;
        sum += has ? own(rank, i) : 0;
    }
    return strcmp(x->suffix, ".none") ? sum : 0;
}

static void read_extra(
    struct ckpt_reader *r, struct dev *d, struct model *m, float *numbers, struct shard_extra x)
{
    int64_t n = model_trainable(m);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = -1;
    x.at = numbers + x.first;
    ck_assert_msg(!shard_read_extra(r, d, m, &x, &e), "%s", e.text);
    for (int k = 0; k < model_trained(m)->count; k++) {
        const struct tensor *t = &model_trained(m)->at[k];
        for (int64_t i = t->offset; i < t->offset + t->count; i++) {
            bool here = i >= x.first && i < x.first + x.count;
            float want = here ? wanted(&x, n, i) : -1;
            ck_assert_msg(numbers[i] == want, "%s of %d: element %lld: %g, not %g", x.suffix, x.of,
                (long long)i, (double)numbers[i], (double)want);
        }
    }
}

START_TEST(other_pods_take_up_what_there_is)
{
    struct ckpt_reader *r;
    struct ckpt_state st;
    struct optim *o;
    char folder[64];
    struct dev *d;
    golden_folder(folder);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    struct pass *pass = open(d, OPTIMIZER_ADAMW, OPTIMIZER_STATE_FP32, &o);
    struct model *m = pass_model(pass);
    int64_t n = model_trainable(m), half = n / 2;
    mem_autofree float *x = mem_array((size_t)n, sizeof *x);
    write_pods(folder, d, m, x);
    ck_assert_msg(!ckpt_open_newest(folder, INT64_MAX, &r, &st, &e), "%s", e.text);
    for (int pods = 1; pods <= 5; pods++)
        for (int of = 0; of < pods; of++)
            read_extra(
                r, d, m, x, (struct shard_extra){".own", NULL, half, n - half, of, pods, false});
    read_extra(r, d, m, x, (struct shard_extra){".slice", NULL, 0, half, 0, 0, false});
    read_extra(r, d, m, x, (struct shard_extra){".all", NULL, 0, n, 0, 0, true});
    read_extra(r, d, m, x, (struct shard_extra){".none", NULL, 0, n, 0, 0, false});
    const struct shard_extra missing = {".none", x, 0, n, 0, 0, true};
    ck_assert_int_eq(shard_read_extra(r, d, m, &missing, &e), -ERR_CORRUPT);
    ckpt_close(r);
    optim_destroy(o);
    tiny_pass_close(pass);
    dev_close(d);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN_WITHIN(
    "shard", 120, ranges_cover_once, state_goes_round, other_pods_take_up_what_there_is)
