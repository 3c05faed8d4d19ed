/*
 * optim: the update of one step. The table of trained tensors is cut into runs, neighbours that are
 * treated alike: matrices stand before vectors, so AdamW has two, with decay and without. Where an
 * update needs the shape, a tensor is a run, and where state is in blocks, so that these are the
 * tensor's own. Gaps between tensors hold zeros, which every rule keeps. With owners a run is what
 * of it lies in the own slice. The walk over the runs that counts memory is the one that later cuts
 * it. Allocates at create only.
 */
#include "runtime/train/optim.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/model/prune.h"
#include "runtime/train/muon.h"
#include "runtime/train/offload.h"
#include "runtime/train/shard.h"

#include <assert.h>
#include <math.h>

#define RULE_STATES 2 /* of an optimizer; behind them AdaLoRA's */
/* Of fewer elements state is F32: little is saved there (as bitsandbytes has it). */
#define INT8_LEAST  4096

struct optim_run {
    enum optimizer_name rule;
    int first, end;                /* of the table: [first, end) */
    int64_t from, to;              /* elements of the flat range, in the own slice */
    bool decay;                    /* weight decay applies */
    double rate;                   /* times the schedule's */
    enum dtype type;               /* of state: F32, BF16, U8 */
    int64_t elements[RULE_STATES]; /* of state */
    void *state[RULE_STATES];
    float *scale[RULE_STATES]; /* (elements / OP_STATE_BLOCK, rounded up) of U8 */
};

struct optim {
    struct dev *dev;
    struct optim_conf conf;
    struct pass *pass;
    struct model *model;
    struct optim_run *runs;
    int run_count;
    struct muon muon;
    struct adalora adalora;
    struct carve memory;     /* state of all runs, scratch of Muon, AdaLoRA's state */
    struct offload *offload; /* whose memory that is; NULL: the device's */
    int owners, owner;
    int64_t *begin;    /* (owners + 1): the slices of the flat range; NULL: there is one */
    int64_t *counts;   /* (owners), of optim_counts */
    int64_t from, to;  /* the own one */
    struct coll *coll; /* of the owners; NULL: this is the only one */
    float *sum;        /* (PASS_AHEAD), device: squares by step; and one for the way */
    int64_t last;      /* the step whose gradient the model holds */
    double scale;      /* of the gradient as backward leaves it */
    int64_t skipped;   /* steps that changed nothing */
};

/* -- the rate -- */

/* What is left of the rate above its least, 1 .. 0. */
static double left_of(const struct optim_conf *c, int64_t step)
{
    if (c->schedule == SCHEDULE_CONSTANT || c->steps <= c->warmup_steps)
        return 1;
    int64_t falling = c->steps - c->warmup_steps;
    if (c->schedule == SCHEDULE_WSD) {
        int64_t decay = c->decay_steps ? c->decay_steps : (c->steps + 9) / 10;
        falling = decay < falling ? decay : falling;
    }
    double left = 1 - (double)(step - 1 - (c->steps - falling)) / (double)falling;
    left = left < 0 ? 0 : left > 1 ? 1 : left;
    if (c->schedule == SCHEDULE_WSD)
        return 1 - sqrt(1 - left);
    return c->schedule == SCHEDULE_LINEAR ? left : 0.5 * (1 - cos(M_PI * left));
}

double optim_rate(const struct optim_conf *c, int64_t step)
{
    if (step <= c->warmup_steps)
        return c->learning_rate * (double)step / (double)c->warmup_steps;
    return c->min_learning_rate + (c->learning_rate - c->min_learning_rate) * left_of(c, step);
}

/* Of a tensor: layer_decay to the power of its distance from what stands behind the layers (Bao et
   al., arXiv:2106.08254). */
static double layer_rate(
    const struct optim_conf *c, const struct tensors *t, const struct tensor *x)
{
    int depth = x->layer >= 0 ? x->layer + 1 : x->role <= TENSOR_NORM_EMBED ? 0 : t->layers + 1;
    return c->layer_decay > 0 ? pow(c->layer_decay, t->layers + 1 - depth) : 1;
}

/* -- runs -- */

static enum optimizer_name rule_of(const struct optim_conf *c, const struct tensor *x)
{
    bool hidden = x->layer >= 0 && x->dims == 2;
    return c->name == OPTIMIZER_MUON && !hidden ? OPTIMIZER_ADAMW : c->name;
}

