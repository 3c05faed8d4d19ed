/*
 * weights_write: fills a folder as Hugging Face's libraries read it, but for the tokenizer; nobody
 * must see the folder before it is whole, which is the caller's affair. The table of tensors fixes
 * the layout of model.safetensors before the first tensor comes, so each is written once, at its
 * place, in any order, and finish knows what is missing. What the family keeps joined or transposed
 * becomes so here. All tensors are stored in one type, the first one's. Declared in weights.h.
 */
#include "runtime/family/weights.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/files/safetensors.h"

#include <errno.h>
#include <unistd.h>

#define CHUNK        (64 << 10) /* elements converted or transposed at a time */
#define CONFIG_LIMIT (1 << 20)  /* bytes of a config.json, as when it is read */

struct written { /* a canonical tensor and where it goes */
    const struct tensor *tensor;
    struct family_place place;
    int entry; /* the file's tensor that it is, or is a part of */
    bool done;
};

struct hf_writer {
    char folder[LIMIT_PATH_BYTES];
    struct model_config config;
    const char *const *labels; /* borrowed; or NULL */
    int fd;                    /* model.safetensors */
    enum dtype store;
    int64_t data_start;                /* 0 until the first tensor */
    struct safetensors_entry *entries; /* of the file, in the order of their first part */
    int entry_count;
    struct tensors table;
    struct written *tensors; /* in the order of computing */
    int count;
};

