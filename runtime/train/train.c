/*
 * train: the step loop and what stands around it: opening, resuming, evaluating, saving, ending.
 * Everything is allocated in open_all; a step allocates nothing. The host looks at the device after
 * each step that it has enqueued, or after a few where it cannot read the device's memory
 * (take_steps). Rank 0 alone reports and writes the manifest; every rank writes its slice of a
 * checkpoint and a line a step of the samples it consumed (<checkpoint.path>/samples). What all
 * ranks must decide alike comes out of a reduction, never from a clock or a flag of their own.
 */
#include "runtime/train/train.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "runtime/door/beat.h"
#include "runtime/ckpt/ckpt.h"
#include "runtime/data/data.h"
#include "runtime/train/export.h"
#include "runtime/train/identity.h"
#include "runtime/train/output.h"
#include "runtime/train/planner.h"
#include "runtime/train/resume.h"
#include "runtime/train/shard.h"
#include "runtime/train/tensorboard.h"
#include "runtime/text/tok.h"

#include <math.h>

#define EVALUATE_SEQUENCES 16
#define BUDGET_SHARE       0.9   /* of the memory: files, libraries and the tokenizer need some */
#define GPU_ROWS           65536 /* of a micro-batch: enough that launches and tails do not count */
/* Parts of the gradient that are ready are sent off in lots of so many elements, or an eighth of
   it: large enough for the network's full speed, small enough that the first leaves early (Li et
   al., arXiv:2006.15704). */
#define LOT                (4 << 20)
#define AHEAD_S            1.0 /* between two looks at the device, for requests to be heard */

struct save_file { /* one rank's part of a checkpoint, as gathered */
    int64_t bytes;
    char hash[24]; /* 16 hex digits and NUL */
};

struct lots { /* of one step's gradient: [low, open) is ready, [open, top) is on its way */
    int64_t low, open, top;
    struct err failure;
};

struct train {
    struct door *door;
    const struct orders *orders;
    struct dev *dev;
    const struct jobspec *spec;
    int64_t budget_bytes;
    struct coll *coll;
    struct weights *weights;
    struct model_config config;
    struct tok *tok;
    struct data *data, *validation;
    int64_t train_samples, held_out; /* of the training text */
    int64_t steps;
    int64_t tokens_per_step;
    bool runs_ahead; /* of a device whose memory the host cannot read */
    int64_t ahead;   /* steps that AHEAD_S has room for; the same on every rank */
    const char *targets[LIMIT_LORA_TARGETS + 1];
    struct planner_plan plan;
    struct model *model;
    struct optim *optim;
    struct optim_conf optim_conf;
    struct tensorboard *board;
    struct ckpt_state state;
    int64_t saved_step, saved_ms;
    int32_t *inputs, *labels; /* (micro, T), host */
    bool lots_wanted;
    struct lots lots;
    struct buf line; /* of the sample log */
    int log_fd;
    struct save_file *files; /* (world): what each rank wrote, while saving */
};

static bool leader(const struct train *t)
{
    return t->orders->rank == 0;
}

/* -- opening -- */

/* Which samples are trained on and in how many steps. */
static int share_out(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    int64_t all = data_samples(t->data);

    t->held_out = t->validation ? 0 : data_held_out(all);
    t->train_samples = all - t->held_out;
    if (!s->steps && t->train_samples < s->batch_sequences)
        return err_set(e, ERR_USER,
            "spec.train.batchSequences: %d, but spec.train.data.train has only "
            "%lld sequences of %d tokens to train on; lower it, or set "
            "spec.train.steps to go round them",
            s->batch_sequences, (long long)t->train_samples, s->sequence_length);
    t->steps = s->steps > 0 ? s->steps
                            : (int64_t)(s->epochs * (double)t->train_samples / s->batch_sequences);
    t->steps = t->steps > 0 ? t->steps : 1;
    t->tokens_per_step = (int64_t)s->batch_sequences * s->sequence_length;
    if (!leader(t))
        return 0;
    log_info("data", LOG_I("sequences", t->train_samples), LOG_I("heldOut", t->held_out),
        LOG_I("steps", t->steps));
    if (!t->validation && !t->held_out)
        log_warn("too few sequences to keep some for a validation loss", LOG_I("sequences", all));
    return 0;
}