/* Rows of an embedding have a gradient now and then, and state of very different sizes: it stays
   F32 where all else is in codes, as do vectors and what is small (arXiv:2110.02861). */
static enum dtype type_of(const struct optim_conf *c, const struct tensor *x)
{
    bool embeds = x->role <= TENSOR_TYPES && x->part == TENSOR_WEIGHT;
    if (c->state != OPTIMIZER_STATE_INT8)
        return c->state == OPTIMIZER_STATE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    return x->dims == 2 && !embeds && x->count >= INT8_LEAST ? DTYPE_U8 : DTYPE_F32;
}

static bool by_tensor(const struct optim_run *r)
{
    return r->rule == OPTIMIZER_ADAFACTOR || r->rule == OPTIMIZER_MUON || r->type == DTYPE_U8;
}

/* Elements from its beginning at whose multiples a tensor's update may be cut; 0: nowhere. */
static int64_t cuts_of(const struct optim_conf *c, const struct tensor *x)
{
    enum optimizer_name rule = rule_of(c, x);
    if (rule == OPTIMIZER_ADAFACTOR || rule == OPTIMIZER_MUON)
        return 0;
    if (c->adalora.rank && x->part >= TENSOR_LORA_A)
        return 0; /* values are scored by whole factors */
    return type_of(c, x) == DTYPE_U8 ? OP_STATE_BLOCK : 1;
}

/* Where what belongs to the i-th tensor ends: its gap, too. */
static int64_t end_of(const struct tensors *t, int i)
{
    return i + 1 < t->count ? t->at[i + 1].offset : t->elements;
}

/* Where the slice of a rank begins: near an equal share of the elements. */
static int64_t slice_begin(const struct optim_conf *c, const struct tensors *t, int ranks, int rank)
{
    int64_t at, count;
    int i = 0;
    shard_range(t->elements, ranks, rank, &at, &count);
    if (rank == 0 || at == t->elements)
        return rank == 0 ? 0 : at;
    while (at >= end_of(t, i))
        i++;
    int64_t begin = t->at[i].offset, end = end_of(t, i), cuts = cuts_of(c, &t->at[i]);
    if (cuts)
        return begin + (at - begin) / cuts * cuts;
    return at - begin < end - at ? begin : end;
}

void optim_slice(const struct optim_conf *c, const struct tensors *t, int ranks, int rank,
    int64_t *first, int64_t *count)
{
    *first = slice_begin(c, t, ranks, rank);
    *count = (rank + 1 < ranks ? slice_begin(c, t, ranks, rank + 1) : t->elements) - *first;
}

static void count_state(const struct optim_conf *c, const struct tensor *x, struct optim_run *r)
{
    int64_t all = r->to - r->from;
    switch (r->rule) {
    case OPTIMIZER_ADAMW:
        r->elements[0] = r->elements[1] = all;
        break;
    case OPTIMIZER_SGD:
        r->elements[0] = c->momentum > 0 ? all : 0;
        break;
    case OPTIMIZER_ADAFACTOR:
        r->elements[0] = x->dims == 2 ? x->shape[0] : 0;
        r->elements[1] = x->dims == 2 ? x->shape[1] : x->count;
        break;
    default:
        r->elements[0] = all;
    }
}

/* The run that begins with tensor `first`. */
static struct optim_run next_run(const struct optim_conf *c, const struct tensors *t, int first)
{
    const struct tensor *x = &t->at[first];
    struct optim_run r = {.rule = rule_of(c, x),
        .first = first,
        .end = first + 1,
        .from = x->offset,
        .decay = x->decay,
        .rate = layer_rate(c, t, x),
        .type = type_of(c, x)};
    for (; r.end < t->count && !by_tensor(&r); r.end++) {
        const struct tensor *y = &t->at[r.end];
        if (rule_of(c, y) != r.rule || y->decay != r.decay || layer_rate(c, t, y) != r.rate ||
            type_of(c, y) != r.type)
            break;
    }
    r.to = end_of(t, r.end - 1);
    return r;
}

