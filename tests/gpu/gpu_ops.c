/*
 * Goal: on a real GPU the operations compute what the reference computes, and repeat bit for bit.
 * Method: each case of op_cases.c on "cpu-ref" and twice on "cuda" with equal inputs. Run by `make
 * gpu-check`; a machine without a GPU skips it. The same cases run everywhere on the simulated GPU
 * (tests/kernels/test_cuda.c).
 *
 * Usage: gpu_ops [operation]
 */
#include "tests/kernels/op_cases.h"

#define SEED 20264

static int run(const struct op_case *c, int s, enum dtype t, struct dev *d, struct parity_run *out)
{
	struct err e = {0};
	parity_begin(out, d, t, SEED);
	c->run(out, c->shapes[s]);
	if (!dev_sync(d, &e))
		return 0;
	printf("%s, shape %d, %s: %s\n", c->name, s, dtype_name(t), e.text);
	return -1;
}

static int compare(const struct op_case *c, int s, enum dtype t, struct dev *ref, struct dev *gpu,
		   double *worst)
{
	struct parity_run want, got, again;
	int failed = run(c, s, t, ref, &want) | run(c, s, t, gpu, &got) | run(c, s, t, gpu, &again);
	double error = failed ? 0 : parity_error(&want, &got);
	bool same = failed || parity_equal(&got, &again);
	if (!(error <= 1))
		printf("%s, shape %d, %s, seed %d: error %g of the tolerance\n", c->name, s,
		       dtype_name(t), SEED, error);
	if (!same)
		printf("%s, shape %d, %s, seed %d: other bits when run again\n", c->name, s,
		       dtype_name(t), SEED);
	*worst = error > *worst ? error : *worst;
	parity_end(&want);
	parity_end(&got);
	parity_end(&again);
	return !failed && same && error <= 1 ? 0 : -1;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0;
	struct dev *ref = NULL, *gpu = NULL;
	struct err e = {0};
	struct dev_info info;

	if (dev_open("cuda", 0, 0, &gpu, &e)) {
		printf("SKIP: %s\n", e.text);
		return 77;
	}
	if (dev_open("cpu-ref", 0, 1, &ref, &e)) {
		fprintf(stderr, "gpu_ops: %s\n", e.text);
		return 1;
	}
	dev_describe(gpu, &info);
	printf("on %s\n", info.name);
	for (int i = 0; i < op_case_count; i++) {
		const struct op_case *c = &op_cases[i];
		double worst = 0;
		int bad = 0;
		if (argc > 1 && strcmp(argv[1], c->name))
			continue;
		for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
			for (int t = DTYPE_F32; t <= (c->bf16 ? DTYPE_BF16 : DTYPE_F32); t++)
				bad |= compare(c, s, (enum dtype)t, ref, gpu, &worst);
		printf("%-18s %s, at most %.2f of the tolerance\n", c->name, bad ? "FAIL" : "ok",
		       worst);
		passed += !bad;
		failed += !!bad;
	}
	dev_close(ref);
	dev_close(gpu);
	printf("%d passed, %d failed, 0 skipped\n", passed, failed);
	return failed || !passed;
}
