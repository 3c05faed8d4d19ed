/*
 * Goal: slices cover every element once, and a state written by any world is read whole. Method:
 * ranges for many totals and worlds; the tiny model's parameters and the state of each optimizer
 * written by 3 ranks' slices, Adafactor's also by so many that some have nothing to write, states
 * in BF16 and in codes also, and read into a fresh model, whose next step is the same.
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

        ck_assert_msg(!ckpt_begin(folder, 7, rank, &w, &e), "%s", e.text);
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
    ck_assert_msg(!shard_read(r, d, m[1], o[1], &e), "%s", e.text);
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

UNIT_MAIN_WITHIN("shard", 120, ranges_cover_once, state_goes_round)
