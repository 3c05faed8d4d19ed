/*
 * tensors: what each role is called and how large it is stands in one table; loops over it make the
 * list of a configuration. Order of the flat range: the matrices, those before the layers, layer by
 * layer, behind the layers; then the vectors likewise, of a layer its norms before its biases. The
 * order is part of nothing that is looked up on disk: files and checkpoints go by name.
 */
#include "runtime/family/tensors.h"

#include "api/limits.h"
#include "base/mem.h"

enum scope { BEFORE_LAYERS, IN_LAYER, BEHIND_LAYERS };
enum extent {
    EXTENT_ONE,
    EXTENT_DIM,
    EXTENT_Q,
    EXTENT_KV,
    EXTENT_HEAD,
    EXTENT_FFN,
    EXTENT_VOCAB,
    EXTENT_CONTEXT,
    EXTENT_TYPES,
    EXTENT_LABELS,
    EXTENT_EXPERTS,
    EXTENT_EXPERT_FFN
};
enum bias {
    BIAS_NONE,
    BIAS_NORM,
    BIAS_QKV,
    BIAS_O,
    BIAS_FFN,
    BIAS_MASKED,
    BIAS_LABELS,
    BIAS_ALWAYS
};

static const struct role {
    const char *stem; /* of the name; within its layer; an asterisk is the expert's number */
    enum scope scope;
    enum extent rows, columns; /* EXTENT_ONE: a vector */
    enum bias bias;
    enum linear_kind linear; /* LINEARS: none */
    enum tensor_axis axis;
    bool rotary;
} roles[TENSOR_ROLES] = {
    [TENSOR_EMBED] = {"model.embed_tokens", BEFORE_LAYERS, EXTENT_VOCAB, EXTENT_DIM, BIAS_NONE,
        LINEARS, AXIS_ROWS, false},
    [TENSOR_POSITIONS] = {"model.embed_positions", BEFORE_LAYERS, EXTENT_CONTEXT, EXTENT_DIM,
        BIAS_NONE, LINEARS, AXIS_NONE, false},
    [TENSOR_TYPES] = {"model.embed_types", BEFORE_LAYERS, EXTENT_TYPES, EXTENT_DIM, BIAS_NONE,
        LINEARS, AXIS_NONE, false},
    [TENSOR_NORM_EMBED] = {"model.embed_norm", BEFORE_LAYERS, EXTENT_DIM, EXTENT_ONE, BIAS_NORM,
        LINEARS, AXIS_NONE, false},
    [TENSOR_NORM_ATTENTION] = {"input_layernorm", IN_LAYER, EXTENT_DIM, EXTENT_ONE, BIAS_NORM,
        LINEARS, AXIS_NONE, false},
    [TENSOR_Q] = {"self_attn.q_proj", IN_LAYER, EXTENT_Q, EXTENT_DIM, BIAS_QKV, LINEAR_QKV,
        AXIS_ROWS, true},
    [TENSOR_K] = {"self_attn.k_proj", IN_LAYER, EXTENT_KV, EXTENT_DIM, BIAS_QKV, LINEAR_QKV,
        AXIS_ROWS, true},
    [TENSOR_V] = {"self_attn.v_proj", IN_LAYER, EXTENT_KV, EXTENT_DIM, BIAS_QKV, LINEAR_QKV,
        AXIS_ROWS, false},
    [TENSOR_NORM_Q] = {"self_attn.q_norm", IN_LAYER, EXTENT_HEAD, EXTENT_ONE, BIAS_NONE, LINEARS,
        AXIS_NONE, false},
    [TENSOR_NORM_K] = {"self_attn.k_norm", IN_LAYER, EXTENT_HEAD, EXTENT_ONE, BIAS_NONE, LINEARS,
        AXIS_NONE, false},
    [TENSOR_O] = {"self_attn.o_proj", IN_LAYER, EXTENT_DIM, EXTENT_Q, BIAS_O, LINEAR_O,
        AXIS_COLUMNS, false},
    [TENSOR_NORM_FFN] = {"post_attention_layernorm", IN_LAYER, EXTENT_DIM, EXTENT_ONE, BIAS_NORM,
        LINEARS, AXIS_NONE, false},
    [TENSOR_GATE] = {"mlp.gate_proj", IN_LAYER, EXTENT_FFN, EXTENT_DIM, BIAS_FFN, LINEAR_GATE_UP,
        AXIS_ROWS, false},
    [TENSOR_UP] = {"mlp.up_proj", IN_LAYER, EXTENT_FFN, EXTENT_DIM, BIAS_FFN, LINEAR_GATE_UP,
        AXIS_ROWS, false},
    [TENSOR_DOWN] = {"mlp.down_proj", IN_LAYER, EXTENT_DIM, EXTENT_FFN, BIAS_FFN, LINEAR_DOWN,
        AXIS_COLUMNS, false},
    [TENSOR_ROUTER] = {"mlp.gate", IN_LAYER, EXTENT_EXPERTS, EXTENT_DIM, BIAS_NONE, LINEAR_ROUTER,
        AXIS_NONE, false},
    [TENSOR_EXPERT_GATE] = {"mlp.experts.*.gate_proj", IN_LAYER, EXTENT_EXPERT_FFN, EXTENT_DIM,
        BIAS_NONE, LINEAR_EXPERT_GATE_UP, AXIS_ROWS, false},
    [TENSOR_EXPERT_UP] = {"mlp.experts.*.up_proj", IN_LAYER, EXTENT_EXPERT_FFN, EXTENT_DIM,
        BIAS_NONE, LINEAR_EXPERT_GATE_UP, AXIS_ROWS, false},
    [TENSOR_EXPERT_DOWN] = {"mlp.experts.*.down_proj", IN_LAYER, EXTENT_DIM, EXTENT_EXPERT_FFN,
        BIAS_NONE, LINEAR_EXPERT_DOWN, AXIS_COLUMNS, false},
    [TENSOR_NORM_FINAL] = {"model.norm", BEHIND_LAYERS, EXTENT_DIM, EXTENT_ONE, BIAS_NORM, LINEARS,
        AXIS_NONE, false},
    [TENSOR_TRANSFORM] = {"model.transform", BEHIND_LAYERS, EXTENT_DIM, EXTENT_DIM, BIAS_ALWAYS,
        LINEARS, AXIS_NONE, false},
    [TENSOR_NORM_TRANSFORM] = {"model.transform_norm", BEHIND_LAYERS, EXTENT_DIM, EXTENT_ONE,
        BIAS_NORM, LINEARS, AXIS_NONE, false},
    [TENSOR_HEAD] = {"lm_head", BEHIND_LAYERS, EXTENT_VOCAB, EXTENT_DIM, BIAS_MASKED, LINEARS,
        AXIS_ROWS, false},
    [TENSOR_POOLER] = {"model.pooler", BEHIND_LAYERS, EXTENT_DIM, EXTENT_DIM, BIAS_ALWAYS, LINEARS,
        AXIS_NONE, false},
    [TENSOR_CLASSIFIER] = {"classifier", BEHIND_LAYERS, EXTENT_LABELS, EXTENT_DIM, BIAS_LABELS,
        LINEARS, AXIS_NONE, false},
};

