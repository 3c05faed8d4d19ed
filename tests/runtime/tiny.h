/*
 * tiny: the tiny shapes of shapes.h with random weights, for tests that need any model at all.
 * Weights are larger than a fresh model's, so that no gradient is near zero.
 */
#ifndef TESTS_RUNTIME_TINY_H
#define TESTS_RUNTIME_TINY_H

#include "base/mem.h"
#include "runtime/model/pass.h"
#include "tests/runtime/shapes.h"

#include <check.h>

#define TINY_T 13
#define TINY_B 3

static inline struct model_config tiny_config(bool tied)
{
    struct model_config c = shape_of("tiny-llama");

    c.tied_embeddings = tied;
    return c;
}

/* Some of its matrices are large enough for an optimizer's state in codes. */
static inline struct model_config tiny_wide(void)
{
    struct model_config c = tiny_config(false);

    c.dim = 64;
    c.ffn_dim = 72;
    return c;
}

static inline struct model_config tiny_gpt2(void)
{
    return shape_of("tiny-gpt2");
}

static inline struct model_config tiny_bert(void)
{
    return shape_of("tiny-bert");
}

static inline struct model_config tiny_texts(void) /* a BERT with labels of whole texts */
{
    return shape_of("tiny-texts");
}

static inline double tiny_random(uint64_t *state) /* (-1, 1) */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*state >> 11) * 0x1p-52 - 1;
}

/* A new model with fresh random weights, and a pass over it. */
static inline struct pass *tiny_pass(struct dev *d, const struct model_conf *c)
{
    struct model *m;
    struct pass *pass;
    struct err e;
    ck_assert_msg(!model_create(d, c, &m, &e), "%s", e.text);
    ck_assert_msg(!pass_create(m, &pass, &e), "%s", e.text);
    ck_assert_msg(!model_init_random(m, &e), "%s", e.text);
    return pass;
}

/* With its model. */
static inline void tiny_pass_close(struct pass *pass)
{
    struct model *m = pass_model(pass);
    pass_destroy(pass);
    model_destroy(m);
}

/* Replaces what model_init_random set: matrices and biases +-0.3, norms 1 +- 0.3; of the trained
   parts only. */
static inline void tiny_fill(struct dev *d, struct model *m, uint64_t seed)
{
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct tensor *p = &model_trained(m)->at[i];
        mem_autofree float *host = mem_array((size_t)p->count, sizeof(float));

        ck_assert_ptr_nonnull(host);
        bool weight = p->dims == 1 && !strstr(p->name, ".bias");
        for (int64_t j = 0; j < p->count; j++)
            host[j] = (float)((weight ? 1 : 0) + 0.3 * tiny_random(&seed));
        dev_upload(d, model_master(m) + p->offset, host, (size_t)p->count * 4);
    }
    model_master_changed(m);
}

static inline void tiny_ids(int32_t *ids, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)((tiny_random(&seed) + 1) / 2 * 61) % 61;
}

#endif
