/*
 * Goal: a training's losses depend on neither the world nor the interruptions. Method: real ranks,
 * one process each, on a tiny Llama with random weights and a byte tokenizer. Fifty steps at equal
 * global batch with 1, 2 and 4 ranks; a stop on the way and a resume, with the same world (bitwise
 * equal files and losses) and with another; every sample consumed exactly once a step, from the
 * ranks' own logs; LoRA to the exported folder; and inputs that must be refused.
 */
#include "runtime/train.h"

#include "base/clock.h"
#include "base/exitcode.h"
#include "base/io.h"
#include "runtime/ckpt.h"
#include "runtime/data.h"
#include "runtime/safetensors.h"
#include "runtime/weights.h"
#include "tests/runtime/bytes.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS 50
#define BATCH 8
#define T     16
#define WORLD 4

static struct err e;
static char folder[64]; /* model/, corpus, and a checkpoint folder a run */

/* -- what the ranks train: a model folder and a corpus -- */

static void write_corpus(const char *path)
{
	buf_auto struct buf b;
	uint32_t x = 12345;

	buf_init(&b, 1 << 20);
	while (b.len < 9000) { /* words from a small vocabulary: there is something to learn */
		x = x * 1664525u + 1013904223u;
		buf_printf(&b, "%s ",
			   (const char *[]){"the", "light", "was", "good", "and", "day", "night",
					    "waters"}[x >> 29]);
	}
	golden_write(path, b.data, b.len);
}

static const char *in_folder(const char *name)
{
	static char path[8][256];
	static int next;
	char *p = path[next++ % 8];

	snprintf(p, 256, "%s/%s", folder, name);
	return p;
}

static struct arena *strings; /* of the jobs of one test */

static void setup(void)
{
	strings = arena_create(1 << 20);
	ck_assert_ptr_nonnull(strings);
	golden_folder(folder);
	bytes_model(folder);
	write_corpus(in_folder("corpus.txt"));
}

static void teardown(void)
{
	golden_remove(folder);
	arena_destroy(strings);
}

static struct jobspec job(const char *run)
{
	struct jobspec s = {.task = TASK_TRAIN, .precision = PRECISION_FP32};

	s.model.source = arena_strdup(strings, in_folder("model"));
	s.model.init = INIT_PRETRAINED;
	s.checkpoint.path = arena_strdup(strings, in_folder(run));
	s.checkpoint.keep = 2;
	s.train.data.train = arena_strdup(strings, in_folder("corpus.txt"));
	s.train.data.format = FORMAT_TEXT;
	s.train.sequence_length = T;
	s.train.batch_sequences = BATCH;
	s.train.steps = STEPS;
	s.train.seed = 42;
	s.train.optimizer.learning_rate = 2e-3;
	s.train.optimizer.schedule = SCHEDULE_COSINE;
	s.train.optimizer.warmup_steps = 5;
	s.train.optimizer.weight_decay = 0.1;
	s.train.optimizer.beta1 = 0.9;
	s.train.optimizer.beta2 = 0.95;
	s.train.optimizer.epsilon = 1e-8;
	s.train.optimizer.clip_norm = 1;
	s.train.evaluate_every_steps = 20;
	s.train.output = arena_strdup(strings, in_folder("output"));
	return s;
}

/* -- ranks -- */

struct outcome {                /* of a whole world, from rank 0's frames */
	double loss[STEPS + 1]; /* by step; 0 where no step was reported */
	int first, last;        /* steps reported */
	int evaluations, saves;
	double first_validation, validation;
	enum exit_class exit[WORLD];
	char message[256];
	bool drained, done;
};

struct world {
	const struct jobspec *spec;
	int size, incarnation;
	int stop_after; /* the step after whose report rank 0 is asked to stop; 0: never */
	int listen[WORLD];
	struct coll_peer peers[WORLD];
	struct rank *leader; /* in memory that this process shares with rank 0 */
};

