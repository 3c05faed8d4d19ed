/*
 * attention_back_body: the backward pass of attention. Part of isa_body.h.
 *
 * A task is one head: for each block of keys it walks over the blocks of queries that see it; what
 * does not exist is packed as zeros, which give zero gradients. With
 * everything transposed (rows are keys), P^T = exp(scale K Q^T - lse) and dS^T = scale P^T (V dO^T
 * - delta), delta = rowsum(dO * O), are A operands as they are written:  dV += P^T dO,  dK += dS^T
 * Q,  dQ^T += K^T dS^T. dK and dV of the query heads that share a key/value head are added
 * afterwards in the order of the heads; so no sum depends on the threads. Batches go in waves that
 * bound the scratch memory.
 */
#define ATTENTION_WAVE_BYTES ((size_t)64 << 20)

struct attention_back {
    struct op_attention op;
    struct attention_sizes s;
    int64_t batch;  /* first of this wave */
    float *dk, *dv; /* (wave, h, key_blocks * TILE, pad) */
};

/* A thread's buffers: packed operands of one head, gradients of its queries, one tile. */
struct attention_back_own {
    uint32_t *q_transposed, *q_rows, *do_transposed,
        *do_rows;                                  /* (blocks); rows: interleaved when pairs */
    float *dq;                                     /* (blocks, pad, TILE), transposed */
    float *lse, *delta;                            /* (blocks * TILE) */
    uint32_t *k_rows, *k_columns, *v_rows, *spare; /* one block */
    float *p, *ds;                                 /* (TILE, TILE) */
    uint32_t *p_pairs, *ds_pairs, *ds_interleaved; /* (TILE, TILE / 2); unused for F32 */
};

/* Lays the buffers out in memory (NULL: only counts); returns the bytes. */
static size_t attention_back_layout(
    const struct attention_sizes *s, char *memory, struct attention_back_own *own)
{
    size_t at = 0, blocks = (size_t)s->blocks, block = (size_t)s->block_words, tile = TILE * TILE;
    const struct {
        void *field;
        size_t words;
    } parts[] = {{&own->q_transposed, blocks * block}, {&own->q_rows, blocks * block},
        {&own->do_transposed, blocks * block}, {&own->do_rows, blocks * block},
        {&own->dq, blocks * TILE * (size_t)s->pad}, {&own->lse, blocks * TILE},
        {&own->delta, blocks * TILE}, {&own->k_rows, block}, {&own->k_columns, block},
        {&own->v_rows, block}, {&own->spare, block}, {&own->p, tile}, {&own->ds, tile},
        {&own->p_pairs, tile / 2}, {&own->ds_pairs, tile / 2}, {&own->ds_interleaved, tile / 2}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (memory)
            *(char **)parts[i].field = memory + at;
        at += parts[i].words * 4; /* each a multiple of 64 bytes: TILE is 64 */
    }
    return at;
}

/* Packs the queries and output gradients of a head, and sets lse, delta and dq = 0. */
ISA_INLINE void attention_back_queries(enum dtype t, bool pairs, const struct attention_back *w,
    const struct attention_back_own *own, int64_t b, int64_t h)
{
    const struct op_attention *a = &w->op;
    int64_t ldo = a->h * a->d, pad = w->s.pad;
    memset(own->dq, 0, (size_t)(w->s.blocks * TILE * pad) * sizeof(float));
    for (int64_t block = 0; block < w->s.blocks; block++) {
        int64_t token = b * a->tokens + block * TILE, valid = attention_valid(a, b, block);
        int64_t at = block * w->s.block_words, o = token * ldo + h * a->d;
        uint32_t *rows = pairs ? own->spare : own->q_rows + at;
        tile_rows(t, pairs, attention_at(t, a->q, token * a->ldq + h * a->d), a->ldq, valid, a->d,
            pad, rows);
        tile_transposed(rows, w->s.words, own->q_transposed + at);
        if (pairs)
            tile_interleaved(rows, pad, own->q_rows + at);
        rows = pairs ? own->spare : own->do_rows + at;
        tile_rows(t, pairs, attention_at(t, a->dout, o), ldo, valid, a->d, pad, rows);
        tile_transposed(rows, w->s.words, own->do_transposed + at);
        if (pairs)
            tile_interleaved(rows, pad, own->do_rows + at);
        for (int64_t r = 0; r < TILE; r++) {
            float delta = 0;
#pragma omp simd reduction(+ : delta)
            for (int64_t c = 0; c < (r < valid ? a->d : 0); c++)
                delta +=
                    math_load(t, a->dout, o + r * ldo + c) * math_load(t, a->o, o + r * ldo + c);
            own->delta[block * TILE + r] = delta;
            own->lse[block * TILE + r] =
                r < valid ? a->lse[(b * a->h + h) * a->tokens + block * TILE + r] : 0;
        }
    }
}

