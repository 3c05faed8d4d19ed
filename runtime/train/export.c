/*
 * export: tensors leave the device one by one through one host buffer of the largest. The folder
 * appears whole or not at all (output.h renames it into place), the adapter in it, by the names and
 * shapes that peft uses. Where the family keeps several of our matrices in one module (GPT-2's q, k
 * and v), their factors become one pair of as many times the rank: the A's one below the other, the
 * B's as blocks on the diagonal. A classifier that was trained beside them is in the adapter too.
 *
 * Of AdaLoRA peft saves, of each module, what belongs to singular values that stay, and which these
 * are, of as many everywhere; where modules have several pieces the others' missing ones are among
 * those that do not stay.
 */
#include "runtime/train/export.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/family/family.h"
#include "runtime/family/pooling.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/shares.h"
#include "runtime/text/tok_write.h"
#include "runtime/train/adapterhub.h"
#include "runtime/train/output.h"

#include <math.h>

#define CONFIG_BYTES (8 << 20) /* of an adapter: of AdaLoRA a word a value */

static int64_t largest(struct model *m)
{
    const struct tensors *base = model_whole_base(m);
    int64_t most = 0;
    for (int i = 0; i < base->count; i++)
        if (base->at[i].count > most)
            most = base->at[i].count;
    return most;
}

static int write_merged(
    struct model *m, struct hf_writer *w, enum dtype store, struct wire_page *page, struct err *e)
{
    mem_autofree float *host = mem_array((size_t)largest(m), sizeof *host);
    if (!host)
        return err_set(e, ERR_MEMORY, "no memory to export the model");
    const struct tensors *base = model_whole_base(m);
    for (int i = 0; i < base->count; i++) {
        const struct tensor *p = &base->at[i];
        int rc = shares_read(m, p->name, true, host, p->count, e);
        if (!rc)
            rc = hf_writer_tensor(w, p->name, p->dims, p->shape, host, store, e);
        beat(page);
        if (rc)
            return rc;
    }
    return 0;
}

/* -- the adapter -- */

struct module {       /* a matrix of the family that is adapted */
    char name[128];   /* "model.layers.0.self_attn.q_proj" */
    const char *leaf; /* the end of name */
    int64_t in, out;
    int pieces; /* of our matrices */
};

struct adapter {
    struct model *m;
    const struct model_config *config;
    struct module *modules;
    int count;
    const struct tensors *factors; /* and behind them a classifier, or lengths of rows */
    int n;                         /* factors */
    int *of;                       /* (factors): the module of each */
    int64_t *first;                /* (factors): where an A's or a B's rows begin there */
    int64_t rank;
    int each;      /* tensors of a module: A, B, and with AdaLoRA E */
    int64_t width; /* of AdaLoRA: values that a module begins with */
    float *values; /* (modules, width); 0: it does not stay. NULL: no AdaLoRA */
};

static bool is_a(const struct tensor *p)
{
    return p->part == TENSOR_LORA_A;
}

static bool is_factor(const struct tensor *p)
{
    return p->part == TENSOR_LORA_A || p->part == TENSOR_LORA_B;
}

/* The last components of a module's name, one or two. */
static const char *end_of(const char *name, bool two)
{
    const char *dot = strrchr(name, '.');
    while (two && dot > name && *--dot != '.')
        ;
    return dot + 1;
}

/* Do matrices of other roles end in it? */
static bool is_shared(const struct tensors *base, const struct model_config *c,
    enum tensor_role role, const char *end)
{
    for (int i = 0; i < base->count; i++) {
        const struct tensor *p = &base->at[i];
        struct family_place place;
        if (p->layer < 0 || p->part != TENSOR_WEIGHT || p->dims != 2 || p->role == role)
            continue;
        family_place(c, base, p, FAMILY_HF, &place);
        place.name[strlen(place.name) - strlen(".weight")] = 0;
        if (!strcmp(end_of(place.name, false), end))
            return true;
    }
    return false;
}

/* What peft looks for at the end of a module's name: "q_proj"; two components where one is not
   unique (GPT-2's "attn.c_proj", "mlp.c_proj"), all where two are not (BERT's "output.dense"). */
