/*
 * oracle: see oracle.h. A fixture, linked into every test of this room.
 */
#include "tests/runtime/oracle.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/model/dropout.h"
#include "runtime/model/lora.h"

#include <check.h>
#include <math.h>

static struct err e;

/* -- parameters -- */

static double *widen(const float *from, int64_t n)
{
    double *to = mem_array((size_t)n, sizeof *to);

    ck_assert_ptr_nonnull(to);
    for (int64_t i = 0; i < n; i++)
        to[i] = (double)from[i];
    return to;
}

void oracle_open(struct oracle *o, struct dev *d, struct model *m, const struct model_conf *c)
{
    const struct model_config *g = &c->config;
    int64_t q = g->heads * g->head_dim, kv = g->kv_heads * g->head_dim;

    *o = (struct oracle){.config = *g, .b = c->micro_sequences, .t = c->sequence_length};
    ck_assert_msg(!tensors_create(g, &o->base, &e), "%s", e.text);
    mem_autofree float *w = mem_array((size_t)o->base.elements, sizeof *w);
    ck_assert_ptr_nonnull(w);
    for (int i = 0; i < o->base.count; i++) {
        const struct tensor *p = &o->base.at[i];

        ck_assert(!model_read(m, p->name, false, w + p->offset, p->count, &e));
    }
    o->w = widen(w, o->base.elements);
    o->shares = c->dropout;
    o->seed = c->seed;
    if (c->lora_rank) {
        ck_assert(!lora_tensors(c, &o->lora, &e));
        mem_autofree float *f = mem_array((size_t)o->lora.elements, sizeof *f);
        dev_download(d, f, model_master(m), (size_t)o->lora.elements * 4);
        o->factors = widen(f, o->lora.elements);
        o->scale = (double)c->lora_alpha / c->lora_rank;
        o->dropout = (double)c->lora_dropout;
    }
    o->work =
        mem_array((size_t)(o->t * (3 * g->dim + 2 * q + 2 * kv + 2 * g->ffn_dim + o->t) + g->vocab),
            sizeof(double));
    o->dropped = mem_array((size_t)(o->t * (g->dim + q + g->ffn_dim)), sizeof(double));
    ck_assert(o->work && o->dropped);
}

void oracle_close(struct oracle *o)
{
    tensors_done(&o->base);
    tensors_done(&o->lora);
    mem_free(o->w);
    mem_free(o->factors);
    mem_free(o->work);
    mem_free(o->dropped);
}

static const double *named(
    const struct tensors *p, const double *w, const char *stem, const char *suffix)
{
    const struct tensor *part;
    char name[192];

    snprintf(name, sizeof name, "%s.%s", stem, suffix);
    part = tensors_find(p, name);
    return part ? w + part->offset : NULL;
}

double *oracle_part(struct oracle *o, const char *name)
{
    const struct tensors *p = o->factors ? &o->lora : &o->base;
    const struct tensor *part = tensors_find(p, name);

    ck_assert_msg(part != NULL, "%s", name);
    return (o->factors ? o->factors : o->w) + part->offset;
}

/* -- formulas, over the t tokens of one sequence -- */

/* Nearly all of the oracle's time. */
static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void norm(const struct oracle *o, const char *stem, const double *x, double *y)
{
    const double *w = named(&o->base, o->w, stem, "weight");
    const double *bias = named(&o->base, o->w, stem, "bias");
    int64_t c = o->config.dim;

    for (int64_t n = 0; n < o->t; n++, x += c, y += c) {
        double mean = 0, var = 0;

        for (int64_t i = 0; i < c && o->config.norm == NORM_LAYER; i++)
            mean += x[i] / (double)c;
        for (int64_t i = 0; i < c; i++)
            var += (x[i] - mean) * (x[i] - mean) / (double)c;
        for (int64_t i = 0; i < c; i++) /* y may be x */
            y[i] = (x[i] - mean) / sqrt(var + (double)o->config.norm_eps) * w[i] +
                (bias ? bias[i] : 0);
    }
}

