/*
 * shard: tensors are cut where a slice begins or ends inside them. State that stands for no
 * elements of its tensor in particular is written whole, by the rank that has the tensor's
 * beginning; where there is such state, slices are cut between tensors or it is all everywhere.
 * Device memory is moved through one bounded host buffer. Must not be called within a step: what is
 * read would belong to none.
 */
#include "runtime/train/shard.h"

#include "base/mem.h"
#include "kernels/ops.h"

#define STAGE_ELEMENTS (8 << 20) /* one entry of the file each: few, whatever the model */
#define ROUND          1024      /* elements: a slice begins at a page of F32 */

void shard_range(int64_t total, int world, int rank, int64_t *first, int64_t *count)
{
    int64_t blocks = (total + ROUND - 1) / ROUND;
    int64_t from = blocks * rank / world * ROUND, to = blocks * (rank + 1) / world * ROUND;
    *first = from < total ? from : total;
    *count = (to < total ? to : total) - *first;
}

struct shard_part { /* what goes by one name */
    const struct tensor *of;
    char name[160];
    enum dtype type;
    char *at;                  /* device */
    int64_t total;             /* in the checkpoint; 0: there is none */
    int64_t first, count;      /* here */
    int64_t elements;          /* of the tensor that one stands for; 0: for none in particular */
    const struct optim *optim; /* whose state it is; NULL: nobody's */
};

#define PARTS (1 + 2 * OPTIM_STATES)

static void name_part(struct shard_part *x, const struct tensor *p, const char *suffix,
    const char *of, const struct shard_part *what)
{
    *x = *what;
    x->of = p;
    snprintf(x->name, sizeof x->name, "%s%s%s", p->name, suffix, of);
}

/* Of which rank something is, in its name; -1: of all. */
static void name_owner(struct shard_part *x, int of)
{
    size_t n = strlen(x->name);
    if (of >= 0)
        snprintf(x->name + n, sizeof x->name - n, ".%d", of);
}

/* The i-th trained tensor itself, then the state that the optimizer keeps of it, and the scales of
   that; of: whose own state. */
static void list_parts(
    struct model *m, const struct optim *o, int i, int of, struct shard_part parts[PARTS])
{
    const struct tensor *p = &model_trained(m)->at[i];
    int64_t from, count;
    model_here(m, &from, &count);
    int64_t to = from + count < p->offset + p->count ? from + count : p->offset + p->count;
    from = from > p->offset ? from : p->offset;
    const struct shard_part master = {.type = DTYPE_F32,
        .at = to > from ? (char *)model_master_at(m, from) : NULL,
        .total = p->count,
        .first = from - p->offset,
        .count = to > from ? to - from : 0,
        .elements = 1};
    name_part(parts, p, "", "", &master);
    for (int k = 0; k < OPTIM_STATES; k++) {
        const struct optim_state s = optim_state(o, i, k);
        const struct shard_part state = {.type = s.type,
            .at = s.at,
            .total = s.total,
            .first = s.first,
            .count = s.count,
            .elements = s.total == p->count,
            .optim = o};
        const struct shard_part scales = {.type = DTYPE_F32,
            .at = (char *)s.scale,
            .total = s.total_scales,
            .first = s.first_scale,
            .count = s.scales,
            .elements = OP_STATE_BLOCK,
            .optim = o};
        name_part(&parts[1 + 2 * k], p, s.suffix, "", &state);
        name_part(&parts[2 + 2 * k], p, s.suffix, ".absmax", &scales);
        name_owner(&parts[1 + 2 * k], optim_conf(o)->own_state ? of : -1);
        name_owner(&parts[2 + 2 * k], optim_conf(o)->own_state ? of : -1);
    }
}

/* What of it a rank writes whose slice is [from, to), not empty, of the tensor's count elements. */
static void find_range(const struct shard_part *x, int64_t count, int64_t from, int64_t to,
    int64_t *first, int64_t *end)
{
    *first = x->elements ? from / x->elements : 0;
    *end = to == count || !x->elements ? x->total : to / x->elements;
    if (!x->elements && from > 0)
        *end = 0;
    *first = *first > x->first ? *first : x->first;
    *end = *end < x->first + x->count ? *end : x->first + x->count;
}

/* -- shares of a tensor, which are rectangles of the whole -- */

/* Of elements [at, at + n) of a share, the most from the first on that are a rectangle: whole rows,
   or some of one. */
