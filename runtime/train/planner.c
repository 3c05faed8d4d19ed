/*
 * planner: the largest micro-batch that fits and still pays. Beyond the device's rows (PLANNER_ROWS
 * on a processor) a matrix product gains nothing and only costs memory. The losses of a step do not
 * depend on the choice (they are normalised by the global batch).
 */
#include "runtime/train/planner.h"

#include "runtime/model/head.h"

#define PLANNER_ROWS        2048
/* Logits of one chunk on a device, where there is memory for them: each chunk reads and writes the
   whole gradient of the head's weights. */
#define PLANNER_LOGIT_ROWS  8192
#define PLANNER_LOGIT_SHARE 16

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

/* Not even one sequence fits: says so, and which recomputation would do. */
static int refuse(struct model_conf c, const struct memplan *p, int64_t budget_bytes, struct err *e)
{
    int rc = memplan_require(p, budget_bytes, e);
    while (rc && c.recompute < RECOMPUTE_FULL) {
        struct memplan less;
        c.recompute++;
        if (!memplan_model(&c, NULL, &less, NULL) && less.total <= budget_bytes)
            return err_wrap(e, "spec.train.recompute: %s would fit", recompute_name(c.recompute));
    }
    return rc;
}

static int check_data(const struct planner_input *in, int data, struct err *e)
{
    if (!in->data || in->data == data)
        return 0;
    return err_set(e, ERR_USER,
        "spec.parallelism.data: %d, but the world has %d ranks (replicas x device.perReplica), which "
        "makes %d on this axis; 0 takes as many as there are",
        in->data, in->world, data);
}

static int lay_out(const struct planner_input *in, struct layout *out, struct err *e)
{
    int tensor = in->tensor > 1 ? in->tensor : 1;
    *out = (struct layout){in->world / tensor, tensor, 1, 1, 1};
    if (in->world % tensor)
        return err_set(e, ERR_USER, "spec.parallelism.tensor: %d, which does not divide %d ranks",
            tensor, in->world);
    int rc = layout_check(out, in->world, e);
    return rc ? rc : check_data(in, out->dp, e);
}

/* By how many ranks of the data axis the optimizer's state is divided. */
static int owners_of(const struct planner_input *in, const struct layout *l)
{
    return in->zero_stage && l->dp > 1 ? l->dp : 0;
}

/* The model of a rank; the first one's share is the largest. */
static int share_model(const struct planner_input *in, const struct layout *l, int rank,
    struct model_conf *out, struct err *e)
{
    *out = in->model;
    return model_config_share(&in->model.config, layout_place(l, rank).tp, l->tp, &out->config, e);
}

int planner_plan(const struct planner_input *in, struct planner_plan *out, struct err *e)
{
    struct planner_plan p = {.micro_sequences = 0};
    struct model_conf c;
    int rc;
    if ((rc = lay_out(in, &p.layout, e)) || (rc = share_model(in, &p.layout, 0, &c, e)))
        return rc;
    int64_t share = (in->batch_sequences + p.layout.dp - 1) / p.layout.dp;
    int64_t rows = in->rows ? in->rows : PLANNER_ROWS;
    int64_t micro = rows / (c.sequence_length > 0 ? c.sequence_length : 1) / sample_rows(in);
    c.owners = p.owners = owners_of(in, &p.layout);
    c.owner = p.owner = -1;
    c.logit_rows = p.logit_rows = logit_rows(in);
    micro = micro < share ? micro : share;
    for (micro = micro < 1 ? 1 : micro;; micro--) {
        p.micro_sequences = micro;
        c.micro_sequences = micro * sample_rows(in);
        rc = memplan_model(&c, NULL, &p.memory, e);
        if (rc)
            return rc;
        if (p.memory.total <= in->budget_bytes)
            break;
        if (micro == 1)
            return refuse(c, &p.memory, in->budget_bytes, e);
    }
    *out = p;
    return 0;
}

int planner_measure(const struct planner_input *in, struct planner_plan *out, struct err *e)
{
    struct model_conf c;
    struct memplan memory;
    int rc;
    if ((rc = layout_check(&out->layout, in->world, e)) ||
        (rc = share_model(in, &out->layout, in->rank, &c, e)))
        return rc;
    c.micro_sequences = out->micro_sequences * sample_rows(in);
    c.logit_rows = out->logit_rows;
    c.owners = owners_of(in, &out->layout);
    c.owner = layout_place(&out->layout, in->rank).dp;
    if ((rc = memplan_model(&c, NULL, &memory, e)) ||
        (rc = memplan_require(&memory, in->budget_bytes, e)))
        return rc;
    out->memory = memory;
    out->owners = c.owners;
    out->owner = c.owner;
    return 0;
}
