/*
 * weights: opens a model and holds one entry for each tensor that its configuration asks for, in
 * the order of computing; a file that lacks one, shapes one otherwise, or has one that the family
 * does not know, is refused at open. A tensor of a file may hold several (GPT-2's q, k and v). Data
 * stays in the file's mapping; rows are decoded when read, on all threads. Rotary rows of a GGUF
 * file and transposed matrices are put into canonical order on the way. Thread: weights_raw makes
 * copies on first use, so one thread opens and reads.
 */
#include "runtime/family/weights.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "kernels/quant.h"
#include "runtime/family/family.h"
#include "runtime/family/rotary.h"
#include "runtime/files/gguf.h"
#include "runtime/files/hash.h"
#include "runtime/files/safetensors.h"

#include <errno.h>
#include <limits.h>
#include <omp.h>
#include <strings.h>
#include <sys/stat.h>

#define FILES_LIMIT      1024
#define INDEX_FILE_LIMIT (16 << 20)
#define DECODE_ELEMENTS  1024 /* a multiple of every block; 4 KiB of stack */

struct entry {
    struct weights_tensor t;
    struct family_place place;
    const uint8_t *data; /* the file's tensor; NULL until found */
    int64_t head_dim;
    uint8_t *ordered;   /* copy in canonical order, made by weights_raw */
    struct entry *next; /* another part of the same tensor of a file */
};

struct weights {
    char *path;
    struct gguf *gguf;   /* and of a split model */
    struct gguf **parts; /* those behind the first; or */
    int part_count;
    struct safetensors **files; /* of a folder */
    int file_count;
    struct model_config config;
    char **labels;            /* (config.labels) names; NULL: there are none */
    struct model_config ends; /* only its eos: of generation_config.json, or the config's */
    struct tensors tensors;
    struct entry *entries; /* in the order of computing */
    int count;
    struct table by_place; /* by the names that files may have: the first part of each */
};

static int64_t rows_of(const struct weights_tensor *t)
{
    return t->shape[0];
}

static int64_t cols_of(const struct weights_tensor *t)
{
    return t->dims == 1 ? 1 : t->shape[1];
}

/* -- opening -- */

static int index_entry(struct weights *w, struct entry *x, struct err *e)
{
    const struct family_place *p = &x->place;
    struct entry *first = table_get(&w->by_place, p->name);
    if (first) {
        x->next = first->next;
        first->next = x;
        return 0;
    }
    int rc = table_put(&w->by_place, p->name, x, e);
    return rc || !p->optional ? rc : table_put(&w->by_place, p->name + p->optional, x, e);
}

static int expect_tensors(struct weights *w, struct err *e)
{
    int rc = tensors_create(&w->config, &w->tensors, e);
    if (rc)
        return err_wrap(e, "%s", w->path);
    w->count = w->tensors.count;
    w->entries = mem_array((size_t)w->count, sizeof *w->entries);
    if (!w->entries)
        return err_set(e, ERR_MEMORY, "%s: no memory for the tensor list", w->path);
    for (int i = 0; i < w->count; i++) {
        const struct tensor *t = &w->tensors.at[i];
        struct entry *x = &w->entries[t->order];
        memcpy(x->t.name, t->name, sizeof x->t.name);
        x->t.dims = t->dims;
        x->t.shape[0] = t->shape[0];
        x->t.shape[1] = t->shape[1];
        x->head_dim = w->config.head_dim;
        family_place(&w->config, &w->tensors, t, w->gguf ? FAMILY_GGUF : FAMILY_HF, &x->place);
        if ((rc = index_entry(w, x, e)))
            return rc;
    }
    return 0;
}

static struct entry *find_entry(const struct weights *w, const char *name)
{
    const struct tensor *t = tensors_find(&w->tensors, name);
    return t && t->order < w->count ? &w->entries[t->order] : NULL;
}

struct found { /* a tensor of a file */
    const char *name;
    enum dtype type;
    int dims;
    const int64_t *shape;
    const uint8_t *data;
};