static struct ckpt_piece piece_of(const struct tensor *p, int64_t at, int64_t n)
{
    int64_t width = p->shape[1], row = at / width, column = at % width;
    struct ckpt_piece x = {.rows = p->whole[0],
        .columns = p->whole[1],
        .row = p->begin[0] + row,
        .column = p->begin[1] + column,
        .height = 1,
        .width = n < width - column ? n : width - column};
    if (!column && n >= width) {
        x.width = width;
        x.height = n / width;
    }
    return x;
}

static int put(struct ckpt_writer *w, const struct shard_part *x, int64_t at, int64_t n,
    const char *data, struct err *e)
{
    if (!tensor_is_cut(x->of))
        return ckpt_put(w, x->name, x->total, at, n, x->type, data, e);
    for (int64_t done = 0; done < n;) {
        const struct ckpt_piece piece = piece_of(x->of, at + done, n - done);
        int rc = ckpt_put_piece(
            w, x->name, &piece, x->type, data + done * dtype_block_bytes(x->type), e);
        if (rc)
            return rc;
        done += piece.height * piece.width;
    }
    return 0;
}

static int get(struct ckpt_reader *r, const struct shard_part *x, int64_t at, int64_t n, char *data,
    struct err *e)
{
    if (!tensor_is_cut(x->of))
        return ckpt_get(r, x->name, x->total, at, n, x->type, data, e);
    for (int64_t done = 0; done < n;) {
        const struct ckpt_piece piece = piece_of(x->of, at + done, n - done);
        int rc = ckpt_get_piece(
            r, x->name, &piece, x->type, data + done * dtype_block_bytes(x->type), e);
        if (rc)
            return rc;
        done += piece.height * piece.width;
    }
    return 0;
}

/* -- writing and reading -- */

/* Elements of it, counted from what is here, have been looked at or written. */
static void let_go(const struct shard_part *p, int64_t at, int64_t n)
{
    int64_t size = dtype_block_bytes(p->type);
    if (p->optim)
        optim_let_go(p->optim, p->at + at * size, n * size);
}

static int write_part(struct ckpt_writer *w, struct dev *d, const struct shard_part *p,
    int64_t from, int64_t to, void *stage, struct err *e)
{
    for (int64_t at = from, n; at < to; at += n) {
        n = to - at < STAGE_ELEMENTS ? to - at : STAGE_ELEMENTS;
        int64_t size = dtype_block_bytes(p->type);
        void *place = ckpt_place(w, n * size), *to_put = place ? place : stage;
        dev_download(d, to_put, p->at + (at - p->first) * size, (size_t)(n * size));
        int rc = put(w, p, at, n, to_put, e);
        if (rc)
            return rc;
        let_go(p, at - p->first, n);
    }
    return 0;
}

int64_t shard_bytes(const struct optim_conf *c, const struct tensors *t, int world, int rank)
{
    int64_t first, count;
    optim_slice(c, t, world, rank, &first, &count);
    int64_t state = c->own_state ? optim_state_bytes(c, t, 0, t->elements)
                                 : optim_state_bytes(c, t, first, first + count);
    return carve_plus(carve_times(count, 4), state);
}

int shard_write(struct ckpt_writer *w, struct dev *d, struct model *m, struct optim *o, int world,
    int rank, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof *stage);
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
    const struct tensors *t = model_trained(m);
    int64_t first, count;
    optim_slice(optim_conf(o), t, world, rank, &first, &count);
    for (int i = 0; i < t->count; i++) {
        const struct tensor *p = &t->at[i];
        struct shard_part parts[PARTS];
        if (model_is_copy(m, p))
            continue;
        int64_t from = first - p->offset, to = first + count - p->offset, begin, end;
        from = from > 0 ? from : 0;
        to = to < p->count ? to : p->count;
        list_parts(m, o, i, rank, parts);
        for (int k = 0; k < PARTS; k++) {
            bool own = k > 0 && optim_conf(o)->own_state;
            if (!own && from >= to)
                continue;
            find_range(&parts[k], p->count, own ? 0 : from, own ? p->count : to, &begin, &end);
            int rc = write_part(w, d, &parts[k], begin, end, stage, e);
            if (rc)
                return rc;
        }
    }
    return dev_sync(d, e);
}

