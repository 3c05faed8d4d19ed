/*
 * merge: the factors are decoded to F32 once; they are small. Each of the adapter's tensors belongs
 * to one matrix of the family, several of ours where the family joins them (GPT-2's q, k and v):
 * those share A, and each has its rows of B.
 */
#include "runtime/convert/merge.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/mem.h"
#include "kernels/quant.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/dora.h"
#include "runtime/model/lora.h"
#include "runtime/train/adapterhub.h"

#include <math.h>

#define CONFIG_LIMIT (8 << 20)
#define PREFIX       "base_model.model."

struct merge {
    char folder[LIMIT_PATH_BYTES];
    struct json *config;
    struct safetensors *file;
    const struct tensors *all;
    struct merge_factors *tensors; /* (all->count), by order */
    bool *used;                    /* of the file's tensors */
    bool adaptive;                 /* AdaLoRA */
    bool shapes;                   /* no numbers are wanted */
};

/* -- adapter_config.json -- */

static bool says_something(const struct json *v)
{
    const char *text = json_string_value(v);
    return v && !json_is_null(v) && !(json_is_bool(v) && !json_bool_value(v)) &&
        !((json_is_array(v) || json_is_object(v)) && !json_count(v)) &&
        !(text && (!*text || !strcmp(text, "none")));
}

