/*
 * pass: ids and targets go up, the net runs, sums of losses come down when they are asked for.
 */
#include "runtime/model/pass_internal.h"

#include "base/mem.h"
#include "runtime/door/beat.h"

#include <assert.h>

/* -- life -- */

static struct batch largest_batch(const struct model *m)
{
    const struct model_conf *c = &m->conf;
    int64_t tokens = c->sequence_length / (c->contexts > 1 ? c->contexts : 1);
    return (struct batch){.dev = m->dev,
        .config = &c->config,
        .page = c->page,
        .trace = c->trace,
        .train = true,
        .t = c->t,
        .compute = c->t,
        .b = c->micro_sequences,
        .tokens = tokens,
        .n = carve_times(c->micro_sequences, tokens)};
}

static void pass_carve(struct pass *p)
{
    int64_t n = p->batch.n;
    struct carve *c = &p->memory.scratch;
    p->loss = carve_tensor(c, n, 1, DTYPE_F32);
    p->loss_total = carve_tensor(c, PASS_AHEAD, n, DTYPE_F32);
    p->ids = carve_tensor(c, n, 1, DTYPE_I32);
    int64_t labels = carve_times(p->batch.b, p->nets->head.columns);
    bool several = p->batch.config->several && labels > n;
    p->targets = carve_tensor(c, several ? labels : n, 1, DTYPE_I32);
    p->position = carve_tensor(c, n, 1, DTYPE_I32);
    context_carve(&p->context, &p->batch, c);
    if (model_config_is_cut(p->batch.config)) {
        p->own_ids = carve_tensor(c, n, 1, DTYPE_I32);
        p->own_rows = carve_tensor(c, n, 1, DTYPE_I32);
        p->own_slots = carve_tensor(c, n, 1, DTYPE_I32);
    }
    p->lengths = carve_tensor(c, p->batch.b, 1, DTYPE_I32);
    if (p->batch.config->types)
        p->types = carve_tensor(c, n, 1, DTYPE_I32);
    if (p->batch.config->window || p->model->conf.packed)
        p->sees_from = carve_tensor(c, n, 1, DTYPE_I32);
    int64_t experts = model_config_experts(p->batch.config);
    if (experts) {
        p->expert_count = carve_tensor(c, p->batch.b, experts, DTYPE_F32);
        p->balance = carve_tensor(c, p->batch.b, 1, DTYPE_F32);
        p->expert_load = carve_tensor(c, PASS_AHEAD, experts, DTYPE_F32);
    }
    if (experts && p->model->conf.stages > 1) {
        p->next_count = carve_tensor(c, p->batch.b, experts, DTYPE_F32);
        p->whole_count = carve_tensor(c, p->batch.b, experts, DTYPE_F32);
        p->next_whole_count = carve_tensor(c, p->batch.b, experts, DTYPE_F32);
    }
    if (p->batch.config->masked || p->batch.config->last) {
        p->chosen_rows = carve_tensor(c, n, 1, DTYPE_I32);
        p->slots = carve_tensor(c, n, 1, DTYPE_I32);
    }
    int64_t scratch = c->used, logits = p->memory.logits.used;
    for (int64_t i = 0; i < p->in_flight; i++) { /* only what is saved is a batch's own */
        c->used = scratch;
        p->memory.logits.used = logits;
        net_carve(&p->nets[i], &p->batch, &p->memory);
    }
}

int64_t pass_in_flight(const struct pass *p, int chunk)
{
    int64_t n = p->model->conf.in_flight[chunk];
    return n > 1 ? n : 1;
}

/* Layers of the chunks that keep more than i batches. */
static int64_t layers_beyond(const struct pass *p, int64_t i)
{
    int chunk = 0;
    while (chunk < model_config_chunks(p->batch.config) && pass_in_flight(p, chunk) > i)
        chunk++;
    return model_config_chunk_begins(p->batch.config, chunk);
}