static int open_corpus(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    int rc;

    beat_phase(t->door->page, WIRE_PHASE_LOAD);
    rc = tok_open(t->weights, &t->tok, e);
    if (!rc)
        rc = data_open(s->data.train, s->data.format, t->tok, s->sequence_length, &t->data, e);
    if (!rc && s->data.validation)
        rc = data_open(
            s->data.validation, s->data.format, t->tok, s->sequence_length, &t->validation, e);
    return rc ? rc : share_out(t, e);
}

static struct model_conf model_conf_of(struct train *t)
{
    const struct jobspec_train *s = &t->spec->train;
    struct model_conf c = {.config = t->config,
        .t = t->spec->precision == PRECISION_FP32 ? DTYPE_F32 : DTYPE_BF16,
        .train = true,
        .sequence_length = s->sequence_length,
        .recompute = s->recompute,
        .seed = s->seed,
        .coll = t->coll,
        .page = t->door->page};

    if (s->method == METHOD_LORA) {
        for (int i = 0; i < s->lora.target_count; i++)
            t->targets[i] = s->lora.targets[i];
        c.lora_rank = s->lora.rank;
        c.lora_alpha = (float)s->lora.alpha;
        c.lora_dropout = (float)s->lora.dropout;
        c.lora_targets = t->targets;
    }
    return c;
}

static int open_model(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    struct dev_info info;
    struct planner_input in = {.model = model_conf_of(t),
        .batch_sequences = s->batch_sequences,
        .world = t->orders->world,
        .budget_bytes = (int64_t)((double)t->budget_bytes * BUDGET_SHARE)};
    int rc;

    dev_describe(t->dev, &info);
    t->runs_ahead = !info.host_readable;
    in.rows = info.host_readable ? 0 : GPU_ROWS;
    rc = planner_plan(&in, &t->plan, e);
    if (rc)
        return rc;
    /* Every rank must start the same reductions: none may be without a micro-batch. */
    t->lots_wanted = coll_overlaps(t->coll) && s->batch_sequences >= t->orders->world;
    if (leader(t))
        log_info("plan", LOG_I("data", t->plan.layout.dp),
            LOG_I("microSequences", t->plan.micro_sequences), LOG_I("bytes", t->plan.memory.total));
    in.model.micro_sequences = t->plan.micro_sequences;
    in.model.logit_rows = t->plan.logit_rows;
    t->optim_conf = (struct optim_conf){.learning_rate = s->optimizer.learning_rate,
        .weight_decay = s->optimizer.weight_decay,
        .beta1 = s->optimizer.beta1,
        .beta2 = s->optimizer.beta2,
        .epsilon = s->optimizer.epsilon,
        .clip_norm = s->optimizer.clip_norm,
        .schedule = s->optimizer.schedule,
        .warmup_steps = s->optimizer.warmup_steps,
        .steps = t->steps};
    rc = model_create(t->dev, &in.model, &t->model, e);
    if (!rc)
        rc = t->spec->model.init == INIT_RANDOM ? model_init_random(t->model, e)
                                                : model_load(t->model, t->weights, e);
    if (!rc)
        rc = optim_create(t->dev, &t->optim_conf, t->model, &t->optim, e);
    return rc;
}

static int resume(struct train *t, struct err *e)
{
    struct resume c = {.orders = t->orders,
        .dev = t->dev,
        .coll = t->coll,
        .model = t->model,
        .optim = t->optim,
        .steps = t->steps};
    const struct identity_source source = {.spec = t->spec,
        .weights = t->weights,
        .data = t->data,
        .validation = t->validation,
        .train_samples = t->train_samples,
        .steps = t->steps};
    int rc = identity_write(&source, c.identity, e);

    if (!rc)
        rc = identity_hash_v1(&source, c.hash_v1, e);
    t->state = (struct ckpt_state){.seed = t->spec->train.seed,
        .first_loss = NAN,
        .loss = NAN,
        .first_validation_loss = NAN,
        .validation_loss = NAN};
    if (!rc)
        rc = resume_run(&c, &t->state, e);
    t->saved_step = t->state.step > 0 ? t->state.step : -1;
    t->saved_ms = clock_ms();
    return rc;
}

