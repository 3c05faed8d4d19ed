/*
 * bench_gpu: training and decoding speed of the shapes of tests/runtime/shapes.c on one GPU, copies
 * in its memory, sums between several. tests/gpu/bench.py runs it in turns with its peers. A step
 * is what a job's step is: micro-batches (of MICRO sequences, fewer where the planner finds that
 * they do not fit) forward and backward, the clipped AdamW update; the host
 * waits once a step, as the peers do. Figures are medians of steps after a warm-up; each command
 * prints one line of JSON.
 *
 * Usage: bench_gpu device
 *        bench_gpu shape SHAPE
 *        bench_gpu model SHAPE FOLDER                     (a new one, BF16, with random weights)
 *        bench_gpu train SHAPE BATCH TOKENS MICRO SECONDS
 *        bench_gpu decode FOLDER CONTEXT SECONDS          (a Hugging Face folder, as it is stored)
 *        bench_gpu bandwidth MIB SECONDS
 *        bench_gpu allreduce RANKS MIB                    (NCCL, a device a rank)
 * LLMJOB_BENCH_DEVICE: the kind of device, "cuda" by default.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "kernels/driver.h"
#include "runtime/model/engine.h"
#include "runtime/train/optim.h"
#include "runtime/train/planner.h"
#include "tests/runtime/shapes.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WARM_UP 5
#define MOST    10000
#define SUMS    20
#define DEVICES 16

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

static int train_step(struct pass *pass, struct optim *o, const struct model_conf *c, int64_t batch,
    const int32_t *ids, int step, struct err *e)
{
    int64_t tokens = c->sequence_length, micro = c->micro_sequences;
    double loss;
    int rc = 0;

    pass_zero_gradient(pass);
    for (int64_t i = 0; i < batch && !rc; i += micro) {
        const struct pass_input in = {.ids = ids + i * tokens, .targets = ids + i * tokens + 1};
        rc = pass_step(pass, micro, &in, 1.0f / (float)(batch * tokens), true, NULL, e);
    }
    if (!rc)
        rc = optim_step(o, step + 1, NULL, e);
    return rc ? rc : pass_loss(pass, &loss, e);
}

/* Of a token: 6 N for N parameters, 6 L C T for causal attention over T tokens (its lower half),
   the recomputation of attention's backward not counted. */
static double flops_of_token(const struct model_config *c, int64_t parameters, int64_t tokens)
{
    return 6.0 * (double)parameters +
        6.0 * (double)(c->layers * c->heads * c->head_dim) * (double)tokens;
}

static int train(struct dev *d, const struct model_config *shape, int64_t batch, int64_t tokens,
    int64_t micro, double seconds, struct err *e)
{
    struct model_conf c = {
        .config = *shape, .t = DTYPE_BF16, .train = true, .sequence_length = tokens, .seed = 1};
    struct planner_input plan = {
        .model = c, .batch_sequences = batch, .world = 1, .rows = micro * tokens};
    struct planner_plan planned;
    struct dev_info info;
    struct optim_conf oc = {.learning_rate = 1e-4,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .epsilon = 1e-8,
        .clip_norm = 1,
        .schedule = SCHEDULE_CONSTANT,
        .steps = 1 << 30};
    int64_t count = batch * tokens + 1, begin = clock_ns(), start;
    mem_autofree int32_t *ids = mem_array((size_t)count, sizeof *ids);
    struct model *m = NULL;
    struct pass *pass = NULL;
    struct optim *o = NULL;
    int step = 0;

    if (!ids)
        return err_set(e, ERR_MEMORY, "no memory for a batch");
    dev_describe(d, &info);
    plan.budget_bytes = (int64_t)(0.9 * (double)info.memory_bytes);
    int rc = planner_plan(&plan, &planned, e);
    if (rc)
        return rc;
    c.micro_sequences = planned.micro_sequences;
    c.logit_rows = planned.logit_rows;
    for (int64_t i = 0; i < count; i++)
        ids[i] = (int32_t)(op_random(1, (uint64_t)i) % (uint32_t)c.config.vocab);
    if (!(rc = model_create(d, &c, &m, e)) && !(rc = pass_create(m, &pass, e)) &&
        !(rc = model_init_random(m, e)) && !(rc = optim_create(d, &oc, pass, &o, e)))
        do {
            start = clock_ns();
            if (step == WARM_UP)
                begin = start;
            rc = train_step(pass, o, &c, batch, ids, step, e);
        } while (!rc && more(step++, begin, start, seconds));
    if (!rc) {
        double step_s = median(step - WARM_UP);
        printf("{\"rate\": %.1f, \"step_ms\": %.3f, \"flops\": %.6g, \"memory_mib\": "
               "%lld}\n",
            (double)(batch * tokens) / step_s, step_s * 1e3,
            flops_of_token(&c.config, model_parameters(m), tokens),
            (long long)(model_memory_bytes(m) >> 20));
    }
    optim_destroy(o);
    pass_destroy(pass);
    model_destroy(m);
    return rc;
}

