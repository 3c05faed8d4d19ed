/*
 * pass_stage: a batch on one stage of a pipeline. What is kept from forward to backward is a
 * batch's own, in a net of its own; all else, scratch and what goes up, is used by one batch at
 * a time, so backward of a batch that others have followed takes its input once more.
 */
#include "runtime/model/pass_internal.h"

#include "runtime/door/beat.h"

#include <assert.h>

static const struct net *net_of(const struct pass *p, int64_t k)
{
    return &p->nets[k % p->in_flight];
}

static struct coll_message message_of(
    const struct pass *p, void *data, int64_t sequences, int step, bool receive)
{
    int64_t row = p->batch.config->dim * dtype_block_bytes(p->batch.t);
    return (struct coll_message){.data = data,
        .bytes = (size_t)(sequences * p->tokens * row),
        .peer = p->model->conf.stage + step,
        .receive = receive};
}

int pass_stage_exchange(struct pass *p, const struct pass_traffic *x, struct err *e)
{
    const struct model_conf *c = &p->model->conf;
    struct coll_message m[4];
    int n = 0;
    if (x->input && c->stage > 0)
        m[n++] = message_of(p, net_of(p, x->k)->layers->sub->x, x->input, -1, true);
    if (x->output && c->stage + 1 < c->stages)
        m[n++] = message_of(p, p->nets->x, x->output, 1, false);
    if (x->output_gradient && c->stage + 1 < c->stages)
        m[n++] = message_of(p, p->batch.dx, x->output_gradient, 1, true);
    if (x->input_gradient && c->stage > 0)
        m[n++] = message_of(p, p->batch.dx, x->input_gradient, -1, false);
    if (!n)
        return 0;
    int rc = coll_exchange_start(c->pipeline, m, n, e);
    if (!rc)
        coll_reduce_join(c->pipeline);
    return rc;
}

int pass_stage_forward(struct pass *p, int64_t k, int64_t b, const struct pass_input *in,
    float scale, bool backward, struct err *e)
{
    const struct net *t = net_of(p, k);
    int rc = pass_upload(p, b, in, backward, &p->last, e);
    if (rc)
        return rc;
    beat_phase(p->last.page, WIRE_PHASE_FORWARD);
    net_forward(&p->last, t);
    if (!t->head.none) {
        head_loss(&p->last, &t->head, p->targets, p->loss, scale, backward);
        pass_add_losses(p, b);
    }
    return parallel_check(&p->parallel, e);
}

int pass_stage_backward(
    struct pass *p, int64_t k, int64_t b, const struct pass_input *in, struct err *e)
{
    const struct net *t = net_of(p, k);
    int rc = t->head.none ? pass_upload(p, b, in, true, &p->last, e) : 0;
    if (rc)
        return rc;
    assert(p->last.b == b);
    p->last.parted = t->head.none;
    beat_phase(p->last.page, WIRE_PHASE_BACKWARD);
    net_backward(&p->last, t, pass_tell_ready, p);
    return parallel_check(&p->parallel, e);
}