/* Each head of x (t, heads, head_dim), by root mean square. */
static void norm_heads(
    const struct oracle *o, int64_t layer, const char *which, double *x, int64_t heads)
{
    char stem[128];
    int64_t d = o->config.head_dim;

    snprintf(stem, sizeof stem, "model.layers.%lld.self_attn.%s", (long long)layer, which);
    const double *w = named(&o->base, o->w, stem, "weight");
    for (int64_t n = 0; n < o->t * heads; n++, x += d) {
        double square = 0;

        for (int64_t i = 0; i < d; i++)
            square += x[i] * x[i] / (double)d;
        for (int64_t i = 0; i < d; i++)
            x[i] *= w[i] / sqrt(square + (double)o->config.norm_eps);
    }
}

static enum linear_kind kind_of(const char *piece)
{
    if (strstr(piece, "mlp"))
        return strstr(piece, "down_proj") ? LINEAR_DOWN : LINEAR_GATE_UP;
    return strstr(piece, "o_proj") ? LINEAR_O : LINEAR_QKV;
}

/* to (n, c) = what dropout makes of rows x, which stand where there are n for each sequence. */
static void drop(const struct oracle *o, double p, uint64_t seed, const double *x, int64_t n,
    int64_t c, double *to)
{
    for (int64_t i = 0; i < n * c; i++) {
        bool keep = op_random(seed, (uint64_t)(o->place * n * c + i)) >= p * 0x1p32;

        to[i] = keep ? x[i] / (1 - p) : 0;
    }
}

/* Of n rows x for each sequence, in place, at the place that this tensor names. */
static void drop_hidden(
    const struct oracle *o, enum tensor_role role, int64_t layer, int64_t n, double *x)
{
    const struct model_dropout *s = &o->shares;
    float p = role == TENSOR_EMBED  ? s->embed
        : role == TENSOR_CLASSIFIER ? s->classifier
                                    : s->residual;
    if (p > 0)
        drop(o, (double)p, dropout_seed(o->seed, role, layer), x, n, o->config.dim, x);
}

/* What dropout makes of the probability of head h, query n and key j. */
static double kept(const struct oracle *o, int64_t layer, int64_t h, int64_t n, int64_t j)
{
    double p = (double)o->shares.attention;
    int64_t at = ((o->place * o->config.heads + h) * o->t + n) * o->t + j;
    bool keep = op_random(dropout_seed(o->seed, TENSOR_Q, layer), (uint64_t)at) >= p * 0x1p32;
    return keep ? 1 / (1 - p) : 0;
}

/* y (t, out) = x W^T + b + scale (dropout(x) A^T) B^T */
static void linear(const struct oracle *o, int64_t layer, const char *piece, const double *x,
    int64_t in, double *y, int64_t out)
{
    const double *w, *bias, *a = NULL, *b = NULL, *kept = x;
    int64_t r = 0;
    char stem[128];

    snprintf(stem, sizeof stem, "model.layers.%lld.%s", (long long)layer, piece);
    w = named(&o->base, o->w, stem, "weight");
    bias = named(&o->base, o->w, stem, "bias");
    if (o->factors) {
        a = named(&o->lora, o->factors, stem, "lora_A.weight");
        b = named(&o->lora, o->factors, stem, "lora_B.weight");
        r = o->lora.at[0].shape[0];
    }
    if (a && o->dropout > 0) {
        drop(o, o->dropout, lora_seed(o->seed, layer, kind_of(piece)), x, o->t, in, o->dropped);
        kept = o->dropped;
    }
    for (int64_t n = 0; n < o->t; n++, x += in, y += out) {
        for (int64_t i = 0; i < out; i++)
            y[i] = (bias ? bias[i] : 0) + dot(w + i * in, x, in);
        for (int64_t j = 0; a && j < r; j++) {
            double u = dot(a + j * in, kept + n * in, in);

            for (int64_t i = 0; i < out; i++)
                y[i] += o->scale * u * b[i * r + j];
        }
    }
}

