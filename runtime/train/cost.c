/*
 * cost: operations and bytes of the largest share of a layer, bytes of each sum, and the stages'
 * order. Operations are counted as in Narayanan et al. (arXiv:2104.04473, appendix), but for
 * attention, of which a causal model computes half.
 */
#include "runtime/train/cost.h"

#include <math.h>

/* Times that a row of a layer is read or written forward, by channels: norms, residuals; columns of
   the feed-forward: its activation; of attention: positions, and what it reads and writes. */
#define PASSES_CHANNELS  10
#define PASSES_COLUMNS   3
#define PASSES_ATTENTION 6
/* Of the rows that a micro-batch is to have, the part that fills and drains a device's units: of
   65,536 it makes 16 sequences of 2,048 tokens 1.23 times as fast as one, and the products' passes
   over memory some more; the paper's figure 7 has about 1.3. */
#define TAIL_SHARE       128

struct work {             /* of one rank, the slowest */
    double n;             /* rows of a micro-batch */
    double micro_s;       /* computing one, forward and backward */
    double sums;          /* of tensor parallelism, of one */
    double message_bytes; /* handed on, of one, one way; of a sum as well */
    double batches;       /* micro-batches of a step */
    int chunks;           /* of a stage's layers */
};

struct layer_part { /* what a rank has of a layer */
    double attention, columns, vocab;
};

/* The largest of `ways` shares of n things. */
static double share_of(int64_t n, int ways)
{
    return ways > 1 ? (double)((n + ways - 1) / ways) : (double)n;
}

static struct layer_part part_of(const struct model_config *c, int tensor)
{
    double heads = share_of(c->kv_heads, tensor) / (double)c->kv_heads;
    double columns = share_of(c->ffn_dim, tensor);
    if (c->experts)
        columns = (double)c->experts_per_token * share_of(c->expert_ffn_dim, tensor);
    return (struct layer_part){heads * (double)(c->heads * c->head_dim), columns,
        c->labels ? (double)c->labels : share_of(c->vocab, tensor)};
}

/* (m, k) x (k, n) */
static double product_s(const struct cost_speed *s, enum dtype t, double m, double k, double n)
{
    double bytes = (double)dtype_block_bytes(t) * (m * k + k * n + m * n);
    return 2 * m * k * n / s->flops_per_s + bytes / s->memory_bytes_per_s;
}

/* Rows that n take the time of. */
static double with_tail(const struct planner_input *in, double n)
{
    return n + (double)(in->rows ? in->rows : PLANNER_ROWS) / TAIL_SHARE;
}

static bool trains_all(const struct model_conf *m)
{
    return !m->lora_rank && !m->adapter_size;
}

/* The four matrices around attention; of n rows. */
static double attention_s(
    const struct model_conf *m, const struct layer_part *x, const struct cost_speed *s, double n)
{
    const struct model_config *c = &m->config;
    double dim = (double)c->dim, keys = x->attention * (double)c->kv_heads / (double)c->heads;
    return product_s(s, m->t, n, dim, x->attention + 2 * keys) +
        product_s(s, m->t, n, x->attention, dim);
}

static double ffn_matrices(const struct model_conf *m)
{
    return m->config.activation == ACTIVATION_SWIGLU || m->config.experts ? 3 : 2;
}

static double ffn_s(
    const struct model_conf *m, const struct layer_part *x, const struct cost_speed *s, double n)
{
    return ffn_matrices(m) * product_s(s, m->t, n, (double)m->config.dim, x->columns);
}

/* q k^T and p v over the tokens that a token sees. */
static double scores_s(
    const struct model_conf *m, const struct layer_part *x, const struct cost_speed *s, double n)
{
    double length = (double)m->sequence_length, head = (double)m->config.head_dim;
    double seen = length / (m->config.bidirectional ? 1 : 2);
    if (m->config.window && (double)m->config.window < seen)
        seen = (double)m->config.window;
    return 2 * n * x->attention / length / head * product_s(s, m->t, length, head, seen);
}

static double elements_s(
    const struct model_conf *m, const struct layer_part *x, const struct cost_speed *s, double n)
{
    double row = PASSES_CHANNELS * (double)m->config.dim + PASSES_COLUMNS * x->columns +
        PASSES_ATTENTION * x->attention;
    return n * row * (double)dtype_block_bytes(m->t) / s->memory_bytes_per_s;
}

/* A layer forward and backward, which is twice forward where all is trained, and what is made
   again: all but the product behind the activation, which backward does not read. */
