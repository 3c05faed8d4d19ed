/*
 * shard: slices by arithmetic; parts of the model are cut where a slice begins or ends inside them.
 * Device memory is moved through one bounded host buffer. Called by train at step boundaries only.
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

static int write_part(struct ckpt_writer *w, struct dev *d, const struct tensor *p, int64_t from,
    int64_t to, float *const range[3], float *stage, struct err *e)
{
    char name[160];
    int rc = 0;

    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", p->name, suffixes[i]);
        for (int64_t at = from, n; at < to && !rc; at += n) {
            n = to - at < STAGE_ELEMENTS ? to - at : STAGE_ELEMENTS;
            dev_download(d, stage, range[i] + p->offset + at, (size_t)n * 4);
            rc = ckpt_put(w, name, p->count, at, n, DTYPE_F32, stage, e);
        }
    }
    return rc;
}

int shard_write(struct ckpt_writer *w, struct dev *d, struct model *m, struct optim *o, int world,
    int rank, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof(float));
    int64_t first, count;
    float *range[3];
    int rc = 0;

    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to write a checkpoint");
    ranges(m, o, range);
    shard_range(model_trainable(m), world, rank, &first, &count);
    const struct tensors *t = model_trained(m);
    for (int i = 0; i < t->count && !rc; i++) {
        const struct tensor *p = &t->at[i];
        int64_t from = first - p->offset, to = first + count - p->offset;

        from = from > 0 ? from : 0;
        to = to < p->count ? to : p->count;
        if (from < to)
            rc = write_part(w, d, p, from, to, range, stage, e);
    }
    return rc ? rc : dev_sync(d, e);
}

static int read_part(struct ckpt_reader *r, struct dev *d, const struct tensor *p,
    float *const range[3], float *stage, struct err *e)
{
    char name[160];
    int rc = 0;

    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", p->name, suffixes[i]);
        for (int64_t at = 0, n; at < p->count && !rc; at += n) {
            n = p->count - at < STAGE_ELEMENTS ? p->count - at : STAGE_ELEMENTS;
            rc = ckpt_get(r, name, p->count, at, n, DTYPE_F32, stage, e);
            if (!rc)
                dev_upload(d, range[i] + p->offset + at, stage, (size_t)n * 4);
        }
    }
    return rc;
}

int shard_read(
    struct ckpt_reader *r, struct dev *d, struct model *m, struct optim *o, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof(float));
    float *range[3];
    int rc = 0;

    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    ranges(m, o, range);
    const struct tensors *t = model_trained(m);
    for (int i = 0; i < t->count && !rc; i++)
        rc = read_part(r, d, &t->at[i], range, stage, e);
    if (rc)
        return rc;
    model_master_changed(m);
    return dev_sync(d, e);
}
