/*
 * adapterhub: names, configuration and values; one table says what each part of an adapter is
 * called. Files come from strangers: shapes are checked against the model's before a value is read.
 */
#include "runtime/train/adapterhub.h"

#include "base/io.h"
#include "base/mem.h"
#include "kernels/quant.h"
#include "runtime/family/family.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/bottleneck.h"

#define CONFIG_BYTES (1 << 20)
#define VERSION      "adapters.1.3.0"
#define SIZE_MOST    65536 /* columns inside an adapter */

static const char *const part_names[TENSOR_PARTS] = {
    [TENSOR_ADAPTER_DOWN] = "adapter_down.0.weight",
    [TENSOR_ADAPTER_DOWN_BIAS] = "adapter_down.0.bias",
    [TENSOR_ADAPTER_UP] = "adapter_up.weight",
    [TENSOR_ADAPTER_UP_BIAS] = "adapter_up.bias",
};

static const char *const activations[] = {
    [ADAPTER_RELU] = "relu", [ADAPTER_GELU] = "gelu", [ADAPTER_SILU] = "swish"};
#define ACTIVATIONS (sizeof activations / sizeof *activations)

/* The file's tensor, of an adapter that is called `adapter` there. */
static void name_part(const struct model_config *c, const struct tensor *t, const char *adapter,
    char out[SAFETENSORS_NAME_BYTES])
{
    char stem[128];
    family_adapter(c, t->layer, t->role == TENSOR_O, stem);
    snprintf(
        out, SAFETENSORS_NAME_BYTES, "%s.adapters.%.48s.%s", stem, adapter, part_names[t->part]);
}

/* -- writing -- */

static bool is_of_adapter(const struct tensor *t)
{
    return part_names[t->part];
}

static void begin_config(const struct export *x, const char *name, struct jsonw *w)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "model_type", x->config->architecture);
    jsonw_int(w, "hidden_size", x->config->dim);
    jsonw_str(w, "model_name", x->spec->model.source);
    jsonw_str(w, "model_class", family_class(x->config));
    jsonw_str(w, "name", name);
    jsonw_str(w, "version", VERSION);
}

/* What is not said is as SeqBnConfig and DoubleSeqBnConfig have it. */
static int adapter_config(const struct export *x, struct buf *out)
{
    const struct jobspec_train *t = &x->spec->train;
    bool houlsby = t->adapter.kind == ADAPTER_HOULSBY;
    struct jsonw w;
    jsonw_init(&w, out);
    begin_config(x, x->spec->name, &w);
    jsonw_open(&w, "config", '{');
    jsonw_bool(&w, "mh_adapter", houlsby);
    jsonw_bool(&w, "output_adapter", true);
    jsonw_int(&w, "reduction_factor", t->adapter.reduction_factor);
    jsonw_str(&w, "non_linearity", activations[t->adapter.activation]);
    jsonw_bool(&w, "original_ln_before", !houlsby);
    jsonw_bool(&w, "original_ln_after", true);
    jsonw_bool(&w, "residual_before_ln", true);
    jsonw_bool(&w, "adapter_residual_before_ln", false);
    jsonw_bool(&w, "ln_before", false);
    jsonw_bool(&w, "ln_after", false);
    jsonw_str(&w, "init_weights", "bert");
    jsonw_bool(&w, "is_parallel", false);
    jsonw_close(&w);
    jsonw_close(&w);
    return jsonw_end(&w);
}

static int head_config(const struct export *x, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    begin_config(x, NULL, &w);
    jsonw_null(&w, "config");
    jsonw_int(&w, "num_labels", x->config->labels);
    jsonw_open(&w, "label2id", '{');
    for (int i = 0; i < x->config->labels; i++) {
        char number[32];
        snprintf(number, sizeof number, "LABEL_%d", i);
        jsonw_int(&w, x->labels ? x->labels[i] : number, i);
    }
    jsonw_close(&w);
    jsonw_close(&w);
    return jsonw_end(&w);
}

static void describe(const struct export *x, const struct tensor *t, struct safetensors_entry *out)
{
    struct family_place place;
    *out = (struct safetensors_entry){.type = DTYPE_F32,
        .dims = t->dims,
        .shape = {t->shape[0], t->shape[1]},
        .bytes = t->count * 4};
    if (is_of_adapter(t)) {
        name_part(x->config, t, x->spec->name, out->name);
        return;
    }
    family_place(x->config, model_base(x->model), t, FAMILY_HF, &place);
    snprintf(out->name, sizeof out->name, "%s", place.name);
}