/* -- decoding -- */

/* Bytes of weights that a token reads: an embedding that is no head gives one row. */
static double read_of_token(const struct weights *w)
{
    double sum = 0;

    for (int i = 0; i < weights_count(w); i++) {
        const struct weights_tensor *t = weights_at(w, i);

        if (weights_config(w)->tied_embeddings || !strstr(t->name, "embed_tokens"))
            sum += (double)t->bytes;
    }
    return sum;
}

static int decode(struct dev *d, const char *folder, int64_t context, double seconds, struct err *e)
{
    struct model_conf c = {.t = DTYPE_BF16, .kv_capacity = context};
    const struct sample_draw greedy = {.top_p = 1};
    struct weights *w = NULL;
    struct model *m = NULL;
    struct engine *engine = NULL;
    int32_t id = 0;
    int64_t past = context / 2, begin = 0, start;
    int step = 0, rc = weights_open(folder, NULL, &w, e);

    if (rc)
        return rc;
    c.config = *weights_config(w);
    if (!(rc = model_create(d, &c, &m, e)) && !(rc = model_load(m, w, e)) &&
        !(rc = engine_create(m, &engine, e)))
        do {
            start = clock_ns();
            if (step == WARM_UP)
                begin = start;
            rc = engine_next(engine, id, past, &greedy, &id, e);
            past = past + 1 < context ? past + 1 : context / 2;
        } while (!rc && more(step++, begin, start, seconds));
    if (!rc) {
        double s = median(step - WARM_UP);
        printf("{\"rate\": %.2f, \"bytes\": %.6g}\n", 1 / s, read_of_token(w));
    }
    engine_destroy(engine);
    model_destroy(m);
    weights_close(w);
    return rc;
}

/* -- memory and network -- */

/* Bytes read and written by a copy, what decoding is measured against. */
static int bandwidth(struct dev *d, size_t bytes, double seconds, struct err *e)
{
    void *from = NULL, *to = NULL;
    int64_t begin = 0, start;
    int step = 0, rc = dev_alloc(d, bytes, &from, e);

    if (!rc && !(rc = dev_alloc(d, bytes, &to, e)))
        do {
            start = clock_ns();
            if (step == WARM_UP)
                begin = start;
            dev_copy(d, to, from, bytes);
            rc = dev_sync(d, e);
        } while (!rc && more(step++, begin, start, seconds));
    if (!rc)
        printf("{\"bytes_per_s\": %.6g}\n", 2.0 * (double)bytes / median(step - WARM_UP));
    dev_free(d, from);
    dev_free(d, to);
    return rc;
}

struct meeting { /* of the ranks, in shared memory */
    _Atomic int ready;
    uint8_t id[DRIVER_COMM_ID_BYTES];
};

static int sum_once(struct dev *d, struct driver_comm *c, void *data, int64_t count, struct err *e)
{
    int rc = dev_comms(d)->allreduce(c, data, count, DTYPE_F32, DRIVER_SUM, e);

    if (rc)
        return rc;
    dev_comms(d)->join(c);
    return dev_sync(d, e);
}

/* A world's sums: of n bytes each rank sends and receives 2 (world - 1) / world n. */
static int allreduce_rank(struct meeting *at, int rank, int world, int64_t bytes, struct err *e)
{
    struct driver_comm *c = NULL;
    struct dev *d = NULL;
    void *data;
    int rc = dev_open("cuda", rank, 0, &d, e);

    if (!rc && rank == 0) {
        rc = dev_comms(d)->unique_id(at->id, e);
        atomic_store(&at->ready, rc ? -1 : 1);
    }
    while (!rc && !atomic_load(&at->ready))
        sched_yield();
    if (!rc && !(rc = dev_comms(d)->create(d, at->id, rank, world, 60000, &c, e)))
        rc = dev_comms(d)->alloc(c, (size_t)bytes, &data, e);
    for (int i = 0; i < WARM_UP + SUMS && !rc; i++) {
        int64_t start = clock_ns();

        rc = sum_once(d, c, data, bytes / 4, e);
        if (i >= WARM_UP)
            seconds_of[i - WARM_UP] = (double)(clock_ns() - start) * 1e-9;
    }
    if (!rc && rank == 0)
        printf(
            "{\"bytes_per_s\": %.6g}\n", 2.0 * (world - 1) / world * (double)bytes / median(SUMS));
    if (c)
        dev_comms(d)->destroy(c);
    dev_close(d);
    return rc;
}