static int rank_body(const struct world *w, int rank, int fd)
{
	struct rank mine, *r = rank ? &mine : w->leader;
	struct coll_conf conf = {.rank = rank,
				 .world = w->size,
				 .peers = w->peers,
				 .listen_fd = w->listen[rank],
				 .secret = "00112233445566778899aabbccddeeff",
				 .incarnation = w->incarnation,
				 .timeout_ms = 20000};
	struct err why = {0};
	struct coll *c = NULL;
	int rc;

	*r = (struct rank){.spec = w->spec,
			   .rank = rank,
			   .world = w->size,
			   .local_world = 1,
			   .incarnation = w->incarnation,
			   .budget_bytes = 1 << 30,
			   .fd = rank ? -1 : fd};
	pthread_mutex_init(&r->send_lock, NULL);
	rc = dev_open("cpu", 0, 1, &r->dev, &why);
	if (!rc)
		rc = coll_create(&conf, &c, &why);
	atomic_store(&r->coll, c);
	if (!rc)
		rc = train_run(r, &why);
	if (rc && rc != -ERR_DRAINED)
		rank_send_failed(r, &why);
	coll_destroy(c);
	dev_close(r->dev);
	return (int)exit_class_of(rc ? why.code : ERR_NONE);
}

static void take_frame(const struct world *w, const struct wire_frame *f, struct outcome *o)
{
	json_auto struct json *v = NULL;
	int step;

	ck_assert_msg(!json_parse(f->data, f->len, &v, &e), "%s", e.text);
	step = (int)json_int(v, "step", 0);
	if (f->type == WIRE_STEP) {
		ck_assert(step >= 1 && step <= STEPS && o->loss[step] == 0);
		o->loss[step] = json_num(v, "loss", 0);
		o->first = o->first ? o->first : step;
		o->last = step;
		if (step == w->stop_after)
			atomic_store(&w->leader->stop, true);
	}
	if (f->type == WIRE_EVALUATED) {
		o->validation = json_num(v, "loss", 0);
		o->first_validation = o->evaluations++ ? o->first_validation : o->validation;
	}
	o->saves += f->type == WIRE_SAVED;
	o->done |= f->type == WIRE_DONE;
	o->drained |= f->type == WIRE_DONE && json_bool(v, "drained", false);
	if (f->type == WIRE_FAILED)
		snprintf(o->message, sizeof(o->message), "%s", json_str(v, "message", ""));
}

static void follow(const struct world *w, int fd, struct outcome *o)
{
	struct wire_reader reader;
	struct wire_frame f;
	int rc;

	wire_reader_init(&reader);
	while ((rc = wire_wait(&reader, fd, clock_ms() + 20000, &f, &e)) >= 0)
		take_frame(w, &f, o);
	ck_assert_msg(rc == -ERR_PEER, "%s", e.text); /* the ranks ended and closed it */
	wire_reader_done(&reader);
}

static struct outcome run(const struct jobspec *spec, int size, int incarnation, int stop_after)
{
	struct world w = {
		.spec = spec, .size = size, .incarnation = incarnation, .stop_after = stop_after};
	struct outcome o = {0};
	pid_t pid[WORLD];
	int pair[2];

	w.leader = mmap(NULL, sizeof(*w.leader), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	ck_assert(w.leader != MAP_FAILED);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	for (int i = 0; i < size; i++) {
		uint16_t port = 0;

		w.listen[i] = io_listen("127.0.0.1", 0, &port, &e);
		ck_assert_msg(w.listen[i] >= 0, "%s", e.text);
		w.peers[i] = (struct coll_peer){.rank = i, .replica = i / 2, .port = port};
		w.peers[i].local_rank = i % 2;
		snprintf(w.peers[i].host, sizeof(w.peers[i].host), "127.0.0.1");
	}
	for (int i = 0; i < size; i++) {
		pid[i] = fork();
		ck_assert(pid[i] >= 0);
		if (!pid[i]) {
			close(pair[0]);
			_exit(rank_body(&w, i, pair[1]));
		}
	}
	close(pair[1]);
	for (int i = 0; i < size; i++)
		io_close(w.listen[i]);
	follow(&w, pair[0], &o);
	close(pair[0]);
	for (int i = 0; i < size; i++) {
		int status;

		ck_assert_int_eq(waitpid(pid[i], &status, 0), pid[i]);
		ck_assert_msg(WIFEXITED(status), "rank %d: signal %d", i, WTERMSIG(status));
		o.exit[i] = WEXITSTATUS(status);
	}
	munmap(w.leader, sizeof(*w.leader));
	return o;
}

static struct outcome run_whole(const struct jobspec *spec, int size)
{
	struct outcome o = run(spec, size, 1, 0);