static int check_found(
    const struct weights *w, const struct entry *x, const struct found *f, struct err *e)
{
    const int64_t *want = x->place.shape;
    if (x->place.stacked && f->dims == 3 && f->shape[0] == x->place.stacked) {
        const int64_t rows[] = {f->shape[0] * f->shape[1], f->shape[2]};
        const struct found flat = {f->name, f->type, 2, rows, f->data};
        return check_found(w, x, &flat, e);
    }
    if (x->data)
        return err_set(e, ERR_DATA, "%s: tensor %s stands twice", w->path, f->name);
    if (f->dims != x->place.dims || f->shape[0] != want[0] ||
        (f->dims == 2 && f->shape[1] != want[1]))
        return err_set(e, ERR_DATA, "%s: tensor %s has shape (%lld, %lld), expected (%lld, %lld)",
            w->path, f->name, (long long)f->shape[0], (long long)(f->dims > 1 ? f->shape[1] : 1),
            (long long)want[0], (long long)want[1]);
    if (f->type == DTYPE_I32 || f->type == DTYPE_U8 ||
        ((f->dims == 1 || x->place.transposed) && dtype_block(f->type) != 1))
        return err_set(e, ERR_DATA, "%s: tensor %s of type %s is not supported", w->path, f->name,
            dtype_name(f->type));
    return 0;
}

/* Gives every entry that is a part of it its data. */
static int fill_entries(struct weights *w, const struct found *f, struct err *e)
{
    struct entry *first = table_get(&w->by_place, f->name);
    for (struct entry *x = first; x; x = x->next) {
        int rc = check_found(w, x, f, e);
        if (rc)
            return rc;
        x->t.type = f->type;
        x->t.bytes = dtype_bytes(f->type, rows_of(&x->t) * cols_of(&x->t));
        x->data = f->data;
    }
    if (first)
        return 0;
    return err_set(e, ERR_DATA, "%s: tensor %s is not known in a %s model", w->path, f->name,
        w->config.architecture);
}

/* The tensors of these roles, which stand together, where none of them was found. */
static bool forget_absent(struct weights *w, enum tensor_role from, enum tensor_role to)
{
    int first = w->count, n = 0;
    for (int i = 0; i < w->tensors.count; i++) {
        const struct tensor *t = &w->tensors.at[i];
        if (t->role < from || t->role > to)
            continue;
        if (w->entries[t->order].data)
            return false;
        first = t->order < first ? t->order : first;
        n++;
    }
    int behind = w->count - first - n;
    memmove(w->entries + first, w->entries + first + n, (size_t)behind * sizeof *w->entries);
    for (int i = 0; i < w->tensors.count; i++) {
        int *order = &w->tensors.at[i].order;
        *order = *order >= first + n ? *order - n : *order >= first ? INT_MAX : *order;
    }
    w->count -= n;
    return true;
}

/* A head that is announced and not there at all is one that training begins with; a pooler below a
   classifier that is not there either, likewise. */
static void forget_heads(struct weights *w)
{
    if (w->config.labels && forget_absent(w, TENSOR_CLASSIFIER, TENSOR_CLASSIFIER)) {
        w->config.labels = 0;
        w->config.several = w->config.last = false;
    }
    if (w->config.pooled && !w->config.labels && forget_absent(w, TENSOR_POOLER, TENSOR_POOLER))
        w->config.pooled = false;
    if (w->config.masked && forget_absent(w, TENSOR_TRANSFORM, TENSOR_HEAD))
        w->config.masked = false;
}

static int check_complete(const struct weights *w, struct err *e)
{
    for (int i = 0; i < w->count; i++)
        if (!w->entries[i].data)
            return err_set(e, ERR_DATA, "%s: tensor %s is missing", w->path, w->entries[i].t.name);
    return 0;
}

/* llama-gguf-split leaves parts, each a GGUF file, of which only all together are a model. */
static int read_split(const struct gguf *g, int64_t *number, int64_t *count, struct err *e)
{
    *number = 0;
    *count = 1;
    int rc = gguf_has(g, "split.count") ? gguf_int(g, "split.count", 0, UINT16_MAX, count, e) : 0;
    return rc || !gguf_has(g, "split.no") ? rc : gguf_int(g, "split.no", 0, UINT16_MAX, number, e);
}

static int take_gguf(struct weights *w, const struct gguf *g, struct err *e)
{
    for (int i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        struct found f = {t->name, t->type, t->dims, t->shape, t->data};
        if (!strcmp(t->name, ROTARY_GGUF_FACTORS) && w->config.positions == POSITIONS_ROTARY)
            continue; /* read with the description */
        int rc = fill_entries(w, &f, e);
        if (rc)
            return rc;
    }
    return 0;
}

