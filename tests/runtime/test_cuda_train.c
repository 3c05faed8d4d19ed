/*
 * Goal: a training on "cuda" is the training on the processor: the same losses, checkpoints that go
 * from one to the other and back, collectives that end when a rank dies. Method: the plugin of
 * tests/cudasim, whose device memory the host cannot read: any access outside of the device table
 * ends the rank by a signal. Twenty steps with one rank, with ranks of one pod and of several, over
 * NCCL (its host version) and staged; a stop and a resume on the other device; the last rank
 * killed. Everything here runs on the simulator; nothing ran on a GPU.
 */
#include "runtime/train.h"

#include "base/io.h"
#include "runtime/safetensors.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 20
#define BATCH 4 /* small: the simulator takes its time */
#define T     8

static struct err e;

static struct jobspec job(const char *run, int steps)
{
	struct jobspec s = training_job(run);

	s.train.steps = steps;
	s.train.batch_sequences = BATCH;
	s.train.sequence_length = T;
	s.train.evaluate_every_steps = 0;
	return s;
}

/* A whole training; one pod's ranks unless pod says otherwise. */
static struct outcome whole(const struct jobspec *s, const char *kind, int size, int pod,
			    bool staged)
{
	struct outcome o = training_run(&(struct training){.spec = s,
							   .size = size,
							   .incarnation = 1,
							   .kind = kind,
							   .pod = pod,
							   .staged = staged});

	for (int i = 0; i < size; i++)
		ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "%s, rank %d of %d: class %d, %s", kind,
			      i, size, o.exit[i], o.message);
	ck_assert_int_eq(o.first, 1);
	ck_assert_int_eq(o.last, s->train.steps);
	ck_assert(o.done && o.evaluations == 2 && o.saves == 1);
	return o;
}

static void same_losses(const struct outcome *want, const struct outcome *got, double tolerance,
			const char *what)
{
	double worst = fabs(got->validation / want->validation - 1);

	ck_assert_int_eq(got->last, want->last);
	for (int k = 1; k <= want->last; k++) {
		double far = fabs(got->loss[k] / want->loss[k] - 1);

		worst = far > worst ? far : worst;
		ck_assert_msg(far < tolerance, "%s, step %d: %.9g, the cpu %.9g (%.2g)", what, k,
			      got->loss[k], want->loss[k], far);
	}
	ck_assert_msg(worst < tolerance, "%s: validation %.9g, the cpu %.9g", what, got->validation,
		      want->validation);
	printf("%s: losses differ by at most %.2g (allowed %.2g)\n", what, worst, tolerance);
}

/* Every step once, in order, although a look at the device settles several. */
static void check_log(const char *run, int rank, int64_t first_of_step)
{
	char path[256], line[256];
	long long step, first, count;
	int want = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/samples/1-%d.log", training_folder, run, rank);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		ck_assert_int_eq(sscanf(line, "%lld %lld %lld", &step, &first, &count), 3);
		ck_assert_int_eq(step, ++want);
		ck_assert_int_eq(first, (step - 1) * BATCH + first_of_step);
		ck_assert_int_eq(count, BATCH / 2);
	}
	fclose(f);
	ck_assert_int_eq(want, STEPS);
}

START_TEST(losses_follow_the_cpu)
{
	static const struct {
		const char *what;
		int size, pod;
		bool staged;
	} worlds[] = {{"one rank", 1, 1, false},
		      {"two ranks of a pod, nccl", 2, 2, false},
		      {"two pods, staged", 2, 1, true}};
	struct jobspec s = job("cpu", STEPS);
	struct outcome want = whole(&s, "cpu", 1, 1, false), got;
	char name[16];

	ck_assert_double_lt(want.loss[STEPS], 0.95 * want.loss[1]);
	for (size_t i = 0; i < sizeof(worlds) / sizeof(*worlds); i++) {
		snprintf(name, sizeof(name), "cuda%zu", i);
		s = job(name, STEPS);
		got = whole(&s, "cuda", worlds[i].size, worlds[i].pod, worlds[i].staged);
		same_losses(&want, &got, 1e-5, worlds[i].what);
		for (int k = 0; k < 2 && worlds[i].size == 2; k++)
			check_log(name, k, k * BATCH / 2);
	}
}
END_TEST

/* A device too small for a rank's share at once: gradients and losses of several micro-batches add
 * up on it. */
START_TEST(micro_batches_add_up)
{
	struct jobspec s = job("cpu", 4), wide = job("wide", 1), narrow = job("narrow", 4);
	struct outcome want = whole(&s, "cpu", 1, 1, false),
		       all = whole(&wide, "cuda", 2, 2, false);
	struct outcome got =
		training_run(&(struct training){.spec = &narrow,
						.size = 2,
						.incarnation = 1,
						.kind = "cuda",
						.budget_bytes = (all.memory_bytes - 1) * 10 / 9});

	ck_assert_msg(got.exit[0] == EXIT_CLASS_DONE, "%s", got.message);
	ck_assert_int_lt(got.memory_bytes, all.memory_bytes);
	same_losses(&want, &got, 1e-5, "two ranks, micro-batches");
}
END_TEST