/* -- one role -- */

/* Embeddings are the first stage's of a pipeline, what stands behind the layers the last one's,
   which has the table, too, where it is its head. */
static bool is_of_stage(const struct model_config *c, enum tensor_role role)
{
    bool heads = role == TENSOR_EMBED && c->tied_embeddings && !c->labels;
    if (roles[role].scope == BEFORE_LAYERS)
        return model_config_is_first(c) || (heads && model_config_is_last(c));
    return roles[role].scope == IN_LAYER || model_config_is_last(c);
}

static bool has_role(const struct model_config *c, enum tensor_role role)
{
    if (!is_of_stage(c, role))
        return false;
    switch (role) {
    case TENSOR_POSITIONS:
        return c->positions == POSITIONS_LEARNED;
    case TENSOR_TYPES:
        return c->types;
    case TENSOR_NORM_EMBED:
        return c->embed_norm;
    case TENSOR_NORM_Q:
    case TENSOR_NORM_K:
        return c->qk_norm;
    case TENSOR_GATE:
        return c->activation == ACTIVATION_SWIGLU && !c->experts;
    case TENSOR_UP:
    case TENSOR_DOWN:
        return !c->experts;
    case TENSOR_ROUTER:
    case TENSOR_EXPERT_GATE:
    case TENSOR_EXPERT_UP:
    case TENSOR_EXPERT_DOWN:
        return c->experts;
    case TENSOR_NORM_FINAL:
        return !c->post_norm;
    case TENSOR_TRANSFORM:
    case TENSOR_NORM_TRANSFORM:
        return c->masked;
    case TENSOR_HEAD:
        return c->masked || (!c->tied_embeddings && !c->labels);
    case TENSOR_POOLER:
        return c->pooled;
    case TENSOR_CLASSIFIER:
        return c->labels;
    default:
        return true;
    }
}

