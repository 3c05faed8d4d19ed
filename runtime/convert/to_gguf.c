/*
 * to_gguf: the tensors of the file are made of ours: their names, their parts and the order of
 * their rows come from the family's table (family_place), read the other way round. Rows are read,
 * encoded and written some at a time; of rotary matrices whole heads, in which rows change places.
 */
#include "runtime/convert/internal.h"

#include "api/limits.h"
#include "base/mem.h"
#include "kernels/quant_encode.h"
#include "runtime/door/beat.h"
#include "runtime/family/mix.h"
#include "runtime/family/rotary.h"
#include "runtime/files/gguf_write.h"
#include "runtime/text/tok_write.h"

#define CHUNK        1048576 /* numbers encoded at a time */
#define LABELS_BYTES ((size_t)64 << 20)

struct part { /* a tensor of ours in the file */
    const struct tensor *tensor;
    struct family_place place;
};

struct gguf_plan { /* the file's tensors: runs of parts of one name, their rows in order */
    struct part *parts;
    int count;
};

static int compare_parts(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int first = strcmp(x->place.name, y->place.name);
    if (first)
        return first;
    return (x->place.first > y->place.first) - (x->place.first < y->place.first);
}

/* By name: what is one tensor of the file stands together. */
static int make_plan(const struct conversion *c, struct gguf_plan *out, struct err *e)
{
    struct gguf_plan p = {.count = c->tensors.count};
    p.parts = mem_array((size_t)p.count, sizeof *p.parts);
    if (!p.parts)
        return err_set(e, ERR_MEMORY, "no memory to convert the model");
    for (int i = 0; i < p.count; i++) {
        p.parts[i].tensor = &c->tensors.at[i];
        family_place(c->config, &c->tensors, p.parts[i].tensor, FAMILY_GGUF, &p.parts[i].place);
    }
    qsort(p.parts, (size_t)p.count, sizeof *p.parts, compare_parts);
    *out = p;
    return 0;
}

static bool begins_tensor(const struct gguf_plan *p, int i)
{
    return !i || strcmp(p->parts[i - 1].place.name, p->parts[i].place.name) != 0;
}

int64_t convert_gguf_count(const struct conversion *c)
{
    struct gguf_plan p = {0};
    int64_t n = 0;
    if (make_plan(c, &p, NULL))
        return 0;
    for (int i = 0; i < p.count; i++)
        n += begins_tensor(&p, i);
    mem_free(p.parts);
    return n;
}

static enum dtype type_of(const struct conversion *c, const struct part *p)
{
    const struct tensor *t = p->tensor;
    enum dtype stored = weights_find(c->weights, t->name)->type;
    bool joined = p->place.shape[0] != (p->place.stacked ? p->place.stacked : 1) * t->shape[0];
    enum dtype type = mix_type(c->config, c->spec->convert.quantize, t, joined, stored);
    /* what was changed is no whole blocks of the old ones, unless somebody rounds it */
    bool whole = quant_encodes(type) && dtype_block(type) == 1;
    return c->spec->convert.quantize == QUANTIZE_NONE && convert_changes(c, t) && !whole ? DTYPE_F32
                                                                                         : type;
}

/* -- keys -- */

static bool is_copied(struct gguf_str name)
{
    static const char *const own[] = {"general.file_type", "general.quantization_version",
        "general.alignment", "split.no", "split.count", "split.tensors.count"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (name.len == strlen(own[i]) && !memcmp(name.s, own[i], name.len))
            return false;
    return true;
}

/* Which vector is a text's, or the names of its labels. */
static int write_reading(const struct conversion *c, struct gguf_writer *w, struct err *e)
{
    const char *architecture = family_gguf_architecture(c->config);
    const int64_t count = c->config->labels;
    const char *const *names = weights_labels(c->weights);
    mem_autofree struct gguf_str *list = mem_array((size_t)count + 1, sizeof *list);
    char key[96], usual[32];
    arena_auto struct arena *a = arena_create(LABELS_BYTES);
    if (!list || !a)
        return err_set(e, ERR_MEMORY, "no memory to convert the model");
    snprintf(key, sizeof key, "%s.pooling_type", architecture);
    gguf_write_u32(w, key, count ? POOLING_GGUF_RANK : pooling_to_gguf(c->pooling.kind));
    if (c->pooling.tokens)
        gguf_write_u32(w, POOLING_GGUF_TOKENS, (uint32_t)c->pooling.tokens);
    for (int64_t i = 0; i < count; i++) {
        snprintf(usual, sizeof usual, "LABEL_%lld", (long long)i);
        const char *name = names ? names[i] : arena_strdup(a, usual);
        if (!name)
            return err_set(e, ERR_MEMORY, "no memory to convert the model");
        list[i] = (struct gguf_str){name, strlen(name)};
    }
    snprintf(key, sizeof key, "%s.classifier.output_labels", architecture);
    if (count)
        gguf_write_strs(w, key, list, count);
    return 0;
}

static int write_keys(const struct conversion *c, struct gguf_writer *w, struct err *e)
{
    const struct gguf *g = weights_gguf(c->weights);
    int rc = 0;
    for (int64_t i = 0; g && i < gguf_key_count(g); i++)
        if (is_copied(gguf_key_name(g, i)))
            gguf_write_key(w, g, i);
    if (!g && !(rc = family_gguf_write(c->config, w, e))) {
        gguf_write_str(w, "general.type", "model", strlen("model"));
        gguf_write_str(w, "general.name", c->name, strlen(c->name));
        if (!c->config->bidirectional || !(rc = write_reading(c, w, e)))
            rc = tok_gguf_write(c->weights, w, e);
    }
    if (rc)
        return rc;
    gguf_write_u32(w, "general.file_type", mix_file_type(c->spec->convert.quantize, c->weights));
    gguf_write_u32(w, "general.quantization_version", 2);
    return 0;
}

/* -- data -- */

struct stage { /* of one part */
    const struct part *part;
    enum dtype type;
    const uint8_t *raw; /* the stored rows in canonical order, when they stay as they are */
    float *rows;        /* a chunk of them, decoded */
    uint8_t *encoded;   /* the same, in the file's order */
};

/* Row r of a chunk that begins with `first` to its place in it. */
static void encode_row(const struct conversion *c, const struct stage *s, int64_t first, int64_t r)
{
    const struct tensor *t = s->part->tensor;
    int64_t columns = t->shape[1], bytes = dtype_bytes(s->type, columns);
    int64_t at =
        s->part->place.interleaved ? family_gguf_row(first + r, c->config->head_dim) - first : r;
    if (s->raw)
        memcpy(s->encoded + at * bytes, s->raw + (first + r) * bytes, (size_t)bytes);
    else
        quant_encode(s->type, s->rows + r * columns, columns, importance_of(c->importance, t),
            s->encoded + at * bytes);
}

static int write_rows(struct conversion *c, const struct stage *s, int64_t first, int64_t n,
    struct gguf_writer *w, struct err *e)
{
    const struct tensor *t = s->part->tensor;
    int rc = s->raw ? 0 : convert_read(c, t, first, n, s->rows, e);
    if (rc)
        return rc;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++)
        encode_row(c, s, first, r);
    beat(c->door->page);
    return gguf_write_data(w, s->encoded, (size_t)(n * dtype_bytes(s->type, t->shape[1])), e);
}