/* Row j of the tile: p and ds in place of the products, and as BF16 when pairs. Only queries [from,
 * end) see key j. keep: what dropout makes of each p, whose gradient it is, too; NULL: none. */
ISA_INLINE void attention_back_row(bool pairs, float scale, const float *lse, const float *delta,
    const float *keep, int64_t from, int64_t end, float *p, float *ds, uint16_t *p16,
    uint16_t *ds16)
{
    for (int64_t i = 0; i < (keep ? TILE : 0); i++)
        ds[i] *= keep[i];
#pragma omp simd
    for (int64_t i = 0; i < TILE; i++) {
        float e = math_exp(p[i] * scale - lse[i]);
        p[i] = e;
        ds[i] = e * (ds[i] - delta[i]) * scale;
    }
    for (int64_t i = 0; i < (keep ? TILE : 0); i++)
        p[i] *= keep[i];
    memset(p, 0, (size_t)from * sizeof *p);
    memset(ds, 0, (size_t)from * sizeof *ds);
    memset(p + end, 0, (size_t)(TILE - end) * sizeof *p);
    memset(ds + end, 0, (size_t)(TILE - end) * sizeof *ds);
    if (pairs) {
        math_narrow(p, TILE, p16);
        math_narrow(ds, TILE, ds16);
    }
}

/* Keys of one block against queries of block i; dk, dv (TILE, pad) of the key block. */
ISA_INLINE void attention_back_tile(bool pairs, const struct attention_back *w,
    const struct attention_back_own *own, int64_t i, const struct attention_seen *seen, float *dk,
    float *dv)
{
    int64_t at = i * w->s.block_words, words = w->s.words, pad = w->s.pad,
            tile = tile_words(pairs, TILE);
    tile_product(pairs, false, TILE, TILE, words, own->k_rows, words, own->q_transposed + at, TILE,
        own->p, TILE);
    tile_product(pairs, false, TILE, TILE, words, own->v_rows, words, own->do_transposed + at, TILE,
        own->ds, TILE);
    const struct op_attention_drop *drop = &w->op.drop;
    float keep[TILE];
    for (int64_t j = 0, end = seen->first ? 0 : TILE; j < TILE; j++) {
        int64_t from = attention_from(seen, j);
        if (drop->p > 0)
            attention_keep(drop, seen->draw, j, attention_drop_scale(drop), keep);
        while (seen->first && end < seen->queries && seen->first[end] <= seen->key + j)
            end++;
        attention_back_row(pairs, w->op.scale, own->lse + i * TILE, own->delta + i * TILE,
            drop->p > 0 ? keep : NULL, from < end ? from : end, end, own->p + j * TILE,
            own->ds + j * TILE, (uint16_t *)own->p_pairs + j * TILE,
            (uint16_t *)own->ds_pairs + j * TILE);
    }
    const uint32_t *p = pairs ? own->p_pairs : (uint32_t *)own->p;
    const uint32_t *ds = pairs ? own->ds_pairs : (uint32_t *)own->ds, *ds_b = ds;
    if (pairs) {
        tile_interleaved(own->ds_pairs, TILE, own->ds_interleaved);
        ds_b = own->ds_interleaved;
    }
    tile_product(pairs, true, TILE, pad, tile, p, tile, own->do_rows + at, pad, dv, pad);
    tile_product(pairs, true, TILE, pad, tile, ds, tile, own->q_rows + at, pad, dk, pad);
    tile_product(pairs, true, pad, TILE, tile, own->k_columns, tile, ds_b, TILE,
        own->dq + i * pad * TILE, TILE);
}