static int open_logs(struct train *t, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    int rc;

    snprintf(path, sizeof path, "%s/samples", t->spec->checkpoint.path);
    rc = io_mkdirs(path, 0755, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/samples/%lld-%d.log", t->spec->checkpoint.path,
        (long long)t->orders->incarnation, t->orders->rank);
    t->log_fd = io_append(path, 0644, e);
    if (t->log_fd < 0)
        return t->log_fd;
    if (leader(t) && t->spec->train.tensorboard)
        rc = tensorboard_create(t->spec->train.tensorboard, t->orders->incarnation,
            t->state.step ? t->state.step + 1 : 0, &t->board, e);
    return rc;
}

static int open_host(struct train *t, struct err *e)
{
    size_t n = (size_t)(t->plan.micro_sequences * t->spec->train.sequence_length);

    t->inputs = mem_array(n, sizeof *t->inputs);
    t->labels = mem_array(n, sizeof *t->labels);
    t->files = mem_array((size_t)t->orders->world, sizeof *t->files);
    if (!t->inputs || !t->labels || !t->files)
        return err_set(e, ERR_MEMORY, "no memory for a micro-batch");
    return 0;
}

static int open_all(struct train *t, struct err *e)
{
    struct dev_info info;
    int rc;

    beat_phase(t->door->page, WIRE_PHASE_LOAD);
    rc = leader(t) ? output_check(t->spec, e) : 0; /* rather than after the last step */
    if (rc)
        return rc;
    rc = weights_open(t->spec->model.source, t->spec->model.sha256, &t->weights, e);
    if (rc)
        return rc;
    t->config = *weights_config(t->weights);
    if (t->spec->model.init == INIT_RANDOM && t->spec->model.config)
        rc = model_config_read(t->spec->model.config, &t->config, e);
    if (!rc)
        rc = open_corpus(t, e);
    beat_phase(t->door->page, WIRE_PHASE_LOAD);
    if (!rc)
        rc = open_model(t, e);
    if (!rc)
        rc = open_host(t, e);
    if (!rc)
        rc = resume(t, e);
    if (!rc)
        rc = open_logs(t, e);
    if (rc)
        return rc;
    dev_describe(t->dev, &info);
    beat_step(t->door->page, t->state.step);
    return door_send_fields(t->door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)model_parameters(t->model), NULL},
            {"memory_bytes", (double)t->plan.memory.total, NULL},
            {"resumed_step", (double)t->state.step, NULL}, {"steps", (double)t->steps, NULL},
            {"held_out", (double)t->held_out, NULL}, {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
}

static void close_all(struct train *t)
{
    tensorboard_close(t->board);
    io_close(t->log_fd);
    buf_done(&t->line);
    mem_free(t->inputs);
    mem_free(t->labels);
    mem_free(t->files);
    optim_destroy(t->optim);
    model_destroy(t->model);
    data_close(t->data);
    data_close(t->validation);
    tok_close(t->tok);
    weights_close(t->weights);
}

/* -- what rank 0 tells -- */

static int scalar(struct train *t, const char *tag, int64_t step, double value, struct err *e)
{
    return t->board ? tensorboard_scalar(t->board, tag, step, value, e) : 0;
}

/* To TensorBoard first: what the agent has heard of is there to be read, whatever ends this rank.
 */
static int tell(
    struct train *t, enum wire_type type, const struct door_field *fields, struct err *e)
{
    int rc = t->board ? tensorboard_flush(t->board, e) : 0;

    return rc ? rc : door_send_fields(t->door, type, fields, e);
}

/* -- evaluating -- */

