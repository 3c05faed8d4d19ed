/*
 * Goal: the gradients are those of the loss, for full training and LoRA, tied and untied heads,
 * whatever the micro-batch; and LoRA leaves what is frozen alone. Method: for every tensor, the
 * loss along the direction of its gradient and along a random one, differenced to fourth order in
 * F32, against the gradient's projection; within 1e-4 of the gradient's norm.
 */
#include "runtime/model.h"

#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define N (TINY_B * TINY_T)

static struct err e;
static int32_t inputs[N], labels[N];

static struct model *open(struct dev *d, bool tied, const char *const *targets, enum dtype t)
{
	struct model_conf c = {.config = tiny_config(tied),
			       .t = t,
			       .train = true,
			       .micro_sequences = TINY_B,
			       .sequence_length = TINY_T,
			       .lora_rank = targets ? 4 : 0,
			       .lora_alpha = 6,
			       .lora_targets = targets,
			       .seed = 3};
	struct model *m;

	ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
	ck_assert_msg(!model_init_random(m, &e), "%s", e.text);
	tiny_fill(d, m, 5);
	tiny_ids(inputs, N, 7);
	tiny_ids(labels, N, 8);
	labels[4] = -1; /* a target that does not count */
	return m;
}

static double loss_of(struct model *m)
{
	double sum;

	ck_assert_msg(!model_step(m, TINY_B, inputs, labels, 1, false, &sum, &e), "%s", e.text);
	return sum;
}

static double loss_at(struct dev *d, struct model *m, const struct model_part *p, const float *w,
		      const double *u, double step)
{
	mem_autofree float *moved = mem_array((size_t)p->count, sizeof(float));

	for (int64_t i = 0; i < p->count; i++)
		moved[i] = (float)((double)w[i] + step * u[i]);
	dev_upload(d, model_master(m) + p->offset, moved, (size_t)p->count * 4);
	return loss_of(m);
}

/* The loss's slope along u: a long way is bent, a short one drowns in rounding, so the best of
 * several counts. */
static double slope_near(struct dev *d, struct model *m, const struct model_part *p, const float *w,
			 const double *u, double want)
{
	static const double ways[] = {0.3, 0.1, 0.03, 0.01, 0.003};
	double best = INFINITY;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		double h = ways[i];
		double near = loss_at(d, m, p, w, u, h) - loss_at(d, m, p, w, u, -h);
		double far = loss_at(d, m, p, w, u, 2 * h) - loss_at(d, m, p, w, u, -2 * h);
		double slope = (8 * near - far) / (12 * h);

		if (fabs(slope - want) < fabs(best - want))
			best = slope;
	}
	dev_upload(d, model_master(m) + p->offset, w, (size_t)p->count * 4);
	return best;
}

static void check_direction(struct dev *d, struct model *m, const struct model_part *p,
			    const float *g, const float *w, double *u)
{
	double length = 0, norm = 0, want = 0, got;

	for (int64_t i = 0; i < p->count; i++) {
		length += u[i] * u[i];
		norm += (double)g[i] * (double)g[i];
	}
	for (int64_t i = 0; i < p->count; i++) {
		u[i] /= sqrt(length);
		want += u[i] * (double)g[i];
	}
	got = slope_near(d, m, p, w, u, want);
	/* 1e-5: what F32 rounding leaves of a loss of about 160 */
	ck_assert_msg(fabs(got - want) <= 1e-4 * sqrt(norm) + 1e-5,
		      "%s: %.7g, differences give %.7g (%.2g)", p->name, want, got,
		      fabs(got - want) / sqrt(norm));
}

static void check_parts(struct dev *d, struct model *m)
{
	uint64_t seed = 11;
	double sum;

	model_zero_gradient(m);
	ck_assert(!model_step(m, TINY_B, inputs, labels, 1, true, &sum, &e));
	ck_assert_double_eq_tol(sum, loss_of(m), 1e-12);
	for (int i = 0; i < model_part_count(m); i++) {
		const struct model_part *p = model_part_at(m, i);
		mem_autofree float *g = mem_array((size_t)p->count, sizeof(float));
		mem_autofree float *w = mem_array((size_t)p->count, sizeof(float));
		mem_autofree double *u = mem_array((size_t)p->count, sizeof(double));

		dev_download(d, g, model_gradient(m) + p->offset, (size_t)p->count * 4);
		dev_download(d, w, model_master(m) + p->offset, (size_t)p->count * 4);
		for (int64_t j = 0; j < p->count; j++)
			u[j] = (double)g[j];
		check_direction(d, m, p, g, w, u);
		for (int64_t j = 0; j < p->count; j++)
			u[j] = tiny_random(&seed);
		check_direction(d, m, p, g, w, u);
	}
}