/* Everything but memory; what it takes is counted. */
static int pass_describe(struct pass *p, struct model *m, struct err *e)
{
    *p = (struct pass){.model = m, .dev = m->dev, .batch = largest_batch(m)};
    p->parallel.ranks = m->conf.tensor;
    p->parallel.experts = m->conf.expert;
    p->parallel.context = m->conf.context;
    p->parallel.stages = m->conf.pipeline;
    p->parallel.stage = m->conf.stage;
    p->parallel.stage_count = m->conf.stages;
    p->batch.context = &p->context;
    p->tokens = p->batch.tokens;
    p->in_flight = pass_in_flight(p, 0);
    p->nets = mem_array((size_t)p->in_flight, sizeof *p->nets);
    if (!p->nets)
        return err_set(e, ERR_MEMORY, "no memory for %lld batches", (long long)p->in_flight);
    int shared = context_open(&p->context, m->conf.contexts, m->conf.context_rank, e);
    if (shared)
        return shared;
    for (int64_t i = 0; i < p->in_flight; i++) {
        int rc = net_create(&p->nets[i], m, e);
        if (rc)
            return rc;
        p->nets[i].count = layers_beyond(p, i);
        net_bind(&p->nets[i], m, NULL);
    }
    pass_carve(p);
    return 0;
}

static void forget_described(struct pass *p)
{
    for (int64_t i = 0; p->nets && i < p->in_flight; i++)
        net_done(&p->nets[i]);
    mem_free(p->nets);
    context_close(&p->context);
}

int pass_plan(struct model *m, struct memplan *plan, struct err *e)
{
    struct pass p;
    int rc = pass_describe(&p, m, e);
    if (!rc) {
        plan->saved = p.memory.saved.size;
        plan->scratch = carve_plus(p.memory.scratch.size, p.memory.again.size);
        plan->logits = p.memory.logits.size;
    }
    forget_described(&p);
    return rc;
}

/* What all reduce is the collective's; a slice is this rank's alone. */
static int alloc_gradient(struct pass *p, struct err *e)
{
    struct model *m = p->model;
    int64_t slice = zero_divides_gradient(&m->conf) ? m->own_gradient.count * 4 : 0;
    void *at = NULL, *own = NULL;
    int rc = model_alloc_shared(m, m->plan.gradient - slice, true, &at, &p->gradient_shared, e);
    p->gradient = at;
    if (!rc && slice)
        rc = dev_alloc(m->dev, (size_t)slice, &own, e);
    p->slice = own;
    p->divided = (struct zero){.model = m, .gradient = p->gradient, .slice = p->slice};
    p->zero = zero_divides_gradient(&m->conf) ? &p->divided : NULL;
    return rc;
}

/* Of one sequence, so that it counts little beside what is planned. */
static int alloc_hidden(struct pass *p, struct err *e)
{
    int64_t count = carve_times(p->batch.tokens, p->batch.config->dim);
    p->hidden = mem_array((size_t)count, (size_t)dtype_block_bytes(p->batch.t));
    return p->hidden ? 0 : err_set(e, ERR_MEMORY, "no memory for hidden states");
}

static int pass_open(struct pass *p, struct model *m, struct err *e)
{
    int rc;
    if ((rc = pass_describe(p, m, e)) || (rc = alloc_gradient(p, e)) ||
        (m->conf.expert &&
            (rc = dispatch_create(&m->conf.config, p->batch.n, p->in_flight, &p->dispatch, e))) ||
        (m->conf.teacher && (rc = teacher_create(p->dev, &m->conf, &p->teacher, e))) ||
        (rc = net_memory_open(&p->memory, p->dev, e)))
        return rc;
    int64_t columns = m->conf.config.labels ? p->nets->head.columns : 1;
    p->host = mem_array((size_t)p->batch.n, (size_t)columns * sizeof *p->host);
    if (!p->host)
        return err_set(e, ERR_MEMORY, "no memory for %lld rows", (long long)p->batch.n);
    if (m->conf.headless && (rc = alloc_hidden(p, e)))
        return rc;
    for (int64_t i = 0; i < p->in_flight; i++)
        net_bind(&p->nets[i], m, p->gradient);
    pass_carve(p);
    p->nets->head.teacher = p->teacher ? teacher_head(p->teacher) : NULL;
    pass_upload_places(p, NULL, p->batch.n);
    rc = head_begin(&p->nets->head, p->dev, e);
    return rc ? rc : dev_sync(p->dev, e);
}