/* A fixed set of sequences, spread evenly over the validation samples and shared over the ranks. */
static int evaluate(struct train *t, struct err *e)
{
    const struct data *from = t->validation ? t->validation : t->data;
    int64_t start = t->validation ? 0 : t->train_samples;
    int64_t have = data_samples(from) - start, first, count, length;
    int64_t n = have < EVALUATE_SEQUENCES ? have : EVALUATE_SEQUENCES;
    double sum = 0;
    float total;
    int rc = 0;

    if (n < 1)
        return 0;
    length = t->spec->train.sequence_length;
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    data_share(n, t->orders->world, t->orders->rank, &first, &count);
    for (int64_t i = 0, b; i < count && !rc; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        for (int64_t j = 0; j < b; j++)
            data_sample(from, start + (first + i + j) * have / n, t->inputs + j * length,
                t->labels + j * length);
        rc = model_step(t->model, b, t->inputs, t->labels, 0, false, NULL, e);
    }
    if (!rc)
        rc = model_loss(t->model, &sum, e);
    total = (float)(sum / (double)(n * length));
    if (!rc)
        rc = coll_allreduce(t->coll, &total, 1, DTYPE_F32, COLL_SUM, e);
    if (rc)
        return rc;
    t->state.validation_loss = (double)total;
    if (isnan(t->state.first_validation_loss))
        t->state.first_validation_loss = (double)total;
    if (!leader(t))
        return 0;
    rc = scalar(t, "loss/validation", t->state.step, (double)total, e);
    if (!rc)
        rc = tell(t, WIRE_EVALUATED,
            (struct door_field[]){{"step", (double)t->state.step, NULL},
                {"loss", (double)total, NULL}, {NULL, 0, NULL}},
            e);
    return rc;
}

/* -- saving -- */

static int commit(struct train *t, struct err *e)
{
    const char *path = t->spec->checkpoint.path;
    int world = t->orders->world, rc;
    mem_autofree char(*hashes)[17] = mem_array((size_t)world, 17);
    mem_autofree int64_t *bytes = mem_array((size_t)world, sizeof *bytes);

    if (!hashes || !bytes)
        return err_set(e, ERR_MEMORY, "no memory to commit a checkpoint");
    for (int i = 0; i < world; i++) {
        memcpy(hashes[i], t->files[i].hash, 17);
        bytes[i] = t->files[i].bytes;
    }
    rc = ckpt_commit(
        path, &t->state, world, (const char(*)[17])hashes, bytes, t->spec->checkpoint.keep, e);
    if (rc == -ERR_DRAINED) /* a newer world goes on without us: that is no orderly end */
        return err_set(e, ERR_PEER, "a newer incarnation has begun");
    if (rc)
        return rc;
    return door_send_fields(t->door, WIRE_SAVED,
        (struct door_field[]){
            {"step", (double)t->state.step, NULL}, {"path", 0, path}, {NULL, 0, NULL}},
        e);
}

static int write_slice(struct train *t, struct save_file *mine, struct err *e)
{
    struct ckpt_writer *w = NULL;
    int rc = ckpt_begin(t->spec->checkpoint.path, t->state.step, t->orders->rank, &w, e);

    if (rc)
        return rc;
    rc = shard_write(w, t->dev, t->model, t->optim, t->orders->world, t->orders->rank, e);
    if (rc)
        ckpt_abandon(w);
    else
        rc = ckpt_finish(w, mine->hash, &mine->bytes, e);
    return rc;
}

/* No later run makes the points and lines of these steps again: they must last as the checkpoint
 * does, so they go first. */
static int sync_logs(struct train *t, struct err *e)
{
    int rc = io_fsync(t->log_fd, e);

    return rc || !t->board ? rc : tensorboard_sync(t->board, e);
}

static int save(struct train *t, struct err *e)
{
    struct save_file mine = {0};
    int rc;

    if (t->saved_step == t->state.step)
        return 0;
    beat_phase(t->door->page, WIRE_PHASE_CHECKPOINT);
    rc = sync_logs(t, e);
    if (!rc)
        rc = write_slice(t, &mine, e);
    if (!rc)
        rc = coll_allgather(t->coll, &mine, sizeof mine, t->files, e);
    if (!rc && leader(t))
        rc = commit(t, e);
    if (!rc)
        rc = coll_barrier(t->coll, e); /* nobody goes on, or away, before the manifest stands */
    t->saved_step = t->state.step;
    t->saved_ms = clock_ms();
    return rc;
}

