/*
 * rotary: see rotary.h. Sources: transformers' modeling_rope_utils; llama.cpp's llama-model.cpp
 * (rope_scaling_type, rope_freq_scale_train) and convert_hf_to_gguf.py. Pure.
 */
#include "runtime/family/rotary.h"

#include "runtime/family/values.h"

#include <math.h>

#define PUBLISHED_LOW     1
#define PUBLISHED_HIGH    4
#define PUBLISHED_CONTEXT 8192

bool rotary_scaling_ok(const struct op_rope_scaling *s)
{
    if (s->kind == OP_ROPE_PLAIN)
        return true;
    if (s->kind > OP_ROPE_LLAMA3 || !(s->factor >= 1 && s->factor <= 1e6f))
        return false;
    return s->kind == OP_ROPE_LINEAR ||
        (s->low > 0 && s->high > s->low && s->high <= 1e6f && s->context >= 1 &&
            s->context <= INT32_MAX);
}

double rotary_factor(const struct model_config *c, int64_t pair)
{
    double f = pow((double)c->rope_theta, -2.0 * (double)pair / (double)c->head_dim);
    return f / op_rope_scaled(&c->rope_scaling, f);
}

/* -- config.json -- */

/* The number `key` of a scaling, or NAN. */
static float number_of(const struct json *scaling, const char *key)
{
    return (float)json_num(scaling, key, (double)NAN);
}

static int read_scaling(
    const struct json *from, const char *path, struct op_rope_scaling *out, struct err *e)
{
    const char *type = json_str(from, "rope_type", json_str(from, "type", "unnamed"));
    struct op_rope_scaling s = {.factor = number_of(from, "factor")};
    if (!strcmp(type, "default"))
        return 0;
    if (!strcmp(type, "linear")) {
        s.kind = OP_ROPE_LINEAR;
    } else if (!strcmp(type, "llama3")) {
        double context = json_num(from, "original_max_position_embeddings", 0);
        s.kind = OP_ROPE_LLAMA3;
        s.low = number_of(from, "low_freq_factor");
        s.high = number_of(from, "high_freq_factor");
        s.context = context >= 1 && context <= INT32_MAX ? (int64_t)context : 0;
    } else {
        return err_set(e, ERR_DATA, "%s: rotary scaling \"%.32s\" is not supported", path, type);
    }
    if (!rotary_scaling_ok(&s))
        return err_set(e, ERR_DATA,
            "%s: rotary scaling \"%s\" lacks a number that it needs, or has one "
            "that cannot be",
            path, type);
    *out = s;
    return 0;
}

int rotary_json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const struct json *rope = json_get(config, "rope_parameters"); /* transformers 5 */
    const struct json *scaling = json_get(config, "rope_scaling");
    c->rope_theta = (float)json_num(rope, "rope_theta", json_num(config, "rope_theta", 10000));
    if (json_is_object(scaling))
        return read_scaling(scaling, path, &c->rope_scaling, e);
    return json_get(rope, "rope_type") ? read_scaling(rope, path, &c->rope_scaling, e) : 0;
}

void rotary_json_write(const struct model_config *c, struct jsonw *w)
{
    const struct op_rope_scaling *s = &c->rope_scaling;
    jsonw_num(w, "rope_theta", values_short(c->rope_theta));
    if (s->kind == OP_ROPE_PLAIN)
        return;
    jsonw_open(w, "rope_scaling", '{');
    jsonw_str(w, "rope_type", s->kind == OP_ROPE_LINEAR ? "linear" : "llama3");
    jsonw_num(w, "factor", values_short(s->factor));
    if (s->kind == OP_ROPE_LLAMA3) {
        jsonw_num(w, "low_freq_factor", values_short(s->low));
        jsonw_num(w, "high_freq_factor", values_short(s->high));
        jsonw_int(w, "original_max_position_embeddings", s->context);
    }
    jsonw_close(w);
}