static int64_t scales_of(const struct optim_run *r, int k)
{
    return r->type == DTYPE_U8 ? (r->elements[k] + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK : 0;
}

/* Cuts what all runs of [from, to) keep, and Muon's scratch, where muon is not NULL; runs, if not
   NULL, receives them.
   Returns how many there are. */
static int carve_runs(const struct optim_conf *c, const struct tensors *t, int64_t from, int64_t to,
    struct carve *memory, struct optim_run *runs, struct muon *muon)
{
    int count = 0;
    for (int i = 0, next; i < t->count; i = next) {
        struct optim_run r = next_run(c, t, i);
        next = r.end;
        r.from = r.from > from ? r.from : from;
        r.to = r.to < to ? r.to : to;
        if (r.from >= r.to)
            continue;
        count_state(c, &t->at[i], &r);
        for (int k = 0; k < RULE_STATES; k++) {
            if (!r.elements[k])
                continue;
            r.state[k] = carve_tensor(memory, 1, r.elements[k], r.type);
            r.scale[k] =
                scales_of(&r, k) ? carve_tensor(memory, 1, scales_of(&r, k), DTYPE_F32) : NULL;
        }
        if (muon && r.rule == OPTIMIZER_MUON)
            muon_admit(muon, t->at[i].shape[0], t->at[i].shape[1]);
        if (runs)
            runs[count] = r;
        count++;
    }
    if (muon)
        muon_carve(muon, memory);
    return count;
}

static int64_t slice_bytes(const struct optim_conf *c, const struct tensors *t, struct muon *muon,
    int64_t from, int64_t to)
{
    struct carve memory = {0};
    struct adalora adalora;
    carve_runs(c, t, from, to, &memory, NULL, muon);
    adalora_describe(&adalora, &c->adalora, t, from, to);
    adalora_carve(&adalora, &memory);
    return memory.size;
}

int64_t optim_state_bytes(
    const struct optim_conf *c, const struct tensors *t, int64_t from, int64_t to)
{
    return slice_bytes(c, t, NULL, from, to);
}

int64_t optim_bytes(const struct model_conf *m, const struct tensors *t)
{
    const struct optim_conf *c = m->optimizer;
    int owners = m->owners > 1 ? m->owners : 1;
    int first = m->owner < 0 || owners == 1 ? 0 : m->owner, end = m->owner < 0 ? owners : first + 1;
    int64_t most = 0;
    for (int i = first; i < end; i++) {
        int64_t from, count;
        struct muon muon = {.t = muon_type(m->t)};
        optim_slice(c, t, owners, i, &from, &count);
        int64_t bytes = slice_bytes(c, t, &muon, from, from + count);
        most = bytes > most ? bytes : most;
    }
    return c->offload && most > OFFLOAD_BYTES ? OFFLOAD_BYTES : most;
}

void optim_owns(
    const struct model_conf *m, const struct tensors *t, int owner, int64_t *first, int64_t *count)
{
    optim_slice(m->optimizer, t, m->owners, owner, first, count);
}

/* -- life -- */

static int share_out(struct optim *o, struct err *e)
{
    const struct tensors *t = model_trained(o->model);
    int64_t count;
    o->owners = model_owners(o->model, &o->owner);
    optim_slice(&o->conf, t, o->owners, o->owner, &o->from, &count);
    o->to = o->from + count;
    if (o->owners == 1)
        return 0;
    o->coll = model_coll(o->model);
    o->begin = mem_array((size_t)o->owners + 1, sizeof *o->begin);
    o->counts = mem_array((size_t)o->owners, sizeof *o->counts);
    if (!o->begin || !o->counts)
        return err_set(e, ERR_MEMORY, "no memory for %d slices", o->owners);
    for (int i = 0; i < o->owners; i++)
        optim_slice(&o->conf, t, o->owners, i, &o->begin[i], &count);
    o->begin[o->owners] = t->elements;
    return 0;
}

const int64_t *optim_counts(struct optim *o, int64_t first, int64_t end)
{
    for (int i = 0; i < o->owners && o->begin; i++) {
        int64_t from = o->begin[i] > first ? o->begin[i] : first;
        int64_t to = o->begin[i + 1] < end ? o->begin[i + 1] : end;
        o->counts[i] = to > from ? to - from : 0;
    }
    return o->counts;
}

/* From counting to cutting, out of a file's memory or the device's. */
static int open_memory(struct optim *o, struct err *e)
{
    struct dev_info info;
    if (!o->conf.offload)
        return carve_open(&o->memory, o->dev, e);
    dev_describe(o->dev, &info);
    if (!info.host_readable)
        return err_set(
            e, ERR_USER, "spec.train.optimizer.offload: not on GPUs: only on processors so far");
    int rc = offload_open(o->conf.offload, o->memory.size, &o->offload, e);
    o->memory.base = rc ? NULL : offload_data(o->offload);
    o->memory.used = 0;
    return rc;
}

static int alloc_all(struct optim *o, struct err *e)
{
    const struct tensors *t = model_trained(o->model);
    o->runs = mem_array((size_t)t->count, sizeof *o->runs);
    if (!o->runs)
        return err_set(e, ERR_MEMORY, "no memory for the optimizer");
    void *sum = NULL;
    int rc = dev_alloc(o->dev, (PASS_AHEAD + 1) * sizeof(float), &sum, e);
    o->sum = sum;
    carve_runs(&o->conf, t, o->from, o->to, &o->memory, NULL, &o->muon);
    adalora_describe(&o->adalora, &o->conf.adalora, t, o->from, o->to);
    adalora_carve(&o->adalora, &o->memory);
    if (rc || (rc = open_memory(o, e)))
        return rc;
    o->run_count = carve_runs(&o->conf, t, o->from, o->to, &o->memory, o->runs, &o->muon);
    adalora_carve(&o->adalora, &o->memory);
    return adalora_open(&o->adalora, o->dev, e);
}

int optim_create(
    struct dev *d, const struct optim_conf *c, struct pass *p, struct optim **out, struct err *e)
{
    struct model *m = pass_model(p);
    struct optim *o = mem_zalloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory for the optimizer");
    *o = (struct optim){.dev = d, .conf = *c, .pass = p, .model = m, .scale = 1};
    o->muon = (struct muon){.dev = d, .t = muon_type(model_compute_type(m))};
    int rc;
    if ((rc = share_out(o, e)) || (rc = alloc_all(o, e))) {
        optim_destroy(o);
        return rc;
    }
    *out = o;
    return 0;
}

void optim_destroy(struct optim *o)
{
    if (!o)
        return;
    adalora_close(&o->adalora);
    if (!o->conf.offload)
        carve_close(&o->memory, o->dev);
    offload_close(o->offload);
    dev_free(o->dev, o->sum);
    mem_free(o->runs);
    mem_free(o->begin);
    mem_free(o->counts);
    mem_free(o);
}

const struct optim_conf *optim_conf(const struct optim *o)
{
    return &o->conf;
}

static const struct optim_run *run_of(const struct optim *o, int i)
{
    for (const struct optim_run *r = o->runs; r < o->runs + o->run_count; r++)
        if (i >= r->first && i < r->end)
            return r;
    return NULL;
}

/* Of a state with a number for each element of the tensor: which the run has. */
static void place_state(
    struct optim_state *s, const struct tensors *t, int i, int k, const struct optim_run *r)
{
    const struct tensor *x = &t->at[i];
    int64_t from = x->offset > r->from ? x->offset : r->from;
    int64_t to = x->offset + x->count < r->to ? x->offset + x->count : r->to;
    s->total = x->count;
    s->first = from - x->offset;
    s->count = to > from ? to - from : 0;
    s->at = (char *)r->state[k] + (from - r->from) * dtype_block_bytes(r->type);
    if (r->type != DTYPE_U8)
        return;
    s->scale = r->scale[k];
    s->scales = scales_of(r, k);
    s->first_scale = s->first / OP_STATE_BLOCK;
    s->total_scales = (end_of(t, i) - x->offset + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK;
}

struct optim_state optim_state(const struct optim *o, int i, int k)
{
    static const char *const suffixes[][RULE_STATES] = {
        [OPTIMIZER_ADAMW] = {".exp_avg", ".exp_avg_sq"},
        [OPTIMIZER_SGD] = {".momentum_buffer", ""},
        [OPTIMIZER_LION] = {".exp_avg", ""},
        [OPTIMIZER_ADAFACTOR] = {".exp_avg_sq_row", ".exp_avg_sq_col"},
        [OPTIMIZER_MUON] = {".momentum_buffer", ""}};
    const struct tensors *t = model_trained(o->model);
    const struct tensor *x = &t->at[i];
    const struct optim_run *r = run_of(o, i);
    struct optim_state s = {.suffix = "", .type = DTYPE_F32};
    if (k >= RULE_STATES) {
        s.at = adalora_state(&o->adalora, x, k - RULE_STATES, &s.suffix, &s.count);
        s.total = s.count;
        return s;
    }
    if (!r || !r->state[k])
        return s;
    s.suffix = suffixes[r->rule][k];
    s.type = r->type;
    if (r->rule != OPTIMIZER_ADAFACTOR) {
        place_state(&s, t, i, k, r);
        return s;
    }
    s.at = r->state[k];
    s.total = s.count = r->elements[k];
    if (x->dims == 1)
        s.suffix = ".exp_avg_sq";
    return s;
}

void optim_let_go(const struct optim *o, const void *at, int64_t n)
{
    if (o->offload)
        offload_leave(o->offload, at, n);
}

/* -- zeros that stay -- */

static bool masks(const struct optim *o, int64_t step)
{
    return o->conf.masks_from && step >= o->conf.masks_from;
}

/* Under a gradient and a state of zero every rule keeps a zero. */
static void mask_gradient(struct optim *o)
{
    const struct tensors *t = model_trained(o->model);
    for (int i = 0; i < t->count; i++) {
        int64_t from = t->at[i].offset, to = from + t->at[i].count;
        from = from > o->from ? from : o->from;
        to = to < o->to ? to : o->to;
        if (prune_takes(&t->at[i]) && from < to)
            OP(o, mask, .count = to - from, .x = pass_gradient_at(o->pass, from),
                .w = model_master_at(o->model, from));
    }
}

void optim_masters_pruned(struct optim *o)
{
    const struct tensors *t = model_trained(o->model);
    for (int i = 0; i < t->count; i++)
        for (int k = 0; k < RULE_STATES && prune_takes(&t->at[i]); k++) {
            struct optim_state s = optim_state(o, i, k);
            if (s.count && o->conf.name != OPTIMIZER_ADAFACTOR)
                OP(o, mask, .count = s.count, .x = s.at,
                    .w = model_master_at(o->model, t->at[i].offset + s.first));
        }
}

/* -- the norm -- */

static float *sum_of(const struct optim *o, int64_t step)
{
    return o->sum + step % PASS_AHEAD;
}

/* Squares of what is here of one tensor's gradient; the place is the one of the step that
   follows. */
static int tensor_sum(struct optim *o, const struct tensor *x, float *sum, struct err *e)
{
    float *at = sum_of(o, o->last + 1);
    int64_t from = x->offset, to = x->offset + x->count;
    from = from > o->from ? from : o->from;
    to = to < o->to ? to : o->to;
    dev_zero(o->dev, at, sizeof *at);
    if (from < to)
        OP(o, sumsq, .count = to - from, .x = pass_gradient_at(o->pass, from), .out = at);
    dev_download(o->dev, sum, at, sizeof *sum);
    return dev_sync(o->dev, e);
}

/* The last in the order of computing, so the first that backward made; NULL: none. */
static const struct tensor *find_infinite(struct optim *o)
{
    const struct tensors *t = model_trained(o->model);
    const struct tensor *found = NULL;
    for (int i = 0; i < t->count; i++) {
        const struct tensor *x = &t->at[i];
        float sum = 0;
        if (found && found->order > x->order)
            continue;
        if (tensor_sum(o, x, &sum, NULL))
            return NULL;
        found = isfinite(sum) ? found : x;
    }
    return found;
}

static int refuse_infinite(struct optim *o, int64_t step, struct err *e)
{
    const struct tensor *x = step == o->last ? find_infinite(o) : NULL;
    return err_set(e, ERR_USER,
        "the gradient of step %lld is not finite%s%.100s: lower "
        "spec.train.optimizer.learningRate or look at the data",
        (long long)step, x ? ", in backward from " : "", x ? x->name : "");
}

int optim_look(struct optim *o, int64_t step, double *grad_norm, struct err *e)
{
    float sum;
    dev_download(o->dev, &sum, sum_of(o, step), sizeof sum);
    int rc = dev_sync(o->dev, e);
    if (!rc)
        *grad_norm = sqrt((double)sum);
    return rc;
}

int optim_norm(struct optim *o, int64_t step, double *grad_norm, struct err *e)
{
    double norm;
    int rc = optim_look(o, step, &norm, e);
    if (rc)
        return rc;
    if (!isfinite(norm))
        return refuse_infinite(o, step, e);
    *grad_norm = norm;
    return 0;
}

/* -- the update -- */

struct optim_update { /* of a run */
    const struct optim_run *run;
    int64_t count; /* elements */
    float *w;
    uint16_t *w16;
    const float *grad, *sumsq;
    float lr, decay, clip;
    int64_t step, updates; /* of the training, and those of them that changed something */
    uint64_t seed; /* of rounding: by step, and by place in the flat range, whatever the runs */
};

static void update_adamw(struct optim *o, const struct optim_update *u)
{
    const struct optim_conf *c = &o->conf;
    OP(o, adamw, .count = u->count, .w = u->w, .m = u->run->state[0], .v = u->run->state[1],
        .grad = u->grad, .w16 = u->w16, .lr = u->lr, .beta1 = (float)c->beta1,
        .beta2 = (float)c->beta2, .eps = (float)c->epsilon, .weight_decay = u->decay,
        .grad_scale = 1, .step = u->updates, .sumsq = u->sumsq, .clip_norm = u->clip,
        .state = u->run->type, .m_scale = u->run->scale[0], .v_scale = u->run->scale[1],
        .seed = u->seed);
}

static void update_sgd(struct optim *o, const struct optim_update *u)
{
    OP(o, sgd, .count = u->count, .w = u->w, .m = u->run->state[0], .grad = u->grad, .w16 = u->w16,
        .lr = u->lr, .momentum = (float)o->conf.momentum, .weight_decay = u->decay, .grad_scale = 1,
        .sumsq = u->sumsq, .clip_norm = u->clip, .state = u->run->type, .m_scale = u->run->scale[0],
        .seed = u->seed);
}

static void update_lion(struct optim *o, const struct optim_update *u)
{
    OP(o, lion, .count = u->count, .w = u->w, .m = u->run->state[0], .grad = u->grad, .w16 = u->w16,
        .lr = u->lr, .beta1 = (float)o->conf.beta1, .beta2 = (float)o->conf.beta2,
        .weight_decay = u->decay, .grad_scale = 1, .sumsq = u->sumsq, .clip_norm = u->clip,
        .state = u->run->type, .m_scale = u->run->scale[0], .seed = u->seed);
}

static void update_adafactor(struct optim *o, const struct optim_update *u)
{
    const struct tensor *x = &model_trained(o->model)->at[u->run->first];
    bool matrix = x->dims == 2;
    OP(o, adafactor, .rows = matrix ? x->shape[0] : 1, .cols = matrix ? x->shape[1] : x->count,
        .w = u->w, .row = u->run->state[0], .col = u->run->state[1], .grad = u->grad, .w16 = u->w16,
        .lr = u->lr, .weight_decay = u->decay, .grad_scale = 1, .step = u->updates,
        .sumsq = u->sumsq, .clip_norm = u->clip);
}

/* Nesterov's momentum, m = mu m + (1 - mu) g and then mu m + (1 - mu) g of the new m, is Lion's two
   blends with mu^2 and mu. */
static void update_muon(struct optim *o, const struct optim_update *u)
{
    const struct tensor *x = &model_trained(o->model)->at[u->run->first];
    int64_t longer = x->shape[0] > x->shape[1] ? x->shape[0] : x->shape[1];
    double mu = o->conf.momentum;
    float adjusted = (float)(0.2 * sqrt((double)longer));
    OP(o, lion, .count = x->count, .m = u->run->state[0], .grad = u->grad,
        .beta1 = (float)(mu * mu), .beta2 = (float)mu, .grad_scale = 1, .sumsq = u->sumsq,
        .clip_norm = u->clip, .blend = o->muon.direction, .state = u->run->type,
        .m_scale = u->run->scale[0], .seed = u->seed);
    muon_orthogonalise(&o->muon, x->shape[0], x->shape[1]);
    if (masks(o, u->step) && prune_takes(x))
        OP(o, mask, .count = x->count, .x = o->muon.direction, .w = u->w);
    OP(o, sgd, .count = x->count, .w = u->w, .grad = o->muon.direction, .w16 = u->w16,
        .lr = u->lr * adjusted, .weight_decay = u->decay / adjusted, .grad_scale = 1,
        .sumsq = u->sumsq);
}

/* The copy of 16 bits: the rules round to BF16 only, and not what others have updated. */
static bool renews_apart(const struct optim *o)
{
    return o->owners > 1 || model_compute_type(o->model) == DTYPE_F16;
}

static void update_run(struct optim *o, const struct optim_run *r, int64_t step)
{
    static void (*const rules[])(struct optim *, const struct optim_update *) = {
        [OPTIMIZER_ADAMW] = update_adamw,
        [OPTIMIZER_SGD] = update_sgd,
        [OPTIMIZER_LION] = update_lion,
        [OPTIMIZER_ADAFACTOR] = update_adafactor,
        [OPTIMIZER_MUON] = update_muon};
    uint16_t *copy = renews_apart(o) ? NULL : model_compute_copy(o->model);
    const struct optim_update u = {.run = r,
        .count = r->to - r->from,
        .w = model_master_at(o->model, r->from),
        .w16 = copy ? copy + r->from : NULL,
        .grad = pass_gradient_at(o->pass, r->from),
        .sumsq = sum_of(o, step),
        .lr = (float)(optim_rate(&o->conf, step) * r->rate),
        .decay = r->decay ? (float)o->conf.weight_decay : 0,
        .clip = (float)o->conf.clip_norm,
        .step = step,
        .updates = step - o->skipped,
        .seed = op_random_from(
            random_mix(o->conf.seed ^ random_mix((uint64_t)step)), (uint64_t)r->from)};
    rules[r->rule](o, &u);
}

/* The n elements of a run from its `at` on, n cut to what there is. */
static struct optim_run window_of(const struct optim_run *r, int64_t at, int64_t n)
{
    struct optim_run x = *r;
    at = at < r->to - r->from ? at : r->to - r->from;
    x.from = r->from + at;
    x.to = x.from + n < r->to ? x.from + n : r->to;
    for (int k = 0; k < RULE_STATES && r->state[k]; k++) {
        x.state[k] = (char *)r->state[k] + at * dtype_block_bytes(r->type);
        x.scale[k] = r->scale[k] ? r->scale[k] + at / OP_STATE_BLOCK : NULL;
    }
    return x;
}

static void tell_window(struct optim *o, const struct optim_run *x,
    void (*tell)(struct offload *o, const void *at, int64_t n))
{
    int64_t n = x->to - x->from;
    for (int k = 0; k < RULE_STATES && x->state[k]; k++) {
        tell(o->offload, x->state[k], n * dtype_block_bytes(x->type));
        if (x->scale[k])
            tell(o->offload, x->scale[k], (n + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK * 4);
    }
}

static void update_by_windows(struct optim *o, const struct optim_run *r, int64_t step)
{
    int64_t n = OFFLOAD_WINDOW_BYTES / dtype_block_bytes(r->type);
    struct optim_run x = window_of(r, 0, n);
    tell_window(o, &x, offload_expect);
    for (int64_t at = 0; at < r->to - r->from; at += n) {
        const struct optim_run next = window_of(r, at + n, n);
        tell_window(o, &next, offload_expect);
        update_run(o, &x, step);
        tell_window(o, &x, offload_leave);
        x = next;
    }
}

void optim_set_scale(struct optim *o, double scale, int64_t skipped)
{
    o->scale = scale;
    o->skipped = skipped;
}

/* How a tensor's squares come to those of all ranks. */
enum counted { COUNTED, COUNTED_CUT, COUNTED_DEALT, COUNTED_ELSEWHERE };

static enum counted counted_as(const struct optim *o, const struct tensor *x)
{
    if (model_is_tied(o->model, x))
        return COUNTED_ELSEWHERE;
    bool dealt = o->conf.expert && tensor_of_expert(x->role);
    return dealt ? COUNTED_DEALT : tensor_is_cut(x) ? COUNTED_CUT : COUNTED;
}

/* The squares of such tensors in the own slice. */
static void sum_squares(struct optim *o, enum counted which, float *out)
{
    const struct tensors *t = model_trained(o->model);
    for (int i = 0, end; i < t->count; i = end) {
        enum counted as = counted_as(o, &t->at[i]);
        for (end = i + 1; end < t->count && counted_as(o, &t->at[end]) == as;)
            end++;
        int64_t from = t->at[i].offset, to = end_of(t, end - 1);
        from = from > o->from ? from : o->from;
        to = to < o->to ? to : o->to;
        if (as == which && from < to)
            OP(o, sumsq, .count = to - from, .x = pass_gradient_at(o->pass, from), .out = out);
    }
}

/* The gradient of the own slice as the update takes it. */
static void prepare_gradient(struct optim *o, int64_t step)
{
    float *g = pass_gradient_at(o->pass, o->from);
    int64_t count = o->to - o->from;
    if (count && o->scale != 1)
        OP(o, axpby, .count = count, .x = g, .x_type = DTYPE_F32, .y = g, .y_type = DTYPE_F32,
            .a = (float)(1 / o->scale));
    if (masks(o, step))
        mask_gradient(o);
    adalora_regularise(&o->adalora, model_master(o->model), pass_gradient(o->pass));
}

static int add_up(struct coll *c, float *sum, enum coll_reduce op, struct err *e)
{
    int rc = c ? coll_reduce_start(c, sum, 1, DTYPE_F32, op, e) : 0;
    if (!rc && c)
        coll_reduce_join(c);
    return rc;
}

/* sum, over c unless NULL, and with it the squares of such tensors, which all of c have. */
static int add_squares(
    struct optim *o, struct coll *c, enum counted which, float *sum, struct err *e)
{
    bool apart = o->conf.tensor || o->conf.expert;
    float *rest = apart ? o->sum + PASS_AHEAD : sum;
    int rc = add_up(c, sum, COLL_SUM, e);
    if (apart)
        dev_zero(o->dev, rest, sizeof *rest);
    sum_squares(o, which, rest);
    if (apart)
        OP(o, axpby, .count = 1, .x = rest, .x_type = DTYPE_F32, .y = sum, .y_type = DTYPE_F32,
            .a = 1, .b = 1);
    return rc;
}

/* The squares of the whole gradient: those of what is dealt out and of what is cut over the ranks
   that have it. The last reductions give the same bits to those whose slices differ. */
static int sum_gradient(struct optim *o, float *sum, struct err *e)
{
    dev_zero(o->dev, sum, sizeof *sum);
    sum_squares(o, COUNTED_DEALT, sum);
    int rc = add_squares(o, o->conf.expert, COUNTED_CUT, sum, e);
    if (rc || (rc = add_squares(o, o->conf.tensor, COUNTED, sum, e)) ||
        (rc = add_up(o->coll, sum, COLL_SUM, e)) ||
        (rc = add_up(o->conf.pipeline, sum, COLL_SUM, e)) ||
        (rc = add_up(o->conf.tensor, sum, COLL_MAX, e)))
        return rc;
    return add_up(o->conf.expert, sum, COLL_MAX, e);
}

int optim_step(struct optim *o, int64_t step, double *grad_norm, struct err *e)
{
    int rc;
    o->last = step;
    prepare_gradient(o, step);
    if ((rc = sum_gradient(o, sum_of(o, step), e)) ||
        (grad_norm && (rc = optim_norm(o, step, grad_norm, e))))
        return rc;
    for (int i = 0; i < o->run_count; i++)
        (o->offload ? update_by_windows : update_run)(o, &o->runs[i], step);
    if (o->offload && (rc = offload_settle(o->offload, e)))
        return rc;
    adalora_weigh(&o->adalora, model_master(o->model), pass_gradient(o->pass), sum_of(o, step),
        (float)o->conf.clip_norm, step);
    rc = o->owners > 1 ? model_slices_changed(o->model, e) : 0;
    if (rc)
        return rc;
    if (o->owners == 1 && renews_apart(o))
        model_master_changed(o->model);
    return grad_norm ? dev_sync(o->dev, e) : 0;
}

int optim_choose(struct optim *o, int64_t step, struct err *e)
{
    int rc = adalora_choose(&o->adalora, model_master(o->model), o->coll, step, e);
    if (!rc && o->adalora.matrices && model_compute_copy(o->model))
        model_master_changed(o->model);
    return rc;
}