static int write_part(struct conversion *c, const struct part *part, enum dtype type,
    struct gguf_writer *w, struct err *e)
{
    const struct tensor *t = part->tensor;
    int64_t columns = t->shape[1], unit = part->place.interleaved ? c->config->head_dim : 1;
    int64_t chunk = CHUNK / columns / unit * unit;
    chunk = chunk ? chunk : unit;
    chunk = t->shape[0] < chunk ? t->shape[0] : chunk;
    struct stage s = {.part = part, .type = type};
    if (dtype_block(type) > 1 && type == weights_find(c->weights, t->name)->type &&
        !convert_changes(c, t)) {
        enum dtype stored;
        int rc = weights_raw(c->weights, t->name, &stored, (const void **)&s.raw, e);
        if (rc)
            return rc;
    }
    mem_autofree float *rows = mem_array((size_t)(s.raw ? 1 : chunk * columns), sizeof *rows);
    mem_autofree uint8_t *encoded = mem_array((size_t)chunk, (size_t)dtype_bytes(type, columns));
    if (!rows || !encoded)
        return err_set(e, ERR_MEMORY, "no memory to convert tensor %s", t->name);
    s.rows = rows;
    s.encoded = encoded;
    for (int64_t row = 0, n; row < t->shape[0]; row += n) {
        n = t->shape[0] - row < chunk ? t->shape[0] - row : chunk;
        int rc = write_rows(c, &s, row, n, w, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* Behind all others: what the frequencies of a llama3 scaling are divided by. */
static bool has_factors(const struct conversion *c)
{
    return c->config->positions == POSITIONS_ROTARY &&
        c->config->rope_scaling.kind == OP_ROPE_LLAMA3;
}

static int announce(
    const struct conversion *c, const struct gguf_plan *p, struct gguf_writer *w, struct err *e)
{
    for (int i = 0; i < p->count; i++) {
        const struct family_place *at = &p->parts[i].place;
        int64_t of_experts[] = {at->stacked, 0, at->shape[1]};
        if (!begins_tensor(p, i))
            continue;
        if (at->stacked)
            of_experts[1] = at->shape[0] / at->stacked;
        int rc = gguf_write_tensor(w, at->name, type_of(c, &p->parts[i]),
            at->stacked ? 3 : at->dims, at->stacked ? of_experts : at->shape, e);
        if (rc)
            return rc;
    }
    const int64_t pairs = c->config->head_dim / 2;
    return has_factors(c) ? gguf_write_tensor(w, ROTARY_GGUF_FACTORS, DTYPE_F32, 1, &pairs, e) : 0;
}

static int write_factors(const struct conversion *c, struct gguf_writer *w, struct err *e)
{
    int rc = 0;
    for (int64_t i = 0; has_factors(c) && i < c->config->head_dim / 2 && !rc; i++) {
        float factor = (float)rotary_factor(c->config, i);
        rc = gguf_write_data(w, &factor, sizeof factor, e);
    }
    return rc;
}

static int write_tensors(
    struct conversion *c, const struct gguf_plan *p, struct gguf_writer *w, struct err *e)
{
    enum dtype type = DTYPE_F32;
    for (int i = 0; i < p->count; i++) {
        type = begins_tensor(p, i) ? type_of(c, &p->parts[i]) : type;
        int rc = write_part(c, &p->parts[i], type, w, e);
        if (!rc && (i + 1 == p->count || begins_tensor(p, i + 1)))
            rc = convert_step(c, e);
        if (rc)
            return rc;
    }
    int rc = write_factors(c, w, e);
    return rc ? rc : gguf_write_finish(w, e);
}

int convert_to_gguf(struct conversion *c, const char *folder, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 16];
    struct gguf_writer *w = NULL;
    struct gguf_plan p = {0};
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    int rc = gguf_writer_create(path, &w, e);
    if (!rc && !(rc = make_plan(c, &p, e)) && !(rc = write_keys(c, w, e)) &&
        !(rc = announce(c, &p, w, e)))
        rc = write_tensors(c, &p, w, e);
    mem_free(p.parts);
    gguf_writer_destroy(w);
    return rc;
}
