/*
 * attention_body: attention with grouped heads, causal or not, forward. Part of isa_body.h.
 *
 * Forward after Dao et al., FlashAttention-2: a task is one block of TILE queries of one head; it
 * walks over the blocks of keys it may see and keeps, for each query, the running maximum and sum
 * of its exponentials. Everything is transposed (rows are keys, queries lie along the vectors), so
 * that no sum runs across a register: S^T = K Q^T, O^T += V^T P^T. Keys and values are packed once
 * for all tasks. Every task is computed by one thread in a fixed order, so threads do not change
 * results.
 */

/* The pointers of one (batch, head) and the sizes that all share. */
struct attention_sizes {
    int64_t d, pad, words;    /* head size, padded to TILE_PAD, words of a packed row */
    int64_t blocks, groups;   /* blocks of TILE queries; query heads of a key/value head */
    int64_t keys, key_blocks; /* of a sequence; blocks of TILE of them */
    int64_t block_words;      /* words of one packed block: TILE * words */
};

static struct attention_sizes attention_sizes(const struct op_attention *a, bool pairs)
{
    struct attention_sizes s = {.d = a->d, .groups = a->h / a->g};
    s.pad = (a->d + TILE_PAD - 1) / TILE_PAD * TILE_PAD;
    s.words = tile_words(pairs, s.pad);
    s.blocks = (a->tokens + TILE - 1) / TILE;
    s.keys = a->before + a->tokens;
    s.key_blocks = (s.keys + TILE - 1) / TILE;
    s.block_words = TILE * s.words;
    return s;
}

static inline const void *attention_at(enum dtype t, const void *p, int64_t elements)
{
    return (const char *)p + elements * (t == DTYPE_F32 ? 4 : 2);
}

/* The tokens of sequence b that exist; how many of them stand in a block; the blocks that have
   any. */
static inline int64_t attention_length(const struct op_attention *a, int64_t b)
{
    return a->length ? a->length[b] : a->tokens;
}

static inline int64_t attention_left(int64_t length, int64_t block)
{
    int64_t left = length - block * TILE;
    return left < 0 ? 0 : left < TILE ? left : TILE;
}

static inline int64_t attention_valid(const struct op_attention *a, int64_t b, int64_t block)
{
    return attention_left(attention_length(a, b), block);
}

static inline int64_t attention_valid_keys(const struct op_attention *a, int64_t b, int64_t block)
{
    return attention_left(a->before + attention_length(a, b), block);
}

static inline int64_t attention_blocks(const struct op_attention *a, int64_t b)
{
    return (attention_length(a, b) + TILE - 1) / TILE;
}

struct attention_forward {
    struct op_attention op;
    struct attention_sizes s;
    uint32_t *keys, *values; /* (b, g, key_blocks): rows, columns */
    char *own;               /* per thread */
    size_t own_bytes;
};

/* Packs block number i of (b, g, key_blocks); spare: two blocks. */
ISA_INLINE void attention_pack(
    enum dtype t, bool pairs, const struct attention_forward *f, int64_t i, uint32_t *spare)
{
    const struct op_attention *a = &f->op;
    int64_t n = f->s.key_blocks, block = i % n, g = i / n % a->g, b = i / n / a->g;
    int64_t token = b * f->s.keys + block * TILE, valid = attention_valid_keys(a, b, block);
    uint32_t *keys = f->keys + i * f->s.block_words, *values = f->values + i * f->s.block_words;
    uint32_t *transposed = pairs ? spare + f->s.block_words : values;

    tile_rows(t, pairs, attention_at(t, a->k, token * a->ldk + g * a->d), a->ldk, valid, a->d,
        f->s.pad, keys);
    tile_rows(t, pairs, attention_at(t, a->v, token * a->ldv + g * a->d), a->ldv, valid, a->d,
        f->s.pad, spare);
    tile_transposed(spare, f->s.words, transposed);
    if (pairs)
        tile_columns(transposed, f->s.words, values);
}