#define PART_NAME "-%05lld-of-%05lld.gguf" /* what the name of a part ends with */

/* Part `number`, from 1, beside the first, whose name without that has `len` bytes. */
static int open_part(struct weights *w, size_t len, int64_t number, int64_t count, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    int64_t no, of;
    snprintf(path, sizeof path, "%.*s" PART_NAME, (int)len, w->path, (long long)number,
        (long long)count);
    if (!io_exists(path))
        return err_set(e, ERR_DATA, "%s: part %lld of %lld is not beside it", w->path,
            (long long)number, (long long)count);
    int rc = gguf_open(path, &w->parts[w->part_count], e);
    if (rc)
        return rc;
    const struct gguf *g = w->parts[w->part_count++];
    if ((rc = read_split(g, &no, &of, e)))
        return rc;
    if (no != number - 1 || of != count)
        return err_set(e, ERR_DATA, "%s: says that it is part %lld of %lld", path,
            (long long)no + 1, (long long)of);
    return take_gguf(w, g, e);
}

static int open_parts(struct weights *w, int64_t count, struct err *e)
{
    char end[32];
    int n = snprintf(end, sizeof end, PART_NAME, 1ll, (long long)count);
    size_t len = strlen(w->path), size = (size_t)n;
    if (count > FILES_LIMIT)
        return err_set(e, ERR_DATA, "%s: more than %d files", w->path, FILES_LIMIT);
    if (len < size || len >= LIMIT_PATH_BYTES || strcmp(w->path + len - size, end))
        return err_set(e, ERR_DATA,
            "%s: is part 1 of %lld of a split model, whose name must end in %s", w->path,
            (long long)count, end);
    w->parts = mem_array((size_t)count, sizeof(struct gguf *));
    if (!w->parts)
        return err_set(e, ERR_MEMORY, "%s: no memory to open it", w->path);
    int rc = 0;
    for (int64_t i = 2; i <= count && !rc; i++)
        rc = open_part(w, len - size, i, count, e);
    return rc;
}

static int check_sha256(const struct weights *w, const char *want, struct err *e)
{
    char hex[HASH_SHA256_HEX];
    size_t size;
    const void *bytes = gguf_bytes(w->gguf, &size);
    int rc = hash_sha256_hex(bytes, size, hex, e);
    if (rc)
        return rc;
    if (strcasecmp(hex, want))
        return err_set(e, ERR_DATA, "%s: sha256 is %s, expected %.64s", w->path, hex, want);
    return 0;
}

/* Names of labels are what nothing is computed by: a file may have none. */
static int read_gguf_labels(struct weights *w, struct err *e)
{
    mem_autofree struct gguf_str *names = NULL;
    int64_t count, labels = w->config.labels;
    char key[96];
    snprintf(key, sizeof key, "%s.classifier.output_labels", family_gguf_architecture(&w->config));
    if (!labels || !gguf_has(w->gguf, key))
        return 0;
    int rc = gguf_strings(w->gguf, key, &names, &count, e);
    if (rc)
        return rc;
    if (count != labels)
        return err_set(e, ERR_DATA, "%s: %lld labels with %lld names", w->path, (long long)labels,
            (long long)count);
    w->labels = mem_array((size_t)labels + 1, sizeof *w->labels);
    for (int64_t i = 0; w->labels && i < labels; i++)
        if (!(w->labels[i] = mem_strndup(names[i].s, names[i].len)))
            return err_set(e, ERR_MEMORY, "%s: no memory for its labels", w->path);
    return w->labels ? 0 : err_set(e, ERR_MEMORY, "%s: no memory for its labels", w->path);
}

static int open_gguf(struct weights *w, const char *sha256, struct err *e)
{
    int64_t number, count;
    int rc;
    if ((rc = gguf_open(w->path, &w->gguf, e)) || (rc = read_split(w->gguf, &number, &count, e)))
        return rc;
    if (count > 1 && number)
        return err_set(e, ERR_DATA,
            "%s: is part %lld of %lld of a split model, which is named by its first", w->path,
            (long long)number + 1, (long long)count);
    if (count > 1 && sha256)
        return err_set(e, ERR_USER, "%s: sha256 is for a model of one file, this has %lld", w->path,
            (long long)count);
    if ((sha256 && (rc = check_sha256(w, sha256, e))) ||
        (rc = family_config_gguf(w->gguf, &w->config, e)) || (rc = read_gguf_labels(w, e)) ||
        (rc = expect_tensors(w, e)) || (rc = take_gguf(w, w->gguf, e)))
        return rc;
    return count > 1 ? open_parts(w, count, e) : 0;
}

