/*
 * bench_gpu: training and decoding speed of fixed shapes on one GPU, beside torch_peer.py, which
 * measures PyTorch on the same shapes. A step is what a job's step is: micro-batches forward and
 * backward, the clipped AdamW update; the host waits once a step, as the peer does. Figures are
 * medians of steps after a warm-up.
 *
 * Usage: bench_gpu device
 *        bench_gpu train SHAPE BATCH TOKENS MICRO SECONDS
 *        bench_gpu decode FOLDER CONTEXT SECONDS    (a Hugging Face folder, weights as they are
 * stored) bench_gpu bandwidth SECONDS LLMJOB_BENCH_DEVICE: the kind of device, "cuda" by default.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/model.h"
#include "runtime/optim.h"

#include <math.h>

#define WARM_UP   5
#define MOST      10000
#define COPY_SIZE ((size_t)1 << 30)

static const struct shape {
	const char *name;
	struct model_config config;
} shapes[] = {
	{"gpt2-124m",
	 {.architecture = "gpt2",
	  .vocab = 50304, /* padded to a multiple of 128, as is usual */
	  .dim = 768,
	  .layers = 12,
	  .heads = 12,
	  .kv_heads = 12,
	  .head_dim = 64,
	  .ffn_dim = 3072,
	  .context = 1024,
	  .norm_eps = 1e-5f,
	  .norm = NORM_LAYER,
	  .activation = ACTIVATION_GELU,
	  .positions = POSITIONS_LEARNED,
	  .qkv_bias = true,
	  .o_bias = true,
	  .ffn_bias = true,
	  .tied_embeddings = true,
	  .bos_id = -1,
	  .eos_id = -1,
	  .pad_id = -1}},
	{"smollm2-135m",
	 {.architecture = "llama",
	  .vocab = 49152,
	  .dim = 576,
	  .layers = 30,
	  .heads = 9,
	  .kv_heads = 3,
	  .head_dim = 64,
	  .ffn_dim = 1536,
	  .context = 2048,
	  .norm_eps = 1e-5f,
	  .rope_theta = 10000,
	  .tied_embeddings = true,
	  .bos_id = -1,
	  .eos_id = -1,
	  .pad_id = -1}},
	{"llama-1.1b",
	 {.architecture = "llama",
	  .vocab = 32000,
	  .dim = 2048,
	  .layers = 22,
	  .heads = 32,
	  .kv_heads = 4,
	  .head_dim = 64,
	  .ffn_dim = 5632,
	  .context = 2048,
	  .norm_eps = 1e-5f,
	  .rope_theta = 10000,
	  .tied_embeddings = true,
	  .bos_id = -1,
	  .eos_id = -1,
	  .pad_id = -1}},
};

static double seconds_of[MOST];

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(int count)
{
	qsort(seconds_of, (size_t)count, sizeof *seconds_of, ascending);
	return seconds_of[count / 2];
}

/* Whether another step is due; keeps the time of the one that began at start_ns. */
static bool more(int step, int64_t begin_ns, int64_t start_ns, double seconds)
{
	int64_t now = clock_ns();
	if (step >= WARM_UP)
		seconds_of[step - WARM_UP] = (double)(now - start_ns) * 1e-9;
	return step + 1 < WARM_UP + 10 ||
	       (step + 1 - WARM_UP < MOST && (double)(now - begin_ns) * 1e-9 < seconds);
}

/* -- training -- */

static int train_step(struct model *m, struct optim *o, const struct model_conf *c, int64_t batch,
		      const int32_t *ids, int step, struct err *e)
{
	int64_t tokens = c->sequence_length, micro = c->micro_sequences;
	double loss;
	int rc = 0;

	model_zero_gradient(m);
	for (int64_t i = 0; i < batch && !rc; i += micro)
		rc = model_step(m, micro, ids + i * tokens, ids + i * tokens + 1,
				1.0f / (float)(batch * tokens), true, NULL, e);
	if (!rc)
		rc = optim_step(o, step + 1, NULL, e);
	return rc ? rc : model_loss(m, &loss, e);
}

/* Of a token: 6 N for N parameters, 6 L C T for causal attention over T tokens (its lower half),
   the recomputation of attention's backward not counted. */
static double flops_of_token(const struct model_config *c, int64_t parameters, int64_t tokens)
{
	return 6.0 * (double)parameters +
	       6.0 * (double)(c->layers * c->heads * c->head_dim) * (double)tokens;
}

