/*
 * ref: the reference implementation of the row operations of kernels/ops.h: plain loops, one
 * thread, sums in double. It defines what every other implementation must compute
 * (tests/kernels/test_ops.c), and is the device kind "cpu-ref". Attention and the quantised product
 * stand in ref_attention.c and ref_matmul.c. Nothing here is tuned, and the fast operations must
 * not call it except through cpu/table.c.
 */
#include "kernels/cpu/ref.h"

#include <math.h>

/* ---- embedding ---- */
void op_ref_embed(struct dev *d, const struct op_embed *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++)
		for (int64_t j = 0; j < a->c; j++)
			ref_store(a->t, a->out, i * a->c + j,
				  ref_load(a->t, a->table, a->ids[i] * a->c + j));
}

void op_ref_embed_back(struct dev *d, const struct op_embed *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++)
		for (int64_t j = 0; j < a->c; j++)
			a->dtable[a->ids[i] * a->c + j] += ref_load(a->t, a->dout, i * a->c + j);
}

/* ---- root mean square norm ---- */
void op_ref_rmsnorm(struct dev *d, const struct op_rmsnorm *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++) {
		double sum = 0;
		for (int64_t j = 0; j < a->c; j++) {
			double x = ref_load(a->t, a->x, i * a->c + j);
			sum += x * x;
		}
		float rstd = (float)(1 / sqrt(sum / (double)a->c + a->eps));
		a->rstd[i] = rstd;
		for (int64_t j = 0; j < a->c; j++)
			ref_store(a->t, a->y, i * a->c + j,
				  ref_load(a->t, a->x, i * a->c + j) * rstd *
					  ref_load(a->t, a->w, j));
	}
}

/* With h = x * rstd and g = dy * w: dx = rstd * (g - h * mean(g * h)), dw = sum over rows of dy *
 * h. */
void op_ref_rmsnorm_back(struct dev *d, const struct op_rmsnorm *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++) {
		double mean = 0, rstd = a->rstd[i];
		for (int64_t j = 0; j < a->c; j++)
			mean += (double)ref_load(a->t, a->dy, i * a->c + j) *
				ref_load(a->t, a->w, j) * ref_load(a->t, a->x, i * a->c + j) * rstd;
		mean /= (double)a->c;
		for (int64_t j = 0; j < a->c; j++) {
			int64_t at = i * a->c + j;
			double g = (double)ref_load(a->t, a->dy, at) * ref_load(a->t, a->w, j);
			double dx = rstd * (g - ref_load(a->t, a->x, at) * rstd * mean);
			ref_store(a->t, a->dx, at,
				  (float)dx + (a->accumulate ? ref_load(a->t, a->dx, at) : 0));
		}
	}
	for (int64_t j = 0; a->dw && j < a->c; j++) {
		double sum = 0;
		for (int64_t i = 0; i < a->n; i++)
			sum += (double)ref_load(a->t, a->dy, i * a->c + j) *
			       ref_load(a->t, a->x, i * a->c + j) * a->rstd[i];
		a->dw[j] += (float)sum;
	}
}

/* ---- rotary positions ---- */
void op_ref_rope(struct dev *d, const struct op_rope *a)
{
	(void)d;
	int64_t half = a->d / 2;
	for (int64_t i = 0; i < a->n; i++) {
		for (int64_t p = 0; p < half; p++) {
			double angle =
				a->position[i] * pow(a->theta, -2.0 * (double)p / (double)a->d);
			double c = cos(angle), s = a->inverse ? -sin(angle) : sin(angle);
			for (int64_t h = 0; h < a->heads; h++) {
				int64_t lo = i * a->ld + h * a->d + p, hi = lo + half;
				double x = ref_load(a->t, a->x, lo), y = ref_load(a->t, a->x, hi);
				ref_store(a->t, a->x, lo, (float)(x * c - y * s));
				ref_store(a->t, a->x, hi, (float)(y * c + x * s));
			}
		}
	}
}