static bool ends(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && !strcmp(name + n - k, suffix);
}

static bool is_expected(const struct weights *w, const char *name)
{
    return table_get(&w->by_place, name);
}

/* Tensors that files carry though the model does not need them. */
static bool superfluous(const struct weights *w, const char *name)
{
    const char *const *suffix = family_of(&w->config)->superfluous;
    for (; suffix && *suffix; suffix++)
        if (ends(name, *suffix))
            return true;
    return ends(name, ".rotary_emb.inv_freq") ||
        (!w->config.labels && !strncmp(name, "classifier.", strlen("classifier."))) ||
        (!w->config.labels && !strcmp(name, "score.weight")) ||
        (w->config.tied_embeddings && !strcmp(name, "lm_head.weight"));
}

/* Files converted from TensorFlow's say gamma and beta of a layer norm. */
static void name_norm(char name[SAFETENSORS_NAME_BYTES])
{
    static const char *const old[] = {".LayerNorm.gamma", ".LayerNorm.beta"};
    static const char *const now[] = {"weight", "bias"};
    for (int i = 0; i < 2; i++)
        if (ends(name, old[i])) {
            size_t at = (size_t)(strrchr(name, '.') + 1 - name);
            snprintf(name + at, SAFETENSORS_NAME_BYTES - at, "%s", now[i]);
        }
}

static int take_tensor(struct weights *w, const struct safetensors_tensor *t, struct err *e)
{
    char name[SAFETENSORS_NAME_BYTES];
    snprintf(name, sizeof name, "%s", t->name);
    name_norm(name);
    if (!is_expected(w, name) && superfluous(w, name))
        return 0;
    if (t->type == SAFETENSORS_UNREAD)
        return err_set(e, ERR_DATA, "%s: tensor %s of 64-bit whole numbers is not supported",
            w->path, t->name);
    for (int i = 0; i < t->dims; i++)
        if (!t->shape[i])
            return err_set(e, ERR_DATA, "%s: tensor %s has no elements", w->path, t->name);
    return fill_entries(w, &(struct found){name, t->type, t->dims, t->shape, t->data}, e);
}

static int open_safetensors(struct weights *w, const char *file, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    if (w->file_count == FILES_LIMIT)
        return err_set(e, ERR_DATA, "%s: more than %d files", w->path, FILES_LIMIT);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", w->path, file) >= sizeof path)
        return err_set(e, ERR_DATA, "%s: path too long", w->path);
    int rc = safetensors_open(path, &w->files[w->file_count], e);
    if (rc)
        return rc;
    const struct safetensors *s = w->files[w->file_count++];
    for (int i = 0; !rc && i < safetensors_count(s); i++)
        rc = take_tensor(w, safetensors_at(s, i), e);
    return rc;
}

static bool missing(const struct weights *w, const char *file)
{
    char path[LIMIT_PATH_BYTES];
    return (size_t)snprintf(path, sizeof path, "%s/%s", w->path, file) < sizeof path &&
        !io_exists(path);
}

/* The files that model.safetensors.index.json names, each once. */
static int open_indexed(struct weights *w, const char *index_path, struct err *e)
{
    json_auto struct json *index = NULL;
    int rc = json_read_file(index_path, INDEX_FILE_LIMIT, &index, e);
    if (rc)
        return rc;
    const struct json *map = json_get(index, "weight_map");
    const char *opened[FILES_LIMIT];
    if (!json_is_object(map))
        return err_set(e, ERR_DATA, "%s: weight_map is missing", index_path);
    json_each (v, map) {
        const char *file = json_string_value(v);
        if (!file || !*file || strchr(file, '/') || *file == '.')
            return err_set(
                e, ERR_DATA, "%s: \"%.64s\" is no file name", index_path, file ? file : "");
        int i = 0;
        while (i < w->file_count && strcmp(opened[i], file))
            i++;
        if (i < w->file_count)
            continue;
        if (missing(w, file))
            return err_set(e, ERR_DATA, "%s: names %.100s, which is missing", index_path, file);
        rc = open_safetensors(w, file, e);
        if (rc)
            return rc;
        opened[i] = file;
    }
    return 0;
}