/* -- stepping -- */

struct step { /* what is known of a step once the host has looked; the same on every rank */
    double loss, grad_norm, seconds;
};

struct wish { /* of any rank; the same on every rank */
    bool stop, save;
};

/* Which samples of the corpus order are this rank's in a step. */
static void share_of(const struct train *t, int64_t step, int64_t *first, int64_t *count)
{
    int64_t batch = t->spec->train.batch_sequences;

    data_share(batch, t->orders->world, t->orders->rank, first, count);
    *first += (step - 1) * batch;
}

/* "step first count s0 s1 ...": written when the update has been made. */
static int log_samples(struct train *t, int64_t step, struct err *e)
{
    int64_t first, count;

    share_of(t, step, &first, &count);
    buf_reset(&t->line);
    buf_printf(&t->line, "%lld %lld %lld", (long long)step, (long long)first, (long long)count);
    for (int64_t i = 0; i < count; i++)
        buf_printf(&t->line, " %lld",
            (long long)data_sample_at(t->train_samples, t->spec->train.seed, first + i));
    buf_char(&t->line, '\n');
    if (!buf_ok(&t->line))
        return err_set(e, ERR_MEMORY, "no memory for the sample log");
    return io_write_full(t->log_fd, t->line.data, t->line.len, e);
}

static int start_lot(struct train *t, int64_t first, int64_t end, struct err *e)
{
    return coll_reduce_start(
        t->coll, model_gradient(t->model) + first, end - first, DTYPE_F32, COLL_SUM, e);
}

/* From backward: [first, first + count) of the gradient is complete, from the end downwards. */
static void take_ready(void *user, int64_t first, int64_t count)
{
    struct train *t = user;
    struct lots *l = &t->lots;

    if (l->failure.code != ERR_NONE)
        return;
    if (l->top == model_trainable(t->model))
        l->top = l->open = first + count;
    l->low = first;
    if (l->open - l->low < LOT && l->open - l->low < model_trainable(t->model) / 8)
        return;
    if (!start_lot(t, l->low, l->open, &l->failure))
        l->open = l->low;
}

/* This rank's share of the global batch, micro-batch by micro-batch: gradients and losses are added
 * up on the device. */
static int compute(struct train *t, int64_t first, int64_t count, struct err *e)
{
    int64_t length = t->spec->train.sequence_length;
    float scale = 1 / (float)t->tokens_per_step;
    int64_t end = model_trainable(t->model);
    int rc = 0;

    model_zero_gradient(t->model);
    t->lots = (struct lots){end, end, end, {0}};
    for (int64_t i = 0, b; i < count && !rc; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        for (int64_t j = 0; j < b; j++)
            data_sample(t->data,
                data_sample_at(t->train_samples, t->spec->train.seed, first + i + j),
                t->inputs + j * length, t->labels + j * length);
        beat_phase(t->door->page, WIRE_PHASE_FORWARD);
        model_watch_gradient(t->model, t->lots_wanted && i + b == count ? take_ready : NULL, t);
        model_set_place(t->model, first + i);
        rc = model_step(t->model, b, t->inputs, t->labels, scale, true, NULL, e);
    }
    return rc;
}

/* What backward has not sent off; the update is enqueued behind it. */
static int reduce_gradient(struct train *t, struct err *e)
{
    struct lots *l = &t->lots;
    int rc = 0;

    beat_phase(t->door->page, WIRE_PHASE_COLLECTIVE);
    if (l->failure.code != ERR_NONE) {
        *e = l->failure;
        return -(int)e->code;
    }
    rc = start_lot(t, 0, l->open, e);
    if (!rc && l->top < model_trainable(t->model))
        rc = start_lot(t, l->top, model_trainable(t->model), e);
    if (!rc)
        coll_reduce_join(t->coll);
    return rc;
}