	for (int i = 0; i < size; i++)
		ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "rank %d: class %d, %s", i, o.exit[i],
			      o.message);
	ck_assert_int_eq(o.first, 1);
	ck_assert_int_eq(o.last, STEPS);
	ck_assert(o.done && !o.drained);
	return o;
}

/* -- what they consumed -- */

#define CORPUS_SAMPLES 562 /* 9,000 tokens and a few in samples of 16 */

/* Adds what a log says to seen[step][position in the batch]. */
static void read_log(const char *path, int64_t samples, int (*seen)[BATCH])
{
	FILE *f = fopen(path, "re");
	long long step, first, count, sample;

	ck_assert_msg(f != NULL, "%s", path);
	while (fscanf(f, "%lld %lld %lld", &step, &first, &count) == 3) {
		ck_assert(step >= 1 && step <= STEPS);
		for (int64_t i = first; i < first + count; i++) {
			ck_assert_int_eq(fscanf(f, "%lld", &sample), 1);
			ck_assert_int_eq(sample, data_sample_at(samples, 42, i));
			ck_assert_int_eq(i / BATCH, step - 1);
			seen[step][i % BATCH]++;
		}
	}
	ck_assert(feof(f));
	fclose(f);
}

static void check_accounts(const char *name, const int *worlds, int incarnations)
{
	int seen[STEPS + 1][BATCH] = {{0}};
	int64_t held = CORPUS_SAMPLES / 50;
	char path[256];

	for (int i = 0; i < incarnations; i++)
		for (int rank = 0; rank < worlds[i]; rank++) {
			snprintf(path, sizeof(path), "%s/%s/samples/%d-%d.log", folder, name, i + 1,
				 rank);
			read_log(path, CORPUS_SAMPLES - held, seen);
		}
	for (int s = 1; s <= STEPS; s++)
		for (int i = 0; i < BATCH; i++)
			ck_assert_msg(seen[s][i] == 1, "position %d of step %d: %d times", i, s,
				      seen[s][i]);
}

/* -- the cases -- */

START_TEST(losses_do_not_depend_on_the_world)
{
	static const int worlds[] = {1, 2, 4};
	struct outcome o[3];
	char name[16];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "w%d", worlds[i]);
		struct jobspec s = job(name);

		o[i] = run_whole(&s, worlds[i]);
		check_accounts(name, &worlds[i], 1);
		ck_assert_int_eq(o[i].evaluations, 4); /* before, at 20 and 40, after */
		ck_assert_int_eq(o[i].saves, 1);
		ck_assert_double_lt(o[i].validation, 0.8 * o[i].first_validation);
	}
	ck_assert_double_lt(o[0].loss[STEPS], 0.7 * o[0].loss[1]);
	for (int i = 1; i < 3; i++)
		for (int k = 1; k <= STEPS; k++) {
			double far = fabs(o[i].loss[k] / o[0].loss[k] - 1);

			ck_assert_msg(far < 1e-5, "%d ranks, step %d: %.9g, one rank %.9g (%.2g)",
				      worlds[i], k, o[i].loss[k], o[0].loss[k], far);
		}
}
END_TEST