static int add_values(
    const struct export *x, const struct tensor *t, struct buf *file, struct err *e)
{
    mem_autofree float *values = mem_array((size_t)t->count, sizeof *values);
    if (!values)
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    int rc = model_read(x->model, t->name, false, values, t->count, e);
    if (rc)
        return rc;
    return buf_add(file, values, (size_t)t->count * sizeof *values)
        ? err_set(e, ERR_MEMORY, "no memory to export the adapter")
        : 0;
}

/* Of what is trained, that which is or is not of the adapter itself. */
static int write_tensors(const struct export *x, bool adapter, const char *path, struct err *e)
{
    const struct tensors *all = model_trained(x->model);
    mem_autofree struct safetensors_entry *entry = mem_array((size_t)all->count, sizeof *entry);
    buf_auto struct buf file;
    int n = 0;
    buf_init(&file, SIZE_MAX / 2);
    if (!entry)
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    for (int i = 0; i < all->count; i++)
        if (is_of_adapter(&all->at[i]) == adapter)
            describe(x, &all->at[i], &entry[n++]);
    int rc = safetensors_header(entry, n, (const char *const[]){"format", "pt", NULL}, 0, &file, e);
    for (int i = 0; i < all->count && !rc; i++)
        if (is_of_adapter(&all->at[i]) == adapter)
            rc = add_values(x, &all->at[i], &file, e);
    return rc ? rc : io_write_new(path, file.data, file.len, 0644, e);
}

static int write_part(const struct export *x, bool adapter, const char *folder, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    buf_auto struct buf config;
    buf_init(&config, CONFIG_BYTES);
    if (adapter ? adapter_config(x, &config) : head_config(x, &config))
        return err_set(e, ERR_MEMORY, "no memory to export the adapter");
    snprintf(path, sizeof path, "%s/%s_config.json", folder, adapter ? "adapter" : "head");
    int rc = io_write_new(path, config.data, config.len, 0644, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, adapter ? "adapter" : "model_head");
    return write_tensors(x, adapter, path, e);
}

int adapterhub_write(const struct export *x, const char *folder, struct err *e)
{
    int rc = write_part(x, true, folder, e);
    return rc || !x->config->labels ? rc : write_part(x, false, folder, e);
}

/* -- reading -- */

struct adapterhub {
    char folder[LIMIT_PATH_BYTES];
    const struct model_config *config;
    struct json *json;
    const char *name; /* of the adapter */
    struct safetensors *file;
    enum adapter_kind kind;
    enum adapter_activation activation;
    int64_t size;
    struct model_values values;
};

bool adapterhub_is(const struct json *config)
{
    return json_is_object(json_get(config, "config")) && !json_get(config, "peft_type");
}

