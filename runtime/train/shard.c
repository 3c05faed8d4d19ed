/*
 * shard: slices by arithmetic; tensors are cut where a slice begins or ends inside them. Device
 * memory is moved through one bounded host buffer. Must not be called within a step: what is read
 * would belong to none.
 */
#include "runtime/train/shard.h"

#include "base/mem.h"

#define STAGE_ELEMENTS (8 << 20) /* one entry of the file each: few, whatever the model */
#define ROUND          1024      /* elements: a slice begins at a page of F32 */

void shard_range(int64_t total, int world, int rank, int64_t *first, int64_t *count)
{
    int64_t blocks = (total + ROUND - 1) / ROUND;
    int64_t from = blocks * rank / world * ROUND, to = blocks * (rank + 1) / world * ROUND;
    *first = from < total ? from : total;
    *count = (to < total ? to : total) - *first;
}

static const char *const suffixes[3] = {"", ".exp_avg", ".exp_avg_sq"};

static void ranges(struct model *m, struct optim *o, float *out[3])
{
    out[0] = model_master(m);
    out[1] = optim_m(o);
    out[2] = optim_v(o);
}

static int write_tensor(struct ckpt_writer *w, struct dev *d, const struct tensor *p, int64_t from,
    int64_t to, float *const range[3], float *stage, struct err *e)
{
    for (int i = 0; i < 3; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", p->name, suffixes[i]);
        for (int64_t at = from, n; at < to; at += n) {
            n = to - at < STAGE_ELEMENTS ? to - at : STAGE_ELEMENTS;
            dev_download(d, stage, range[i] + p->offset + at, (size_t)n * 4);
            int rc = ckpt_put(w, name, p->count, at, n, DTYPE_F32, stage, e);
            if (rc)
                return rc;
        }
    }
    return 0;
}

int shard_write(struct ckpt_writer *w, struct dev *d, struct model *m, struct optim *o, int world,
    int rank, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof *stage);
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
    const struct tensors *t = model_trained(m);
    int64_t first, count;
    float *range[3];
    ranges(m, o, range);
    shard_range(model_trainable(m), world, rank, &first, &count);
    for (int i = 0; i < t->count; i++) {
        const struct tensor *p = &t->at[i];
        int64_t from = first - p->offset, to = first + count - p->offset;
        from = from > 0 ? from : 0;
        to = to < p->count ? to : p->count;
        int rc = from < to ? write_tensor(w, d, p, from, to, range, stage, e) : 0;
        if (rc)
            return rc;
    }
    return dev_sync(d, e);
}

static int read_tensor(struct ckpt_reader *r, struct dev *d, const struct tensor *p,
    float *const range[3], float *stage, struct err *e)
{
    for (int i = 0; i < 3; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", p->name, suffixes[i]);
        for (int64_t at = 0, n; at < p->count; at += n) {
            n = p->count - at < STAGE_ELEMENTS ? p->count - at : STAGE_ELEMENTS;
            int rc = ckpt_get(r, name, p->count, at, n, DTYPE_F32, stage, e);
            if (rc)
                return rc;
            dev_upload(d, range[i] + p->offset + at, stage, (size_t)n * 4);
        }
    }
    return 0;
}

int shard_read(
    struct ckpt_reader *r, struct dev *d, struct model *m, struct optim *o, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof *stage);
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    const struct tensors *t = model_trained(m);
    float *range[3];
    ranges(m, o, range);
    for (int i = 0; i < t->count; i++) {
        int rc = read_tensor(r, d, &t->at[i], range, stage, e);
        if (rc)
            return rc;
    }
    model_master_changed(m);
    return dev_sync(d, e);
}