static void compare_files(const char *a, const char *b)
{
	struct io_map x, y;

	ck_assert_msg(!io_map(a, &x, &e), "%s", e.text);
	ck_assert_msg(!io_map(b, &y, &e), "%s", e.text);
	ck_assert_uint_eq(x.size, y.size);
	ck_assert_msg(!memcmp(x.data, y.data, x.size), "%s and %s differ", a, b);
	io_unmap(&x);
	io_unmap(&y);
}

/* Every parameter and both moments of two finished runs: equal to the bit. */
static void compare_checkpoints(const char *a, const char *b)
{
	const char *path[2] = {in_folder(a), in_folder(b)};
	struct ckpt_reader *r[2];
	struct ckpt_state st[2];
	struct safetensors *names;
	static float x[2][1 << 16];

	for (int i = 0; i < 2; i++)
		ck_assert_msg(!ckpt_open_newest(path[i], &r[i], &st[i], &e), "%s", e.text);
	ck_assert_int_eq(st[0].step, STEPS);
	ck_assert_int_eq(st[1].step, STEPS);
	ck_assert_int_eq(st[0].samples, STEPS * BATCH);
	ck_assert_int_eq(st[0].tokens, st[1].tokens);
	ck_assert(st[0].loss == st[1].loss && st[0].first_loss == st[1].first_loss);
	ck_assert(st[0].validation_loss == st[1].validation_loss);
	ck_assert_msg(!safetensors_open(GOLDEN "tiny-llama/model.safetensors", &names, &e), "%s",
		      e.text);
	for (int i = 0; i < safetensors_count(names) * 3; i++) {
		const struct safetensors_tensor *t = safetensors_at(names, i / 3);
		char name[256];

		snprintf(name, sizeof(name), "%s%s", t->name,
			 (const char *[]){"", ".exp_avg", ".exp_avg_sq"}[i % 3]);
		for (int j = 0; j < 2; j++)
			ck_assert_msg(!ckpt_get(r[j], name, t->bytes / 4, 0, t->bytes / 4,
						DTYPE_F32, x[j], &e),
				      "%s", e.text);
		ck_assert_msg(!memcmp(x[0], x[1], (size_t)t->bytes), "%s differs", name);
	}
	safetensors_close(names);
	ckpt_close(r[0]);
	ckpt_close(r[1]);
}

/* Stops near step 25 (the request meets the running step or the next), then goes on with `second`
 * ranks. */
static struct outcome interrupted(const struct jobspec *s, int first, int second)
{
	struct outcome a = run(s, first, 1, 24), b;

	for (int i = 0; i < first; i++)
		ck_assert_int_eq(a.exit[i], EXIT_CLASS_DRAINED);
	ck_assert(a.drained && a.saves == 1 && a.last >= 25 && a.last < STEPS);
	b = run(s, second, 2, 0);
	for (int i = 0; i < second; i++)
		ck_assert_msg(b.exit[i] == EXIT_CLASS_DONE, "%s", b.message);
	ck_assert_int_eq(b.first, a.last + 1);
	ck_assert_int_eq(b.last, STEPS);
	for (int k = 1; k <= a.last; k++)
		b.loss[k] = a.loss[k];
	return b;
}

START_TEST(resume_is_bitwise_equal)
{
	struct jobspec straight = job("straight"), cut = job("cut");
	struct outcome a = run_whole(&straight, 2), b;

	ck_assert(!io_rename(in_folder("output/model.safetensors"), in_folder("straight.out"), &e));
	b = interrupted(&cut, 2, 2);
	for (int k = 1; k <= STEPS; k++)
		ck_assert_msg(a.loss[k] == b.loss[k], "step %d: %.17g, resumed %.17g", k, a.loss[k],
			      b.loss[k]);
	compare_checkpoints("straight", "cut");
	compare_files(in_folder("straight.out"), in_folder("output/model.safetensors"));
	check_accounts("cut", (const int[]){2, 2}, 2);
}
END_TEST