/* As transformers' generate(): what generation_config.json says, the configuration where it does
   not. */
static int open_ends(struct weights *w, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    json_auto struct json *generation = NULL;
    w->ends = w->config;
    if (w->gguf)
        return 0;
    if ((size_t)snprintf(path, sizeof path, "%s/generation_config.json", w->path) >= sizeof path)
        return err_set(e, ERR_DATA, "%s: path too long", w->path);
    if (!io_exists(path))
        return 0;
    int rc = json_read_file(path, INDEX_FILE_LIMIT, &generation, e);
    const struct json *eos = json_get(generation, "eos_token_id");
    if (rc || !eos || json_is_null(eos))
        return rc;
    rc = family_eos_json(generation, path, &w->ends, e);
    return !rc && model_config_check(&w->ends, e) ? err_wrap(e, "%s", path) : rc;
}

/* id2label, where it is whole; what it is not, is no name. */
static int read_labels(struct weights *w, const char *path, struct err *e)
{
    json_auto struct json *config = NULL;
    int rc = w->config.labels ? json_read_file(path, INDEX_FILE_LIMIT, &config, e) : 0;
    const struct json *names = json_get(config, "id2label");
    if (rc || !names || (int64_t)json_count(names) != w->config.labels)
        return rc;
    w->labels = mem_array((size_t)w->config.labels + 1, sizeof *w->labels);
    if (!w->labels)
        return err_set(e, ERR_MEMORY, "%s: no memory for its labels", w->path);
    for (int64_t i = 0; i < w->config.labels; i++) {
        char key[24];
        snprintf(key, sizeof key, "%lld", (long long)i);
        w->labels[i] = mem_strdup(json_str(names, key, ""));
        if (!w->labels[i])
            return err_set(e, ERR_MEMORY, "%s: no memory for its labels", w->path);
    }
    return 0;
}

/* Of a folder without a config.json. */
static int refuse_adapter(const struct weights *w, struct err *e)
{
    static const char *const places[] = {"", "/adapter"};
    for (int i = 0; i < 2; i++) {
        char path[LIMIT_PATH_BYTES + 32];
        snprintf(path, sizeof path, "%s%s/adapter_config.json", w->path, places[i]);
        if (io_exists(path))
            return err_set(e, ERR_DATA,
                "%s: holds an adapter alone, without the model that it belongs to, and is not "
                "served; spec.evaluate.adapter takes it beside that model",
                w->path);
    }
    return 0;
}

static int open_folder(struct weights *w, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", w->path) >= sizeof path)
        return err_set(e, ERR_DATA, "%s: path too long", w->path);
    int rc = io_exists(path) ? 0 : refuse_adapter(w, e);
    if (rc || (rc = model_config_read(path, &w->config, e)) || (rc = read_labels(w, path, e)) ||
        (rc = expect_tensors(w, e)))
        return rc;
    w->files = mem_array(FILES_LIMIT, sizeof *w->files);
    if (!w->files)
        return err_set(e, ERR_MEMORY, "%s: no memory to open it", w->path);
    if ((size_t)snprintf(path, sizeof path, "%s/model.safetensors.index.json", w->path) >=
        sizeof path)
        return err_set(e, ERR_DATA, "%s: path too long", w->path);
    return io_exists(path) ? open_indexed(w, path, e) : open_safetensors(w, "model.safetensors", e);
}

int weights_open(const char *path, const char *sha256, struct weights **out, struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return ends(path, "/") && errno == ENOTDIR
            ? err_set(e, ERR_DATA, "%s: ends with a slash, but is a file", path)
            : err_sys(e, ERR_DATA, errno, "%s", path);
    bool folder = S_ISDIR(st.st_mode);
    if (folder && sha256)
        return err_set(e, ERR_USER, "%s: sha256 is for a GGUF file, this is a folder", path);
    struct weights *w = mem_zalloc(sizeof *w);
    if (!w || !(w->path = mem_strdup(path))) {
        mem_free(w);
        return err_set(e, ERR_MEMORY, "%s: no memory to open it", path);
    }
    int rc = folder ? open_folder(w, e) : open_gguf(w, sha256, e);
    if (!rc)
        forget_heads(w);
    if (rc || (rc = check_complete(w, e)) || (rc = open_ends(w, e))) {
        weights_close(w);
        return rc;
    }
    *out = w;
    return 0;
}