/* A head that is the embedding may have a bias of its own. */
static bool has_weight(const struct model_config *c, enum tensor_role role)
{
    return role != TENSOR_HEAD || !c->tied_embeddings;
}

static bool has_bias(const struct model_config *c, enum tensor_role role)
{
    switch (roles[role].bias) {
    case BIAS_NORM:
        return c->norm == NORM_LAYER;
    case BIAS_QKV:
        return c->qkv_bias;
    case BIAS_O:
        return c->o_bias;
    case BIAS_FFN:
        return c->ffn_bias;
    case BIAS_MASKED:
        return c->masked;
    case BIAS_LABELS:
        return !c->last;
    default:
        return roles[role].bias == BIAS_ALWAYS;
    }
}

static int64_t extent_of(const struct model_config *c, enum extent x)
{
    switch (x) {
    case EXTENT_DIM:
        return c->dim;
    case EXTENT_Q:
        return c->heads * c->head_dim;
    case EXTENT_KV:
        return c->kv_heads * c->head_dim;
    case EXTENT_HEAD:
        return c->head_dim;
    case EXTENT_FFN:
        return c->ffn_dim;
    case EXTENT_VOCAB:
        return c->vocab;
    case EXTENT_CONTEXT:
        return c->context;
    case EXTENT_TYPES:
        return c->types;
    case EXTENT_LABELS:
        return c->labels;
    case EXTENT_EXPERTS:
        return model_config_experts(c);
    case EXTENT_EXPERT_FFN:
        return c->expert_ffn_dim;
    default:
        return 1;
    }
}

/* The same of the whole model, and where this share of it begins. */
static int64_t extent_of_whole(const struct model_config *c, enum extent x, int64_t *begin)
{
    const struct model_share *s = &c->share;
    int64_t kv = s->first_kv_head * c->head_dim;
    *begin = 0;
    if (!model_config_is_share(c))
        return extent_of(c, x);
    switch (x) {
    case EXTENT_Q:
        *begin = kv * (s->heads / s->kv_heads);
        return s->heads * c->head_dim;
    case EXTENT_KV:
        *begin = kv;
        return s->kv_heads * c->head_dim;
    case EXTENT_FFN:
        *begin = s->first_ffn;
        return s->ffn_dim;
    case EXTENT_EXPERT_FFN:
        *begin = s->first_expert_ffn;
        return s->expert_ffn_dim;
    case EXTENT_VOCAB:
        *begin = s->first_token;
        return s->vocab;
    default:
        return extent_of(c, x);
    }
}

/* A bias, a B and lengths have a matrix' rows, an A has its columns, singular values neither. */
static enum tensor_axis axis_of(enum tensor_role role, enum tensor_part part)
{
    if (part == TENSOR_LORA_E)
        return AXIS_NONE;
    enum tensor_axis without = part == TENSOR_LORA_A ? AXIS_ROWS
        : part == TENSOR_WEIGHT                      ? AXIS_NONE
                                                     : AXIS_COLUMNS;
    return roles[role].axis == without ? AXIS_NONE : roles[role].axis;
}

/* Where a tensor stands in the model's own. */
static void place_in_whole(struct tensor *x, const struct model_config *c)
{
    const struct role *r = &roles[x->role];
    x->axis = axis_of(x->role, x->part);
    for (int i = 0; i < 2; i++) {
        x->whole[i] = x->shape[i];
        x->begin[i] = 0;
    }
    if (x->axis == AXIS_ROWS)
        x->whole[0] = extent_of_whole(c, r->rows, &x->begin[0]);
    if (x->axis == AXIS_COLUMNS)
        x->whole[1] = extent_of_whole(c, r->columns, &x->begin[1]);
}