static const char *leaf_of(const struct tensors *base, const struct model_config *c,
    enum tensor_role role, const char *name)
{
    if (family_of(c)->hf_transposed)
        return end_of(name, true);
    const char *end = end_of(name, false);
    return is_shared(base, c, role, end) ? name : end;
}

static struct module *module_of(struct adapter *a, const struct model_config *c,
    const struct family_place *place, enum tensor_role role, int64_t in)
{
    bool body = c->bidirectional && !c->labels; /* a class whose names begin with the layers' */
    const char *name = place->name + (body ? place->optional : 0);
    size_t n = strlen(name) - strlen(".weight");
    struct module *x = a->modules;
    for (; x < a->modules + a->count; x++)
        if (strlen(x->name) == n && !strncmp(x->name, name, n))
            return x;
    a->count++;
    snprintf(x->name, sizeof x->name, "%.*s", (int)n, name);
    x->leaf = leaf_of(model_whole_base(a->m), c, role, x->name);
    x->in = in;
    x->out = place->shape[place->transposed ? 1 : 0];
    return x;
}

static int list_modules(struct adapter *a, const struct model_config *c, struct err *e)
{
    const struct tensors *base = model_whole_base(a->m);
    int n = 0;
    while (n < a->factors->count && is_factor(&a->factors->at[n]))
        n++;
    a->n = n;
    a->modules = mem_array((size_t)n, sizeof *a->modules);
    a->of = mem_array((size_t)n, sizeof *a->of);
    a->first = mem_array((size_t)n, sizeof *a->first);
    if (!a->modules || !a->of || !a->first)
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    for (int i = 0; i < n; i++) {
        const struct tensor *p = &a->factors->at[i];
        struct family_place place;
        family_place(c, base, tensors_get(base, p->role, TENSOR_WEIGHT, p->layer, p->expert),
            FAMILY_HF, &place);
        struct module *x = module_of(a, c, &place, p->role, p->shape[1]); /* A before B */
        a->of[i] = (int)(x - a->modules);
        a->first[i] = is_a(p) ? a->rank * x->pieces++ : place.first;
    }
    return 0;
}