int pass_create(struct model *m, struct pass **out, struct err *e)
{
    struct pass *p = mem_zalloc(sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for a pass");
    assert(m->conf.train);
    int rc = pass_open(p, m, e);
    if (rc) {
        pass_destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pass_destroy(struct pass *p)
{
    if (!p)
        return;
    if (!p->gradient_shared)
        dev_free(p->dev, p->gradient);
    dev_free(p->dev, p->slice);
    teacher_destroy(p->teacher);
    dispatch_destroy(p->dispatch);
    net_memory_close(&p->memory, p->dev);
    forget_described(p);
    mem_free(p->host);
    mem_free(p->hidden);
    mem_free(p);
}

struct model *pass_model(const struct pass *p)
{
    return p->model;
}

struct model *pass_teacher(const struct pass *p)
{
    return p->teacher ? teacher_model(p->teacher) : NULL;
}

bool pass_counts_tokens(const struct pass *p)
{
    return p->batch.config->experts;
}

/* -- gradients -- */

float *pass_gradient(const struct pass *p)
{
    return p->zero ? p->slice : p->gradient;
}

float *pass_gradient_at(const struct pass *p, int64_t at)
{
    return pass_gradient(p) + (at - p->model->own_gradient.first);
}

void pass_zero_gradient(struct pass *p)
{
    if (p->zero) {
        zero_clear_all(p->zero);
        return;
    }
    dev_zero(p->dev, p->gradient, (size_t)model_trainable(p->model) * 4);
}

void pass_watch_gradient(
    struct pass *p, void (*ready_fn)(void *user, int64_t first, int64_t count), void *user)
{
    p->ready_fn = ready_fn;
    p->ready_user = user;
}

/* The matrices of a layer stand together; the small rest of it ends with the embedding. */
void pass_tell_ready(void *user, int64_t layer)
{
    const struct pass *p = user;
    const struct tensors *base = model_base(p->model);
    const struct tensor *first = tensors_get(base, TENSOR_Q, TENSOR_WEIGHT, layer, -1);
    const struct model_config *c = p->batch.config;
    int64_t expert = c->share.first_expert + c->experts - 1;
    const struct tensor *last = c->experts
        ? tensors_get(base, TENSOR_EXPERT_DOWN, TENSOR_WEIGHT, layer, expert)
        : tensors_get(base, TENSOR_DOWN, TENSOR_WEIGHT, layer, -1);
    if (p->ready_fn && !model_is_frozen(&p->model->conf))
        p->ready_fn(p->ready_user, first->offset, last[1].offset - first->offset);
}

/* -- steps -- */

void pass_set_tokens(struct pass *p, int64_t tokens)
{
    assert(tokens >= 1 && tokens <= p->batch.tokens);
    if (tokens == p->tokens)
        return;
    p->tokens = tokens;
    pass_upload_places(p, NULL, p->batch.n);
}

void pass_set_place(struct pass *p, int64_t first)
{
    p->batch.first = first * p->tokens;
}

/* Before it, with a deadline, for what other ranks have a part in. */
static int wait_for_device(struct pass *p, struct err *e)
{
    int rc = zero_check(p->zero, e);
    return rc ? rc : parallel_finish(&p->parallel, p->dev, e);
}

static int read_loss(struct pass *p, const float *loss, int64_t n, double *loss_sum, struct err *e)
{
    dev_download(p->dev, p->host, loss, (size_t)n * 4);
    int rc = wait_for_device(p, e);
    if (rc)
        return rc;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)p->host[i];
    *loss_sum = sum;
    return 0;
}

static void add_losses(struct pass *p, int64_t rows)
{
    OP(p, axpby, .count = rows, .x = p->loss, .x_type = DTYPE_F32,
        .y = p->loss_total + p->ahead * p->batch.n, .y_type = DTYPE_F32, .a = 1, .b = 1);
}

void pass_add_losses(struct pass *p, int64_t b)
{
    int64_t rows = pass_rows(p, b);
    if (rows)
        add_losses(p, rows);
}

void pass_clear_counts(struct pass *p, int64_t b)
{
    int64_t experts = model_config_experts(p->batch.config);
    if (experts)
        dev_zero(p->dev, p->expert_count, (size_t)(b * experts) * 4);
}

void pass_add_counts(struct pass *p, int64_t b)
{
    int64_t experts = model_config_experts(p->batch.config);
    if (!experts)
        return;
    parallel_sum_context(&p->parallel, p->expert_count, b * experts);
    OP(p, bias_back, .n = b, .c = experts, .ld = experts, .dy = p->expert_count,
        .dbias = p->expert_load + p->ahead * experts, .t = DTYPE_F32);
}

static int check_ranks(struct pass *p, struct err *e)
{
    int rc = parallel_check(&p->parallel, e);
    return rc ? rc : zero_check(p->zero, e);
}

int pass_skip(struct pass *p, bool backward, struct err *e)
{
    net_skip(p->zero, p->batch.config->layers, backward);
    return zero_check(p->zero, e);
}

int pass_step(struct pass *p, int64_t b, const struct pass_input *in, float scale, bool backward,
    double *loss_sum, struct err *e)
{
    struct batch s;
    int rc = pass_upload(p, b, in, backward, &s, e);
    assert(p->model->conf.stages <= 1);
    if (rc)
        return rc;
    if (backward && p->teacher)
        teacher_forward(p->teacher, &s);
    pass_upload_balance(p, b, in, scale);
    pass_clear_counts(p, b);
    net_forward(&s, p->nets);
    head_loss(&s, &p->nets->head, p->targets, p->loss, scale, backward);
    if (backward) {
        beat_phase(s.page, WIRE_PHASE_BACKWARD);
        pass_add_counts(p, b);
        net_backward(&s, p->nets, pass_tell_ready, p);
    }
    if (loss_sum)
        return read_loss(p, p->loss, pass_rows(p, b), loss_sum, e);
    pass_add_losses(p, b);
    return check_ranks(p, e);
}

int pass_share_gradient(struct pass *p, struct err *e)
{
    struct coll *tied = p->model->conf.tied;
    if (p->zero) {
        zero_reduce_rest(p->zero);
        return zero_check(p->zero, e);
    }
    const struct tensor *x =
        tensors_get(model_trained(p->model), TENSOR_EMBED, TENSOR_WEIGHT, -1, -1);
    parallel_sum_shared(&p->parallel, model_trained(p->model), p->gradient);
    if (tied && x) { /* the embedding of the first stage is the head of the last */
        int rc = coll_reduce_start(tied, p->gradient + x->offset, x->count, DTYPE_F32, COLL_SUM, e);
        if (rc)
            return rc;
        coll_reduce_join(tied);
        if ((rc = coll_reduce_wait(tied, e)))
            return rc;
    }
    return parallel_check(&p->parallel, e);
}

int pass_forward(
    struct pass *p, int64_t b, const struct pass_input *in, bool drops, double *sums, struct err *e)
{
    assert(!p->batch.config->labels);
    int rc = pass_upload(p, b, in, drops, &p->last, e);
    if (rc)
        return rc;
    const struct batch *s = &p->last;
    pass_upload_balance(p, b, in, 0); /* such losses have none */
    pass_clear_counts(p, b);
    net_forward(s, p->nets);
    head_loss(s, &p->nets->head, p->targets, p->loss, 0, false);
    dev_download(p->dev, p->host, p->loss, (size_t)s->n * 4);
    if ((rc = wait_for_device(p, e)))
        return rc;
    for (int64_t i = 0; i < b; i++) {
        sums[i] = 0;
        for (int64_t j = 0; j < s->tokens; j++)
            sums[i] += (double)p->host[i * s->tokens + j];
    }
    return 0;
}

void pass_backward(struct pass *p, const float *scales)
{
    const struct batch *s = &p->last;
    beat_phase(s->page, WIRE_PHASE_BACKWARD);
    head_backward(s, &p->nets->head, p->targets, p->loss, scales);
    net_backward(s, p->nets, pass_tell_ready, p);
}

int pass_next(struct pass *p, const int32_t *ids, int64_t n, float *logits, struct err *e)
{
    const struct model_config *c = p->batch.config;
    const struct pass_input in = {.ids = ids};
    struct batch s = pass_batch(p, 1, &in, false);
    assert(n >= 1 && n <= s.tokens && !c->labels && !c->masked && !p->model->conf.headless);
    int rc = pass_upload_input(p, &s, &in, e);
    if (rc)
        return rc;
    pass_clear_counts(p, 1);
    size_t bytes = (size_t)model_vocab(p->model) * sizeof *logits;
    const struct head *head = &p->nets->head;
    net_run(&s, p->nets);
    if (!head->none) {
        head_next(&s, head, n - 1);
        dev_download(p->dev, logits, head_whole(&s, head, 0), bytes);
    }
    rc = wait_for_device(p, e);
    return rc ? rc : parallel_from_last(&p->parallel, logits, bytes, e);
}

/* -- means of hidden states, on the host: what becomes of them is known only when all are -- */

static int64_t length_of(const struct pass *p, const struct pass_input *in, int64_t i)
{
    return in->lengths ? in->lengths[i] : p->tokens;
}

static int mean_of(struct pass *p, int64_t i, int64_t length, float *mean /* (C) */, struct err *e)
{
    int64_t dim = p->batch.config->dim;
    dev_download(p->dev, p->hidden, at_element(p->batch.h, i * p->tokens * dim, p->batch.t),
        (size_t)(length * dim * dtype_block_bytes(p->batch.t)));
    int rc = wait_for_device(p, e);
    if (rc)
        return rc;
    const float *h32 = p->hidden; /* (T, C) */
    const uint16_t *h16 = p->hidden;
    enum dtype t = p->batch.t;
    memset(mean, 0, (size_t)dim * sizeof *mean);
    for (int64_t k = 0; k < length; k++)
        for (int64_t c = 0; c < dim; c++)
            mean[c] += t != DTYPE_F32 ? half_to_f32(t, h16[k * dim + c]) : h32[k * dim + c];
    for (int64_t c = 0; c < dim; c++)
        mean[c] /= (float)length;
    return 0;
}

int pass_means(
    struct pass *p, int64_t b, const struct pass_input *in, bool drops, float *means, struct err *e)
{
    struct batch s = pass_batch(p, b, in, drops);
    assert(p->hidden);
    int rc = pass_upload_input(p, &s, in, e);
    if (rc)
        return rc;
    net_forward(&s, p->nets);
    for (int64_t i = 0; i < b && means && !rc; i++)
        rc = mean_of(p, i, length_of(p, in, i), means + i * s.config->dim, e);
    return rc;
}

/* Each token has an equal part of the mean; what is padding has none. */
static void spread_mean(struct pass *p, int64_t i, int64_t length, const float *dmean)
{
    int64_t dim = p->batch.config->dim;
    float *dh32 = p->hidden; /* (T, C) */
    uint16_t *dh16 = p->hidden;
    enum dtype t = p->batch.t;
    for (int64_t k = 0; k < p->tokens; k++)
        for (int64_t c = 0; c < dim; c++) {
            float x = k < length ? dmean[c] / (float)length : 0;
            if (t != DTYPE_F32)
                dh16[k * dim + c] = f32_to_half(t, x);
            else
                dh32[k * dim + c] = x;
        }
    dev_upload(p->dev, at_element(p->batch.dh, i * p->tokens * dim, p->batch.t), p->hidden,
        (size_t)(p->tokens * dim * dtype_block_bytes(p->batch.t)));
}

void pass_means_back(struct pass *p, int64_t b, const struct pass_input *in, const float *dmeans,
    const float *losses)
{
    const struct batch s = pass_batch(p, b, in, true);
    assert(p->hidden);
    for (int64_t i = 0; i < b; i++)
        spread_mean(p, i, length_of(p, in, i), dmeans + i * s.config->dim);
    dev_upload(p->dev, p->loss, losses, (size_t)b * 4);
    beat_phase(s.page, WIRE_PHASE_BACKWARD);
    net_backward(&s, p->nets, pass_tell_ready, p);
    add_losses(p, b);
}

int pass_label_logits(struct pass *p, int64_t b, float *logits, struct err *e)
{
    int64_t n = pass_rows(p, b), labels = p->batch.config->labels;
    const struct head *head = &p->nets->head;
    assert(labels && n <= p->batch.n);
    dev_download(p->dev, p->host, head->logits, (size_t)(n * head->columns) * 4);
    int rc = wait_for_device(p, e);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        memcpy(logits + i * labels, p->host + i * head->columns, (size_t)labels * 4);
    return 0;
}

void pass_next_loss(struct pass *p)
{
    assert(p->ahead < PASS_AHEAD - 1);
    p->ahead++;
}

int pass_expert_load(struct pass *p, float *counts, struct err *e)
{
    size_t bytes = (size_t)(PASS_AHEAD * model_config_experts(p->batch.config)) * 4;
    assert(p->expert_load);
    dev_download(p->dev, counts, p->expert_load, bytes);
    dev_zero(p->dev, p->expert_load, bytes);
    return dev_sync(p->dev, e);
}

int pass_loss(struct pass *p, double *sums, struct err *e)
{
    int64_t n = p->batch.n;
    int rc = 0;
    for (int i = 0; i <= p->ahead && !rc; i++)
        rc = read_loss(p, p->loss_total + i * n, n, &sums[i], e);
    dev_zero(p->dev, p->loss_total, (size_t)(PASS_AHEAD * n) * 4);
    p->ahead = 0;
    return rc;
}
