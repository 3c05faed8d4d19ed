/*
 * pass_stage: a batch on one stage of a pipeline. What is kept from forward to backward is a
 * batch's own, in a net of its own; all else, scratch and what goes up, is used by one batch at
 * a time, so backward of a batch that others have followed takes its input once more.
 *
 * How often a mixture's tokens chose each expert is counted over all layers, so counts go up with
 * the hidden states, each stage adding its layers', and what they come to comes down with the
 * gradients.
 */
#include "runtime/model/pass_internal.h"

#include "runtime/door/beat.h"

#include <assert.h>

static int64_t flight_of(const struct pass *p, const struct pass_part *x)
{
    return x->k % pass_in_flight(p, x->chunk);
}

static const struct net *net_of(const struct pass *p, const struct pass_part *x)
{
    return &p->nets[flight_of(p, x)];
}

static bool has_head(const struct pass *p, int chunk)
{
    return model_config_chunk_is_last(p->batch.config, chunk);
}

static struct coll_message message_of(
    const struct pass *p, void *data, int64_t bytes, int step, bool receive)
{
    const struct model_conf *c = &p->model->conf;
    return (struct coll_message){.data = data,
        .bytes = (size_t)bytes,
        .peer = (c->stage + step + c->stages) % c->stages,
        .receive = receive};
}

static void *input_of(const struct pass *p, const struct pass_part *x)
{
    struct batch s = p->batch;
    s.chunk = x->chunk;
    return net_input(&s, net_of(p, x));
}

/* What there is somebody for. */
static struct pass_traffic real_traffic(const struct pass *p, const struct pass_traffic *x)
{
    const struct model_config *c = p->batch.config;
    struct pass_traffic real = *x;
    if (model_config_chunk_is_first(c, x->input.chunk))
        real.input.b = 0;
    if (has_head(p, x->output.chunk))
        real.output.b = 0;
    if (has_head(p, x->output_gradient.chunk))
        real.output_gradient.b = 0;
    if (model_config_chunk_is_first(c, x->input_gradient.chunk))
        real.input_gradient.b = 0;
    return real;
}

/* Where it comes from, or stands. */
struct places {
    void *input, *output, *output_gradient, *input_gradient;
};

/* Of each sequence so many bytes. Of two stages each is both neighbours of the other: what goes up
   comes first on both sides. */
static int exchange(struct pass *p, const struct pass_traffic *x, const struct places *at,
    int64_t bytes, struct err *e)
{
    struct coll_message m[4];
    int n = 0;
    if (x->input.b)
        m[n++] = message_of(p, at->input, x->input.b * bytes, -1, true);
    if (x->output.b)
        m[n++] = message_of(p, at->output, x->output.b * bytes, 1, false);
    if (x->output_gradient.b)
        m[n++] = message_of(p, at->output_gradient, x->output_gradient.b * bytes, 1, true);
    if (x->input_gradient.b)
        m[n++] = message_of(p, at->input_gradient, x->input_gradient.b * bytes, -1, false);
    if (!n)
        return 0;
    int rc = coll_exchange_start(p->model->conf.pipeline, m, n, e);
    if (!rc)
        coll_reduce_join(p->model->conf.pipeline);
    return rc;
}

static void swap(float **a, float **b)
{
    float *kept = *a;
    *a = *b;
    *b = kept;
}

static int exchange_counts(struct pass *p, const struct pass_traffic *x, struct err *e)
{
    const struct places at = {.input = p->next_count,
        .output = p->expert_count,
        .output_gradient = p->next_whole_count,
        .input_gradient = p->whole_count};
    int rc = exchange(p, x, &at, model_config_experts(p->batch.config) * 4, e);
    if (x->input.b)
        swap(&p->expert_count, &p->next_count);
    if (x->output_gradient.b)
        swap(&p->whole_count, &p->next_whole_count);
    return rc;
}

int pass_stage_exchange(struct pass *p, const struct pass_traffic *x, struct err *e)
{
    const struct pass_traffic real = real_traffic(p, x);
    struct batch *s = &p->batch;
    void *comes = s->dx_next && x->output_gradient.b ? s->dx_next : s->dx;
    const struct places at = {.input = real.input.b ? input_of(p, &real.input) : NULL,
        .output = p->nets->out,
        .output_gradient = comes,
        .input_gradient = s->dx};
    int64_t row = s->config->dim * dtype_block_bytes(s->t);
    if (comes == s->dx_next) {
        s->dx_next = s->dx;
        s->dx = comes;
    }
    int rc = exchange(p, &real, &at, p->tokens * row, e);
    return rc || !s->config->experts ? rc : exchange_counts(p, &real, e);
}

/* Input and targets of a part go up, for the layers of its chunk. */
static int upload(struct pass *p, const struct pass_part *x, const struct pass_input *in,
    bool backward, struct err *e)
{
    int rc = pass_upload(p, x->b, in, backward, &p->last, e);
    p->last.chunk = x->chunk;
    p->last.flight = flight_of(p, x);
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
    if (model_config_chunk_is_first(p->batch.config, x->chunk))
        pass_clear_counts(p, x->b);
    net_forward(&p->last, t);
    if (has_head(p, x->chunk)) {
        head_loss(&p->last, &t->head, p->targets, p->loss, scale, backward);
        pass_add_losses(p, x->b);
        if (backward)
            pass_add_counts(p, x->b);
        if (backward && p->expert_count)
            swap(&p->expert_count, &p->whole_count);
    }
    return parallel_check(&p->parallel, e);
}

int pass_stage_backward(struct pass *p, const struct pass_part *x, const struct pass_input *in,
    float scale, struct err *e)
{
    const struct net *t = net_of(p, x);
    bool follows = has_head(p, x->chunk); /* its forward was the last */
    int rc = follows ? 0 : upload(p, x, in, true, e);
    if (rc)
        return rc;
    assert(p->last.b == x->b && p->last.chunk == x->chunk);
    p->last.parted = !follows;
    p->last.expert_count = p->whole_count;
    pass_upload_balance(p, x->b, in, scale);
    beat_phase(p->last.page, WIRE_PHASE_BACKWARD);
    net_backward(&p->last, t, pass_tell_ready, p);
    return parallel_check(&p->parallel, e);
}