/* ---- gated feed-forward ---- */
void op_ref_swiglu(struct dev *d, const struct op_swiglu *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++)
		for (int64_t j = 0; j < a->f; j++) {
			double g = ref_load(a->t, a->gate, i * a->ld + j);
			double u = ref_load(a->t, a->up, i * a->ld + j);
			ref_store(a->t, a->y, i * a->f + j, (float)(g / (1 + exp(-g)) * u));
		}
}

void op_ref_swiglu_back(struct dev *d, const struct op_swiglu *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++)
		for (int64_t j = 0; j < a->f; j++) {
			int64_t at = i * a->ld + j;
			double g = ref_load(a->t, a->gate, at), u = ref_load(a->t, a->up, at);
			double dy = ref_load(a->t, a->dy, i * a->f + j), s = 1 / (1 + exp(-g));
			ref_store(a->t, a->dgate, at, (float)(dy * u * s * (1 + g * (1 - s))));
			ref_store(a->t, a->dup, at, (float)(dy * g * s));
		}
}

/* ---- loss ---- */
static void ref_xent_row(const struct op_xent *a, int64_t i)
{
	int64_t row = i * a->v, target = a->target[i];
	double max = -INFINITY, sum = 0;
	for (int64_t j = 0; j < a->v; j++)
		max = fmax(max, ref_load(a->t, a->logits, row + j));
	for (int64_t j = 0; j < a->v; j++)
		sum += exp(ref_load(a->t, a->logits, row + j) - max);
	a->loss[i] = (float)(log(sum) + max - ref_load(a->t, a->logits, row + target));
	for (int64_t j = 0; a->backward && j < a->v; j++) {
		double p = exp(ref_load(a->t, a->logits, row + j) - max) / sum;
		ref_store(a->t, a->logits, row + j, (float)((p - (j == target)) * a->scale));
	}
}

void op_ref_xent(struct dev *d, const struct op_xent *a)
{
	(void)d;
	for (int64_t i = 0; i < a->n; i++) {
		if (a->target[i] >= 0) {
			ref_xent_row(a, i);
			continue;
		}
		a->loss[i] = 0;
		for (int64_t j = 0; a->backward && j < a->v; j++)
			ref_store(a->t, a->logits, i * a->v + j, 0);
	}
}

/* ---- vectors ---- */
void op_ref_axpby(struct dev *d, const struct op_axpby *a)
{
	(void)d;
	for (int64_t i = 0; i < a->count; i++) {
		float old = a->b != 0 ? a->b * ref_load(a->y_type, a->y, i) : 0;
		ref_store(a->y_type, a->y, i, a->a * ref_load(a->x_type, a->x, i) + old);
	}
}

void op_ref_convert(struct dev *d, const struct op_convert *a)
{
	(void)d;
	if (a->y_type == DTYPE_F32) {
		quant_decode(a->x_type, a->x, a->count, a->y);
		return;
	}
	for (int64_t i = 0; i < a->count; i++)
		ref_store(a->y_type, a->y, i, ref_load(a->x_type, a->x, i));
}

void op_ref_sumsq(struct dev *d, const struct op_sumsq *a)
{
	(void)d;
	double sum = 0;
	for (int64_t i = 0; i < a->count; i++)
		sum += (double)a->x[i] * a->x[i];
	*a->out += (float)sum;
}

/* Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2. */
void op_ref_adamw(struct dev *d, const struct op_adamw *a)
{
	(void)d;
	double fix1 = 1 - pow(a->beta1, (double)a->step), fix2 = 1 - pow(a->beta2, (double)a->step);
	for (int64_t i = 0; i < a->count; i++) {
		float g = a->grad[i] * a->grad_scale;
		a->m[i] = a->beta1 * a->m[i] + (1 - a->beta1) * g;
		a->v[i] = a->beta2 * a->v[i] + (1 - a->beta2) * g * g;
		double step = a->m[i] / fix1 / (sqrt(a->v[i] / fix2) + a->eps);
		a->w[i] = (float)(a->w[i] - a->lr * (step + a->weight_decay * a->w[i]));
		if (a->w16)
			a->w16[i] = f32_to_bf16(a->w[i]);
	}
}