static bool save_is_due(struct train *t)
{
    int64_t seconds = t->spec->checkpoint.every_seconds;

    return atomic_exchange(&t->door->checkpoint, false) ||
        (leader(t) && seconds > 0 && clock_ms() - t->saved_ms >= seconds * 1000);
}

static int enqueue_step(struct train *t, int64_t step, struct err *e)
{
    int64_t first, count;
    int rc;

    share_of(t, step, &first, &count);
    rc = compute(t, first, count, e);
    if (!rc)
        rc = reduce_gradient(t, e);
    if (rc)
        return rc;
    beat_phase(t->door->page, WIRE_PHASE_OPTIMIZER);
    rc = optim_step(t->optim, step, NULL, e);
    /* Every step, for no other wait for the device has a deadline. The update is still to be
     * done then, and what comes next is enqueued meanwhile. A step later, launches and uploads
     * would stand behind a reduction that may never end, and wait for room among themselves. */
    return rc ? rc : coll_reduce_wait(t->coll, e);
}

/* Looks at n steps that were enqueued since start_ns. Losses and wishes become the world's, and so
 * does how many are enqueued next. */
static int settle(
    struct train *t, int n, int64_t start_ns, struct step *s, struct wish *w, struct err *e)
{
    double sums[MODEL_AHEAD];
    float v[MODEL_AHEAD + 3];
    int rc = model_loss(t->model, sums, e);

    for (int i = 0; i < n && !rc; i++)
        v[i] = (float)(sums[i] / (double)t->tokens_per_step);
    v[n] = atomic_load(&t->door->stop) ? 1 : 0;
    v[n + 1] = save_is_due(t) ? 1 : 0;
    v[n + 2] = (float)((double)(clock_ns() - start_ns) * 1e-9 / n / t->orders->world);
    if (!rc)
        rc = coll_allreduce(t->coll, v, n + 3, DTYPE_F32, COLL_SUM, e);
    for (int i = 0; i < n && !rc; i++) {
        s[i].loss = (double)v[i];
        s[i].seconds = (double)(clock_ns() - start_ns) * 1e-9 / n;
    }
    if (rc)
        return rc;
    *w = (struct wish){v[n] > 0, v[n + 1] > 0};
    t->ahead = (double)v[n + 2] * MODEL_AHEAD < AHEAD_S ? MODEL_AHEAD
                                                        : (int64_t)(AHEAD_S / (double)v[n + 2]);
    return 0;
}

static int report_step(struct train *t, const struct step *s, struct err *e)
{
    int64_t step = t->state.step;
    double speed = (double)t->tokens_per_step / s->seconds;
    double rate = optim_rate(&t->optim_conf, step);
    int rc;

    if (!leader(t))
        return 0;
    rc = scalar(t, "loss/train", step, s->loss, e);
    if (!rc)
        rc = scalar(t, "learning_rate", step, rate, e);
    if (!rc)
        rc = scalar(t, "gradient_norm", step, s->grad_norm, e);
    if (!rc)
        rc = scalar(t, "tokens_per_second", step, speed, e);
    if (rc)
        return rc;
    return tell(t, WIRE_STEP,
        (struct door_field[]){{"step", (double)step, NULL}, {"loss", s->loss, NULL},
            {"tokens", (double)t->state.tokens, NULL}, {"tokens_per_second", speed, NULL},
            {"grad_norm", s->grad_norm, NULL}, {"learning_rate", rate, NULL},
            {"seconds", s->seconds, NULL}, {NULL, 0, NULL}},
        e);
}

/* A step becomes the training's last one, unless its gradient was not finite. */
static int account(struct train *t, struct step *s, struct err *e)
{
    int64_t step = t->state.step + 1;
    int rc = optim_norm(t->optim, step, &s->grad_norm, e);

    if (!rc)
        rc = log_samples(t, step, e);
    if (rc)
        return rc;
    t->state.step = step;
    t->state.samples = step * t->spec->train.batch_sequences;
    t->state.tokens += t->tokens_per_step;
    t->state.loss = s->loss;
    if (step == 1)
        t->state.first_loss = s->loss;
    beat_step(t->door->page, step);
    return report_step(t, s, e);
}