static int train(struct dev *d, const struct shape *s, int64_t batch, int64_t tokens, int64_t micro,
		 double seconds, struct err *e)
{
	struct model_conf c = {.config = s->config,
			       .t = DTYPE_BF16,
			       .train = true,
			       .micro_sequences = micro,
			       .sequence_length = tokens,
			       .seed = 1};
	struct optim_conf oc = {.learning_rate = 1e-4,
				.beta1 = 0.9,
				.beta2 = 0.95,
				.epsilon = 1e-8,
				.clip_norm = 1,
				.schedule = SCHEDULE_CONSTANT,
				.steps = 1 << 30};
	int64_t count = batch * tokens + 1, begin = clock_ns(), start;
	int32_t *ids = mem_array((size_t)count, sizeof *ids);
	struct model *m = NULL;
	struct optim *o = NULL;
	int step = 0, rc = ids ? 0 : err_set(e, ERR_MEMORY, "no memory for a batch");

	for (int64_t i = 0; i < count && !rc; i++)
		ids[i] = (int32_t)(op_random(1, (uint64_t)i) % (uint32_t)c.config.vocab);
	if (!rc)
		rc = model_create(d, &c, &m, e);
	if (!rc)
		rc = model_init_random(m, e);
	if (!rc)
		rc = optim_create(d, &oc, m, &o, e);
	do {
		start = clock_ns();
		if (step == WARM_UP)
			begin = start;
		if (!rc)
			rc = train_step(m, o, &c, batch, ids, step, e);
	} while (!rc && more(step++, begin, start, seconds));
	if (!rc) {
		double rate = (double)(batch * tokens) / median(step - WARM_UP);
		printf("llmjob train %s B=%lld T=%lld micro %lld: %.0f tokens/s, %.1f TFLOP/s, "
		       "memory %lld MiB\n",
		       s->name, (long long)batch, (long long)tokens, (long long)micro, rate,
		       rate * flops_of_token(&c.config, model_parameters(m), tokens) * 1e-12,
		       (long long)(model_memory_bytes(m) >> 20));
	}
	optim_destroy(o);
	model_destroy(m);
	mem_free(ids);
	return rc;
}

/* -- decoding -- */

static int decode(struct dev *d, const char *folder, int64_t context, double seconds, struct err *e)
{
	struct model_conf c = {.t = DTYPE_BF16, .kv_capacity = context};
	const struct sample_draw greedy = {.top_p = 1};
	struct weights *w = NULL;
	struct model *m = NULL;
	int32_t id = 0;
	int64_t past = context / 2, begin = 0, start;
	int step = 0, rc = weights_open(folder, NULL, &w, e);

	if (!rc) {
		c.config = *weights_config(w);
		rc = model_create(d, &c, &m, e);
	}
	if (!rc)
		rc = model_load(m, w, e);
	do {
		start = clock_ns();
		if (step == WARM_UP)
			begin = start;
		if (!rc)
			rc = model_next(m, id, past, &greedy, &id, e);
		past = past + 1 < context ? past + 1 : context / 2;
	} while (!rc && more(step++, begin, start, seconds));
	if (!rc) {
		double s = median(step - WARM_UP);
		printf("llmjob decode %s context %lld: %.1f tokens/s, %.0f GB/s of weights\n",
		       folder, (long long)context, 1 / s, (double)model_memory_bytes(m) / s * 1e-9);
	}
	model_destroy(m);
	weights_close(w);
	return rc;
}

/* Bytes read and written by a copy, what decoding is measured against. */
static int bandwidth(struct dev *d, double seconds, struct err *e)
{
	void *from = NULL, *to = NULL;
	int64_t begin = 0, start;
	int step = 0, rc = dev_alloc(d, COPY_SIZE, &from, e);

	if (!rc)
		rc = dev_alloc(d, COPY_SIZE, &to, e);
	do {
		start = clock_ns();
		if (step == WARM_UP)
			begin = start;
		if (!rc) {
			dev_copy(d, to, from, COPY_SIZE);
			rc = dev_sync(d, e);
		}
	} while (!rc && more(step++, begin, start, seconds));
	if (!rc)
		printf("llmjob bandwidth: a copy moves %.0f GB/s\n",
		       2.0 * (double)COPY_SIZE / median(step - WARM_UP) * 1e-9);
	dev_free(d, from);
	dev_free(d, to);
	return rc;
}

static int run(struct dev *d, int argc, char **argv, struct err *e)
{
	const char *what = argv[1];

	if (!strcmp(what, "device") && argc == 2) {
		struct dev_info info;
		dev_describe(d, &info);
		printf("%s, %lld MiB\n", info.name, (long long)(info.memory_bytes >> 20));
		return 0;
	}
	if (!strcmp(what, "train") && argc == 7)
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
			if (!strcmp(argv[2], shapes[i].name))
				return train(d, &shapes[i], strtoll(argv[3], NULL, 10),
					     strtoll(argv[4], NULL, 10), strtoll(argv[5], NULL, 10),
					     strtod(argv[6], NULL), e);
	if (!strcmp(what, "decode") && argc == 5)
		return decode(d, argv[2], strtoll(argv[3], NULL, 10), strtod(argv[4], NULL), e);
	if (!strcmp(what, "bandwidth") && argc == 3)
		return bandwidth(d, strtod(argv[2], NULL), e);
	return err_set(e, ERR_USER, "what to measure? see the top of tests/gpu/bench_gpu.c");
}

int main(int argc, char **argv)
{
	const char *kind = getenv("LLMJOB_BENCH_DEVICE");
	struct err e = {0};
	struct dev *d = NULL;
	int rc = argc > 1 ? dev_open(kind ? kind : "cuda", 0, 0, &d, &e)
			  : err_set(&e, ERR_USER, "what to measure?");

	if (!rc)
		rc = run(d, argc, argv, &e);
	if (rc)
		fprintf(stderr, "bench_gpu: %s\n", e.text);
	dev_close(d);
	return rc ? 1 : 0;
}
