/*
 * pooling: modules.json lists modules by class and folder: a Transformer, a Pooling, perhaps a
 * Normalize, in this order; a class's name may stand in any package. Numbers of GGUF files:
 * llama.cpp's gguf-py/gguf/constants.py, PoolingType.
 */
#include "runtime/family/pooling.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "api/limits.h"

#include <stdio.h>
#include <string.h>

#define FILE_BYTES (1 << 20)

struct pooling_folder {
    const char *path;
    char file[LIMIT_PATH_BYTES + 256]; /* the one that was read last */
};

/* *out NULL: there is no such file. */
static int read_file(struct pooling_folder *f, const char *module, const char *name,
    struct json **out, struct err *e)
{
    snprintf(f->file, sizeof f->file, "%s%s%s/%s", f->path, *module ? "/" : "", module, name);
    *out = NULL;
    return io_exists(f->file) ? json_read_file(f->file, FILE_BYTES, out, e) : 0;
}

/* -- modules -- */

/* Each mode is a key of its own; those that are on are put together. */
static int read_modes(
    const struct pooling_folder *f, const struct json *v, struct pooling *p, struct err *e)
{
    static const struct {
        const char *key;
        enum pooling_kind kind;
    } known[] = {{"pooling_mode_mean_tokens", POOLING_MEAN},
        {"pooling_mode_cls_token", POOLING_FIRST}, {"pooling_mode_lasttoken", POOLING_LAST}};
    int on = 0;
    json_each (mode, v) {
        const char *key = json_key(mode);
        size_t i = 0;
        if (strncmp(key, "pooling_mode_", 13) != 0 || !json_bool_value(mode))
            continue;
        while (i < 3 && strcmp(known[i].key, key) != 0)
            i++;
        if (i == 3)
            return err_set(e, ERR_DATA, "%s: %.64s is not supported", f->file, key);
        p->kind = known[i].kind;
        on++;
    }
    if (on != 1)
        return err_set(
            e, ERR_DATA, "%s: %d kinds of pooling are on, one is supported", f->file, on);
    return json_bool(v, "include_prompt", true)
        ? 0
        : err_set(e, ERR_DATA, "%s: include_prompt false is not supported", f->file);
}

static int read_pooling(
    struct pooling_folder *f, const char *module, struct pooling *p, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = read_file(f, module, "config.json", &v, e);
    if (rc)
        return rc;
    if (!json_is_object(v))
        return err_set(e, ERR_DATA, "%s: there is none, or it is no object", f->file);
    return read_modes(f, v, p, e);
}

static int read_transformer(
    struct pooling_folder *f, const char *module, struct pooling *p, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = read_file(f, module, "sentence_bert_config.json", &v, e);
    if (rc)
        return rc;
    double tokens = json_num(v, "max_seq_length", 0);
    if (!(tokens >= 0 && tokens <= INT32_MAX))
        return err_set(e, ERR_DATA, "%s: max_seq_length is no length", f->file);
    p->tokens = (int64_t)tokens;
    return json_bool(v, "do_lower_case", false)
        ? err_set(e, ERR_DATA, "%s: do_lower_case true is not supported", f->file)
        : 0;
}

/* A prompt that stands before every text would be a part of it. */
static int check_prompts(struct pooling_folder *f, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = read_file(f, "", "config_sentence_transformers.json", &v, e);
    if (rc)
        return rc;
    return json_is_string(json_get(v, "default_prompt_name"))
        ? err_set(e, ERR_DATA, "%s: default_prompt_name is not supported", f->file)
        : 0;
}

/* The end of a module's class: "Pooling". */
static const char *class_of(const struct json *module)
{
    const char *type = json_str(module, "type", ""), *dot = strrchr(type, '.');
    return dot ? dot + 1 : type;
}

static int read_module(
    struct pooling_folder *f, const struct json *module, int at, struct pooling *p, struct err *e)
{
    static const char *const classes[] = {"Transformer", "Pooling", "Normalize"};
    const char *class = class_of(module), *path = json_str(module, "path", "");
    if (at > 2 || strcmp(class, classes[at]) != 0)
        return err_set(e, ERR_DATA,
            "%s/modules.json: a module \"%.64s\" is not supported as number %d", f->path, class,
            at + 1);
    if (strlen(path) > 128 || strstr(path, ".."))
        return err_set(e, ERR_DATA, "%s/modules.json: \"%.64s\" is no folder of it", f->path, path);
    if (at == 0)
        return read_transformer(f, path, p, e);
    if (at == 1)
        return read_pooling(f, path, p, e);
    p->normalized = true;
    return 0;
}

