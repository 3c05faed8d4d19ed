/*
 * Goal: windows on what ranks divide. Method: of many models and worlds every tensor has a place of
 * its own within its unit, neighbours that are computed with as one stay neighbours, and what the
 * owners have of a unit is all of it; and what is divided by each stage, precision and method.
 */
#include "runtime/model/zero.h"

#include "runtime/model/internal.h"
#include "runtime/train/optim.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;
static const struct optim_conf adamw = {.name = OPTIMIZER_ADAMW}, muon = {.name = OPTIMIZER_MUON};

static struct model_conf conf_of(
    struct model_config config, const struct optim_conf *c, int owners, int stage)
{
    return (struct model_conf){.config = config,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 1,
        .optimizer = c,
        .slice_fn = optim_owns,
        .owners = owners,
        .zero_stage = stage};
}

/* Where a unit's memory begins, and how long it is. */
static void find_unit(
    const struct zero_window *w, const struct tensor *x, int64_t *begin, int64_t *size)
{
    *begin = x->layer < 0 ? 0 : w->outer + x->layer % w->slots * w->layer;
    *size = x->layer < 0 ? w->outer : w->layer;
}

static void check_places(const struct zero_window *w, const struct tensors *t)
{
    for (int i = 0; i < t->count; i++) {
        const struct tensor *x = &t->at[i];
        int64_t begin, size, at = zero_window_place(w, x);
        find_unit(w, x, &begin, &size);
        ck_assert(at >= begin && at + x->count <= begin + size);
        ck_assert_int_le(begin + size, zero_window_elements(w));
        for (int k = i + 1; k < t->count; k++) {
            const struct tensor *y = &t->at[k];
            int64_t other = zero_window_place(w, y);
            if (y->layer != x->layer)
                continue;
            ck_assert_msg(other >= at + x->count, "%s and %s", x->name, y->name);
            if (k == i + 1)
                ck_assert_int_eq(other - at, y->offset - x->offset);
        }
    }
}

static void check_counts(const struct zero_window *w, const struct tensors *t)
{
    int64_t sum = 0, units = 0;
    for (int unit = 0; unit < w->units; unit++, units++)
        for (int k = 0; k < w->owners; k++)
            sum += w->counts[unit * w->owners + k];
    ck_assert_int_eq(units, 1 + t->layers);
    ck_assert_int_eq(sum, t->elements);
}

START_TEST(every_tensor_has_a_place)
{
    for (int i = 0; i < 48; i++) {
        struct model_config configs[] = {
            tiny_config(true), tiny_gpt2(), tiny_bert(), shape_of("tiny-qwen3-moe")};
        struct model_conf c = conf_of(configs[i % 4], i % 3 ? &adamw : &muon, 2 + i / 4 % 6, 3);
        struct tensors t;
        c.config.layers = 1 + i % 5;
        ck_assert(!tensors_create(&c.config, &t, &e));
        for (int gradient = 0; gradient < 2; gradient++) {
            struct zero_window w;
            ck_assert(!zero_window_create(&w, &c, &t, gradient, &e));
            ck_assert_int_eq(w.slots, gradient ? 1 : 2);
            check_places(&w, &t);
            check_counts(&w, &t);
            zero_window_done(&w);
        }
        tensors_done(&t);
    }
}
END_TEST

START_TEST(a_base_is_divided_equally)
{
    struct model_conf c = conf_of(tiny_gpt2(), &adamw, 1, 3);
    struct tensors t;
    c.lora_rank = 2;
    ck_assert(!tensors_create(&c.config, &t, &e));
    for (c.owners = 2; c.owners < 40; c.owners += 3) {
        int64_t next = 0;
        for (int k = 0; k < c.owners; k++) {
            struct zero_slice s = zero_base(&c, &t, k);
            ck_assert_int_eq(s.first, next);
            ck_assert_int_ge(s.count, 0);
            ck_assert_int_le(s.count, t.elements / c.owners + 2 * TENSORS_ALIGN);
            next += s.count;
        }
        ck_assert_int_eq(next, t.elements);
    }
    tensors_done(&t);
}
END_TEST

START_TEST(stages_divide_what_they_say)
{
    for (int i = 0; i < 64; i++) {
        int stage = i % 4;
        bool half = i & 4, adapters = i & 8, whole = i & 16 && stage < 3, alone = i & 32;
        struct model_conf c = conf_of(tiny_gpt2(), &adamw, alone ? 0 : 2, stage);
        c.t = half ? DTYPE_BF16 : DTYPE_F32;
        c.lora_rank = adapters ? 2 : 0;
        c.whole_masters = whole;
        ck_assert_int_eq(zero_divides_masters(&c),
            !alone && !adapters && !whole && (stage == 3 || (half && stage)));
        ck_assert_int_eq(zero_divides_gradient(&c), !alone && stage >= 2);
        ck_assert_int_eq(zero_divides_weights(&c), !alone && stage == 3);
    }
}
END_TEST

UNIT_MAIN("zero", every_tensor_has_a_place, a_base_is_divided_equally, stages_divide_what_they_say)