bool tensor_is_cut(const struct tensor *t)
{
    return t->whole[0] != t->shape[0] || t->whole[1] != t->shape[1];
}

bool tensor_is_shared(const struct tensor *t)
{
    bool factor = t->part == TENSOR_LORA_A || t->part == TENSOR_LORA_B;
    return t->axis == AXIS_NONE && (factor || t->role == TENSOR_NORM_Q || t->role == TENSOR_NORM_K);
}

const char *tensor_short_name(enum tensor_role role)
{
    const char *dot = strrchr(roles[role].stem, '.');
    return dot ? dot + 1 : roles[role].stem;
}

bool tensor_of_expert(enum tensor_role role)
{
    return roles[role].linear == LINEAR_EXPERT_GATE_UP || roles[role].linear == LINEAR_EXPERT_DOWN;
}

const char *tensor_stem(const char *stem, int expert, char out[TENSOR_STEM_BYTES])
{
    const char *at = strchr(stem, '*');
    if (!at)
        return stem;
    snprintf(out, TENSOR_STEM_BYTES, "%.*s%d%s", (int)(at - stem), stem, expert, at + 1);
    return out;
}

void linear_shape(const struct model_config *c, enum linear_kind kind, struct linear_shape *out)
{
    struct linear_shape s = {0};
    for (enum tensor_role r = 0; r < TENSOR_ROLES; r++) {
        if (roles[r].linear != kind || !has_role(c, r))
            continue;
        s.role[s.pieces] = r;
        s.rows[s.pieces] = extent_of(c, roles[r].rows);
        s.out += s.rows[s.pieces++];
        s.in = extent_of(c, roles[r].columns);
        s.bias = has_bias(c, r);
        s.splits = model_config_is_cut(c) && roles[r].axis == AXIS_ROWS;
        s.adds = model_config_is_cut(c) && roles[r].axis == AXIS_COLUMNS;
    }
    *out = s;
}

/* -- making a table -- */

static void name_tensor(struct tensor *t)
{
    static const char *const suffixes[TENSOR_PARTS] = {"weight", "bias", "lora_A.weight",
        "lora_B.weight", "lora_E", "lora_magnitude_vector", "adapter_down.weight",
        "adapter_up.weight", "adapter_down.bias", "adapter_up.bias"};
    char of_expert[TENSOR_STEM_BYTES];
    const char *suffix = suffixes[t->part];
    const char *stem = tensor_stem(roles[t->role].stem, t->expert, of_expert);
    if (t->layer < 0)
        snprintf(t->name, sizeof t->name, "%s.%s", stem, suffix);
    else
        snprintf(t->name, sizeof t->name, "model.layers.%d.%s.%s", t->layer, stem, suffix);
}

int tensors_add(struct tensors *t, const struct model_config *c, const struct tensor *what,
    bool joined, struct err *e)
{
    struct tensor x = *what;
    int64_t start = t->elements, end, bytes;
    name_tensor(&x);
    if (!joined)
        start = (start + TENSORS_ALIGN - 1) / TENSORS_ALIGN * TENSORS_ALIGN;
    if (x.shape[0] <= 0 || x.shape[1] <= 0 ||
        __builtin_mul_overflow(x.shape[0], x.shape[1], &x.count) ||
        __builtin_add_overflow(start, x.count, &end) || __builtin_mul_overflow(end, 16, &bytes))
        return err_set(e, ERR_DATA, "%s: a tensor of %lld x %lld is too large", x.name,
            (long long)x.shape[0], (long long)x.shape[1]);
    if (t->count == t->capacity) {
        int capacity = t->capacity ? 2 * t->capacity : 64;
        void *grown =
            capacity > 4 * LIMIT_TENSORS ? NULL : mem_grow(t->at, (size_t)capacity, sizeof *t->at);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for a table of %d tensors", capacity);
        t->at = grown;
        t->capacity = capacity;
    }
    x.offset = start;
    x.order = t->count;
    x.decay = x.dims == 2;
    place_in_whole(&x, c);
    t->elements = end;
    t->at[t->count++] = x;
    return 0;
}