struct attention_own {         /* a thread's buffers of the forward pass */
    uint32_t *q, *spare, *p;   /* transposed; one block; (TILE / 2, TILE) interleaved */
    float *score, *o;          /* (TILE, TILE); (pad, TILE) */
    float *max, *sum, *factor; /* (TILE) */
};

/* Lays the buffers out in memory (NULL: only counts); returns the bytes, a multiple of 64. */
static size_t attention_layout(
    const struct attention_sizes *s, char *memory, struct attention_own *own)
{
    size_t block = (size_t)s->block_words, at = 0;
    const struct {
        void *field;
        size_t words;
    } parts[] = {{&own->q, block}, {&own->spare, block}, {&own->p, TILE * TILE / 2},
        {&own->score, TILE * TILE}, {&own->o, TILE * (size_t)s->pad}, {&own->max, TILE},
        {&own->sum, TILE}, {&own->factor, TILE}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (memory)
            *(char **)parts[i].field = memory + at;
        at += parts[i].words * 4;
    }
    return at;
}

/* What the queries of a tile see of its keys. */
struct attention_seen {
    int64_t ahead;        /* none after key i + ahead, of query i; TILE or more: all */
    int64_t valid;        /* keys that exist */
    int64_t key, queries; /* the first key; queries that exist */
    const int32_t *first; /* (queries) the first key that each sees; NULL: no later than `key` */
    uint64_t draw;        /* of the first query and the first key (op_attention_draw) */
};

/* Of query block `block` against key block k, of head h of sequence b. */
static inline struct attention_seen attention_seen(
    const struct op_attention *a, int64_t b, int64_t h, int64_t block, int64_t k)
{
    struct attention_seen s = {.ahead = a->bidirectional ? TILE : a->before + (block - k) * TILE,
        .valid = attention_valid_keys(a, b, k),
        .key = k * TILE,
        .draw = op_attention_draw(a, b, h, block * TILE) + (uint64_t)(k * TILE),
        .queries = attention_valid(a, b, block)};
    const int32_t *first = a->first ? a->first + b * a->tokens + block * TILE : NULL;
    if (first && s.queries && first[s.queries - 1] > s.key)
        s.first = first;
    return s;
}

/* The first query that sees key j, in [0, TILE]. */
static inline int64_t attention_from(const struct attention_seen *s, int64_t j)
{
    int64_t from = j - s->ahead;
    return j >= s->valid || from > TILE ? TILE : from > 0 ? from : 0;
}

/* No score where a key is not seen. */
static inline void attention_mask(const struct attention_seen *s, float *restrict score)
{
    bool all = s->ahead >= TILE && s->valid == TILE;
    for (int64_t j = 0; j < (all ? 0 : TILE); j++)
        for (int64_t i = 0, from = attention_from(s, j); i < from; i++)
            score[j * TILE + i] = -INFINITY;
    for (int64_t i = 0; s->first && i < s->queries; i++)
        for (int64_t j = 0; j < TILE && s->key + j < s->first[i]; j++)
            score[j * TILE + i] = -INFINITY;
}

/* Scores become exponentials relative to the running maximum of each query; factor is for what was
 * summed before. What a query adds up before it has met a key that it sees, factor makes nothing
 * of. */
ISA_INLINE void attention_softmax(const struct attention_own *own, float scale)
{
    float top[TILE], *restrict score = own->score, *restrict sum = own->sum;
    memcpy(top, own->max, sizeof top);
    for (int64_t j = 0; j < TILE; j++)
#pragma omp simd
        for (int64_t i = 0; i < TILE; i++) {
            float s = score[j * TILE + i] * scale;
            top[i] = s > top[i] ? s : top[i];
        }
#pragma omp simd
    for (int64_t i = 0; i < TILE; i++) {
        own->factor[i] = math_exp(own->max[i] - top[i]);
        sum[i] *= own->factor[i];
    }
    for (int64_t j = 0; j < TILE; j++)
#pragma omp simd
        for (int64_t i = 0; i < TILE; i++) {
            float e = math_exp(score[j * TILE + i] * scale - top[i]);
            score[j * TILE + i] = e;
            sum[i] += e;
        }
    memcpy(own->max, top, sizeof top);
}