/* Is it no regular expression, but for the points of a name? */
static bool is_plain(const char *pattern)
{
    return !pattern[strspn(
        pattern, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")];
}

static int check_config(struct merge *m, struct err *e)
{
    static const char *const refused[] = {"lora_bias", "bias", "modules_to_save",
        "layer_replication", "use_qalora", "alora_invocation_tokens", "target_parameters",
        "trainable_token_indices", "megatron_config", "use_bdlora", "arrow_config"};
    const char *type = json_str(m->config, "peft_type", "");
    if (adapterhub_is(m->config))
        return err_set(e, ERR_DATA,
            "%s: an adapter behind sub-layers is not linear, so no matrix can take it up; it is "
            "not merged",
            m->folder);
    m->adaptive = !strcmp(type, "ADALORA");
    if (strcmp(type, "LORA") && !m->adaptive)
        return err_set(
            e, ERR_DATA, "%s: peft_type \"%.40s\"; what is merged: LORA, ADALORA", m->folder, type);
    if (m->adaptive && json_bool(m->config, "use_dora", false))
        return err_set(e, ERR_DATA, "%s: an ADALORA with use_dora is not merged", m->folder);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (says_something(json_get(m->config, refused[i])))
            return err_set(
                e, ERR_DATA, "%s: an adapter with %s is not merged", m->folder, refused[i]);
    const struct json *alpha = json_get(m->config, "lora_alpha");
    if (alpha && !json_is_number(alpha))
        return err_set(e, ERR_DATA, "%s: lora_alpha is no number", m->folder);
    json_each (v, json_get(m->config, "alpha_pattern")) {
        if (!json_is_number(v))
            return err_set(
                e, ERR_DATA, "%s: alpha_pattern \"%.60s\" is no number", m->folder, json_key(v));
        if (!is_plain(json_key(v)))
            return err_set(e, ERR_DATA,
                "%s: alpha_pattern \"%.60s\": expressions are not supported", m->folder,
                json_key(v));
    }
    return 0;
}

/* A pattern names the end of a module's name, whole components of it. */
static double number_of(const struct merge *m, const char *patterns, const char *module,
    const char *key, double fallback)
{
    size_t n = strlen(module);
    json_each (v, json_get(m->config, patterns)) {
        size_t k = strlen(json_key(v));
        if (n >= k && !strcmp(module + n - k, json_key(v)) && (n == k || module[n - k - 1] == '.'))
            return json_number_value(v);
    }
    return json_num(m->config, key, fallback);
}

static double alpha_of(const struct merge *m, const char *module)
{
    return number_of(m, "alpha_pattern", module, "lora_alpha", 8);
}

/* Of the ranks that AdaLoRA leaves over the tensors alone tell, and of those that expressions name
   only peft. */
static int check_rank(const struct merge *m, const char *module, int64_t rank, struct err *e)
{
    json_each (v, json_get(m->config, "rank_pattern"))
        if (!is_plain(json_key(v)))
            return 0;
    double says = number_of(m, "rank_pattern", module, "r", (double)rank);
    if (m->adaptive || says == (double)rank)
        return 0;
    return err_set(e, ERR_DATA, "%s: %.100s has rank %lld, and adapter_config.json says %g",
        m->folder, module, (long long)rank, says);
}

/* -- factors -- */

/* The file's tensor "base_model.model.<module>.<which>"; -1: there is none. */
static int find_factor(const struct merge *m, const struct family_place *p, const char *which)
{
    char name[2 * SAFETENSORS_NAME_BYTES];
    for (int skip = 0; skip <= p->optional; skip += p->optional ? p->optional : 1) {
        int n = (int)(strlen(p->name + skip) - strlen(".weight"));
        snprintf(name, sizeof name, PREFIX "%.*s.%s", n, p->name + skip, which);
        for (int i = 0; i < safetensors_count(m->file); i++)
            if (!strcmp(safetensors_at(m->file, i)->name, name))
                return i;
    }
    return -1;
}

static int check_shape(const struct merge *m, const struct safetensors_tensor *t, int64_t rows,
    int64_t columns, struct err *e)
{
    bool typed = t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16;
    if (typed && t->dims == 2 && t->shape[0] == rows && t->shape[1] == columns)
        return 0;
    return err_set(e, ERR_DATA, "%s: tensor %.150s does not fit the model", m->folder, t->name);
}

static float *decoded(
    const struct merge *m, const struct safetensors_tensor *t, int64_t first, int64_t count)
{
    size_t room = m->shapes ? 0 : (size_t)count;
    float *out = mem_array(room + 1, sizeof *out); /* of nothing, too */
    if (out && !m->shapes)
        quant_decode(t->type, t->data + first * dtype_block_bytes(t->type), count, out);
    return out;
}

static int take_factors(struct merge *m, const struct tensor *t, const struct family_place *p,
    int at_a, int at_b, struct err *e)
{
    const struct safetensors_tensor *a = safetensors_at(m->file, at_a);
    const struct safetensors_tensor *b = safetensors_at(m->file, at_b);
    struct merge_factors *x = &m->tensors[t->order];
    int64_t out = p->shape[p->transposed ? 1 : 0], rank = a->dims == 2 ? a->shape[0] : 0;
    char module[sizeof p->name];
    int rc;
    if (rank < (m->adaptive ? 0 : 1) || rank > INT32_MAX || a->dims != 2)
        return err_set(e, ERR_DATA, "%s: tensor %.150s does not fit the model", m->folder, a->name);
    if ((rc = check_shape(m, a, rank, t->shape[1], e)) || (rc = check_shape(m, b, out, rank, e)))
        return rc;
    snprintf(module, sizeof module, "%.*s", (int)(strlen(p->name) - strlen(".weight")), p->name);
    if ((rc = check_rank(m, module, rank, e)))
        return rc;
    double root = json_bool(m->config, "use_rslora", false) ? sqrt((double)rank) : (double)rank;
    x->scale = (float)(alpha_of(m, module) / root);
    x->rank = rank;
    x->a = decoded(m, a, 0, rank * t->shape[1]);
    x->b = decoded(m, b, p->first * rank, t->shape[0] * rank);
    m->used[at_a] = m->used[at_b] = true;
    return x->a && x->b ? 0 : err_set(e, ERR_MEMORY, "%s: no memory to merge it", m->folder);
}

/* Singular values go into A. Of a module that keeps none, all three are there without elements. */
static int take_values(
    struct merge *m, const struct tensor *t, const struct family_place *p, int at_a, struct err *e)
{
    const struct safetensors_tensor *a = safetensors_at(m->file, at_a);
    struct merge_factors *x = &m->tensors[t->order];
    int at = find_factor(m, p, "lora_E"), at_count = find_factor(m, p, "ranknum");
    int64_t rank = a->dims == 2 ? a->shape[0] : 0;
    double count = json_num(m->config, "init_r", 12);
    int rc;
    if (at < 0)
        return err_set(
            e, ERR_DATA, "%s: ADALORA, but no singular values of %.100s", m->folder, p->name);
    m->used[at] = true;
    if ((rc = check_shape(m, safetensors_at(m->file, at), rank, 1, e)))
        return rc;
    if (at_count >= 0) { /* some versions of peft save it */
        const struct safetensors_tensor *n = safetensors_at(m->file, at_count);
        if (n->type != DTYPE_F32 || n->bytes != sizeof(float))
            return err_set(
                e, ERR_DATA, "%s: tensor %.150s does not fit the model", m->folder, n->name);
        float value;
        memcpy(&value, n->data, sizeof value);
        count = (double)value;
        m->used[at_count] = true;
    }
    x->scale = lora_adaptive_scale(json_num(m->config, "lora_alpha", 8), count);
    if (m->shapes)
        return 0;
    mem_autofree float *values = decoded(m, safetensors_at(m->file, at), 0, rank);
    if (!values)
        return err_set(e, ERR_MEMORY, "%s: no memory to merge it", m->folder);
    lora_apply_values(x->a, values, rank, t->shape[1]);
    return 0;
}

static int take_lengths(
    struct merge *m, const struct tensor *t, const struct family_place *p, struct err *e)
{
    int at = find_factor(m, p, "lora_magnitude_vector");
    if (at < 0)
        return err_set(
            e, ERR_DATA, "%s: use_dora, but no magnitudes of %.100s", m->folder, p->name);
    const struct safetensors_tensor *x = safetensors_at(m->file, at);
    bool typed = x->type == DTYPE_F32 || x->type == DTYPE_F16 || x->type == DTYPE_BF16;
    if (!typed || x->dims != 1 || x->shape[0] != p->shape[p->transposed ? 1 : 0])
        return err_set(e, ERR_DATA, "%s: tensor %.150s does not fit the model", m->folder, x->name);
    m->tensors[t->order].m = decoded(m, x, p->first, t->shape[0]);
    m->used[at] = true;
    return m->tensors[t->order].m ? 0
                                  : err_set(e, ERR_MEMORY, "%s: no memory to merge it", m->folder);
}

static int take_tensors(struct merge *m, const struct model_config *c, struct err *e)
{
    for (int i = 0; i < m->all->count; i++) {
        const struct tensor *t = &m->all->at[i];
        struct family_place p;
        if (t->part != TENSOR_WEIGHT || t->dims != 2 || t->layer < 0)
            continue;
        family_place(c, m->all, t, FAMILY_HF, &p);
        int a = find_factor(m, &p, m->adaptive ? "lora_A" : "lora_A.weight");
        int b = find_factor(m, &p, m->adaptive ? "lora_B" : "lora_B.weight");
        if (a < 0 || b < 0)
            continue;
        int rc = take_factors(m, t, &p, a, b, e);
        if (!rc && m->adaptive)
            rc = take_values(m, t, &p, a, e);
        else if (!rc && json_bool(m->config, "use_dora", false))
            rc = take_lengths(m, t, &p, e);
        if (rc)
            return rc;
    }
    for (int i = 0; i < safetensors_count(m->file); i++)
        if (!m->used[i])
            return err_set(e, ERR_DATA, "%s: tensor %.100s belongs to no matrix of this %s model",
                m->folder, safetensors_at(m->file, i)->name, c->architecture);
    return 0;
}

/* -- life -- */

static int open_files(struct merge *m, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/adapter_config.json", m->folder);
    int rc = json_read_file(path, CONFIG_LIMIT, &m->config, e);
    if (rc || (rc = check_config(m, e)))
        return rc;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", m->folder);
    return safetensors_open(path, &m->file, e);
}

static int open_all(struct merge *m, const struct model_config *c, struct err *e)
{
    int rc = open_files(m, e);
    if (rc)
        return rc;
    m->tensors = mem_array((size_t)m->all->count, sizeof *m->tensors);
    m->used = mem_array((size_t)safetensors_count(m->file) + 1, sizeof *m->used);
    if (!m->tensors || !m->used)
        return err_set(e, ERR_MEMORY, "%s: no memory to merge it", m->folder);
    return take_tensors(m, c, e);
}

static int open_merge(const char *folder, const struct model_config *c, const struct tensors *all,
    bool shapes, struct merge **out, struct err *e)
{
    struct merge *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "%s: no memory to merge it", folder);
    snprintf(m->folder, sizeof m->folder, "%s", folder);
    m->all = all;
    m->shapes = shapes;
    int rc = open_all(m, c, e);
    if (rc) {
        merge_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int merge_open(const char *folder, const struct model_config *c, const struct tensors *all,
    struct merge **out, struct err *e)
{
    return open_merge(folder, c, all, false, out, e);
}

int merge_open_shapes(const char *folder, const struct model_config *c, const struct tensors *all,
    struct merge **out, struct err *e)
{
    return open_merge(folder, c, all, true, out, e);
}

static void forget_factors(struct merge_factors *x)
{
    mem_free(x->a);
    mem_free(x->b);
    mem_free(x->m);
    *x = (struct merge_factors){0};
}

void merge_forget(struct merge *m, const struct tensor *t)
{
    forget_factors(&m->tensors[t->order]);
}

void merge_close(struct merge *m)
{
    if (!m)
        return;
    for (int i = 0; m->tensors && i < m->all->count; i++)
        forget_factors(&m->tensors[i]);
    mem_free(m->tensors);
    mem_free(m->used);
    safetensors_close(m->file);
    json_destroy(m->config);
    mem_free(m);
}

bool merge_changes(const struct merge *m, const struct tensor *t)
{
    return m && m->tensors[t->order].b;
}

const struct merge_factors *merge_of(const struct merge *m, const struct tensor *t)
{
    return merge_changes(m, t) ? &m->tensors[t->order] : NULL;
}

void merge_add(const struct merge *m, const struct tensor *t, int64_t row, int64_t rows, float *w)
{
    const struct merge_factors *x = &m->tensors[t->order];
    int64_t columns = t->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        lora_merge(
            w + r * columns, x->a, x->b + (row + r) * x->rank, 1, columns, x->rank, x->scale);
        if (x->m)
            dora_merge(w + r * columns, x->m + row + r, 1, columns);
    }
}