/* By wavelengths, as Llama 3 has it: long ones are stretched, short ones are not. */
static double scaled(const struct op_rope_scaling *s, double frequency)
{
    double length = 2 * M_PI / frequency, context = (double)s->context;
    double low = (double)s->low, high = (double)s->high, factor = (double)s->factor;

    if (s->kind == OP_ROPE_LINEAR || (s->kind == OP_ROPE_LLAMA3 && length > context / low))
        return frequency / factor;
    if (s->kind == OP_ROPE_PLAIN || length < context / high)
        return frequency;
    double smooth = (context / length - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

static int64_t begin_of(const struct oracle *o, int64_t n)
{
    return o->begins ? o->begins[n] : 0;
}

static void rotate(const struct oracle *o, double *x, int64_t heads)
{
    int64_t d = o->config.head_dim;

    for (int64_t n = 0; n < o->t; n++)
        for (int64_t h = 0; h < heads; h++, x += d)
            for (int64_t i = 0; i < d / 2; i++) {
                double turn = (double)(n - begin_of(o, n)) *
                    scaled(&o->config.rope_scaling,
                        pow((double)o->config.rope_theta, -2 * (double)i / (double)d));
                double a = x[i], b = x[i + d / 2];

                x[i] = a * cos(turn) - b * sin(turn);
                x[i + d / 2] = b * cos(turn) + a * sin(turn);
            }
}

static void attend(const struct oracle *o, int64_t layer, const double *q, const double *k,
    const double *v, double *out, double *p)
{
    int64_t d = o->config.head_dim, heads = o->config.heads, group = heads / o->config.kv_heads;
    int64_t ldq = heads * d, ldk = ldq / group;

    for (int64_t h = 0; h < heads; h++)
        for (int64_t n = 0; n < o->t; n++) {
            int64_t seen = o->config.bidirectional ? o->there : n + 1;
            int64_t from = begin_of(o, n), window = o->config.window;
            double sum = 0;

            if (window && n - from >= window)
                from = n - window + 1;
            seen = n < o->there ? seen : 0;
            for (int64_t j = from; j < seen; j++) {
                double s = 0;

                for (int64_t i = 0; i < d; i++)
                    s += q[n * ldq + h * d + i] * k[j * ldk + h / group * d + i];
                p[j] = exp(s / sqrt((double)d));
                sum += p[j];
            }
            for (int64_t j = from; j < seen && o->shares.attention > 0; j++)
                p[j] *= kept(o, layer, h, n, j);
            for (int64_t i = 0; i < d; i++) {
                double y = 0;

                for (int64_t j = from; j < seen; j++)
                    y += p[j] / sum * v[j * ldk + h / group * d + i];
                out[n * ldq + h * d + i] = y;
            }
        }
}

static void feed_forward(
    const struct oracle *o, int64_t layer, const double *h, double *gate, double *up, double *y)
{
    int64_t c = o->config.dim, f = o->config.ffn_dim;

    linear(o, layer, "mlp.up_proj", h, c, up, f);
    if (o->config.activation == ACTIVATION_SWIGLU)
        linear(o, layer, "mlp.gate_proj", h, c, gate, f);
    for (int64_t i = 0; i < o->t * f; i++)
        if (o->config.activation == ACTIVATION_SWIGLU)
            up[i] *= gate[i] / (1 + exp(-gate[i]));
        else if (o->config.activation == ACTIVATION_GELU_ERF)
            up[i] *= 0.5 * (1 + erf(up[i] / M_SQRT2));
        else
            up[i] *= 0.5 * (1 + tanh(sqrt(2 / M_PI) * (up[i] + 0.044715 * up[i] * up[i] * up[i])));
    linear(o, layer, "mlp.down_proj", up, f, y, c);
}

static void add(double *x, const double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
}

/* x becomes x + y; and, where norms are behind residuals, its norm. */
static void join(const struct oracle *o, const char *stem, double *x, const double *y)
{
    add(x, y, o->t * o->config.dim);
    if (o->config.post_norm)
        norm(o, stem, x, x);
}

/* What a sub-layer reads. */
static const double *input(const struct oracle *o, const char *stem, const double *x, double *h)
{
    if (o->config.post_norm)
        return x;
    norm(o, stem, x, h);
    return h;
}

static void layer_of(
    const struct oracle *o, int64_t layer, double *x, double *room, double *y, double *rest)
{
    int64_t c = o->config.dim, d = o->config.head_dim, n = o->t;
    int64_t ldq = o->config.heads * d, ldk = o->config.kv_heads * d;
    double *q = rest, *k = q + n * ldq, *v = k + n * ldk, *att = v + n * ldk;
    double *gate = att + n * ldq, *up = gate + n * o->config.ffn_dim;
    char stem[128];

    snprintf(stem, sizeof stem, "model.layers.%lld.input_layernorm", (long long)layer);
    const double *h = input(o, stem, x, room);
    linear(o, layer, "self_attn.q_proj", h, c, q, ldq);
    linear(o, layer, "self_attn.k_proj", h, c, k, ldk);
    linear(o, layer, "self_attn.v_proj", h, c, v, ldk);
    if (o->config.qk_norm) {
        norm_heads(o, layer, "q_norm", q, o->config.heads);
        norm_heads(o, layer, "k_norm", k, o->config.kv_heads);
    }
    if (o->config.positions == POSITIONS_ROTARY) {
        rotate(o, q, o->config.heads);
        rotate(o, k, o->config.kv_heads);
    }
    attend(o, layer, q, k, v, att, up + n * o->config.ffn_dim);
    linear(o, layer, "self_attn.o_proj", att, ldq, y, c);
    drop_hidden(o, TENSOR_NORM_ATTENTION, layer, n, y);
    join(o, stem, x, y);
    snprintf(stem, sizeof stem, "model.layers.%lld.post_attention_layernorm", (long long)layer);
    h = input(o, stem, x, room);
    feed_forward(o, layer, h, gate, up, y);
    drop_hidden(o, TENSOR_NORM_FFN, layer, n, y);
    join(o, stem, x, y);
}

static double cross_entropy(const struct oracle *o, const double *h, int32_t target, double *logits)
{
    const struct tensors *p = o->factors ? &o->lora : &o->base;
    const double *w = o->factors ? o->factors : o->w; /* a classifier is trained, always */
    const double *head = named(&o->base, o->w, "lm_head", "weight"), *bias = NULL;
    int64_t count = o->config.labels ? o->config.labels : o->config.vocab;
    double sum = 0;

    if (target < 0)
        return 0;
    if (o->config.masked)
        bias = named(&o->base, o->w, "lm_head", "bias");
    if (o->config.labels) {
        head = named(p, w, "classifier", "weight");
        bias = named(p, w, "classifier", "bias");
    } else if (!head) {
        head = named(&o->base, o->w, "model.embed_tokens", "weight");
    }
    for (int64_t v = 0; v < count; v++) {
        logits[v] = (bias ? bias[v] : 0) + dot(head + v * o->config.dim, h, o->config.dim);
        sum += exp(logits[v]);
    }
    return log(sum) - logits[target];
}

/* Of one text: the sum over labels of -log of the probability of what is true of it. */
static double several_loss(const struct oracle *o, const double *h, const int32_t *truth)
{
    const struct tensors *p = o->factors ? &o->lora : &o->base;
    const double *from = o->factors ? o->factors : o->w;
    const double *w = named(p, from, "classifier", "weight");
    const double *bias = named(p, from, "classifier", "bias");
    double loss = 0;
    for (int64_t k = 0; k < o->config.labels; k++) {
        double x = bias[k];
        for (int64_t i = 0; i < o->config.dim; i++)
            x += w[k * o->config.dim + i] * h[i];
        loss += log1p(exp(truth[k] ? -x : x));
    }
    return loss;
}

/* y (C) = tanh(P h + b) */
static void pool(const struct oracle *o, const double *h, double *y)
{
    const double *w = named(&o->base, o->w, "model.pooler", "weight");
    const double *bias = named(&o->base, o->w, "model.pooler", "bias");
    int64_t c = o->config.dim;
    for (int64_t i = 0; i < c; i++) {
        y[i] = bias[i];
        for (int64_t j = 0; j < c; j++)
            y[i] += w[i * c + j] * h[j];
        y[i] = tanh(y[i]);
    }
}

/* y (C) = norm(gelu(W h + b)) */
static void transform(const struct oracle *o, const double *h, double *y)
{
    const double *w = named(&o->base, o->w, "model.transform", "weight");
    const double *bias = named(&o->base, o->w, "model.transform", "bias");
    int64_t c = o->config.dim;
    struct oracle row = *o;
    for (int64_t i = 0; i < c; i++) {
        y[i] = bias[i];
        for (int64_t j = 0; j < c; j++)
            y[i] += w[i * c + j] * h[j];
        y[i] *= 0.5 * (1 + erf(y[i] / M_SQRT2));
    }
    row.t = 1;
    norm(&row, "model.transform_norm", y, y);
}

double oracle_loss(struct oracle *o, const int32_t *ids, const int32_t *targets)
{
    const double *embed = named(&o->base, o->w, "model.embed_tokens", "weight");
    const double *place = named(&o->base, o->w, "model.embed_positions", "weight");
    const double *type = named(&o->base, o->w, "model.embed_types", "weight");
    int64_t c = o->config.dim;
    const int32_t *all = targets;
    double *x = o->work, *h = x + o->t * c, *y = h + o->t * c, *rest = y + o->t * c, loss = 0;

    for (int64_t s = 0; s < o->b; s++, o->place++, ids += o->t, targets += o->t) {
        o->there = o->lengths ? o->lengths[s] : o->t;
        o->begins = o->first ? o->first + s * o->t : NULL;
        for (int64_t n = 0; n < o->t; n++)
            for (int64_t i = 0; i < c; i++)
                x[n * c + i] = embed[ids[n] * c + i] +
                    (place ? place[(n - begin_of(o, n)) * c + i] : 0) + (type ? type[i] : 0);
        if (o->config.embed_norm)
            norm(o, "model.embed_norm", x, x);
        drop_hidden(o, TENSOR_EMBED, -1, o->t, x);
        for (int64_t l = 0; l < o->config.layers; l++)
            layer_of(o, l, x, h, y, rest);
        const double *top = input(o, "model.norm", x, h);
        if (o->config.pooled) {
            pool(o, top, y);
            drop_hidden(o, TENSOR_CLASSIFIER, -1, 1, y);
        } else if (o->config.labels && !o->config.last) {
            drop_hidden(o, TENSOR_CLASSIFIER, -1, o->t, top == x ? x : h);
        }
        if (o->config.last) {
            memcpy(y, top + (o->there - 1) * c, (size_t)c * sizeof *y);
            drop_hidden(o, TENSOR_CLASSIFIER, -1, 1, y);
            loss += cross_entropy(o, y, targets[0], rest);
            continue;
        }
        if (o->config.several) {
            loss += several_loss(o, y, all + s * o->config.labels);
            continue;
        }
        for (int64_t n = 0; n < (o->config.pooled ? 1 : o->t); n++) {
            if (o->config.masked)
                transform(o, top + n * c, y);
            bool above = o->config.pooled || o->config.masked;
            loss += cross_entropy(o, above ? y : top + n * c, targets[n], rest);
        }
    }
    o->place -= o->b;
    return loss;
}
