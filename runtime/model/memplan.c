/*
 * memplan: the size table of a rank. Each line stands beside the shape it counts; model_carve() in
 * runtime/model/model.c walks the same shapes. Pure: reads a configuration, gives numbers.
 */
#include "runtime/model/memplan.h"

#include "runtime/model/lora.h"

/* Logits of one chunk on a processor: large enough that the head's weights are read seldom, small
   enough to stay a minor part of the memory (SmolLM2's 49,152 words: 512 rows, 96 MiB of F32). */
#define LOGIT_BYTES    (96 << 20)
#define LOGIT_ROWS_MIN 16
#define LOGIT_ROWS_MAX 512
#define LOGIT_ALIGN    64 /* columns */

int64_t memplan_times(int64_t a, int64_t b)
{
    int64_t r;

    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

int64_t memplan_plus(int64_t a, int64_t b)
{
    int64_t r;

    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

static int64_t bytes_of(enum dtype t)
{
    return dtype_block_bytes(t);
}

int64_t memplan_logit_rows(const struct model_conf *c)
{
    int64_t rows = LOGIT_BYTES / memplan_times(c->config.vocab, 4);
    int64_t n =
        c->train ? memplan_times(c->micro_sequences, c->sequence_length) : MEMPLAN_SERVE_ROWS;

    rows = rows > LOGIT_ROWS_MAX ? LOGIT_ROWS_MAX : rows;
    rows = c->logit_rows ? c->logit_rows : rows;
    rows = rows < LOGIT_ROWS_MIN ? LOGIT_ROWS_MIN : rows;
    return rows < n ? rows : n;
}

int64_t memplan_logit_columns(const struct model_conf *c)
{
    int64_t v = c->config.vocab;

    return c->train ? memplan_times((v - 1) / LOGIT_ALIGN + 1, LOGIT_ALIGN) : v;
}

int64_t memplan_logit_row_bytes(const struct model_conf *c)
{
    return memplan_times(memplan_logit_columns(c), c->train && c->t == DTYPE_BF16 ? 6 : 4);
}

/* Numbers that a norm's forward leaves for its backward: rstd, and a layer norm's mean. */
static int64_t norm_statistics(const struct model_config *c)
{
    return c->norm == NORM_LAYER ? 2 : 1;
}

/* Bytes of a row that a layer's forward leaves for its backward beside the layer's input, by what
 * recomputation drops together. */
static int64_t attention_row(const struct model_conf *c, int64_t lora_rank_sum)
{
    const struct model_config *g = &c->config;
    int64_t q = g->heads * g->head_dim, kv = g->kv_heads * g->head_dim;

    /* the residual between the halves; qkv, attention's output; of LoRA's products. F32: of two
     * norms, log-sum-exp */
    return (g->dim + q + 2 * kv + q + lora_rank_sum) * bytes_of(c->t) +
        4 * (2 * norm_statistics(g) + g->heads);
}

static int64_t feed_forward_row(const struct model_conf *c)
{
    return 2 * c->config.ffn_dim * bytes_of(c->t); /* gate, up; GELU's operand and result */
}

/* Each carved tensor begins at a multiple of 64 bytes. */
static int64_t alignment(const struct model_config *g)
{
    return 64 * (16 * g->layers + 32);
}

static void plan_train(const struct model_conf *c, int64_t lora_rank_sum, struct memplan *p)
{
    const struct model_config *g = &c->config;
    int64_t n = memplan_times(c->micro_sequences, c->sequence_length), t = bytes_of(c->t);
    int64_t attention = attention_row(c, lora_rank_sum), ffn_row = feed_forward_row(c);
    int64_t kept = g->dim * t, again = 0; /* bytes of a row: of each layer, of one at a time */
    int64_t q = g->heads * g->head_dim, qkv = q + 2 * g->kv_heads * g->head_dim;
    /* h, dh, dx (C); attention's gradient; of qkv; SwiGLU's act, dact (F), of gate and up, or
     * GELU's dact; of LoRA's products and dropout */
    int64_t ffn = g->activation == ACTIVATION_SWIGLU ? 4 * g->ffn_dim : g->ffn_dim;
    int64_t scratch = 3 * g->dim + q + qkv + ffn + lora_rank_sum + lora_dropped_columns(c);

    *(c->recompute == RECOMPUTE_FULL ? &again : &kept) += attention;
    *(c->recompute == RECOMPUTE_NONE ? &kept : &again) += ffn_row;
    p->saved = memplan_times(n, memplan_times(g->layers, kept));
    /* after the last layer, with its norm's statistics */
    p->saved = memplan_plus(p->saved, memplan_times(n, g->dim * t + 4 * norm_statistics(g)));
    /* and losses, ids, targets, positions */
    p->scratch = memplan_times(n, scratch * t + again + 4 * (4 + MODEL_AHEAD));
    p->logits = memplan_times(memplan_logit_rows(c), memplan_logit_row_bytes(c));
    p->logits = memplan_plus(p->logits, 2 * 64);
    p->saved = memplan_plus(p->saved, alignment(g));
    p->scratch = memplan_plus(p->scratch, alignment(g));
}

static void plan_serve(const struct model_conf *c, struct memplan *p)
{
    const struct model_config *g = &c->config;
    int64_t q = g->heads * g->head_dim, kv = g->kv_heads * g->head_dim;
    int64_t wide = q > g->ffn_dim ? q : g->ffn_dim;
    int64_t n = MEMPLAN_SERVE_ROWS;

    wide = wide > g->dim ? wide : g->dim;
    /* x, h, sum (C); q, k, v; att; gate, up, act; a BF16 copy of a product's input;
     * log-sum-exp, statistics, ids, positions, lengths */
    p->scratch = memplan_times(n,
        4 * (3 * g->dim + 2 * q + 2 * kv + 3 * g->ffn_dim + g->heads + norm_statistics(g) + 3) +
            2 * wide);
    p->scratch = memplan_plus(p->scratch, memplan_times(n > wide ? n : wide, 4)); /* zeros */
    p->scratch = memplan_plus(p->scratch, 7 * 4); /* a token that is decoded */
    /* one matrix of a layer decoded for a prefill product */
    p->scratch = memplan_plus(p->scratch, memplan_times(memplan_times(wide, g->dim), 6));
    p->logits = memplan_times(memplan_logit_rows(c), memplan_logit_row_bytes(c));
    p->logits = memplan_plus(p->logits, 64);
    p->scratch = memplan_plus(p->scratch, alignment(g));
    p->cache = memplan_times(memplan_times(c->kv_capacity, g->layers), 2 * kv * bytes_of(c->t));
}

static int64_t stored_bytes(const struct weights *w)
{
    int64_t sum = 0;

    for (int i = 0; i < weights_count(w); i++)
        sum = memplan_plus(sum, weights_at(w, i)->bytes);
    return sum;
}

int memplan_model(
    const struct model_conf *c, const struct weights *w, struct memplan *out, struct err *e)
{
    struct memplan p = {0};
    struct tensors base = {0}, lora = {0};
    int64_t t = bytes_of(c->t), trained = 0, frozen;
    int rc = model_config_check(&c->config, e);

    if (!rc)
        rc = tensors_create(&c->config, &base, e);
    if (!rc && c->train && c->lora_rank)
        rc = lora_tensors(c, &lora, e);
    if (rc)
        goto out;
    frozen = base.elements;
    if (c->train) {
        trained = c->lora_rank ? lora.elements : base.elements;
        frozen = c->lora_rank ? base.elements : 0;
        plan_train(c, c->lora_rank ? lora_rank_sum(c) : 0, &p);
    } else {
        plan_serve(c, &p);
    }
    p.weights = !c->train && w ? stored_bytes(w) : memplan_times(frozen, t);
    p.master = memplan_times(trained, 4);
    p.copy = c->t == DTYPE_F32 ? 0 : memplan_times(trained, t);
    p.gradient = memplan_times(trained, 4);
    p.optimizer = memplan_times(trained, 8);
    for (const int64_t *f = &p.weights; f < &p.total; f++)
        p.total = memplan_plus(p.total, *f);
    *out = p;
out:
    tensors_done(&base);
    tensors_done(&lora);
    return rc;
}

int memplan_require(const struct memplan *p, int64_t budget_bytes, struct err *e)
{
    if (p->total <= budget_bytes)
        return 0;
    return err_set(e, ERR_MEMORY,
        "this rank needs %lld MiB (weights %lld, optimizer %lld, activations %lld) and "
        "may use %lld MiB",
        (long long)(p->total >> 20), (long long)((p->weights + p->master + p->copy) >> 20),
        (long long)((p->gradient + p->optimizer) >> 20),
        (long long)(memplan_plus(p->saved, p->scratch) >> 20), (long long)(budget_bytes >> 20));
}