static double layer_s(
    const struct model_conf *m, const struct layer_part *x, const struct cost_speed *s, double n)
{
    double attention = attention_s(m, x, s, n), ffn = ffn_s(m, x, s, n);
    double scores = scores_s(m, x, s, n), elements = elements_s(m, x, s, n);
    double all = (trains_all(m) ? 3 : 2) * (attention + ffn) + 3 * (scores + elements);
    double again = ffn * (ffn_matrices(m) - 1) / ffn_matrices(m);
    if (m->recompute == RECOMPUTE_FULL)
        return all + again + attention + scores + elements;
    return m->recompute == RECOMPUTE_NONE ? all : all + again;
}

static double head_s(
    const struct model_conf *m, const struct layer_part *x, const struct cost_speed *s, double n)
{
    double one = m->headless ? 0 : product_s(s, m->t, n, (double)m->config.dim, x->vocab);
    return one * (trains_all(m) ? 3 : 2);
}

/* Stages beside each other that share a pod's processor. */
static int stages_together(const struct layout *l, const struct cost_speed *s)
{
    const struct layout_group g = layout_group(l, 0, LAYOUT_PIPELINE);
    int n = s->shared ? s->pod_ranks / g.stride : 1;
    n = n < g.size ? n : g.size;
    return n > 1 ? n : 1;
}

/* Of so many of the first stages, which have most of them, or of the last: the mean. Chunks wait
   for the largest, too. */
static double stage_layers(
    const struct model_conf *m, const struct planner_plan *p, int together, bool first)
{
    int64_t parts = (int64_t)p->layout.pp * p->chunks;
    int64_t each = m->config.layers / parts, more = m->config.layers % parts;
    if (together > 1 && together == p->layout.pp)
        return (double)m->config.layers / together;
    more = first ? more : more - (parts - together);
    more = more < 0 ? 0 : more < together ? more : together;
    return p->chunks * ((double)each + (double)more / together);
}

/* A micro-batch through the slowest stage, or the mean of those that share a processor. */
static double stage_s(const struct planner_input *in, const struct planner_plan *p,
    const struct cost_speed *s, double n)
{
    const struct model_conf *m = &in->model;
    const struct layer_part x = part_of(&m->config, p->layout.tp);
    int together = stages_together(&p->layout, s);
    double layer = layer_s(m, &x, s, n);
    double first = layer * stage_layers(m, p, together, true);
    double last = layer * stage_layers(m, p, together, false) + head_s(m, &x, s, n) / together;
    return first > last ? first : last;
}

static struct work work_of(
    const struct planner_input *in, const struct planner_plan *p, const struct cost_speed *s)
{
    const struct layout *l = &p->layout;
    const struct model_config *c = &in->model.config;
    int64_t rows = in->sample_rows > 1 ? in->sample_rows : 1;
    int64_t samples = (in->batch_sequences + l->dp * l->ep - 1) / (l->dp * l->ep);
    /* of a layer; what is made again of it sums up attention */
    double sums = in->model.recompute == RECOMPUTE_FULL ? 5 : 4;
    struct work w = {.n = (double)(p->micro_sequences * rows * in->model.sequence_length / l->cp)};
    w.micro_s = stage_s(in, p, s, w.n) * with_tail(in, w.n) / w.n;
    w.sums = stage_layers(&in->model, p, 1, true) * sums + (l->pp > 1 ? 1 : 2);
    w.message_bytes = w.n * (double)c->dim * (double)dtype_block_bytes(in->model.t);
    w.batches = (double)samples / (double)p->micro_sequences;
    w.chunks = p->chunks;
    return w;
}

/* -- collectives -- */

/* NCCL's ring visits all members one after the other; the host's has the pods side by side within,
   and a ring of their leaders. */
struct cost_steps cost_ring(const struct cost_speed *s, int members, int pods)
{
    double inside = s->trees ? members * pods - pods : members - 1;
    return (struct cost_steps){2 * inside, 2.0 * (pods - 1)};
}

struct cost_steps cost_tree(int members, int pods)
{
    return (struct cost_steps){2.0 * (members - 1), 2 * ceil(log2(pods))};
}

struct reach { /* of a group: where its members are, and what they share a way out of */
    int size, members, pods;
    double bytes_per_s;
};