static int read_part(
    struct ckpt_reader *r, struct dev *d, const struct shard_part *p, void *stage, struct err *e)
{
    for (int64_t at = 0, n; at < p->count; at += n) {
        n = p->count - at < STAGE_ELEMENTS ? p->count - at : STAGE_ELEMENTS;
        int64_t size = dtype_block_bytes(p->type);
        int rc = get(r, p, p->first + at, n, stage, e);
        if (rc)
            return rc;
        dev_upload(d, p->at + at * size, stage, (size_t)(n * size));
        let_go(p, at, n);
    }
    return 0;
}

int shard_read(
    struct ckpt_reader *r, struct dev *d, struct model *m, struct optim *o, int of, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof *stage);
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    for (int i = 0; i < model_trained(m)->count; i++) {
        struct shard_part parts[PARTS];
        list_parts(m, o, i, of, parts);
        for (int k = 0; k < PARTS; k++) {
            int rc = read_part(r, d, &parts[k], stage, e);
            if (rc)
                return rc;
        }
    }
    int rc = model_masters_read(m, e);
    return rc ? rc : dev_sync(d, e);
}

/* -- beside the optimizer's state -- */

/* What of it is the i-th trained tensor's. */
static struct shard_part extra_part(struct model *m, const struct shard_extra *x, int i, int of)
{
    const struct tensor *p = &model_trained(m)->at[i];
    int64_t from = x->first - p->offset, to = x->first + x->count - p->offset;
    from = from > 0 ? from : 0;
    to = to < p->count ? to : p->count;
    const struct shard_part part = {.type = DTYPE_F32,
        .at = (char *)(x->at + (to > from ? p->offset + from - x->first : 0)),
        .total = p->count,
        .first = from,
        .count = to > from ? to - from : 0,
        .elements = 1};
    struct shard_part out;
    name_part(&out, p, x->suffix, "", &part);
    name_owner(&out, x->among ? of : -1);
    return out;
}

int shard_write_extra(struct ckpt_writer *w, struct dev *d, struct model *m,
    const struct shard_extra *x, int world, int rank, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof *stage);
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
    int64_t first = x->first, count = x->count;
    if (x->shared)
        shard_range(model_trainable(m), world, rank, &first, &count);
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct shard_part part = extra_part(m, x, i, x->of);
        int64_t from = first - part.of->offset, to = from + count;
        from = from > part.first ? from : part.first;
        to = to < part.first + part.count ? to : part.first + part.count;
        int rc = write_part(w, d, &part, from, to, stage, e);
        if (rc)
            return rc;
    }
    return dev_sync(d, e);
}

/* Adds n numbers of a part, from its element `at` on, to sum, by way of stage. */
static int add_part(struct ckpt_reader *r, const struct shard_part *part, int64_t at, int64_t n,
    float *sum, float *stage, struct err *e)
{
    int rc = get(r, part, part->first + at, n, (char *)stage, e);
    for (int64_t k = 0; k < n && !rc; k++)
        sum[k] += stage[k];
    return rc;
}

/* stage: (STAGE_ELEMENTS), half of it for a sum. */
static int read_sum(struct ckpt_reader *r, struct dev *d, struct model *m,
    const struct shard_extra *x, int i, float *stage, struct err *e)
{
    const struct shard_part part = extra_part(m, x, i, x->of);
    float *sum = stage + STAGE_ELEMENTS / 2;
    for (int64_t at = 0, n; at < part.count; at += n) {
        n = part.count - at < STAGE_ELEMENTS / 2 ? part.count - at : STAGE_ELEMENTS / 2;
        memset(sum, 0, (size_t)n * sizeof *sum);
        struct shard_part of = part;
        for (int k = x->of; ckpt_has(r, of.name); of = extra_part(m, x, i, k)) {
            int rc = add_part(r, &of, at, n, sum, stage, e);
            if (rc)
                return rc;
            if (!x->among)
                break;
            k += x->among;
        }
        dev_upload(d, part.at + at * 4, sum, (size_t)n * 4);
    }
    return 0;
}

int shard_read_extra(struct ckpt_reader *r, struct dev *d, struct model *m,
    const struct shard_extra *x, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof *stage);
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct shard_part part = extra_part(m, x, i, -1);
        int rc = x->shared ? read_part(r, d, &part, stage, e) : read_sum(r, d, m, x, i, stage, e);
        if (rc)
            return rc;
    }
    return dev_sync(d, e);
}