int pooling_read(const char *folder, struct pooling *out, struct err *e)
{
    struct pooling_folder f = {.path = folder};
    struct pooling p = {.kind = POOLING_MEAN};
    json_auto struct json *modules = NULL;
    int at = 0, rc = read_file(&f, "", "modules.json", &modules, e);
    if (rc || (rc = check_prompts(&f, e)))
        return rc;
    p.said = modules;
    p.normalized = !modules;
    json_each (module, modules)
        if ((rc = read_module(&f, module, at++, &p, e)))
            return rc;
    if (modules && at < 2)
        return err_set(e, ERR_DATA, "%s/modules.json: names no Pooling", folder);
    *out = p;
    return 0;
}

/* -- GGUF -- */

static const uint32_t gguf_types[] = {[POOLING_MEAN] = 1, [POOLING_FIRST] = 2, [POOLING_LAST] = 3};

bool pooling_of_gguf(double type, enum pooling_kind *out)
{
    for (enum pooling_kind k = POOLING_MEAN; k <= POOLING_LAST; k++)
        if (gguf_types[k] == type) {
            if (out)
                *out = k;
            return true;
        }
    return false;
}

uint32_t pooling_to_gguf(enum pooling_kind kind)
{
    return gguf_types[kind];
}

void pooling_gguf(const struct gguf *g, const char *architecture, struct pooling *out)
{
    char key[96];
    int64_t type = 0;
    snprintf(key, sizeof key, "%s.pooling_type", architecture);
    *out = (struct pooling){.normalized = true};
    if (gguf_has(g, key) && !gguf_int(g, key, 0, INT32_MAX, &type, NULL))
        out->said = pooling_of_gguf((double)type, &out->kind);
    if (gguf_has(g, POOLING_GGUF_TOKENS))
        (void)gguf_int(g, POOLING_GGUF_TOKENS, 1, INT32_MAX, &out->tokens, NULL);
}

/* -- writing -- */

static int write_text(const char *folder, const char *name, const struct buf *b, struct err *e)
{
    char path[LIMIT_PATH_BYTES + 64];
    if (!buf_ok(b))
        return err_set(e, ERR_MEMORY, "no memory to export the model");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return io_write_new(path, b->data, b->len, 0644, e);
}

static const char *mode_of(enum pooling_kind kind)
{
    return kind == POOLING_MEAN ? "mean_tokens" : kind == POOLING_FIRST ? "cls_token" : "lasttoken";
}

/* sentence-transformers takes the mean where nothing says that it is off. */
static void put_modes(enum pooling_kind kind, int64_t dim, struct buf *b)
{
    buf_printf(b, "{\"word_embedding_dimension\": %lld, ", (long long)dim);
    if (kind != POOLING_MEAN)
        buf_str(b, "\"pooling_mode_mean_tokens\": false, ");
    buf_printf(b, "\"pooling_mode_%s\": true}\n", mode_of(kind));
}

int pooling_write(const char *folder, const struct pooling *p, int64_t dim, struct err *e)
{
    static const char *const modules[][3] = {{"0", "", "sentence_transformers.models.Transformer"},
        {"1", "1_Pooling", "sentence_transformers.models.Pooling"},
        {"2", "2_Normalize", "sentence_transformers.models.Normalize"}};
    buf_auto struct buf b;
    char path[LIMIT_PATH_BYTES + 64];
    int rc;
    buf_init(&b, 1 << 16);
    buf_str(&b, "[");
    for (int i = 0; i < 2 + p->normalized; i++)
        buf_printf(&b, "%s\n  {\"idx\": %d, \"name\": \"%s\", \"path\": \"%s\", \"type\": \"%s\"}",
            i ? "," : "", i, modules[i][0], modules[i][1], modules[i][2]);
    buf_str(&b, "\n]\n");
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    if ((rc = write_text(folder, "modules.json", &b, e)) || (rc = io_mkdirs(path, 0755, e)))
        return rc;
    buf_reset(&b);
    put_modes(p->kind, dim, &b);
    if ((rc = write_text(folder, "1_Pooling/config.json", &b, e)) || !p->tokens)
        return rc;
    buf_reset(&b);
    buf_printf(&b, "{\"max_seq_length\": %lld, \"do_lower_case\": false}\n", (long long)p->tokens);
    return write_text(folder, "sentence_bert_config.json", &b, e);
}