void weights_release(struct weights *w)
{
    for (int i = 0; i < w->count; i++) {
        mem_free(w->entries[i].ordered);
        w->entries[i].ordered = NULL;
    }
    for (int i = 0; i < w->file_count; i++)
        safetensors_release(w->files[i]);
    if (w->gguf)
        gguf_release(w->gguf);
    for (int i = 0; i < w->part_count; i++)
        gguf_release(w->parts[i]);
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    for (int i = 0; w->entries && i < w->count; i++)
        mem_free(w->entries[i].ordered);
    for (int i = 0; i < w->file_count; i++)
        safetensors_close(w->files[i]);
    for (char **name = w->labels; name && *name; name++)
        mem_free(*name);
    mem_free(w->labels);
    mem_free(w->files);
    gguf_close(w->gguf);
    for (int i = 0; i < w->part_count; i++)
        gguf_close(w->parts[i]);
    mem_free(w->parts);
    table_done(&w->by_place);
    mem_free(w->entries);
    tensors_done(&w->tensors);
    mem_free(w->path);
    mem_free(w);
}

/* -- looking and reading -- */

const struct model_config *weights_config(const struct weights *w)
{
    return &w->config;
}

bool weights_ends(const struct weights *w, int32_t id)
{
    return model_config_ends(&w->ends, id);
}

const char *const *weights_labels(const struct weights *w)
{
    return w->config.labels ? (const char *const *)w->labels : NULL;
}

const struct gguf *weights_gguf(const struct weights *w)
{
    return w->gguf;
}

const char *weights_path(const struct weights *w)
{
    return w->path;
}

static uint64_t safetensors_digest(const struct safetensors *s)
{
    size_t size;
    const void *bytes = safetensors_bytes(s, &size);
    int64_t header = (int64_t)size;
    for (int i = 0; i < safetensors_count(s); i++)
        if (safetensors_at(s, i)->offset < header)
            header = safetensors_at(s, i)->offset;
    const uint64_t parts[] = {hash_xxh3(bytes, (size_t)header), hash_sample(bytes, size)};
    return hash_xxh3(parts, sizeof parts);
}

static uint64_t gguf_digest(const struct gguf *g)
{
    size_t size;
    const uint8_t *bytes = gguf_bytes(g, &size);
    size_t header = gguf_tensor_count(g) ? (size_t)(gguf_tensor_at(g, 0)->data - bytes) : size;
    const uint64_t parts[] = {hash_xxh3(bytes, header), hash_sample(bytes, size)};
    return hash_xxh3(parts, sizeof parts);
}

uint64_t weights_digest(const struct weights *w)
{
    uint64_t h[2] = {0, 0};
    if (w->gguf) {
        h[0] = gguf_digest(w->gguf);
        for (int i = 0; i < w->part_count; i++) {
            h[1] = gguf_digest(w->parts[i]);
            h[0] = hash_xxh3(h, sizeof h);
        }
        return h[0];
    }
    for (int i = 0; i < w->file_count; i++) {
        h[1] = safetensors_digest(w->files[i]);
        h[0] = hash_xxh3(h, sizeof h);
    }
    return h[0];
}

int weights_count(const struct weights *w)
{
    return w->count;
}

const struct weights_tensor *weights_at(const struct weights *w, int i)
{
    return &w->entries[i].t;
}

const struct weights_tensor *weights_find(const struct weights *w, const char *name)
{
    const struct entry *x = find_entry(w, name);
    return x ? &x->t : NULL;
}

