/*
 * pass_stage: a batch on one stage of a pipeline. What is kept from forward to backward is a
 * batch's own, in a net of its own; all else, scratch and what goes up, is used by one batch at
 * a time, so backward of a batch that others have followed takes its input once more.
 */
#include "runtime/model/pass_internal.h"

#include "runtime/door/beat.h"

#include <assert.h>

static const struct net *net_of(const struct pass *p, const struct pass_part *x)
{
    return &p->nets[x->k % pass_in_flight(p, x->chunk)];
}

static bool has_head(const struct pass *p, int chunk)
{
    return model_config_chunk_is_last(p->batch.config, chunk);
}

static struct coll_message message_of(
    const struct pass *p, void *data, int64_t sequences, int step, bool receive)
{
    const struct model_conf *c = &p->model->conf;
    int64_t row = p->batch.config->dim * dtype_block_bytes(p->batch.t);
    return (struct coll_message){.data = data,
        .bytes = (size_t)(sequences * p->tokens * row),
        .peer = (c->stage + step + c->stages) % c->stages,
        .receive = receive};
}

static void *input_of(const struct pass *p, const struct pass_part *x)
{
    struct batch s = p->batch;
    s.chunk = x->chunk;
    return net_input(&s, net_of(p, x));
}

/* Of two stages each is both neighbours of the other: what goes up comes first on both sides. */
int pass_stage_exchange(struct pass *p, const struct pass_traffic *x, struct err *e)
{
    const struct model_config *c = p->batch.config;
    struct batch *s = &p->batch;
    void *comes = s->dx_next && x->output_gradient.b ? s->dx_next : s->dx;
    struct coll_message m[4];
    int n = 0;
    if (x->input.b && !model_config_chunk_is_first(c, x->input.chunk))
        m[n++] = message_of(p, input_of(p, &x->input), x->input.b, -1, true);
    if (x->output.b && !has_head(p, x->output.chunk))
        m[n++] = message_of(p, p->nets->out, x->output.b, 1, false);
    if (x->output_gradient.b && !has_head(p, x->output_gradient.chunk))
        m[n++] = message_of(p, comes, x->output_gradient.b, 1, true);
    if (x->input_gradient.b && !model_config_chunk_is_first(c, x->input_gradient.chunk))
        m[n++] = message_of(p, s->dx, x->input_gradient.b, -1, false);
    if (comes == s->dx_next) {
        s->dx_next = s->dx;
        s->dx = comes;
    }
    if (!n)
        return 0;
    int rc = coll_exchange_start(p->model->conf.pipeline, m, n, e);
    if (!rc)
        coll_reduce_join(p->model->conf.pipeline);
    return rc;
}

/* Input and targets of a part go up, for the layers of its chunk. */
static int upload(struct pass *p, const struct pass_part *x, const struct pass_input *in,
    bool backward, struct err *e)
{
    int rc = pass_upload(p, x->b, in, backward, &p->last, e);
    p->last.chunk = x->chunk;
    return rc;
}

int pass_stage_forward(struct pass *p, const struct pass_part *x, const struct pass_input *in,
    float scale, bool backward, struct err *e)
{
    const struct net *t = net_of(p, x);
    int rc = upload(p, x, in, backward, e);
    if (rc)
        return rc;
    beat_phase(p->last.page, WIRE_PHASE_FORWARD);
    net_forward(&p->last, t);
    if (has_head(p, x->chunk)) {
        head_loss(&p->last, &t->head, p->targets, p->loss, scale, backward);
        pass_add_losses(p, x->b);
    }
    return parallel_check(&p->parallel, e);
}

int pass_stage_backward(
    struct pass *p, const struct pass_part *x, const struct pass_input *in, struct err *e)
{
    const struct net *t = net_of(p, x);
    bool follows = has_head(p, x->chunk); /* its forward was the last */
    int rc = follows ? 0 : upload(p, x, in, true, e);
    if (rc)
        return rc;
    assert(p->last.b == x->b && p->last.chunk == x->chunk);
    p->last.parted = !follows;
    beat_phase(p->last.page, WIRE_PHASE_BACKWARD);
    net_backward(&p->last, t, pass_tell_ready, p);
    return parallel_check(&p->parallel, e);
}