static int add_role(struct tensors *t, const struct model_config *c, enum tensor_role role,
    enum tensor_part part, int layer, int expert, struct err *e)
{
    const struct role *r = &roles[role];
    bool vector = part == TENSOR_BIAS || r->columns == EXTENT_ONE;
    struct tensor x = {.role = role, .part = part, .layer = layer, .expert = expert};
    x.dims = vector ? 1 : 2;
    x.shape[0] = extent_of(c, r->rows);
    x.shape[1] = vector ? 1 : extent_of(c, r->columns);
    if (r->rotary && c->positions == POSITIONS_ROTARY)
        x.rotary_heads = x.shape[0] / c->head_dim;
    const struct tensor *last = t->count ? &t->at[t->count - 1] : NULL;
    bool joined = last && r->linear != LINEARS && roles[last->role].linear == r->linear &&
        last->part == part && last->layer == layer && last->expert == expert;
    return tensors_add(t, c, &x, joined, e);
}

enum pass { PASS_MATRICES, PASS_NORMS, PASS_BIASES };

/* The matrices of one kind of all experts. */
static int add_experts(struct tensors *t, const struct model_config *c, enum linear_kind kind,
    int layer, struct err *e)
{
    int rc = 0, first = (int)c->share.first_expert, end = first + (int)c->experts;
    for (int expert = first; expert < end; expert++)
        for (enum tensor_role r = TENSOR_EXPERT_GATE; r <= TENSOR_EXPERT_DOWN && !rc; r++)
            if (roles[r].linear == kind)
                rc = add_role(t, c, r, TENSOR_WEIGHT, layer, expert, e);
    return rc;
}

static int add_scope(struct tensors *t, const struct model_config *c, enum scope scope,
    enum pass pass, int layer, struct err *e)
{
    for (enum tensor_role r = 0; r < TENSOR_ROLES; r++) {
        bool vector = roles[r].columns == EXTENT_ONE;
        if (roles[r].scope != scope || !has_role(c, r) || vector != (pass == PASS_NORMS) ||
            tensor_of_expert(r))
            continue;
        bool weight = pass != PASS_BIASES && has_weight(c, r);
        int rc = weight ? add_role(t, c, r, TENSOR_WEIGHT, layer, -1, e) : 0;
        if (!rc && pass != PASS_MATRICES && has_bias(c, r))
            rc = add_role(t, c, r, TENSOR_BIAS, layer, -1, e);
        if (rc)
            return rc;
    }
    if (scope != IN_LAYER || pass != PASS_MATRICES)
        return 0;
    int rc = add_experts(t, c, LINEAR_EXPERT_GATE_UP, layer, e);
    return rc ? rc : add_experts(t, c, LINEAR_EXPERT_DOWN, layer, e);
}

int tensors_add_classifier(struct tensors *t, const struct model_config *c, struct err *e)
{
    int rc = has_role(c, TENSOR_CLASSIFIER)
        ? add_role(t, c, TENSOR_CLASSIFIER, TENSOR_WEIGHT, -1, -1, e)
        : 0;
    return rc || !has_role(c, TENSOR_CLASSIFIER) || !has_bias(c, TENSOR_CLASSIFIER)
        ? rc
        : add_role(t, c, TENSOR_CLASSIFIER, TENSOR_BIAS, -1, -1, e);
}

static int add_vectors(
    struct tensors *t, const struct model_config *c, enum scope scope, int layer, struct err *e)
{
    int rc = add_scope(t, c, scope, PASS_NORMS, layer, e);
    return rc ? rc : add_scope(t, c, scope, PASS_BIASES, layer, e);
}