/* What the configuration must say, or not mention. */
static int check_same(const struct adapterhub *a, const struct json *c, struct err *e)
{
    static const struct {
        const char *key;
        bool is;
    } rows[] = {{"original_ln_after", true}, {"residual_before_ln", true},
        {"adapter_residual_before_ln", false}, {"ln_before", false}, {"ln_after", false},
        {"is_parallel", false}, {"use_gating", false}, {"phm_layer", false},
        {"cross_adapter", false}, {"output_adapter", true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct json *v = json_get(c, rows[i].key);
        if (v && (!json_is_bool(v) || json_bool_value(v) != rows[i].is))
            return err_set(e, ERR_DATA, "%s: an adapter whose %s is not %s is not supported",
                a->folder, rows[i].key, rows[i].is ? "true" : "false");
    }
    static const char *const none[] = {"inv_adapter", "architecture"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (json_get(c, none[i]) && !json_is_null(json_get(c, none[i])))
            return err_set(
                e, ERR_DATA, "%s: an adapter with %s is not supported", a->folder, none[i]);
    if (json_count(json_get(c, "leave_out")))
        return err_set(e, ERR_DATA, "%s: an adapter with leave_out is not supported", a->folder);
    const struct json *scaling = json_get(c, "scaling");
    if (scaling && !(json_is_number(scaling) && json_number_value(scaling) == 1))
        return err_set(
            e, ERR_DATA, "%s: an adapter whose scaling is not 1 is not supported", a->folder);
    return 0;
}

static int read_config(struct adapterhub *a, struct err *e)
{
    const struct json *c = json_get(a->json, "config");
    const char *word = json_str(c, "non_linearity", "");
    a->name = json_str(a->json, "name", "");
    int rc = check_same(a, c, e);
    if (rc)
        return rc;
    bool attention = json_bool(c, "mh_adapter", false);
    bool before = json_bool(c, "original_ln_before", false);
    if (attention == before)
        return err_set(e, ERR_DATA,
            "%s: an adapter with mh_adapter and original_ln_before both %s is neither Houlsby's "
            "nor Pfeiffer's",
            a->folder, before ? "true" : "false");
    a->kind = attention ? ADAPTER_HOULSBY : ADAPTER_PFEIFFER;
    word = !strcmp(word, "silu") ? "swish" : word;
    for (size_t i = 0; i < ACTIVATIONS; i++)
        if (!strcmp(word, activations[i])) {
            a->activation = (enum adapter_activation)i;
            return 0;
        }
    return err_set(e, ERR_DATA,
        "%s: non_linearity \"%.40s\" is not supported; relu, gelu, swish and silu are", a->folder,
        word);
}

/* Files of a bare body leave out the first component of names. */
static const struct safetensors_tensor *find_part(
    const struct adapterhub *a, const struct tensor *t)
{
    char name[SAFETENSORS_NAME_BYTES];
    name_part(a->config, t, a->name, name);
    const struct safetensors_tensor *x = safetensors_find(a->file, name);
    return x ? x : safetensors_find(a->file, strchr(name, '.') + 1);
}

static bool fits(const struct safetensors_tensor *x, const struct tensor *t)
{
    bool typed = x->type == DTYPE_F32 || x->type == DTYPE_F16 || x->type == DTYPE_BF16;
    return typed && x->dims == t->dims && x->shape[0] == t->shape[0] &&
        (x->dims == 1 || x->shape[1] == t->shape[1]);
}

static int read_values(const void *of, const struct tensor *t, float *out, struct err *e)
{
    const struct adapterhub *a = of;
    const struct safetensors_tensor *x = find_part(a, t);
    if (!x || !fits(x, t))
        return err_set(e, ERR_BUG, "%s: no %s", a->folder, t->name);
    quant_decode(x->type, x->data, t->count, out);
    return 0;
}

/* The size inside is that of the first one; all must have it. */
static int check_tensors(struct adapterhub *a, struct err *e)
{
    const struct tensor first = {.role = TENSOR_DOWN, .part = TENSOR_ADAPTER_DOWN};
    const struct safetensors_tensor *x = find_part(a, &first);
    struct tensors all = {0};
    int rc;
    if (!x)
        return err_set(e, ERR_DATA, "%s: no adapter \"%.48s\" of this %s model in it", a->folder,
            a->name, a->config->architecture);
    if (x->dims != 2 || x->shape[0] < 1 || x->shape[0] > SIZE_MOST)
        return err_set(e, ERR_DATA, "%s: tensor %.150s does not fit the model", a->folder, x->name);
    a->size = x->shape[0];
    struct model_conf c = {.config = *a->config};
    c.config.labels = 0; /* a classifier has a file of its own */
    adapterhub_serve(a, &c);
    if ((rc = bottleneck_tensors(&c, &all, e)))
        return rc;
    for (int i = 0; i < all.count && !rc; i++) {
        x = find_part(a, &all.at[i]);
        if (!x)
            rc = err_set(e, ERR_DATA, "%s: no %s", a->folder, all.at[i].name);
        else if (!fits(x, &all.at[i]))
            rc = err_set(
                e, ERR_DATA, "%s: tensor %.150s does not fit the model", a->folder, x->name);
    }
    if (!rc && safetensors_count(a->file) != all.count)
        rc = err_set(e, ERR_DATA, "%s: %d tensors, and this %s model's adapter has %d", a->folder,
            safetensors_count(a->file), a->config->architecture, all.count);
    tensors_done(&all);
    return rc;
}

static int open_file(struct adapterhub *a, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 32];
    int rc = read_config(a, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/adapter.safetensors", a->folder);
    if (!io_exists(path))
        return err_set(e, ERR_DATA,
            "%s: no adapter.safetensors; save_adapter writes it with use_safetensors=True",
            a->folder);
    rc = safetensors_open(path, &a->file, e);
    return rc ? rc : check_tensors(a, e);
}

int adapterhub_open(
    const char *folder, const struct model_config *c, struct adapterhub **out, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 32];
    struct adapterhub *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(e, ERR_MEMORY, "%s: no memory to open it", folder);
    snprintf(a->folder, sizeof a->folder, "%s", folder);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    a->config = c;
    a->values = (struct model_values){read_values, a};
    int rc = json_read_file(path, CONFIG_BYTES, &a->json, e);
    bool is = !rc && adapterhub_is(a->json);
    if (is)
        rc = open_file(a, e);
    if (rc || !is) {
        adapterhub_close(a);
        a = NULL;
    }
    if (!rc)
        *out = a;
    return rc;
}

void adapterhub_close(struct adapterhub *a)
{
    if (!a)
        return;
    safetensors_close(a->file);
    json_destroy(a->json);
    mem_free(a);
}

void adapterhub_serve(const struct adapterhub *a, struct model_conf *c)
{
    if (!a)
        return;
    c->adapter_size = a->size;
    c->adapter_kind = a->kind;
    c->adapter_activation = a->activation;
    c->adapter = &a->values;
}