/* -- GGUF -- */

static const char *key_of(const char *prefix, const char *name, char out[96])
{
    snprintf(out, 96, "%s.%s", prefix, name);
    return out;
}

/* llama.cpp takes a scaling without a type for a linear one. */
static int read_linear(
    const struct gguf *g, const char *prefix, struct op_rope_scaling *out, struct err *e)
{
    char key[96];
    double factor = 1;
    struct gguf_str type = {"linear", 6};
    int rc =
        gguf_has(g, key_of(prefix, "rope.scaling.type", key)) ? gguf_string(g, key, &type, e) : 0;
    if (rc)
        return rc;
    bool none = type.len == 4 && !memcmp(type.s, "none", 4);
    if (!none && (type.len != 6 || memcmp(type.s, "linear", 6)))
        return err_set(e, ERR_DATA, "%s: rotary scaling \"%.*s\" is not supported", gguf_path(g),
            (int)(type.len < 32 ? type.len : 32), type.s);
    if (gguf_has(g, key_of(prefix, "rope.scaling.factor", key)) &&
        (rc = gguf_num(g, key, &factor, e)))
        return rc;
    if (none || factor == 1 || factor == 0)
        return 0;
    const struct op_rope_scaling s = {.kind = OP_ROPE_LINEAR, .factor = (float)factor};
    if (!rotary_scaling_ok(&s))
        return err_set(e, ERR_DATA, "%s: %s: a factor of %g cannot be", gguf_path(g), key, factor);
    *out = s;
    return 0;
}

static float factor_at(const struct gguf_tensor *t, int64_t i)
{
    float f;
    memcpy(&f, t->data + i * 4, 4);
    return f;
}

static int read_factors(
    const struct gguf *g, const char *prefix, struct model_config *c, struct err *e)
{
    const struct gguf_tensor *t = values_gguf_tensor(g, ROTARY_GGUF_FACTORS);
    struct model_config with = *c;
    int64_t pairs = c->head_dim / 2, context = PUBLISHED_CONTEXT;
    char key[96];
    if (!t)
        return 0;
    if (t->type != DTYPE_F32 || t->dims != 1 || t->shape[0] != pairs || pairs < 1)
        return err_set(e, ERR_DATA, "%s: tensor %s is no vector of %lld F32 numbers", gguf_path(g),
            t->name, (long long)pairs);
    int rc = values_gguf_int(
        g, key_of(prefix, "rope.scaling.original_context_length", key), &context, e);
    if (rc)
        return rc;
    with.rope_scaling = (struct op_rope_scaling){.kind = OP_ROPE_LLAMA3,
        .factor = factor_at(t, pairs - 1),
        .low = PUBLISHED_LOW,
        .high = PUBLISHED_HIGH,
        .context = context};
    bool known = c->rope_scaling.kind == OP_ROPE_PLAIN && rotary_scaling_ok(&with.rope_scaling);
    for (int64_t i = 0; known && i < pairs; i++) {
        double want = rotary_factor(&with, i);
        known = fabs((double)factor_at(t, i) - want) <= 1e-4 * want;
    }
    if (!known)
        return err_set(e, ERR_DATA,
            "%s: tensor %s is of no scaling that is supported: llama3's of %d and %d, a context "
            "of %lld",
            gguf_path(g), t->name, PUBLISHED_LOW, PUBLISHED_HIGH, (long long)context);
    *c = with;
    return 0;
}

int rotary_gguf_read(
    const struct gguf *g, const char *prefix, struct model_config *c, struct err *e)
{
    double theta = 10000;
    char key[96];
    int rc = 0;
    if (gguf_has(g, key_of(prefix, "rope.freq_base", key)))
        rc = gguf_num(g, key, &theta, e);
    if (rc || (rc = read_linear(g, prefix, &c->rope_scaling, e)))
        return rc;
    c->rope_theta = (float)theta;
    return read_factors(g, prefix, c, e);
}