static int join(char out[LIMIT_PATH_BYTES], const char *folder, const char *name, struct err *e)
{
    if (snprintf(out, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    return 0;
}

static int write_text(
    const struct hf_writer *w, const char *name, const struct buf *text, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    int rc = join(path, w->folder, name, e);
    if (!rc && !buf_ok(text))
        rc = err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
    return rc ? rc : io_write_new(path, text->data, text->len, 0644, e);
}

/* -- creating -- */

/* The file's tensor of that place, added when it is new. */
static int entry_of(struct hf_writer *w, const struct family_place *p)
{
    int i = 0;
    while (i < w->entry_count && strcmp(w->entries[i].name, p->name))
        i++;
    if (i == w->entry_count) {
        struct safetensors_entry *x = &w->entries[w->entry_count++];
        memcpy(x->name, p->name, sizeof p->name);
        x->dims = p->dims;
        x->shape[0] = p->shape[0];
        x->shape[1] = p->shape[1];
    }
    return i;
}

static int list_tensors(struct hf_writer *w, struct err *e)
{
    int rc = tensors_create(&w->config, &w->table, e);
    if (rc)
        return rc;
    w->count = w->table.count;
    w->entries = mem_array((size_t)w->count, sizeof *w->entries);
    w->tensors = mem_array((size_t)w->count, sizeof *w->tensors);
    if (!w->entries || !w->tensors)
        return err_set(e, ERR_MEMORY, "%s: no memory to write it", w->folder);
    for (int i = 0; i < w->count; i++)
        w->tensors[w->table.at[i].order].tensor = &w->table.at[i];
    for (int i = 0; i < w->count; i++) {
        struct written *t = &w->tensors[i];
        family_place(&w->config, &w->table, t->tensor, FAMILY_HF, &t->place);
        t->entry = entry_of(w, &t->place);
    }
    return 0;
}

static int open_writer(struct hf_writer *w, const char *folder, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    if (snprintf(w->folder, sizeof w->folder, "%s", folder) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    int rc;
    if ((rc = list_tensors(w, e)) || (rc = io_mkdirs(w->folder, 0755, e)) ||
        (rc = join(path, w->folder, "model.safetensors", e)))
        return rc;
    w->fd = io_create(path, 0644, e);
    return w->fd < 0 ? w->fd : 0;
}

int hf_writer_create(const char *folder, const struct model_config *c, const char *const *labels,
    struct hf_writer **out, struct err *e)
{
    int rc = model_config_check(c, e);
    if (!rc)
        rc = family_config_expressible(c, e);
    if (rc)
        return rc;
    struct hf_writer *w = mem_zalloc(sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "%s: no memory to write it", folder);
    w->fd = -1;
    w->config = *c;
    w->labels = labels;
    rc = open_writer(w, folder, e);
    if (rc) {
        hf_writer_destroy(w);
        return rc;
    }
    *out = w;
    return 0;
}

/* -- tensors -- */

static int write_header(struct hf_writer *w, enum dtype store, struct err *e)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    for (int i = 0; i < w->entry_count; i++) {
        struct safetensors_entry *x = &w->entries[i];
        x->type = store;
        x->bytes = dtype_bytes(store, x->shape[0] * (x->dims > 1 ? x->shape[1] : 1));
    }
    buf_auto struct buf header;
    buf_init(&header, SAFETENSORS_HEADER_LIMIT);
    int rc = safetensors_header(w->entries, w->entry_count, metadata, 0, &header, e);
    if (!rc)
        rc = io_write_full(w->fd, header.data, header.len, e);
    if (rc)
        return rc;
    w->store = store;
    w->data_start = (int64_t)header.len;
    return 0;
}

static int write_data(struct hf_writer *w, const float *data, int64_t count, struct err *e)
{
    if (w->store == DTYPE_F32)
        return io_write_full(w->fd, data, (size_t)count * sizeof *data, e);
    mem_autofree uint16_t *part = mem_array(CHUNK, sizeof *part);
    if (!part)
        return err_set(e, ERR_MEMORY, "no memory to convert a tensor");
    int rc = 0;
    for (int64_t at = 0, n; at < count && !rc; at += n) {
        n = count - at < CHUNK ? count - at : CHUNK;
        for (int64_t i = 0; i < n; i++)
            part[i] = f32_to_half(w->store, data[at + i]);
        rc = io_write_full(w->fd, part, (size_t)n * sizeof *part, e);
    }
    return rc;
}

static int seek(const struct hf_writer *w, int64_t offset, struct err *e)
{
    return lseek(w->fd, offset, SEEK_SET) < 0 ? err_sys(e, ERR_DATA, errno, "%s", w->folder) : 0;
}

/* data (out, in) to columns [first, first + out) of the file's (in, width), some columns of ours at
   a time: those lie in few cache lines. */
static int write_transposed(
    struct hf_writer *w, const struct written *t, const float *data, int64_t start, struct err *e)
{
    int64_t out = t->tensor->shape[0], in = t->tensor->shape[1], width = t->place.shape[1];
    int64_t size = dtype_block_bytes(w->store), group = CHUNK / out ? CHUNK / out : 1;
    mem_autofree float *part = mem_array((size_t)(group * out), sizeof *part);
    if (!part)
        return err_set(e, ERR_MEMORY, "no memory to transpose a tensor");
    int rc;
    for (int64_t at = 0, n; at < in; at += n) {
        n = in - at < group ? in - at : group;
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < n; i++)
                part[i * out + o] = data[o * in + at + i];
        for (int64_t i = 0; i < n; i++)
            if ((rc = seek(w, start + ((at + i) * width + t->place.first) * size, e)) ||
                (rc = write_data(w, part + i * out, out, e)))
                return rc;
    }
    return 0;
}

int hf_writer_tensor(struct hf_writer *w, const char *name, int dims, const int64_t *shape,
    const float *data, enum dtype store, struct err *e)
{
    if (store != DTYPE_F32 && store != DTYPE_BF16 && store != DTYPE_F16)
        return err_set(e, ERR_BUG, "tensor %s: stored as %s", name, dtype_name(store));
    int rc = w->data_start ? 0 : write_header(w, store, e);
    if (rc)
        return rc;
    const struct tensor *f = tensors_find(&w->table, name);
    if (!f || store != w->store || dims != f->dims || shape[0] != f->shape[0] ||
        (dims == 2 && shape[1] != f->shape[1]))
        return err_set(e, ERR_BUG, "tensor %s does not belong to this model", name);
    struct written *t = &w->tensors[f->order];
    int64_t start = w->data_start;
    for (int k = 0; k < t->entry; k++)
        start += w->entries[k].bytes;
    if (t->place.transposed) {
        rc = write_transposed(w, t, data, start, e);
    } else {
        rc = seek(w, start + dtype_bytes(store, t->place.first * f->shape[1]), e);
        if (!rc)
            rc = write_data(w, data, f->shape[0] * f->shape[1], e);
    }
    if (rc)
        return err_wrap(e, "%s", w->folder);
    t->done = true;
    return 0;
}

/* -- finishing -- */

static int write_configs(const struct hf_writer *w, struct err *e)
{
    char generation_path[LIMIT_PATH_BYTES];
    struct jsonw j;
    buf_auto struct buf config, generation;
    buf_init(&config, CONFIG_LIMIT);
    buf_init(&generation, 1 << 16);
    jsonw_init(&j, &config);
    family_config_write(&w->config, w->labels, w->store, &j);
    jsonw_end(&j);
    jsonw_init(&j, &generation);
    jsonw_open(&j, NULL, '{');
    family_ids_write(&w->config, false, &j);
    jsonw_close(&j);
    jsonw_end(&j);
    int rc = join(generation_path, w->folder, "generation_config.json", e);
    bool generates = !w->config.bidirectional && !w->config.labels;
    if (!rc && generates && !io_exists(generation_path)) /* else the source's own */
        rc = write_text(w, "generation_config.json", &generation, e);
    return rc ? rc : write_text(w, "config.json", &config, e);
}

int hf_writer_finish(struct hf_writer *w, struct err *e)
{
    for (int i = 0; i < w->count; i++)
        if (!w->tensors[i].done)
            return err_set(
                e, ERR_BUG, "%s: tensor %s was not written", w->folder, w->tensors[i].tensor->name);
    int rc = io_fsync(w->fd, e);
    return rc ? rc : write_configs(w, e);
}

void hf_writer_destroy(struct hf_writer *w)
{
    if (!w)
        return;
    io_close(w->fd);
    mem_free(w->entries);
    mem_free(w->tensors);
    tensors_done(&w->table);
    mem_free(w);
}