START_TEST(resume_with_another_world)
{
	struct jobspec straight = job("straight"), cut = job("cut");
	struct outcome a = run_whole(&straight, 1), b = interrupted(&cut, 2, 3);

	for (int k = 1; k <= STEPS; k++)
		ck_assert_msg(fabs(a.loss[k] / b.loss[k] - 1) < 1e-5, "step %d: %.9g, resumed %.9g",
			      k, a.loss[k], b.loss[k]);
	check_accounts("cut", (const int[]){2, 3}, 2);
}
END_TEST

/* A run that is complete but for its export (or whose export is wanted again) only exports. */
START_TEST(complete_is_complete)
{
	struct jobspec s = job("again");
	struct outcome o;

	run_whole(&s, 1);
	o = run(&s, 1, 2, 0);
	ck_assert_int_eq(o.exit[0], EXIT_CLASS_DONE);
	ck_assert(o.done && !o.first && !o.saves);
}
END_TEST

START_TEST(lora_in_bf16_ends_in_a_folder)
{
	struct jobspec s = job("lora");
	struct safetensors *f;
	struct weights *w;
	struct outcome o;

	s.precision = PRECISION_BF16;
	s.train.method = METHOD_LORA;
	s.train.lora.rank = 4;
	s.train.lora.alpha = 8;
	s.train.lora.target_count = 2;
	s.train.lora.targets[0] = "q_proj";
	s.train.lora.targets[1] = "down_proj";
	s.train.optimizer.learning_rate = 1e-2;
	s.train.tensorboard = in_folder("board");
	o = run_whole(&s, 2);
	ck_assert_double_lt(o.loss[STEPS], 0.9 * o.loss[1]);
	ck_assert_msg(!weights_open(s.train.output, NULL, &w, &e), "%s", e.text);
	ck_assert_ptr_nonnull(weights_find(w, "model.layers.1.mlp.down_proj.weight"));
	ck_assert_ptr_null(weights_find(w, "lm_head.weight"));
	weights_close(w);
	ck_assert_msg(
		!safetensors_open(in_folder("output/adapter/adapter_model.safetensors"), &f, &e),
		"%s", e.text);
	ck_assert_int_eq(safetensors_count(f), 8);
	ck_assert_ptr_nonnull(safetensors_find(
		f, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"));
	safetensors_close(f);
	ck_assert(io_exists(in_folder("output/adapter/adapter_config.json")));
	ck_assert(io_exists(in_folder("board")));
}
END_TEST

static void refused(const struct jobspec *s, enum exit_class class, const char *word)
{
	struct outcome o = run(s, 1, 9, 0);

	ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
	ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
}

START_TEST(what_is_refused)
{
	struct jobspec s = job("refused");

	s.model.source = "/nowhere/model.gguf";
	refused(&s, EXIT_CLASS_DATA, "/nowhere/model.gguf");
	s = job("refused");
	s.train.data.train = "/nowhere/corpus.txt";
	refused(&s, EXIT_CLASS_DATA, "/nowhere/corpus.txt");
	s = job("refused");
	s.train.sequence_length = 256;
	refused(&s, EXIT_CLASS_USER, "sequenceLength");
	s = job("refused");
	s.train.method = METHOD_LORA;
	s.train.lora.rank = 4;
	s.train.lora.alpha = 4;
	s.train.lora.target_count = 1;
	s.train.lora.targets[0] = "query";
	refused(&s, EXIT_CLASS_USER, "query");
	s = job("refused");
	s.train.optimizer.learning_rate = 1e30;
	s.train.optimizer.clip_norm = 0;
	refused(&s, EXIT_CLASS_USER, "learningRate");
	s = job("other");
	run_whole(&s, 1);
	s.train.seed = 43;
	refused(&s, EXIT_CLASS_USER, "another training");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("train");
	TCase *c = tcase_create("train");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 120);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, losses_do_not_depend_on_the_world);
	tcase_add_test(c, resume_is_bitwise_equal);
	tcase_add_test(c, resume_with_another_world);
	tcase_add_test(c, complete_is_complete);
	tcase_add_test(c, lora_in_bf16_ends_in_a_folder);
	tcase_add_test(c, what_is_refused);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