static int allreduce(int world, int64_t bytes, struct err *e)
{
    struct meeting *at =
        mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = 0, status;

    if (at == MAP_FAILED)
        return err_set(e, ERR_MEMORY, "no memory for %d ranks", world);
    for (int i = 0; i < world; i++)
        if (!fork()) {
            int rc = allreduce_rank(at, i, world, bytes, e);

            if (rc)
                fprintf(stderr, "bench_gpu: rank %d: %s\n", i, e->text);
            fflush(stdout);
            _exit(rc != 0);
        }
    while (wait(&status) > 0)
        failed += status != 0;
    return failed ? err_set(e, ERR_DEVICE, "%d of %d ranks failed", failed, world) : 0;
}

/* -- what there is -- */

static int device(struct dev *d, struct err *e)
{
    struct dev_info info;
    struct dev *next;
    int count = 1;

    dev_describe(d, &info);
    while (count < DEVICES && !dev_open(info.kind, count, 0, &next, e)) {
        dev_close(next);
        count++;
    }
    printf("{\"name\": \"%s\", \"kind\": \"%s\", \"memory_mib\": %lld, \"devices\": %d}\n",
        info.name, info.kind, (long long)(info.memory_bytes >> 20), count);
    return 0;
}

static void print_shape(const struct model_config *c)
{
    printf("{\"family\": \"%s\", \"layers\": %lld, \"heads\": %lld, \"kv_heads\": %lld, "
           "\"head_dim\": %lld, \"dim\": %lld, \"ffn_dim\": %lld, \"vocab\": %lld}\n",
        c->architecture, (long long)c->layers, (long long)c->heads, (long long)c->kv_heads,
        (long long)c->head_dim, (long long)c->dim, (long long)c->ffn_dim, (long long)c->vocab);
}

static int run(struct dev *d, int argc, char **argv, struct err *e)
{
    const char *what = argv[1];
    struct model_config shape;

    if (!strcmp(what, "device") && argc == 2)
        return device(d, e);
    if (!strcmp(what, "train") && argc == 7) {
        int rc = shape_find(argv[2], &shape, e);

        return rc ? rc
                  : train(d, &shape, strtoll(argv[3], NULL, 10), strtoll(argv[4], NULL, 10),
                        strtoll(argv[5], NULL, 10), strtod(argv[6], NULL), e);
    }
    if (!strcmp(what, "decode") && argc == 5)
        return decode(d, argv[2], strtoll(argv[3], NULL, 10), strtod(argv[4], NULL), e);
    if (!strcmp(what, "bandwidth") && argc == 4)
        return bandwidth(d, strtoull(argv[2], NULL, 10) << 20, strtod(argv[3], NULL), e);
    return err_set(e, ERR_USER, "what to measure? see the top of tests/gpu/bench_gpu.c");
}

/* What this process needs no device for; 1: it needs one. Ranks are forked before any is opened. */
static int run_without(int argc, char **argv, struct err *e)
{
    const char *what = argv[1];
    struct model_config shape;
    int rc = 1;

    if (!strcmp(what, "allreduce") && argc == 4)
        return allreduce((int)strtol(argv[2], NULL, 10), strtoll(argv[3], NULL, 10) << 20, e);
    if ((!strcmp(what, "shape") && argc == 3) || (!strcmp(what, "model") && argc == 4))
        rc = shape_find(argv[2], &shape, e);
    if (!rc && argc == 3)
        print_shape(&shape);
    else if (!rc)
        rc = shape_write(argv[3], &shape, DTYPE_BF16, e);
    return rc;
}

int main(int argc, char **argv)
{
    const char *kind = getenv("LLMJOB_BENCH_DEVICE");
    struct err e = {0};
    struct dev *d = NULL;
    int rc;

    rc = argc > 1 ? run_without(argc, argv, &e) : err_set(&e, ERR_USER, "what to measure?");
    if (rc == 1)
        rc = dev_open(kind ? kind : "cuda", 0, 0, &d, &e);
    if (d)
        rc = run(d, argc, argv, &e);
    if (rc)
        fprintf(stderr, "bench_gpu: %s\n", e.text);
    dev_close(d);
    return rc ? 1 : 0;
}