static struct reach reach_of(
    const struct layout *l, const struct layout_group *g, const struct cost_speed *s)
{
    int pod = s->pod_ranks > 1 ? s->pod_ranks : 1, world = l->dp * l->tp * l->pp * l->cp * l->ep;
    struct reach x = {g->size, g->size, 1, s->inside.bytes_per_s};
    if (world <= pod || pod % (g->size * g->stride) == 0)
        return x;
    int here = pod % g->stride ? 1 : pod / g->stride;
    x.members = here < g->size ? here : g->size;
    x.pods = (g->size + x.members - 1) / x.members;
    double out = s->between.bytes_per_s * x.members; /* members in a pod share its way out */
    x.bytes_per_s = here == 1 || out < x.bytes_per_s ? out : x.bytes_per_s;
    return x;
}

static double steps_s(const struct cost_speed *s, struct cost_steps n)
{
    return n.inside * s->inside.latency_s + n.between * s->between.latency_s;
}

/* Of so many bytes among the ranks of a group. */
static double sum_s(
    const struct layout *l, const struct layout_group *g, double bytes, const struct cost_speed *s)
{
    if (g->size < 2)
        return 0;
    const struct reach x = reach_of(l, g, s);
    double ring = steps_s(s, cost_ring(s, x.members, x.pods)) +
        2.0 * (x.size - 1) / x.size * bytes / x.bytes_per_s;
    double tree = steps_s(s, cost_tree(x.members, x.pods)) + 2.0 * bytes / x.bytes_per_s;
    return s->trees && tree < ring ? tree : ring;
}

/* A reduce-scatter, or an all-gather. */
static double half_s(
    const struct layout *l, const struct layout_group *g, double bytes, const struct cost_speed *s)
{
    if (g->size < 2)
        return 0;
    const struct reach x = reach_of(l, g, s);
    return steps_s(s, cost_ring(s, x.members, x.pods)) / 2 +
        (double)(x.size - 1) / x.size * bytes / x.bytes_per_s;
}

/* Each member sends each of the others its part of so many bytes. */
static double all_to_all_s(
    const struct layout *l, const struct layout_group *g, double bytes, const struct cost_speed *s)
{
    if (g->size < 2)
        return 0;
    const struct reach x = reach_of(l, g, s);
    const struct cost_link *link = x.pods > 1 ? &s->between : &s->inside;
    return (x.size - 1) * link->latency_s +
        (double)(x.size - 1) / x.size * bytes / link->bytes_per_s;
}

/* Stages are the furthest apart, the first and the last as much as others. */
static double message_s(const struct layout *l, double bytes, const struct cost_speed *s)
{
    bool together = l->dp * l->tp * l->pp * l->cp * l->ep <= s->pod_ranks;
    const struct cost_link *link = together ? &s->inside : &s->between;
    return l->pp > 1 ? link->latency_s + bytes / link->bytes_per_s : 0;
}

/* Of an embedding that is the head, too: the first stage's gradient and the last's are added. */
static double tied_s(
    const struct planner_input *in, const struct layout *l, const struct cost_speed *s)
{
    const struct model_conf *m = &in->model;
    if (!m->config.tied_embeddings || m->config.labels || !trains_all(m))
        return 0;
    return message_s(l, 4 * share_of(m->config.vocab, l->tp) * (double)m->config.dim, s);
}

/* What the rank would have if its data axis divided nothing. */
static struct memplan undivided(const struct planner_input *in, const struct planner_plan *p)
{
    struct planner_input all = *in;
    struct planner_plan whole;
    struct err e = {.code = ERR_NONE};
    all.zero_stage = 0;
    if (p->owners < 2 || planner_with(&all, p->micro_sequences, &whole, &e))
        return p->memory;
    return whole.memory;
}

/* So many of them among the ranks that have the same weights, of so many bytes each. */
static double halves_s(
    const struct layout *l, double count, double bytes, const struct cost_speed *s)
{
    const struct layout_group same = layout_replicas(l, 0);
    return count * half_s(l, &same, bytes, s);
}

/* The gradient's sum a step; its half and the half of what the owners have renewed; by layer and
   micro-batch, where gradients are divided, and there, where weights are, theirs twice. */
static double data_s(const struct planner_input *in, const struct planner_plan *p,
    const struct memplan *whole, double batches, const struct cost_speed *s)
{
    const struct layout *l = &p->layout;
    bool copied = in->model.t != DTYPE_F32;
    double gradient = (double)whole->gradient, layers = (double)in->model.config.layers;
    double renewed = (double)(copied ? whole->copy : whole->master);
    double weights = renewed + (double)whole->weights;
    int stage = p->zero_stage;
    const struct layout_group same = layout_replicas(l, 0);
    if (!stage)
        return sum_s(l, &same, gradient, s);
    if (stage == 1)
        return halves_s(l, 1, gradient, s) + halves_s(l, 1, renewed, s);
    double sums = halves_s(l, batches * layers, gradient / layers, s);
    return stage == 2 ? sums + halves_s(l, 1, renewed, s)
                      : sums + halves_s(l, 2 * batches * layers, weights / layers, s);
}

