/*
 * to_folder: tensor by tensor through one host buffer of the largest, into the writer that exports
 * of trainings use.
 */
#include "runtime/convert/internal.h"

#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/family/mix.h"
#include "runtime/text/tok_write.h"

#define CHUNK 1048576 /* numbers read between two beats */

int64_t convert_folder_count(const struct conversion *c)
{
    return c->tensors.count;
}

static int write_tensor(
    struct conversion *c, const struct tensor *t, float *host, struct hf_writer *w, struct err *e)
{
    int64_t chunk = t->shape[1] < CHUNK ? CHUNK / t->shape[1] : 1;
    for (int64_t row = 0, n; row < t->shape[0]; row += n) {
        n = t->shape[0] - row < chunk ? t->shape[0] - row : chunk;
        int rc = convert_read(c, t, row, n, host + row * t->shape[1], e);
        if (rc)
            return rc;
        beat(c->door->page);
    }
    enum dtype store = mix_folder_type(c->spec->convert.quantize, c->weights);
    int rc = hf_writer_tensor(w, t->name, t->dims, t->shape, host, store, e);
    return rc ? rc : convert_step(c, e);
}

static int write_tensors(struct conversion *c, struct hf_writer *w, struct err *e)
{
    int64_t largest = 0;
    for (int i = 0; i < c->tensors.count; i++)
        largest = c->tensors.at[i].count > largest ? c->tensors.at[i].count : largest;
    mem_autofree float *host = mem_array((size_t)largest, sizeof *host);
    if (!host)
        return err_set(e, ERR_MEMORY, "no memory to convert the model");
    for (int i = 0; i < c->tensors.count; i++) {
        int rc = write_tensor(c, &c->tensors.at[i], host, w, e);
        if (rc)
            return rc;
    }
    return 0;
}

int convert_to_folder(struct conversion *c, const char *folder, struct err *e)
{
    struct hf_writer *w = NULL;
    int rc = hf_writer_create(folder, c->config, weights_labels(c->weights), &w, e);
    if (!rc && !(rc = tok_write(folder, c->weights, c->config, e)) &&
        !(rc = write_tensors(c, w, e)) &&
        !(rc = c->pooling.said ? pooling_write(folder, &c->pooling, c->config->dim, e) : 0))
        rc = hf_writer_finish(w, e);
    hf_writer_destroy(w);
    return rc;
}