/* Runs on after the last report of `before`, on another device, until `stop` (0: the end). */
static struct outcome go_on(const struct jobspec *s, const char *kind, int size, int incarnation,
			    int stop, struct outcome *sum)
{
	struct outcome o = training_run(&(struct training){.spec = s,
							   .size = size,
							   .incarnation = incarnation,
							   .kind = kind,
							   .stop_after = stop});

	for (int i = 0; i < size; i++)
		ck_assert_msg(o.exit[i] == (stop ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE),
			      "%s, rank %d: class %d, %s", kind, i, o.exit[i], o.message);
	ck_assert_int_eq(o.first, sum->last + 1);
	for (int k = o.first; k <= o.last; k++)
		sum->loss[k] = o.loss[k];
	sum->last = o.last;
	sum->validation = o.validation;
	return o;
}

START_TEST(checkpoints_change_the_device)
{
	struct jobspec straight = job("straight", STEPS), moved = job("moved", STEPS);
	struct outcome want = whole(&straight, "cpu", 1, 1, false), sum = {0};

	go_on(&moved, "cpu", 1, 1, 3, &sum);
	go_on(&moved, "cuda", 2, 2, 6, &sum); /* ends up to two runs of four later */
	go_on(&moved, "cpu", 2, 3, 0, &sum);
	same_losses(&want, &sum, 1e-5, "cpu, cuda, cpu");
}
END_TEST

/* BF16 with adapters, to the exported folder: the frozen weights too are read from the device. */
START_TEST(lora_in_bf16)
{
	struct jobspec s = job("lora", 6);
	struct safetensors *f;
	struct outcome o;

	s.precision = PRECISION_BF16;
	s.train.method = METHOD_LORA;
	s.train.lora.rank = 4;
	s.train.lora.alpha = 8;
	s.train.lora.target_count = 2;
	s.train.lora.targets[0] = "q_proj";
	s.train.lora.targets[1] = "down_proj";
	s.train.optimizer.learning_rate = 2e-2;
	o = whole(&s, "cuda", 2, 2, false);
	ck_assert_double_lt(o.loss[6], 0.98 * o.loss[1]);
	ck_assert_msg(!safetensors_open(training_path("output/adapter/adapter_model.safetensors"),
					&f, &e),
		      "%s", e.text);
	ck_assert_int_eq(safetensors_count(f), 8);
	safetensors_close(f);
}
END_TEST

START_TEST(dropout_is_the_cpus)
{
	struct jobspec s[2] = {job("cpu", 6), job("cuda", 6)};
	struct outcome o[2];

	for (int i = 0; i < 2; i++) {
		s[i].train.method = METHOD_LORA;
		s[i].train.lora.rank = 4;
		s[i].train.lora.alpha = 8;
		s[i].train.lora.dropout = 0.3;
		s[i].train.lora.target_count = 2;
		s[i].train.lora.targets[0] = "v_proj";
		s[i].train.lora.targets[1] = "down_proj";
		s[i].train.optimizer.learning_rate = 2e-2;
		o[i] = whole(&s[i], i ? "cuda" : "cpu", 1 + i, 2, false);
	}
	same_losses(&o[0], &o[1], 1e-5, "two ranks, dropout");
}
END_TEST

/* The others hear of it by the closed socket, whatever NCCL says, and can let go of the device. */
START_TEST(a_killed_rank_ends_the_others)
{
	static const struct {
		int size, pod;
		bool staged;
	} worlds[] = {{2, 2, false}, {2, 1, false}, {3, 1, false}, {2, 1, true}};
	struct jobspec s = job("killed", STEPS);

	for (int i = 0; i < (int)(sizeof(worlds) / sizeof(*worlds)); i++) {
		struct outcome o = training_run(&(struct training){.spec = &s,
								   .size = worlds[i].size,
								   .incarnation = 1 + i,
								   .kind = "cuda",
								   .pod = worlds[i].pod,
								   .staged = worlds[i].staged,
								   .kill_after = 2});

		for (int k = 0; k < worlds[i].size - 1; k++)
			ck_assert_msg(o.exit[k] == EXIT_CLASS_PEER, "world %d, rank %d: %d, %s", i,
				      k, o.exit[k], o.message);
		ck_assert_int_lt(o.end_ms, 5000);
		ck_assert_int_lt(o.last, STEPS);
	}
}
END_TEST

static void refused(const struct jobspec *s, int64_t budget_bytes, enum exit_class class,
		    const char *word)
{
	struct outcome o = training_run(&(struct training){.spec = s,
							   .size = 1,
							   .incarnation = 9,
							   .kind = "cuda",
							   .budget_bytes = budget_bytes});

	ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
	ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
}

START_TEST(what_is_refused)
{
	struct jobspec s = job("refused", STEPS);

	refused(&s, 1 << 20, EXIT_CLASS_MEMORY, "needs");
	s.train.optimizer.learning_rate = 1e30;
	s.train.optimizer.clip_norm = 0;
	refused(&s, 0, EXIT_CLASS_USER, "learningRate");
	s = job("refused", STEPS);
	setenv("LLMJOB_CUDASIM_DEVICES", "0", 1);
	refused(&s, 0, EXIT_CLASS_DEVICE, "GPU");
	unsetenv("LLMJOB_CUDASIM_DEVICES");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda_train");
	TCase *c = tcase_create("cuda_train");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 120);
	tcase_add_checked_fixture(c, training_setup, training_teardown);
	tcase_add_test(c, losses_follow_the_cpu);
	tcase_add_test(c, micro_batches_add_up);
	tcase_add_test(c, checkpoints_change_the_device);
	tcase_add_test(c, lora_in_bf16);
	tcase_add_test(c, dropout_is_the_cpus);
	tcase_add_test(c, a_killed_rank_ends_the_others);
	tcase_add_test(c, what_is_refused);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