/* Of key j of a tile and each of its TILE queries: scale where the probability is kept, else 0. */
static inline void attention_keep(
    const struct op_attention_drop *d, uint64_t draw, int64_t j, float scale, float *restrict keep)
{
    uint64_t seed = op_random_from(d->seed, draw + (uint64_t)j), step = (uint64_t)d->keys;
    uint32_t least = op_drop_least(d->p);
#pragma omp simd
    for (int64_t i = 0; i < TILE; i++)
        keep[i] = op_random(seed, (uint64_t)i * step) >= least ? scale : 0;
}

static inline float attention_drop_scale(const struct op_attention_drop *d)
{
    return d->p > 0 ? 1 / (1 - d->p) : 1;
}

/* Some of the exponentials become zero, where the sums have them all. The others are scaled where
 * they are divided by these: they may be rounded before. */
static inline void attention_drop(
    const struct op_attention_drop *d, uint64_t draw, float *restrict score)
{
    float keep[TILE];
    for (int64_t j = 0; j < (d->p > 0 ? TILE : 0); j++) {
        attention_keep(d, draw, j, 1, keep);
#pragma omp simd
        for (int64_t i = 0; i < TILE; i++)
            score[j * TILE + i] *= keep[i];
    }
}

ISA_INLINE void attention_keys(bool pairs, const struct attention_forward *f,
    const struct attention_own *own, const uint32_t *keys, const uint32_t *values,
    const struct attention_seen *seen)
{
    int64_t pad = f->s.pad, tile = tile_words(pairs, TILE);
    tile_product(
        pairs, false, TILE, TILE, f->s.words, keys, f->s.words, own->q, TILE, own->score, TILE);
    attention_mask(seen, own->score);
    attention_softmax(own, f->op.scale);
    attention_drop(&f->op.drop, seen->draw, own->score);
    for (int64_t c = 0; c < pad; c++)
#pragma omp simd
        for (int64_t i = 0; i < TILE; i++)
            own->o[c * TILE + i] *= own->factor[i];
    if (pairs)
        tile_pairs(own->score, own->p);
    tile_product(pairs, true, pad, TILE, tile, values, tile,
        pairs ? own->p : (uint32_t *)own->score, TILE, own->o, TILE);
}

/* Rows [from, to) of query block: outputs from the buffers, or zeros where no token exists. */
ISA_INLINE void attention_store(enum dtype t, const struct op_attention *a,
    const struct attention_own *own, int64_t b, int64_t h, int64_t block, int64_t valid)
{
    int64_t rows = a->tokens - block * TILE < TILE ? a->tokens - block * TILE : TILE;
    for (int64_t r = 0; r < rows; r++) {
        int64_t token = block * TILE + r, out = ((b * a->tokens + token) * a->h + h) * a->d;
        float inverse = r < valid ? attention_drop_scale(&a->drop) / own->sum[r] : 0;
        for (int64_t c = 0; c < a->d; c++)
            math_store(t, a->o, out + c, r < valid ? own->o[c * TILE + r] * inverse : 0);
        a->lse[(b * a->h + h) * a->tokens + token] =
            r < valid ? own->max[r] + logf(own->sum[r]) : 0;
    }
}