/* Of AdaLoRA, when all modules are known. */
static int read_values(struct adapter *a, struct err *e)
{
    int widest = 1;
    for (int i = 0; i < a->count; i++)
        widest = a->modules[i].pieces > widest ? a->modules[i].pieces : widest;
    a->width = a->rank * widest;
    a->values = mem_array((size_t)(a->count * a->width), sizeof *a->values);
    if (!a->values)
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    for (int i = 0; i < a->n; i++) {
        const struct tensor *p = &a->factors->at[i];
        const struct tensor *x =
            tensors_get(a->factors, p->role, TENSOR_LORA_E, p->layer, p->expert);
        float *to = a->values + a->of[i] * a->width + a->first[i];
        int rc = is_a(p) ? shares_read(a->m, x->name, false, to, x->count, e) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int64_t kept_of(const struct adapter *a, int module)
{
    int64_t n = 0;
    for (int64_t j = 0; j < a->width; j++)
        n += a->values[module * a->width + j] != 0;
    return n;
}

/* Of modules of several pieces: as many times `each`, or the root of that. */
static void write_pattern(
    const struct adapter *a, struct jsonw *w, const char *key, double each, bool root)
{
    jsonw_open(w, key, '{');
    for (int i = 0; i < a->count; i++)
        if (a->modules[i].pieces > 1)
            jsonw_num(w, a->modules[i].leaf,
                each * (root ? sqrt(a->modules[i].pieces) : a->modules[i].pieces));
    jsonw_close(w);
}

/* Every layer has modules of the same names: is it the first of its own? */
static bool first_of_leaf(const struct adapter *a, int module)
{
    for (int i = 0; i < module; i++)
        if (!strcmp(a->modules[i].leaf, a->modules[module].leaf))
            return false;
    return true;
}

/* NULL: peft has no name for it. */
static const char *task_of(const struct model_config *c)
{
    if (c->masked)
        return NULL;
    if (!c->labels)
        return c->bidirectional ? "FEATURE_EXTRACTION" : "CAUSAL_LM";
    return model_config_tells_texts(c) ? "SEQ_CLS" : "TOKEN_CLS";
}

/* scale * alpha is what peft divides by the number of values that a module begins with. */
static void write_adalora(const struct adapter *a, struct jsonw *w, const struct export *x)
{
    const struct jobspec_train *t = &x->spec->train;
    double alpha = t->lora.alpha > 0 ? t->lora.alpha : (double)a->rank;
    if (a->width != a->rank)
        alpha *= ((double)a->width + 1e-5) / ((double)a->rank + 1e-5);
    jsonw_num(w, "lora_alpha", alpha);
    jsonw_int(w, "init_r", a->width);
    jsonw_int(w, "target_r", t->lora.rank);
    jsonw_int(w, "tinit", t->lora.adalora.initial_steps);
    jsonw_int(w, "tfinal", t->lora.adalora.final_steps);
    jsonw_int(w, "deltaT", t->lora.adalora.interval);
    jsonw_num(w, "beta1", t->lora.adalora.beta1);
    jsonw_num(w, "beta2", t->lora.adalora.beta2);
    jsonw_num(w, "orth_reg_weight", t->lora.adalora.orthogonal_weight);
    jsonw_int(w, "total_step", x->steps);
    jsonw_open(w, "rank_pattern", '{');
    for (int i = 0; i < a->count; i++) {
        char name[sizeof a->modules->name + 16];
        snprintf(name, sizeof name, "%s.lora_E", a->modules[i].name);
        jsonw_open(w, name, '[');
        for (int64_t j = 0; j < a->width; j++)
            jsonw_bool(w, NULL, a->values[i * a->width + j] != 0);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static void write_lora(const struct adapter *a, struct jsonw *w, const struct jobspec_train *t)
{
    jsonw_int(w, "r", t->lora.rank);
    jsonw_num(w, "lora_alpha", t->lora.alpha);
    if (t->lora.rank_stabilized)
        jsonw_bool(w, "use_rslora", true);
    if (t->lora.dora)
        jsonw_bool(w, "use_dora", true);
    write_pattern(a, w, "rank_pattern", t->lora.rank, false);
    write_pattern(a, w, "alpha_pattern", t->lora.alpha, t->lora.rank_stabilized);
}

static int adapter_config(const struct adapter *a, const struct export *x, struct buf *out)
{
    const struct jobspec_train *t = &x->spec->train;
    const struct model_config *c = x->config;
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "peft_type", a->values ? "ADALORA" : "LORA");
    if (task_of(c))
        jsonw_str(&w, "task_type", task_of(c));
    else
        jsonw_null(&w, "task_type");
    jsonw_str(&w, "base_model_name_or_path", x->spec->model.source);
    jsonw_num(&w, "lora_dropout", t->lora.dropout);
    jsonw_str(&w, "bias", "none");
    jsonw_bool(&w, "fan_in_fan_out", family_of(c)->hf_transposed);
    jsonw_bool(&w, "inference_mode", true);
    jsonw_open(&w, "target_modules", '[');
    for (int i = 0; i < a->count; i++)
        if (first_of_leaf(a, i))
            jsonw_str(&w, NULL, a->modules[i].leaf);
    jsonw_close(&w);
    if (c->labels) {
        jsonw_open(&w, "modules_to_save", '[');
        if (!c->last)
            jsonw_str(&w, NULL, "classifier");
        if (model_config_tells_texts(c))
            jsonw_str(&w, NULL, "score"); /* as peft has it, for models that call it so */
        jsonw_close(&w);
    }
    if (a->values)
        write_adalora(a, &w, x);
    else
        write_lora(a, &w, t);
    jsonw_close(&w);
    return jsonw_end(&w);
}

/* Factor i, put where it belongs in its module's A (rank, in) or B (out, rank). */
static int read_factor(const struct adapter *a, int i, float *stage, float *to, struct err *e)
{
    const struct tensor *p = &a->factors->at[i];
    int64_t width = a->rank * a->modules[a->of[i]].pieces, column = 0;
    int rc = shares_read(a->m, p->name, false, stage, p->count, e);
    if (rc)
        return rc;
    if (is_a(p)) {
        memcpy(to + a->first[i] * p->shape[1], stage, (size_t)p->count * 4);
        return 0;
    }
    for (int k = 0; k < i; k++)
        column += a->of[k] == a->of[i] && !is_a(&a->factors->at[k]) ? a->rank : 0;
    for (int64_t r = 0; r < p->shape[0]; r++)
        memcpy(to + (a->first[i] + r) * width + column, stage + r * a->rank, (size_t)a->rank * 4);
    return 0;
}

/* A tensor behind the factors, as it is. */
static void describe_saved(
    const struct adapter *a, const struct tensor *p, struct safetensors_entry *out)
{
    struct family_place place;
    family_place(a->config, model_whole_base(a->m), p, FAMILY_HF, &place);
    out->type = DTYPE_F32;
    out->dims = p->dims;
    out->shape[0] = p->shape[0];
    out->shape[1] = p->shape[1];
    out->bytes = p->count * 4;
    snprintf(out->name, sizeof out->name, "base_model.model.%s", place.name);
}

/* Of all that the module's pieces have; of AdaLoRA, what stays of it. */
static void describe(const struct adapter *a, int entry, bool whole, struct safetensors_entry *out)
{
    static const char *const names[] = {"lora_A", "lora_B", "lora_E"};
    int module = entry / a->each, which = entry % a->each;
    if (module >= a->count) {
        describe_saved(a, &a->factors->at[a->n + entry - a->each * a->count], out);
        return;
    }
    const struct module *x = &a->modules[module];
    int64_t rank = a->values && !whole ? kept_of(a, module) : a->rank * x->pieces;
    out->type = DTYPE_F32;
    out->dims = 2;
    out->shape[0] = which == 1 ? x->out : rank;
    out->shape[1] = which == 1 ? rank : which ? 1 : x->in;
    out->bytes = out->shape[0] * out->shape[1] * 4;
    snprintf(out->name, sizeof out->name, "base_model.model.%s.%s%s", x->name, names[which],
        a->values ? "" : ".weight");
}

/* Rows of w (rows, columns), or its columns, whose values do not stay are left out, in place. */
static void leave_out(
    const struct adapter *a, int module, bool of_columns, int64_t rows, int64_t columns, float *w)
{
    const float *value = a->values + module * a->width;
    int64_t n = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            if (value[of_columns ? j : i] != 0)
                w[n++] = w[i * columns + j];
}

/* What a module's pieces have of A, B or E, side by side. */
static int read_module(
    const struct adapter *a, int module, int which, float *stage, float *whole, struct err *e)
{
    if (which == 2) {
        memcpy(whole, a->values + module * a->width,
            (size_t)(a->rank * a->modules[module].pieces) * sizeof *whole);
        return 0;
    }
    for (int k = 0; k < a->n; k++) {
        if (a->of[k] != module || is_a(&a->factors->at[k]) != !which)
            continue;
        int rc = read_factor(a, k, stage, whole, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* Tensor `entry` of the file, which has `bytes`, appended to it. */
static int add_factor(const struct adapter *a, int entry, int64_t bytes, float *stage,
    struct buf *file, struct err *e)
{
    int module = entry / a->each, which = entry % a->each, rc;
    struct safetensors_entry x;
    describe(a, entry, true, &x);
    mem_autofree float *whole = mem_array((size_t)x.bytes, 1);
    if (!whole)
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    if (module >= a->count) {
        const struct tensor *p = &a->factors->at[a->n + entry - a->each * a->count];
        rc = shares_read(a->m, p->name, false, whole, p->count, e);
    } else {
        rc = read_module(a, module, which, stage, whole, e);
        if (!rc && a->values)
            leave_out(a, module, which == 1, x.shape[0], x.shape[1], whole);
    }
    if (!rc && buf_add(file, whole, (size_t)bytes))
        rc = err_set(e, ERR_MEMORY, "no memory to export the adapter");
    return rc;
}

static int write_factors(const struct adapter *a, const char *path, struct err *e)
{
    int saved = a->factors->count - a->n - (a->values ? a->n / 2 : 0); /* without the values */
    int count = a->each * a->count + saved;
    mem_autofree struct safetensors_entry *entry = mem_array((size_t)count, sizeof *entry);
    mem_autofree float *stage = mem_array((size_t)a->factors->elements, sizeof *stage);
    if (!entry || !stage)
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    for (int i = 0; i < count; i++)
        describe(a, i, false, &entry[i]);
    buf_auto struct buf file;
    buf_init(&file, SIZE_MAX / 2);
    int rc =
        safetensors_header(entry, count, (const char *const[]){"format", "pt", NULL}, 0, &file, e);
    for (int i = 0; i < count && !rc; i++)
        rc = add_factor(a, i, entry[i].bytes, stage, &file, e);
    return rc ? rc : io_write_new(path, file.data, file.len, 0644, e);
}

static int write_files(
    const struct adapter *a, const struct export *x, const char *folder, struct err *e)
{
    buf_auto struct buf config;
    buf_init(&config, CONFIG_BYTES);
    if (adapter_config(a, x, &config))
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    char path[LIMIT_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/adapter", folder);
    int rc = io_mkdirs(path, 0755, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", folder);
    rc = io_write_new(path, config.data, config.len, 0644, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", folder);
    return write_factors(a, path, e);
}

static int write_adapter(const struct export *x, const char *folder, struct err *e)
{
    const struct jobspec_train *t = &x->spec->train;
    bool adaptive = t->lora.adalora.initial_rank;
    struct adapter a = {.m = x->model,
        .config = x->config,
        .factors = model_whole_trained(x->model),
        .rank = adaptive ? t->lora.adalora.initial_rank : t->lora.rank,
        .each = adaptive ? 3 : 2};
    int rc = list_modules(&a, x->config, e);
    if (!rc && adaptive)
        rc = read_values(&a, e);
    if (!rc)
        rc = write_files(&a, x, folder, e);
    mem_free(a.modules);
    mem_free(a.of);
    mem_free(a.first);
    mem_free(a.values);
    return rc;
}

static int write_model(const struct export *x, const char *folder, struct err *e)
{
    struct hf_writer *w = NULL;
    int rc = hf_writer_create(folder, x->config, x->labels, &w, e);
    if (rc)
        return rc;
    rc = x->tokenizer_from ? tok_write(folder, x->tokenizer_from, x->config, e) : 0;
    if (!rc && !(rc = write_merged(x->model, w, x->store, x->page, e)))
        rc = hf_writer_finish(w, e);
    hf_writer_destroy(w);
    return rc;
}

/* What sentence-transformers makes embeddings of the model by. */
static int write_modules(const struct export *x, const char *folder, struct err *e)
{
    const struct pooling p = {
        .kind = POOLING_MEAN, .normalized = true, .tokens = x->spec->train.sequence_length};
    return pooling_write(folder, &p, x->config->dim, e);
}

static int write_report(const struct buf *report, const char *folder, struct err *e)
{
    if (!report || !report->len)
        return 0;
    char path[LIMIT_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/report.json", folder);
    return io_write_new(path, report->data, report->len, 0644, e);
}

static int write_all(const struct export *x, const char *folder, struct err *e)
{
    int rc = write_model(x, folder, e);
    if (rc || (x->embeds && (rc = write_modules(x, folder, e))))
        return rc;
    return x->spec->train.method == METHOD_LORA ? write_adapter(x, folder, e) : 0;
}

/* They are no part of any matrix: the model that they stand in remains what it was. */
static int write_bottlenecks(const struct export *x, const char *folder, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/adapter", folder);
    int rc = io_mkdirs(path, 0755, e);
    return rc ? rc : adapterhub_write(x, path, e);
}

int export_model(const struct export *x, struct err *e)
{
    output_auto struct output *o = NULL;
    int rc;
    if ((rc = output_create(x->spec, &o, e)) || (rc = write_report(x->report, output_folder(o), e)))
        return rc;
    rc = x->spec->train.method == METHOD_ADAPTER ? write_bottlenecks(x, output_folder(o), e)
                                                 : write_all(x, output_folder(o), e);
    if (rc)
        return rc;
    return output_commit(o, e);
}