static int add_all(struct tensors *t, const struct model_config *c, struct err *e)
{
    int rc = add_scope(t, c, BEFORE_LAYERS, PASS_MATRICES, -1, e);
    for (int64_t i = 0; i < c->layers && !rc; i++)
        rc = add_scope(t, c, IN_LAYER, PASS_MATRICES, (int)model_config_layer(c, i), e);
    if (rc || (rc = add_scope(t, c, BEHIND_LAYERS, PASS_MATRICES, -1, e)) ||
        (rc = add_vectors(t, c, BEFORE_LAYERS, -1, e)))
        return rc;
    for (int64_t i = 0; i < c->layers; i++)
        if ((rc = add_vectors(t, c, IN_LAYER, (int)model_config_layer(c, i), e)))
            return rc;
    return add_vectors(t, c, BEHIND_LAYERS, -1, e);
}

/* -- looking up -- */

static size_t role_slot(
    const struct tensors *t, enum tensor_role role, enum tensor_part part, int layer, int expert)
{
    size_t place = (size_t)(layer + 1) * (size_t)(t->experts + 1) + (size_t)(expert + 1);
    return (place * TENSOR_ROLES + role) * TENSOR_PARTS + part;
}

int tensors_seal(struct tensors *t, const struct model_config *c, struct err *e)
{
    t->layers = (int)(model_config_is_share(c) ? c->share.layers : 0);
    t->experts = (int)(model_config_is_share(c) ? c->share.experts : 0);
    for (int i = 0; i < t->count; i++) {
        t->layers = t->at[i].layer >= t->layers ? t->at[i].layer + 1 : t->layers;
        t->experts = t->at[i].expert >= t->experts ? t->at[i].expert + 1 : t->experts;
    }
    t->by_role = mem_array(role_slot(t, 0, 0, t->layers, -1), sizeof *t->by_role);
    if (!t->by_role)
        return err_set(e, ERR_MEMORY, "no memory for a table of %d tensors", t->count);
    for (int i = 0; i < t->count; i++) {
        struct tensor *x = &t->at[i];
        t->by_role[role_slot(t, x->role, x->part, x->layer, x->expert)] = i + 1;
        int rc = table_put(&t->by_name, x->name, x, e);
        if (rc)
            return rc;
    }
    return 0;
}

const struct tensor *tensors_get(const struct tensors *t, enum tensor_role role,
    enum tensor_part part, int64_t layer, int64_t expert)
{
    if (!t->count || layer >= t->layers || expert >= t->experts)
        return NULL;
    int i = t->by_role[role_slot(t, role, part, (int)layer, (int)expert)];
    return i ? &t->at[i - 1] : NULL;
}

const struct tensor *tensors_find(const struct tensors *t, const char *name)
{
    return table_get(&t->by_name, name);
}

/* -- the model's own -- */

static void number_role(struct tensors *t, enum tensor_role r, int layer, int expert, int *next)
{
    for (enum tensor_part p = TENSOR_WEIGHT; p <= TENSOR_BIAS; p++) {
        const struct tensor *x = tensors_get(t, r, p, layer, expert);
        if (x)
            t->at[x - t->at].order = (*next)++;
    }
}

/* Expert by expert. */
static void number_scope(struct tensors *t, enum scope scope, int layer, int *next)
{
    for (enum tensor_role r = 0; r < TENSOR_ROLES; r++) {
        if (roles[r].scope == scope && !tensor_of_expert(r))
            number_role(t, r, layer, -1, next);
        for (int i = 0; roles[r].scope == scope && r == TENSOR_EXPERT_DOWN && i < t->experts; i++)
            for (enum tensor_role x = TENSOR_EXPERT_GATE; x <= TENSOR_EXPERT_DOWN; x++)
                number_role(t, x, layer, i, next);
    }
}

int tensors_create(const struct model_config *c, struct tensors *out, struct err *e)
{
    struct tensors t = {0};
    int next = 0, rc = add_all(&t, c, e);
    if (!rc)
        rc = tensors_seal(&t, c, e);
    if (rc) {
        tensors_done(&t);
        return rc;
    }
    number_scope(&t, BEFORE_LAYERS, -1, &next);
    for (int l = 0; l < t.layers; l++)
        number_scope(&t, IN_LAYER, l, &next);
    number_scope(&t, BEHIND_LAYERS, -1, &next);
    *out = t;
    return 0;
}

void tensors_done(struct tensors *t)
{
    table_done(&t->by_name);
    mem_free(t->by_role);
    mem_free(t->at);
    *t = (struct tensors){0};
}