/* Keys and values of a layer are gathered, again in backward, and their gradients shared out. */
static double context_s(const struct planner_input *in, const struct layout *l,
    const struct work *w, const struct cost_speed *s)
{
    const struct model_conf *m = &in->model;
    const struct layout_group g = layout_group(l, 0, LAYOUT_CONTEXT);
    double row = 2 * share_of(m->config.kv_heads, l->tp) * (double)m->config.head_dim;
    double bytes = w->n * l->cp * row * (double)dtype_block_bytes(m->t);
    double halves = m->recompute == RECOMPUTE_FULL ? 4 : 3;
    return share_of(m->config.layers, l->pp) * halves * half_s(l, &g, bytes, s);
}

/* Rows go to their experts and back, and in backward gradients, the rows once more, and theirs. */
static double rows_s(const struct planner_input *in, const struct layout *l, const struct work *w,
    const struct cost_speed *s)
{
    const struct layout_group g = layout_group(l, 0, LAYOUT_EXPERT);
    double bytes = w->message_bytes * (double)in->model.config.experts_per_token;
    double times = in->model.recompute == RECOMPUTE_FULL ? 7 : 5;
    return share_of(in->model.config.layers, l->pp) * times * all_to_all_s(l, &g, bytes, s);
}

/* The gradient of all that is not of an expert. */
static double between_experts_s(const struct planner_input *in, const struct layout *l,
    const struct memplan *whole, const struct cost_speed *s)
{
    const struct model_config *c = &in->model.config;
    const struct layout_group g = layout_group(l, 0, LAYOUT_EXPERT);
    double experts = 4.0 * share_of(c->layers, l->pp) * share_of(c->experts, l->ep) * 3 *
        (double)c->dim * share_of(c->expert_ffn_dim, l->tp);
    double rest = (double)whole->gradient - (trains_all(&in->model) ? experts : 0);
    return sum_s(l, &g, rest > 0 ? rest : 0, s);
}

/* What is read and written: masters, gradients and state of the rank's part, and the copy. */
static double optimizer_bytes(const struct planner_plan *p, const struct memplan *whole)
{
    double part = p->owners > 1 ? p->owners : 1;
    return 2.0 * (double)(whole->master + whole->gradient) / part +
        2.0 * (double)p->memory.optimizer + (double)whole->copy;
}

/* Micro-batches' time that a stage has nothing to do: while the pipeline fills and empties, a
   chunk's for each further stage, and where the last group is short. Of stages that share a
   processor one waits for what the others have it for. */
static double idle_batches(const struct layout *l, const struct work *w, int together)
{
    double rest = w->chunks > 1 ? fmod(ceil(w->batches), l->pp) : 0;
    double idle = (l->pp - 1.0) / w->chunks + (rest > 0 ? l->pp - rest : 0);
    return l->pp > 1 ? idle * (ceil((double)l->pp / together) - 1) / (l->pp - 1) : 0;
}

void cost_step(const struct planner_input *in, const struct planner_plan *p,
    const struct cost_speed *s, struct cost *out)
{
    const struct work w = work_of(in, p, s);
    const struct memplan whole = undivided(in, p);
    const struct layout *l = &p->layout;
    const struct layout_group tensor = layout_group(l, 0, LAYOUT_TENSOR);
    double sums_s = w.sums * sum_s(l, &tensor, w.message_bytes, s);
    double keys_s = context_s(in, l, &w, s);
    double messages_s = 2 * w.chunks * message_s(l, w.message_bytes, s);
    struct cost c = {.compute = w.batches * w.micro_s,
        .tensor = w.batches * sums_s,
        .expert = w.batches * rows_s(in, l, &w, s) + between_experts_s(in, l, &whole, s),
        .context = w.batches * keys_s,
        .pipeline = w.batches * messages_s,
        .idle =
            idle_batches(l, &w, stages_together(l, s)) * (w.micro_s + sums_s + keys_s + messages_s),
        .data = data_s(in, p, &whole, w.batches, s) + tied_s(in, l, s),
        .optimizer = optimizer_bytes(p, &whole) / s->memory_bytes_per_s};
    c.total =
        c.compute + c.tensor + c.expert + c.context + c.pipeline + c.idle + c.data + c.optimizer;
    *out = c;
}
