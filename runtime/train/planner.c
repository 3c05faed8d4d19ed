/*
 * planner: the largest micro-batch that fits and still pays. Beyond the device's rows (PLANNER_ROWS
 * on a processor) a matrix product gains nothing and only costs memory. The losses of a step do not
 * depend on the choice (they are normalised by the global batch).
 */
#include "runtime/train/planner.h"

#include "runtime/model/head.h"
#include "runtime/model/interleave.h"
#include "runtime/train/balance.h"

/* Logits of one chunk on a device, where there is memory for them: each chunk reads and writes the
   whole gradient of the head's weights. */
#define PLANNER_LOGIT_ROWS  8192
#define PLANNER_LOGIT_SHARE 16
/* Micro-batches for each stage of a pipeline, at least, where the batch has them: the first and the
   last of them leave stages idle. */
#define PLANNER_BATCHES     2

static int64_t logit_rows(const struct planner_input *in)
{
    int64_t share = in->budget_bytes / PLANNER_LOGIT_SHARE;
    int64_t rows = share / head_row_bytes(&in->model);
    if (!in->rows)
        return 0;
    rows = rows < PLANNER_LOGIT_ROWS ? rows : PLANNER_LOGIT_ROWS;
    return rows > 1 ? rows : 1;
}

static int64_t sample_rows(const struct planner_input *in)
{
    return in->sample_rows > 1 ? in->sample_rows : 1;
}

static int check_data(const struct planner_input *in, int data, struct err *e)
{
    if (!in->data || in->data == data)
        return 0;
    return err_set(e, ERR_USER,
        "spec.parallelism.data: %d, but the world has %d ranks (replicas x device.perReplica), "
        "which makes %d on this axis; 0 takes as many as there are",
        in->data, in->world, data);
}

/* Sequences are cut into chunks of equal length, two a rank. */
static int check_context(const struct planner_input *in, int context, struct err *e)
{
    if (context == 1)
        return 0;
    if (in->model.sequence_length % (2 * (int64_t)context))
        return err_set(e, ERR_USER,
            "spec.train.sequenceLength: %lld, which is no multiple of 2 x context, %lld",
            (long long)in->model.sequence_length, 2 * (long long)context);
    return 0;
}

int planner_lay_out(const struct planner_input *in, struct layout *out, struct err *e)
{
    int tensor = in->tensor > 1 ? in->tensor : 1, pipeline = in->pipeline > 1 ? in->pipeline : 1;
    int expert = in->expert > 1 ? in->expert : 1, context = in->context > 1 ? in->context : 1;
    int64_t together = (int64_t)tensor * pipeline * expert * context;
    if (in->world % together)
        return err_set(e, ERR_USER,
            "spec.parallelism: tensor x pipeline x expert x context is %lld, which does not divide "
            "%d ranks",
            (long long)together, in->world);
    *out = (struct layout){.dp = (int)(in->world / together),
        .tp = tensor,
        .pp = pipeline,
        .cp = context,
        .ep = expert};
    int rc = layout_check(out, in->world, e);
    return rc || (rc = check_context(in, context, e)) ? rc : check_data(in, out->dp, e);
}

/* How many of the ranks with the same weights divide the optimizer's state, and more by later
   stages. */
static int owners_of(const struct planner_input *in, const struct layout *l)
{
    int same = layout_replicas(l, 0).size;
    return in->zero_stage && same > 1 ? same : 0;
}

/* Sequences of the batch that are one replica's, or one rank's of those that share experts, at
   most. */
static int64_t share_of_batch(const struct planner_input *in, const struct layout *l)
{
    int parts = l->dp * l->ep;
    return (in->batch_sequences + parts - 1) / parts;
}

/* Micro-batches that a stage keeps, of each of its chunks of layers. */
static void set_in_flight(const struct planner_input *in, const struct planner_plan *p,
    int64_t batches, struct model_conf *c)
{
    int64_t stages = p->layout.pp - c->stage; /* from this one on */
    const struct interleave x = {p->layout.pp, c->stage, p->chunks, batches};
    c->in_flight[0] = batches < stages && !in->unlike ? batches : stages;
    for (int i = 0; i < p->chunks && p->chunks > 1; i++)
        c->in_flight[i] = interleave_in_flight(&x, i);
}

/* What the rank at a place creates; owner as in model_conf. */
static int model_at(const struct planner_input *in, const struct planner_plan *p, struct place at,
    int owner, struct model_conf *out, struct err *e)
{
    const struct layout *l = &p->layout;
    const int64_t *layers = *p->stage_layers ? p->stage_layers : NULL;
    const struct model_cut cut = {l->tp, at.tp, l->pp, at.pp, l->ep, at.ep, layers, p->chunks};
    int64_t batches = (share_of_batch(in, l) + p->micro_sequences - 1) / p->micro_sequences;
    *out = in->model;
    out->contexts = l->cp;
    out->context_rank = at.cp;
    out->stages = l->pp;
    out->stage = at.pp;
    set_in_flight(in, p, batches, out);
    out->owners = owners_of(in, l);
    out->owner = owner;
    out->zero_stage = in->zero_stage;
    out->replicas = l->dp;
    out->micro_sequences = p->micro_sequences * sample_rows(in);
    out->logit_rows = p->logit_rows;
    return model_config_share(&in->model.config, &cut, &out->config, e);
}