static void check_kind(const char *kind, bool tied, const char *const *targets)
{
	struct dev *d;
	struct model *m;

	ck_assert_msg(!dev_open(kind, 0, 2, &d, &e), "%s", e.text);
	m = open(d, tied, targets, DTYPE_F32);
	check_parts(d, m);
	model_destroy(m);
	dev_close(d);
}

START_TEST(full_tied)
{
	check_kind("cpu", true, NULL);
}
END_TEST

START_TEST(full_untied)
{
	check_kind("cpu", false, NULL);
}
END_TEST

START_TEST(reference_kernels)
{
	check_kind("cpu-ref", true, NULL);
}
END_TEST

START_TEST(lora_everywhere)
{
	static const char *const all[] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
					  "gate_proj", "up_proj", "down_proj", NULL};

	check_kind("cpu", true, all);
}
END_TEST

START_TEST(lora_on_some)
{
	static const char *const some[] = {"k_proj", "down_proj", NULL};
	static const char *const one[] = {"up_proj", NULL};

	check_kind("cpu", true, some);
	check_kind("cpu", false, one);
}
END_TEST

/* Two micro-batches give the gradient of one: differences come from rounding only. */
START_TEST(micro_batches_add_up)
{
	struct dev *d;
	struct model *m;
	int64_t n;
	double sum, parts;

	ck_assert(!dev_open("cpu", 0, 2, &d, &e));
	m = open(d, true, NULL, DTYPE_F32);
	n = model_trainable(m);
	mem_autofree float *whole = mem_array((size_t)n, 4);
	mem_autofree float *added = mem_array((size_t)n, 4);
	model_zero_gradient(m);
	ck_assert(!model_step(m, TINY_B, inputs, labels, 0.5f, true, &sum, &e));
	dev_download(d, whole, model_gradient(m), (size_t)n * 4);
	model_zero_gradient(m);
	ck_assert(!model_step(m, 2, inputs, labels, 0.5f, true, &parts, &e));
	sum -= parts;
	ck_assert(!model_step(m, 1, inputs + 2 * TINY_T, labels + 2 * TINY_T, 0.5f, true, &parts,
			      &e));
	ck_assert_double_eq_tol(sum, parts, 1e-4);
	dev_download(d, added, model_gradient(m), (size_t)n * 4);
	for (int64_t i = 0; i < n; i++)
		ck_assert_float_eq_tol(whole[i], added[i], 1e-4f);
	model_destroy(m);
	dev_close(d);
}
END_TEST

/* BF16 keeps the direction: the angle between both gradients is small, the loss within a percent.
 */
START_TEST(bf16_is_near)
{
	struct dev *d;
	double loss[2], dot = 0, norm[2] = {0};
	float *g[2];
	int64_t n = 0;

	ck_assert(!dev_open("cpu", 0, 2, &d, &e));
	for (int k = 0; k < 2; k++) {
		struct model *m = open(d, true, NULL, k ? DTYPE_BF16 : DTYPE_F32);

		n = model_trainable(m);
		g[k] = mem_array((size_t)n, 4);
		model_zero_gradient(m);
		ck_assert(!model_step(m, TINY_B, inputs, labels, 1, true, &loss[k], &e));
		dev_download(d, g[k], model_gradient(m), (size_t)n * 4);
		model_destroy(m);
	}
	for (int64_t i = 0; i < n; i++) {
		dot += (double)g[0][i] * (double)g[1][i];
		norm[0] += (double)g[0][i] * (double)g[0][i];
		norm[1] += (double)g[1][i] * (double)g[1][i];
	}
	ck_assert_double_eq_tol(loss[1] / loss[0], 1, 0.01);
	ck_assert_double_ge(dot / sqrt(norm[0] * norm[1]), 0.999);
	ck_assert_double_eq_tol(sqrt(norm[1] / norm[0]), 1, 0.02);
	mem_free(g[0]);
	mem_free(g[1]);
	dev_close(d);
}
END_TEST

UNIT_MAIN("model_backward", full_tied, full_untied, reference_kernels, lora_everywhere,
	  lora_on_some, micro_batches_add_up, bf16_is_near)