/* Head i of (wave, h). */
ISA_INLINE void attention_back_head(
    enum dtype t, bool pairs, const struct attention_back *w, int64_t i, char *memory)
{
    const struct op_attention *a = &w->op;
    int64_t h = i % a->h, b = w->batch + i / a->h, g = h / w->s.groups, pad = w->s.pad;
    struct attention_back_own own;
    attention_back_layout(&w->s, memory, &own);
    attention_back_queries(t, pairs, w, &own, b, h);
    for (int64_t block = 0; block < w->s.key_blocks; block++) {
        int64_t token = b * w->s.keys + block * TILE, valid = attention_valid_keys(a, b, block);
        float *dk = w->dk + (i * w->s.key_blocks + block) * TILE * pad;
        float *dv = w->dv + (i * w->s.key_blocks + block) * TILE * pad;
        memset(dk, 0, (size_t)(TILE * pad) * sizeof(float));
        memset(dv, 0, (size_t)(TILE * pad) * sizeof(float));
        tile_rows(t, pairs, attention_at(t, a->k, token * a->ldk + g * a->d), a->ldk, valid, a->d,
            pad, own.k_rows);
        tile_transposed(own.k_rows, w->s.words, pairs ? own.spare : own.k_columns);
        if (pairs)
            tile_columns(own.spare, w->s.words, own.k_columns);
        tile_rows(t, pairs, attention_at(t, a->v, token * a->ldv + g * a->d), a->ldv, valid, a->d,
            pad, own.v_rows);
        int64_t end = valid ? attention_blocks(a, b) : 0;
        int64_t after = a->bidirectional ? 0 : block * TILE - a->before;
        for (int64_t q = after > 0 ? after / TILE : 0; q < end; q++) {
            const struct attention_seen seen = attention_seen(a, b, h, q, block);
            if (a->first && a->first[b * a->tokens + q * TILE] >= (block + 1) * TILE)
                break; /* nor do those behind it see any of the keys */
            attention_back_tile(pairs, w, &own, q, &seen, dk, dv);
        }
    }
    for (int64_t token = 0; token < a->tokens; token++) {
        const float *dq = own.dq + token / TILE * pad * TILE + token % TILE;
        int64_t to = (b * a->tokens + token) * a->ldq + h * a->d;
        for (int64_t c = 0; c < a->d; c++)
            math_store(t, a->dq, to + c, dq[c * TILE]);
    }
}

static void attention_back_head_f32(const struct attention_back *w, int64_t i, char *memory)
{
    struct attention_back copy = *w;
    attention_back_head(DTYPE_F32, false, &copy, i, memory);
}
static void attention_back_head_bf16(const struct attention_back *w, int64_t i, char *memory)
{
    struct attention_back copy = *w;
    attention_back_head(DTYPE_BF16, ATTENTION_PAIRS, &copy, i, memory);
}
static void attention_back_head_f16(const struct attention_back *w, int64_t i, char *memory)
{
    struct attention_back copy = *w;
    attention_back_head(DTYPE_F16, false, &copy, i, memory);
}

/* dk and dv of token i of (wave, keys): the sum over the query heads of each key/value head. */
ISA_INLINE void attention_back_sum(enum dtype t, const struct attention_back *w, int64_t i)
{
    const struct op_attention *a = &w->op;
    int64_t keys = w->s.keys, wave = i / keys, token = i % keys, row = w->batch * keys + i;
    int64_t head = w->s.key_blocks * TILE * w->s.pad;
    for (int64_t g = 0; g < a->g; g++) {
        int64_t from = (wave * a->h + g * w->s.groups) * head + token * w->s.pad;
#pragma omp simd
        for (int64_t c = 0; c < a->d; c++) {
            float k = 0, v = 0;
            for (int64_t q = 0; q < w->s.groups; q++) {
                k += w->dk[from + q * head + c];
                v += w->dv[from + q * head + c];
            }
            math_store(t, a->dk, row * a->ldk + g * a->d + c, k);
            math_store(t, a->dv, row * a->ldv + g * a->d + c, v);
        }
    }
}
ISA_LEAVES(attention_back_sum, struct attention_back)

static void isa_attention_back(struct dev *d, const struct op_attention *a)
{
    bool pairs = a->t == DTYPE_BF16 && ATTENTION_PAIRS;
    struct attention_back w = {.op = *a, .s = attention_sizes(a, pairs)};
    struct attention_back_own count;
    size_t own_bytes = attention_back_layout(&w.s, NULL, &count);
    size_t batch_floats = (size_t)(a->h * w.s.key_blocks * TILE * w.s.pad);
    int64_t wave = (int64_t)(ATTENTION_WAVE_BYTES / (2 * batch_floats * sizeof(float)));
    wave = wave < 1 ? 1 : wave > a->b ? a->b : wave;
    size_t shared = 2 * (size_t)wave * batch_floats * sizeof(float);
    char *memory =
        cpu_scratch(d, CPU_SCRATCH_OP, shared + own_bytes * (size_t)omp_get_max_threads());
    if (!memory)
        return;
    w.dk = (float *)memory;
    w.dv = w.dk + (size_t)wave * batch_floats;
    for (; w.batch < a->b; w.batch += wave) {
        int64_t batches = a->b - w.batch < wave ? a->b - w.batch : wave;
#pragma omp parallel if (a->h * a->tokens * w.s.keys > 16384)
        {
            char *own = memory + shared + own_bytes * (size_t)omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < batches * a->h; i++)
                ISA_TYPED(attention_back_head, a->t)(&w, i, own);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < batches * w.s.keys; i++)
                ISA_TYPED(attention_back_sum, a->t)(&w, i);
        }
    }
}