/* The last step that may be enqueued before the host looks: one after which something else is due
 * ends the run. */
static int64_t last_ahead(const struct train *t)
{
    const int64_t every[] = {t->spec->checkpoint.every_steps, t->spec->train.evaluate_every_steps};
    int64_t last = t->state.step + (t->runs_ahead && t->ahead > 1 ? t->ahead : 1);

    for (int i = 0; i < 2; i++) {
        int64_t due = every[i] ? (t->state.step / every[i] + 1) * every[i] : last;

        last = due < last ? due : last;
    }
    return last < t->steps ? last : t->steps;
}

/* Enqueues a run of steps, waits for the device and accounts for each. */
static int take_steps(struct train *t, struct wish *w, struct err *e)
{
    int64_t begun = t->state.step, last = last_ahead(t), start_ns = clock_ns();
    int n = (int)(last - begun), rc = 0;
    struct step s[MODEL_AHEAD];

    for (int i = 0; i < n && !rc; i++) {
        if (i > 0)
            model_next_loss(t->model);
        rc = enqueue_step(t, begun + 1 + i, e);
    }
    if (!rc)
        rc = settle(t, n, start_ns, s, w, e);
    for (int i = 0; i < n && !rc; i++)
        rc = account(t, &s[i], e);
    return rc;
}

/* Steps until the last one (0) or a stop (-ERR_DRAINED). */
static int loop(struct train *t, struct err *e)
{
    int64_t save_every = t->spec->checkpoint.every_steps;
    int64_t evaluate_every = t->spec->train.evaluate_every_steps;
    int rc = 0;

    while (t->state.step < t->steps && !rc) {
        struct wish w = {0};
        int64_t step;

        rc = take_steps(t, &w, e);
        step = t->state.step;
        if (!rc && step < t->steps && evaluate_every && step % evaluate_every == 0)
            rc = evaluate(t, e);
        if (rc || step == t->steps)
            break;
        if (w.save || w.stop || (save_every && step % save_every == 0))
            rc = save(t, e);
        if (!rc && w.stop)
            rc = err_set(e, ERR_DRAINED, "stopped on request after step %lld", (long long)step);
    }
    return rc;
}

/* -- ending -- */

static int finish(struct train *t, struct err *e)
{
    enum dtype store = t->spec->precision == PRECISION_FP32 ? DTYPE_F32 : DTYPE_BF16;
    int rc = t->saved_step == t->state.step ? 0 : evaluate(t, e);

    if (!rc)
        rc = save(t, e);
    beat_phase(t->door->page, WIRE_PHASE_EXPORT);
    if (!rc && leader(t))
        rc = export_model(t->model, &t->config, t->weights, t->spec, store, t->door->page, e);
    if (!rc)
        rc = coll_barrier(t->coll, e);
    return rc;
}

/* Nothing may wait for ranks that will not come, nor for a device that waits for them. */
static void let_go(struct train *t, const struct err *why)
{
    struct dev_info info;

    dev_describe(t->dev, &info);
    if (info.host_readable)
        return;
    door_end_within(t->door, DOOR_END_MS, why);
    coll_abort(t->coll);
}

int train_run(const struct train_conf *c, struct err *e)
{
    struct train t = {.door = c->door,
        .orders = c->orders,
        .dev = c->dev,
        .budget_bytes = c->budget_bytes,
        .spec = c->orders->spec,
        .coll = c->coll,
        .log_fd = -1};
    int rc;

    buf_init(&t.line, LIMIT_FRAME_BYTES);
    rc = open_all(&t, e);
    if (!rc && t.state.step == 0)
        rc = evaluate(&t, e);
    if (!rc)
        rc = loop(&t, e);
    if (!rc)
        rc = finish(&t, e);
    if (!rc)
        rc = door_send_done(c->door, t.state.step, t.spec->train.output, e);
    else if (rc == -ERR_DRAINED)
        (void)door_send_done(c->door, t.state.step, NULL, NULL);
    if (rc && rc != -ERR_DRAINED)
        let_go(&t, e);
    close_all(&t);
    return rc;
}