/* Sets p->memory: of the rank that takes most. The first shares of matrices, and of experts, are
   the largest; of stages in between none has more layers, or micro-batches to keep, than the
   first. */
static int measure_all(const struct planner_input *in, struct planner_plan *p, struct err *e)
{
    struct memplan one;
    p->memory = (struct memplan){0};
    int stages = p->layout.pp, step = stages > 2 && !*p->stage_layers ? stages - 1 : 1;
    for (int stage = 0; stage < stages; stage += step) {
        struct model_conf c;
        int rc = model_at(in, p, (struct place){.pp = stage}, -1, &c, e);
        if (rc || (rc = memplan_model(&c, NULL, &one, e)))
            return rc;
        p->memory = one.total > p->memory.total ? one : p->memory;
    }
    return 0;
}

/* Not even one sequence fits: says so, and which recomputation would do. */
static int refuse(const struct planner_input *in, const struct planner_plan *p, struct err *e)
{
    struct planner_input other = *in;
    int rc = memplan_require(&p->memory, in->budget_bytes, e);
    while (rc && other.model.recompute < RECOMPUTE_FULL) {
        struct planner_plan less = *p;
        other.model.recompute++;
        if (!measure_all(&other, &less, NULL) && less.memory.total <= in->budget_bytes)
            return err_wrap(
                e, "spec.train.recompute: %s would fit", recompute_name(other.model.recompute));
    }
    return rc;
}

/* Sequences of a micro-batch from which on more gain nothing. */
static int64_t most_sequences(const struct planner_input *in, const struct layout *l, int64_t share)
{
    int64_t rows = in->rows ? in->rows : PLANNER_ROWS;
    int64_t length = in->model.sequence_length > 0 ? in->model.sequence_length : 1;
    int64_t micro = rows * l->cp / length / sample_rows(in);
    micro = micro < share ? micro : share;
    return micro < 1 ? 1 : micro;
}

int planner_with(const struct planner_input *in, int64_t micro_sequences, struct planner_plan *out,
    struct err *e)
{
    struct planner_plan p = {.owner = -1, .logit_rows = logit_rows(in)};
    int rc = planner_lay_out(in, &p.layout, e);
    if (rc)
        return rc;
    int64_t most = most_sequences(in, &p.layout, share_of_batch(in, &p.layout));
    p.chunks = p.layout.pp > 1 && in->virtual_stages > 1 ? in->virtual_stages : 1;
    p.micro_sequences = micro_sequences < most ? micro_sequences : most;
    p.owners = owners_of(in, &p.layout);
    p.zero_stage = p.owners ? in->zero_stage : 0;
    if ((rc = measure_all(in, &p, e)))
        return rc;
    *out = p;
    return 0;
}

int planner_plan(const struct planner_input *in, struct planner_plan *out, struct err *e)
{
    struct layout l;
    struct planner_plan p;
    int rc = planner_lay_out(in, &l, e);
    if (rc)
        return rc;
    int64_t share = share_of_batch(in, &l);
    if (l.pp > 1)
        share /= PLANNER_BATCHES * l.pp;
    for (int64_t micro = most_sequences(in, &l, share);; micro--) {
        if ((rc = planner_with(in, micro, &p, e)))
            return rc;
        if (p.memory.total <= in->budget_bytes)
            break;
        if (micro == 1)
            return refuse(in, &p, e);
    }
    *out = p;
    return 0;
}

bool planner_stages(const struct planner_input *in, const int64_t *ns, struct planner_plan *out)
{
    struct planner_plan p = *out;
    int64_t spare[PLANNER_STAGES], layers = in->model.config.layers;
    int n = p.layout.pp;
    if (n < 2 || n > PLANNER_STAGES || p.chunks > 1)
        return false;
    for (int i = 0; i < n; i++)
        p.stage_layers[i] = layers / n + (i < layers % n);
    if (!balance_change(layers, n, ns, BALANCE_GUESS, p.stage_layers, spare) ||
        measure_all(in, &p, NULL) || p.memory.total > in->budget_bytes)
        return false;
    *out = p;
    return true;
}

int planner_model(const struct planner_input *in, const struct planner_plan *p,
    struct model_conf *out, struct err *e)
{
    struct place at = layout_place(&p->layout, in->rank);
    return model_at(in, p, at, layout_replicas(&p->layout, in->rank).index, out, e);
}

int planner_measure(const struct planner_input *in, struct planner_plan *out, struct err *e)
{
    struct model_conf c;
    struct memplan memory;
    int rc;
    if ((rc = layout_check(&out->layout, in->world, e)) || (rc = planner_model(in, out, &c, e)) ||
        (rc = memplan_model(&c, NULL, &memory, e)) ||
        (rc = memplan_require(&memory, in->budget_bytes, e)))
        return rc;
    out->memory = memory;
    out->owners = c.owners;
    out->zero_stage = c.owners ? in->zero_stage : 0;
    out->owner = c.owner;
    return 0;
}