/* Task i of (blocks, b, h), the longest walks first. */
ISA_INLINE void attention_queries(
    enum dtype t, bool pairs, const struct attention_forward *f, int64_t i, char *memory)
{
    const struct op_attention *a = &f->op;
    int64_t h = i % a->h, b = i / a->h % a->b, block = f->s.blocks - 1 - i / a->h / a->b;
    int64_t token = b * a->tokens + block * TILE, valid = attention_valid(a, b, block);
    int64_t head = (b * a->g + h / f->s.groups) * f->s.key_blocks * f->s.block_words;
    int64_t last = a->bidirectional ? attention_length(a, b) : a->before + block * TILE + valid;
    int64_t end = valid ? (last + TILE - 1) / TILE : 0;
    struct attention_own own;

    attention_layout(&f->s, memory, &own);
    tile_rows(t, pairs, attention_at(t, a->q, token * a->ldq + h * a->d), a->ldq, valid, a->d,
        f->s.pad, own.spare);
    tile_transposed(own.spare, f->s.words, own.q);
    memset(own.o, 0, (size_t)(TILE * f->s.pad) * sizeof(float));
    for (int64_t r = 0; r < TILE; r++) {
        own.max[r] = -FLT_MAX;
        own.sum[r] = 0;
    }
    for (int64_t k = a->first && valid ? a->first[token] / TILE : 0; k < end; k++) {
        const struct attention_seen seen = attention_seen(a, b, h, block, k);
        int64_t at = head + k * f->s.block_words;
        attention_keys(pairs, f, &own, f->keys + at, f->values + at, &seen);
    }
    attention_store(t, a, &own, b, h, block, valid);
}

#define ATTENTION_PAIRS TILE_HAS_PAIRS /* BF16 is multiplied as pairs where the processor can */

static void attention_pack_f32(const struct attention_forward *f, int64_t i, uint32_t *spare)
{
    attention_pack(DTYPE_F32, false, f, i, spare);
}
static void attention_pack_bf16(const struct attention_forward *f, int64_t i, uint32_t *spare)
{
    attention_pack(DTYPE_BF16, ATTENTION_PAIRS, f, i, spare);
}
static void attention_pack_f16(const struct attention_forward *f, int64_t i, uint32_t *spare)
{
    attention_pack(DTYPE_F16, false, f, i, spare);
}
static void attention_queries_f32(const struct attention_forward *f, int64_t i, char *memory)
{
    struct attention_forward copy = *f;
    attention_queries(DTYPE_F32, false, &copy, i, memory);
}
static void attention_queries_bf16(const struct attention_forward *f, int64_t i, char *memory)
{
    struct attention_forward copy = *f;
    attention_queries(DTYPE_BF16, ATTENTION_PAIRS, &copy, i, memory);
}
static void attention_queries_f16(const struct attention_forward *f, int64_t i, char *memory)
{
    struct attention_forward copy = *f;
    attention_queries(DTYPE_F16, false, &copy, i, memory);
}

static void isa_attention(struct dev *d, const struct op_attention *a)
{
    bool pairs = a->t == DTYPE_BF16 && ATTENTION_PAIRS;
    struct attention_forward f = {.op = *a, .s = attention_sizes(a, pairs)};
    int64_t packs = a->b * a->g * f.s.key_blocks, tasks = a->b * a->h * f.s.blocks;
    size_t packed = (size_t)(packs * f.s.block_words) * 4;
    f.own_bytes = attention_layout(&f.s, NULL, &(struct attention_own){0});
    f.keys =
        cpu_scratch(d, CPU_SCRATCH_OP, 2 * packed + f.own_bytes * (size_t)omp_get_max_threads());
    if (!f.keys)
        return;
    f.values = f.keys + packs * f.s.block_words;
    f.own = (char *)f.keys + 2 * packed;
#pragma omp parallel if (a->b * a->h * a->tokens * f.s.keys > 16384)
    {
        char *own = f.own + f.own_bytes * (size_t)omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < packs; i++)
            ISA_TYPED(attention_pack, a->t)(&f, i, (uint32_t *)own);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < tasks; i++)
            ISA_TYPED(attention_queries, a->t)(&f, i, own);
    }
}
