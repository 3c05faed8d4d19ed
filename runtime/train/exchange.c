/*
 * exchange: a piece of every part at a time, so that what is on its way has a bounded place. A
 * piece lies in its buffer as codes, then their scales, or as numbers of 16 bits.
 *
 * Of codes op_sgd is used for what its momentum does: with momentum 0 it keeps the gradient, with
 * momentum 1 and no gradient the weights move by what is kept. As it also writes anew what it
 * keeps, codes are read once, after they were sent.
 */
#include "runtime/train/exchange.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/model/carve.h"

#define PIECES (4 << 20) /* elements of all parts' pieces together, at most */
#define LEAST  1024      /* of one, at least */
#define ALIGN  64        /* bytes */

struct exchange {
    struct dev *dev;
    enum gradients type;
    struct coll *within;           /* of the ranks of a pod; NULL: each is alone */
    int64_t *slices;               /* (ranks of a pod): elements of each one's slice */
    struct coll *coll;             /* of the members, one a pod */
    int members, member;           /* of them */
    int64_t base, elements;        /* of the range, this rank's slice, which they share */
    int64_t longest, piece;        /* of a member's part, and of what goes of it at once, at most */
    int64_t *out_bytes, *in_bytes; /* (members), of the piece in hand */
    char *out, *in;                /* a place a member, device */
    struct carve memory;
    float *lost;     /* (elements) of the pod's gradients; NULL: nothing is fed back */
    float *lost_sum; /* (the own part) of its sums */
    float *check;    /* (1) zero, or NaN */
};

struct exchange_part {   /* of a slice: the piece in hand */
    int64_t from, count; /* elements of the range */
    char *at;            /* in the buffer that it was looked up in */
};

/* -- sizes -- */