static void decode(
    const struct entry *x, const uint8_t *src, int64_t count, enum dtype want, void *dst)
{
    if (x->t.type == want) {
        memcpy(dst, src, (size_t)dtype_bytes(want, count));
        return;
    }
    if (want == DTYPE_F32) {
        quant_decode(x->t.type, src, count, dst);
        return;
    }
    float part[DECODE_ELEMENTS];
    uint16_t *out = dst;
    while (count > 0) {
        int64_t n = count < DECODE_ELEMENTS ? count : DECODE_ELEMENTS;
        quant_decode(x->t.type, src, n, part);
        for (int64_t i = 0; i < n; i++)
            out[i] = f32_to_half(want, part[i]);
        src += dtype_bytes(x->t.type, n);
        out += n;
        count -= n;
    }
}

/* Canonical row `row`, as the file has it; gathered into `part` (cols elements) when transposed. */
static const uint8_t *stored_row(const struct entry *x, int64_t row, uint8_t *part)
{
    int64_t cols = cols_of(&x->t), size = dtype_block_bytes(x->t.type);
    const struct family_place *p = &x->place;
    if (!p->transposed) {
        int64_t at = p->interleaved ? family_gguf_row(row, x->head_dim) : row;
        return x->data + (p->first + at) * dtype_bytes(x->t.type, cols);
    }
    const uint8_t *from = x->data + (p->first + row) * size;
    for (int64_t i = 0; i < cols; i++)
        memcpy(part + i * size, from + i * p->shape[1] * size, (size_t)size);
    return part;
}

/* For each thread's stored_row: what one may gather into; NULL where nothing is gathered. */
static int row_part(const struct entry *x, uint8_t **out, struct err *e)
{
    *out = NULL;
    if (!x->place.transposed)
        return 0;
    *out = mem_array((size_t)cols_of(&x->t) * (size_t)omp_get_max_threads(), 4);
    return *out ? 0 : err_set(e, ERR_MEMORY, "no memory to read tensor %s", x->t.name);
}

int weights_read(struct weights *w, const char *name, int64_t expect_rows, int64_t expect_cols,
    int64_t row, int64_t rows, enum dtype want, void *dst, struct err *e)
{
    const struct entry *x = find_entry(w, name);
    if (!x)
        return err_set(e, ERR_DATA, "%s: tensor %s is missing", w->path, name);
    int64_t cols = cols_of(&x->t), have = rows_of(&x->t);
    if (have != expect_rows || cols != expect_cols)
        return err_set(e, ERR_DATA, "%s: tensor %s has shape (%lld, %lld), expected (%lld, %lld)",
            w->path, name, (long long)have, (long long)cols, (long long)expect_rows,
            (long long)expect_cols);
    if (row < 0 || rows < 0 || row > have - rows || (want > DTYPE_F16 && want != x->t.type))
        return err_set(e, ERR_BUG, "%s: tensor %s read beyond its rows", w->path, name);
    if (x->t.dims == 1 && !x->place.interleaved) {
        decode(x, stored_row(x, row, NULL), rows, want, dst);
        return 0;
    }
    mem_autofree uint8_t *part = NULL;
    int rc = row_part(x, &part, e);
    if (rc)
        return rc;
    int64_t out_bytes = dtype_bytes(want, cols);
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 16)
    for (int64_t r = 0; r < rows; r++) {
        uint8_t *mine = part ? part + omp_get_thread_num() * cols * 4 : NULL;
        decode(x, stored_row(x, row + r, mine), cols, want, (uint8_t *)dst + r * out_bytes);
    }
    return 0;
}

int weights_raw(
    struct weights *w, const char *name, enum dtype *type, const void **data, struct err *e)
{
    struct entry *x = find_entry(w, name);
    if (!x)
        return err_set(e, ERR_DATA, "%s: tensor %s is missing", w->path, name);
    if ((x->place.interleaved || x->place.transposed) && !x->ordered) {
        int64_t rows = rows_of(&x->t), row_bytes = dtype_bytes(x->t.type, cols_of(&x->t));
        x->ordered = mem_aligned(64, (size_t)x->t.bytes);
        if (!x->ordered)
            return err_set(e, ERR_MEMORY, "%s: no memory for tensor %s", w->path, name);
        for (int64_t r = 0; r < rows; r++) {
            uint8_t *to = x->ordered + r * row_bytes;
            const uint8_t *from = stored_row(x, r, to);
            if (from != to)
                memcpy(to, from, (size_t)row_bytes);
        }
    }
    *type = x->t.type;
    *data = x->ordered ? x->ordered : stored_row(x, 0, NULL);
    return 0;
}
