/*
 * Goal: what a column counts is the mean square of what it is multiplied by. Method: the tiny Llama
 * with a token a byte; what the first layer's q, k and v read is made here, the norm of each
 * token's embedding; who has no figure; a stop.
 */
#include "runtime/convert/importance.h"

#include "runtime/text/tok.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#include <math.h>

#define TOKENS (3 * 128) /* three whole windows of the model's context */

static char folder[64], text_path[128];
static struct err e;
static char text[TOKENS + 2];
static struct weights *weights;
static struct door door;
static struct jobspec spec;

static void setup(void)
{
    char path[128];
    golden_folder(folder);
    bytes_model(folder);
    for (int i = 0; i <= TOKENS; i++)
        text[i] = (char)(' ' + i * i % 90);
    snprintf(text_path, sizeof text_path, "%s/text.txt", folder);
    golden_write(text_path, text, TOKENS + 1);
    snprintf(path, sizeof path, "%s/model", folder);
    ck_assert_msg(!weights_open(path, NULL, &weights, &e), "%s", e.text);
    door_init(&door, -1, NULL);
    spec = (struct jobspec){.precision = PRECISION_FP32, .convert.calibration = text_path};
}

static void teardown(void)
{
    weights_close(weights);
    golden_remove(folder);
}

static int create(struct importance **out)
{
    struct measure_conf c = {.door = &door, .spec = &spec, .budget_bytes = 1 << 30};
    ck_assert_int_eq(dev_open("cpu", 0, 1, &c.dev, &e), 0);
    int rc = importance_create(&c, weights, out, &e);
    dev_close(c.dev);
    return rc;
}

/* (64): of the norm of the embeddings of the text's tokens */
static void make_expected(double want[64])
{
    static float embedding[256][64], norm[64];
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    ck_assert(!weights_read(
        weights, "model.embed_tokens.weight", 256, 64, 0, 256, DTYPE_F32, embedding, &e));
    ck_assert(!weights_read(
        weights, "model.layers.0.input_layernorm.weight", 64, 1, 0, 64, DTYPE_F32, norm, &e));
    ck_assert(!tok_open(weights, &t, &e) && !tok_encode(t, text, TOKENS, false, &ids, &e));
    ck_assert_int_eq(ids.count, TOKENS);
    for (int k = 0; k < TOKENS; k++) {
        const float *x = embedding[ids.id[k]];
        double square = 0;
        for (int i = 0; i < 64; i++)
            square += (double)x[i] * (double)x[i];
        double scale = 1 / (square / 64 + (double)weights_config(weights)->norm_eps);
        for (int i = 0; i < 64; i++)
            want[i] += (double)x[i] * (double)x[i] * scale * (double)norm[i] * (double)norm[i];
    }
    tok_ids_done(&ids);
    tok_close(t);
}

START_TEST(it_is_the_mean_square_of_what_is_read)
{
    static const enum tensor_role roles[] = {TENSOR_Q, TENSOR_K, TENSOR_V};
    struct importance *m = NULL;
    struct tensors all;
    double want[64] = {0};
    ck_assert_msg(!create(&m), "%s", e.text);
    ck_assert(!tensors_create(weights_config(weights), &all, &e));
    make_expected(want);
    for (int r = 0; r < 3; r++) {
        const float *got = importance_of(m, tensors_get(&all, roles[r], TENSOR_WEIGHT, 0, -1));
        ck_assert_ptr_nonnull(got);
        for (int i = 0; i < 64; i++)
            ck_assert_double_eq_tol((double)got[i], want[i] / TOKENS, 1e-4 * want[i] / TOKENS);
    }
    const float *down = importance_of(m, tensors_get(&all, TENSOR_DOWN, TENSOR_WEIGHT, 1, -1));
    for (int i = 0; i < 128; i++)
        ck_assert(down[i] > 0 && isfinite(down[i]));
    ck_assert_ptr_null(importance_of(m, tensors_get(&all, TENSOR_EMBED, TENSOR_WEIGHT, -1, -1)));
    ck_assert_ptr_null(importance_of(m, tensors_get(&all, TENSOR_NORM_FFN, TENSOR_WEIGHT, 0, -1)));
    ck_assert_ptr_null(importance_of(NULL, tensors_get(&all, TENSOR_Q, TENSOR_WEIGHT, 0, -1)));
    tensors_done(&all);
    importance_destroy(m);
}
END_TEST

START_TEST(a_stop_is_heard)
{
    struct importance *m = NULL;
    atomic_store(&door.stop, true);
    ck_assert_int_eq(create(&m), -ERR_DRAINED);
    ck_assert_ptr_null(m);
}
END_TEST

int main(void)
{
    const struct unit u = {.name = "importance", .setup = setup, .done = teardown};
    return unit_run_with(
        &u, (const TTest *const[]){it_is_the_mean_square_of_what_is_read, a_stop_is_heard, NULL});
}