static int64_t align(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int64_t codes_of(int64_t count)
{
    return align(count);
}

static int64_t bytes_of(enum gradients type, int64_t count)
{
    int64_t blocks = (count + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK;
    return type == GRADIENTS_BF16 ? align(2 * count) : codes_of(count) + align(4 * blocks);
}

/* Of so many slices, or parts. */
static int64_t longest_of(int64_t elements, int n)
{
    int64_t first, count, most = 0;
    for (int i = 0; i < n; i++) {
        shard_range(elements, n, i, &first, &count);
        most = count > most ? count : most;
    }
    return most;
}

static int64_t piece_of(int64_t longest, int members)
{
    int64_t most = PIECES / members / LEAST * LEAST;
    most = most > LEAST ? most : LEAST;
    return longest < most ? longest : most;
}

/* Of one of the two buffers. */
static int64_t buffer_bytes(enum gradients type, int64_t longest, int members)
{
    return align(carve_times(bytes_of(type, piece_of(longest, members)), members) + 1);
}

/* Counts, and then cuts, what is fed back. */
static void carve_lost(struct exchange *x, int64_t part)
{
    x->check = carve_tensor(&x->memory, 1, 1, DTYPE_F32);
    if (x->type != GRADIENTS_INT8)
        return;
    x->lost = carve_tensor(&x->memory, 1, x->elements, DTYPE_F32);
    x->lost_sum = carve_tensor(&x->memory, 1, part, DTYPE_F32);
}

int64_t exchange_bytes(const struct exchange_conf *c)
{
    int members = c->ranks / c->per_pod;
    if (c->type == GRADIENTS_FP32 || members < 2)
        return 0;
    struct exchange x = {.type = c->type, .elements = longest_of(c->elements, c->per_pod)};
    int64_t longest = longest_of(x.elements, members);
    carve_lost(&x, longest);
    return carve_plus(x.memory.size, carve_times(2, buffer_bytes(c->type, longest, members)));
}

/* -- life -- */

static int open_groups(
    struct exchange *x, struct coll *world, const struct exchange_conf *c, struct err *e)
{
    int n = c->per_pod, local = c->rank % n;
    const struct layout_group pod = {c->rank - local, 1, n, local};
    const struct layout_group members = {local, n, x->members, x->member};
    int rc = n > 1 ? coll_group(world, &pod, &x->within, e) : 0;
    if (rc || (rc = coll_group(world, &members, &x->coll, e)))
        return rc;
    return coll_connect(x->coll, e);
}

static int open_memory(struct exchange *x, struct err *e)
{
    size_t bytes = (size_t)buffer_bytes(x->type, x->longest, x->members);
    void *out = NULL, *in = NULL;
    int64_t first, part;
    int rc;
    shard_range(x->elements, x->members, x->member, &first, &part);
    carve_lost(x, part);
    if ((rc = carve_open(&x->memory, x->dev, e)) || (rc = coll_alloc(x->coll, bytes, &out, e)) ||
        (rc = coll_alloc(x->coll, bytes, &in, e)))
        return rc;
    carve_lost(x, part);
    x->out = out;
    x->in = in;
    return 0;
}

static int open_arrays(struct exchange *x, const struct exchange_conf *c, struct err *e)
{
    int64_t first;
    x->slices = mem_array((size_t)c->per_pod, sizeof *x->slices);
    x->out_bytes = mem_array((size_t)x->members, sizeof *x->out_bytes);
    x->in_bytes = mem_array((size_t)x->members, sizeof *x->in_bytes);
    if (!x->slices || !x->out_bytes || !x->in_bytes)
        return err_set(e, ERR_MEMORY, "no memory for the sums of %d ranks", c->ranks);
    for (int i = 0; i < c->per_pod; i++)
        shard_range(c->elements, c->per_pod, i, &first, &x->slices[i]);
    return 0;
}

int exchange_create(struct dev *d, struct coll *world, const struct exchange_conf *c,
    struct exchange **out, struct err *e)
{
    struct exchange *x = mem_zalloc(sizeof *x);
    if (!x)
        return err_set(e, ERR_MEMORY, "no memory for the sums of %d ranks", c->ranks);
    *x = (struct exchange){.dev = d,
        .type = c->type,
        .members = c->ranks / c->per_pod,
        .member = c->rank / c->per_pod};
    shard_range(c->elements, c->per_pod, c->rank % c->per_pod, &x->base, &x->elements);
    x->longest = longest_of(x->elements, x->members);
    x->piece = piece_of(x->longest, x->members);
    int rc;
    if ((rc = open_arrays(x, c, e)) || (rc = open_groups(x, world, c, e)) ||
        (rc = open_memory(x, e))) {
        exchange_destroy(x);
        return rc;
    }
    *out = x;
    return 0;
}

void exchange_destroy(struct exchange *x)
{
    if (!x)
        return;
    carve_close(&x->memory, x->dev);
    mem_free(x->slices);
    mem_free(x->out_bytes);
    mem_free(x->in_bytes);
    mem_free(x);
}

int exchange_parts(const struct exchange *x, struct shard_extra parts[EXCHANGE_PARTS])
{
    int64_t first, count;
    if (!x->lost)
        return 0;
    shard_range(x->elements, x->members, x->member, &first, &count);
    parts[0] = (struct shard_extra){.suffix = ".gradient_error",
        .at = x->lost,
        .first = x->base,
        .count = x->elements,
        .of = x->member,
        .among = x->members};
    parts[1] = (struct shard_extra){.suffix = ".gradient_sum_error",
        .at = x->lost_sum,
        .first = x->base + first,
        .count = count};
    return 2;
}

/* -- the small form -- */

/* The piece of member i's part that begins `at` elements in, and its place in a buffer where they
   stand one behind the other. */
static struct exchange_part part_of(const struct exchange *x, char *buffer, int i, int64_t at)
{
    struct exchange_part p = {.at = buffer};
    for (int k = 0; k <= i; k++) {
        int64_t first, count;
        p.at += k ? bytes_of(x->type, p.count) : 0;
        shard_range(x->elements, x->members, k, &first, &count);
        count -= at;
        count = count > x->piece ? x->piece : count > 0 ? count : 0;
        p.from = count ? first + at : first;
        p.count = count;
    }
    return p;
}

static float *scales_of(const struct exchange_part *p)
{
    return (float *)(void *)(p->at + codes_of(p->count));
}

/* Zero when all are finite, else NaN, which spoils the first scale: codes would hide it. */
static void spoil(struct exchange *x, const float *from, const struct exchange_part *p)
{
    dev_zero(x->dev, x->check, sizeof *x->check);
    OP(x, sumsq, .count = p->count, .x = from, .out = x->check);
    OP(x, axpby, .count = 1, .x = x->check, .x_type = DTYPE_F32, .y = x->check, .y_type = DTYPE_F32,
        .b = 0);
    OP(x, axpby, .count = 1, .x = x->check, .x_type = DTYPE_F32, .y = scales_of(p),
        .y_type = DTYPE_F32, .a = 1, .b = 1);
}

/* from (p->count) into p; g, as long, has finite numbers or what is not finite in `from`. */
static void pack(struct exchange *x, const float *from, float *g, const struct exchange_part *p)
{
    if (!p->count)
        return;
    if (x->type == GRADIENTS_BF16) {
        OP(x, convert, .count = p->count, .x = from, .x_type = DTYPE_F32, .y = p->at,
            .y_type = DTYPE_BF16);
        return;
    }
    /* Another piece may have had codes where these scales stand: no multiple of what they say is a
       number for sure. */
    dev_zero(x->dev, scales_of(p), (size_t)(bytes_of(x->type, p->count) - codes_of(p->count)));
    OP(x, sgd, .count = p->count, .w = g, .m = p->at, .grad = from, .grad_scale = 1,
        .state = DTYPE_U8, .m_scale = scales_of(p));
    spoil(x, from, p);
}

/* to += sign times what is in p; beside: as g of pack. */
static void unpack(
    struct exchange *x, const struct exchange_part *p, float sign, float *to, const float *beside)
{
    if (!p->count)
        return;
    if (x->type == GRADIENTS_BF16)
        OP(x, axpby, .count = p->count, .x = p->at, .x_type = DTYPE_BF16, .y = to,
            .y_type = DTYPE_F32, .a = sign, .b = 1);
    else
        OP(x, sgd, .count = p->count, .w = to, .m = p->at, .grad = beside, .grad_scale = 0,
            .momentum = 1, .lr = -sign, .state = DTYPE_U8, .m_scale = scales_of(p));
}

static void add(struct exchange *x, int64_t count, const float *from, float by, float *to)
{
    if (count)
        OP(x, axpby, .count = count, .x = from, .x_type = DTYPE_F32, .y = to, .y_type = DTYPE_F32,
            .a = by, .b = 1);
}

/* -- the two halves -- */

/* Each rank gets what it adds up. */
static int send_parts(struct exchange *x, float *g, int64_t at, struct err *e)
{
    struct exchange_part p, own = part_of(x, x->out, x->member, at);
    for (int i = 0; i < x->members; i++) {
        p = part_of(x, x->out, i, at);
        pack(x, (x->lost ? x->lost : g) + p.from, g + p.from, &p);
        x->out_bytes[i] = p.count ? bytes_of(x->type, p.count) : 0;
        x->in_bytes[i] = own.count ? bytes_of(x->type, own.count) : 0;
    }
    int rc = coll_all_to_all_start(x->coll, x->out, x->out_bytes, x->in, x->in_bytes, DTYPE_U8, e);
    if (rc)
        return rc;
    coll_reduce_join(x->coll);
    for (int i = 0; i < x->members && x->lost; i++) {
        p = part_of(x, x->out, i, at);
        unpack(x, &p, -1, x->lost + p.from, g + p.from);
    }
    return 0;
}

static void add_up(struct exchange *x, float *g, const struct exchange_part *own)
{
    const float *beside = x->lost ? x->lost + own->from : NULL;
    struct exchange_part p = *own;
    if (own->count)
        dev_zero(x->dev, g + own->from, (size_t)own->count * 4);
    for (int i = 0; i < x->members; i++) {
        p.at = x->in + i * bytes_of(x->type, own->count);
        unpack(x, &p, 1, g + own->from, beside);
    }
}

/* All get every slice's sum. */
static int send_sums(struct exchange *x, float *g, int64_t at, struct err *e)
{
    struct exchange_part p, own = part_of(x, x->out, x->member, at);
    float *lost = x->lost_sum && own.count ? x->lost_sum + at : NULL;
    if (lost)
        add(x, own.count, g + own.from, 1, lost);
    pack(x, lost ? lost : g + own.from, g + own.from, &own);
    int rc = coll_all_gather_start(x->coll, x->out, x->out_bytes, DTYPE_U8, e);
    if (rc)
        return rc;
    coll_reduce_join(x->coll);
    for (int i = 0; i < x->members; i++) {
        p = part_of(x, x->out, i, at);
        if (p.count)
            dev_zero(x->dev, g + p.from, (size_t)p.count * 4);
        unpack(x, &p, 1, g + p.from, x->lost ? x->lost + p.from : NULL);
    }
    if (lost)
        add(x, own.count, g + own.from, -1, lost);
    return 0;
}

/* g: the slice. */
static int reduce_slice(struct exchange *x, float *g, struct err *e)
{
    if (x->lost)
        add(x, x->elements, g, 1, x->lost);
    for (int64_t at = 0; at < x->longest; at += x->piece) {
        const struct exchange_part own = part_of(x, x->out, x->member, at);
        int rc = send_parts(x, g, at, e);
        if (rc)
            return rc;
        add_up(x, g, &own);
        if ((rc = send_sums(x, g, at, e)))
            return rc;
    }
    return 0;
}

int exchange_reduce(struct exchange *x, float *g, struct err *e)
{
    int rc;
    if (!x->within)
        return reduce_slice(x, g, e);
    if ((rc = coll_reduce_scatter_start(x->within, g, x->slices, DTYPE_F32, COLL_SUM, e)))
        return rc;
    coll_reduce_join(x->within);
    if ((rc = reduce_slice(x, g + x->base, e)) ||
        (rc = coll_all_gather_start(x->within, g, x->slices, DTYPE_F32, e)))
        return rc;
    coll_reduce_join(x->within);
    return 0;
}

int exchange_wait(struct exchange *x, struct err *e)
{
    int rc = coll_reduce_wait(x->coll, e);
    return rc || !x->within ? rc : coll_reduce_wait(x->within, e);
}
