/*
 * Goal: serving computes what training computes, however a sequence is cut into calls, from stored
 * blocks too. Method: the tiny Llama of tests/golden served token by token, in chunks, at once and
 * again from a shorter prefix; its losses against the training forward's; and with a BF16 cache and
 * weights, near the F32 result.
 */
#include "runtime/model.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define T 32
#define V 256

static struct err e;
static struct dev *d;
static struct weights *w;
static int32_t ids[T + 1];

static struct model *open(struct model_conf c)
{
	struct model *m;

	if (!d) {
		ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
		ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &w, &e), "%s", e.text);
		for (int i = 0; i <= T; i++)
			ids[i] = (i * 37 + 11) % V;
	}
	c.config = *weights_config(w);
	ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
	ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
	return m;
}

static void close_all(void)
{
	weights_close(w);
	dev_close(d);
}

static void run(struct model *m, const int *cuts, float *logits)
{
	int past = 0;

	for (; *cuts; past += *cuts++)
		ck_assert_msg(
			!model_extend(m, ids + past, *cuts, past, true, logits + past * V, &e),
			"%s", e.text);
	ck_assert_int_eq(past, T);
}

static double farthest(const float *a, const float *b, int64_t n)
{
	double far = 0;

	for (int64_t i = 0; i < n; i++)
		far = fmax(far, fabs((double)a[i] - (double)b[i]));
	return far;
}

START_TEST(any_cut_gives_the_same_logits)
{
	static const int cuts[][34] = {{32},
				       {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
					1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
				       {5, 1, 20, 6},
				       {9, 23}};
	struct model *m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
	static float whole[T * V], other[T * V], last[V];

	run(m, cuts[0], whole);
	for (int i = 1; i < 4; i++) {
		run(m, cuts[i], other);
		ck_assert_double_le(farthest(whole, other, T * V), 1e-4);
	}
	/* the cache still holds the whole sequence: go back to 20 and on */
	ck_assert(!model_extend(m, ids + 20, T - 20, 20, false, last, &e));
	ck_assert_double_le(farthest(whole + (T - 1) * V, last, V), 1e-4);
	ck_assert_int_eq(model_extend(m, ids, 2, T - 1, false, last, &e), -ERR_USER);
	model_destroy(m);
	close_all();
}
END_TEST

static double cross_entropy(const float *logits)
{
	double loss = 0;

	for (int i = 0; i < T; i++) {
		double sum = 0;

		for (int j = 0; j < V; j++)
			sum += exp((double)logits[i * V + j]);
		loss += log(sum) - (double)logits[i * V + ids[i + 1]];
	}
	return loss;
}

START_TEST(serving_equals_training)
{
	struct model *serving = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
	struct model *training = open((struct model_conf){
		.t = DTYPE_F32, .train = true, .micro_sequences = 1, .sequence_length = T});
	static float logits[T * V];
	double loss;

	run(serving, (const int[]){T, 0}, logits);
	ck_assert(!model_step(training, 1, ids, ids + 1, 1, false, &loss, &e));
	ck_assert_double_eq_tol(cross_entropy(logits), loss, 1e-4 * loss);
	model_destroy(serving);
	model_destroy(training);
	close_all();
}
END_TEST

START_TEST(bf16_serving_is_near)
{
	struct model *m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
	struct model *narrow = open((struct model_conf){.t = DTYPE_BF16, .kv_capacity = T});
	static float want[T * V], got[T * V];

	run(m, (const int[]){T, 0}, want);
	run(narrow, (const int[]){T, 0}, got);
	ck_assert_double_eq_tol(cross_entropy(got) / cross_entropy(want), 1, 0.01);
	run(narrow, (const int[]){9, 1, 22, 0}, got);
	ck_assert_double_eq_tol(cross_entropy(got) / cross_entropy(want), 1, 0.01);
	ck_assert_double_ge(farthest(want, got, T * V), 1e-6); /* it did compute in BF16 */
	model_destroy(m);
	model_destroy(narrow);
	close_all();
}
END_TEST

UNIT_MAIN("model_forward", any_cut_gives_the_same_logits, serving_equals_training,
	  bf16_serving_is_near)
