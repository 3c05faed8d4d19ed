/*
 * pass_upload: what of a batch goes up to the device: ids, places, targets, and what follows from
 * them, with checks of what they say.
 */
#include "runtime/model/pass_internal.h"

#include <assert.h>

static int64_t place_of(const struct pass *p, int64_t row)
{
    return context_place(&p->context, p->tokens, row % p->tokens);
}

void pass_upload_places(struct pass *p, const int32_t *first, int64_t n)
{
    int32_t *stage = (int32_t *)p->host; /* both hold one 32-bit word a row */
    int64_t window = p->batch.config->window;
    for (int64_t i = 0; i < n; i++)
        stage[i] = (int32_t)place_of(p, i) - (first ? first[i] : 0);
    dev_upload(p->dev, p->position, stage, (size_t)n * 4);
    p->documents = first;
    if (!p->sees_from)
        return;
    for (int64_t i = 0; i < n; i++) {
        int64_t from = window ? place_of(p, i) - window + 1 : 0, begin = first ? first[i] : 0;
        stage[i] = (int32_t)(from > begin ? from : begin);
    }
    dev_upload(p->dev, p->sees_from, stage, (size_t)n * 4);
}

/* Of a sequence, of which other ranks may have some. */
static int64_t whole_tokens(const struct pass *p)
{
    return p->tokens * p->context.size;
}

static int check_several(const int32_t *targets, int64_t n, struct err *e)
{
    for (int64_t i = 0; i < n; i++)
        if (targets[i] < 0 || targets[i] > 1)
            return err_set(e, ERR_DATA, "a text has a label or not, and %d is neither", targets[i]);
    return 0;
}

static int check_targets(
    const struct pass *p, const int32_t *targets, int64_t b, int64_t n, struct err *e)
{
    int64_t labels = p->batch.config->labels;
    if (!labels)
        return model_check_ids(p->model, targets, n, -1, e);
    if (p->batch.config->several)
        return check_several(targets, b * labels, e);
    for (int64_t i = 0; i < n; i++)
        if (targets[i] < -1 || targets[i] >= labels)
            return err_set(
                e, ERR_DATA, "label %d is none of the %lld", targets[i], (long long)labels);
    return 0;
}

int64_t pass_rows(const struct pass *p, int64_t b)
{
    if (p->batch.config->masked)
        return p->chosen;
    return model_config_tells_texts(p->batch.config) ? b : b * p->tokens;
}

/* Of sequence i, in its own row, the last token. */
static int64_t last_of(const struct pass *p, const struct pass_input *in, int64_t i)
{
    int32_t pad = p->batch.config->pad_id;
    int64_t t = p->tokens, k = (in->lengths ? in->lengths[i] : t) - 1;
    while (pad >= 0 && k > 0 && in->ids[i * t + k] == pad)
        k--;
    return k;
}

/* Of b sequences the rows of their last tokens, and where each row is among them. */
static void upload_last(struct pass *p, const struct pass_input *in, int64_t b)
{
    int32_t *stage = (int32_t *)p->host;
    int64_t t = p->tokens;
    p->chosen = b;
    for (int64_t i = 0; i < b; i++)
        stage[i] = (int32_t)(i * t + last_of(p, in, i));
    dev_upload(p->dev, p->chosen_rows, stage, (size_t)b * 4);
    for (int64_t i = 0; i < b * t; i++)
        stage[i] = (int32_t)b;
    for (int64_t i = 0; i < b; i++)
        stage[i * t + last_of(p, in, i)] = (int32_t)i;
    dev_upload(p->dev, p->slots, stage, (size_t)(b * t) * 4);
}

/* Of n rows those with a target, and where each is among them. */
static void upload_chosen(struct pass *p, const int32_t *targets, int64_t n)
{
    int32_t *stage = (int32_t *)p->host;
    p->chosen = 0;
    for (int64_t i = 0; i < n; i++)
        if (targets[i] >= 0)
            stage[p->chosen++] = (int32_t)i;
    dev_upload(p->dev, p->chosen_rows, stage, (size_t)p->chosen * 4);
    for (int64_t i = 0, slot = 0; i < n; i++)
        stage[i] = (int32_t)(targets[i] >= 0 ? slot++ : p->chosen);
    dev_upload(p->dev, p->slots, stage, (size_t)n * 4);
}

/* Rows as wide as those of the logits. */
static void upload_several(struct pass *p, const int32_t *targets, int64_t b)
{
    int64_t labels = p->batch.config->labels, columns = p->nets->head.columns;
    int32_t *stage = (int32_t *)p->host;
    for (int64_t i = 0; i < b * columns; i++)
        stage[i] = i % columns < labels ? targets[i / columns * labels + i % columns] : -1;
    dev_upload(p->dev, p->targets, stage, (size_t)(b * columns) * 4);
}

/* Of a text its first token has the label. */
static void upload_targets(struct pass *p, const int32_t *targets, int64_t b)
{
    int32_t *stage = (int32_t *)p->host;
    if (p->batch.config->several) {
        upload_several(p, targets, b);
        return;
    }
    if (p->batch.config->masked) {
        for (int64_t i = 0, k = 0; i < b * p->tokens; i++)
            if (targets[i] >= 0)
                stage[k++] = targets[i];
        targets = stage;
    } else if (model_config_tells_texts(p->batch.config)) {
        for (int64_t i = 0; i < b; i++)
            stage[i] = targets[i * p->tokens];
        targets = stage;
    }
    dev_upload(p->dev, p->targets, targets, (size_t)pass_rows(p, b) * 4);
}

static int check_lengths(const struct pass *p, int64_t b, const int32_t *lengths, struct err *e)
{
    for (int64_t i = 0; lengths && i < b; i++)
        if (lengths[i] < 1 || lengths[i] > whole_tokens(p))
            return err_set(e, ERR_DATA, "a sequence of %d tokens in a batch of %lld each",
                lengths[i], (long long)whole_tokens(p));
    return 0;
}

static int check_first(const struct pass *p, int64_t n, const int32_t *first, struct err *e)
{
    for (int64_t i = 0; first && i < n; i++) {
        int64_t at = place_of(p, i);
        if (first[i] < (i % p->tokens ? first[i - 1] : 0) || first[i] > at)
            return err_set(e, ERR_DATA,
                "token %lld of a row cannot belong to a document from %d on", (long long)at,
                first[i]);
    }
    return 0;
}

/* Of sequence s, of T tokens in L layers of which count[e] chose expert e, the balance loss is E /
   (T L)^2 * sum over e of count[e] * (the sum of its probabilities): load_balancing_loss_func of
   transformers. It weighs as the sequence's labels do, so that all add up like the loss: whatever
   the micro-batch and the world. */
void pass_upload_balance(struct pass *p, int64_t b, const struct pass_input *in, float scale)
{
    const struct model_config *c = p->batch.config;
    float *stage = (float *)p->host;
    int64_t layers = model_config_is_share(c) ? c->share.layers : c->layers;
    for (int64_t i = 0; i < b && c->experts; i++) {
        double labels = in->told ? in->told[i] : 0;
        double chosen = (double)(in->lengths ? in->lengths[i] : whole_tokens(p));
        for (int64_t j = 0; j < p->tokens && !in->told; j++)
            labels += in->targets[i * p->tokens + j] >= 0;
        chosen *= (double)layers;
        stage[i] = (float)((double)c->balance_loss_coef * (double)scale * labels *
            (double)model_config_experts(c) / (chosen * chosen));
    }
    if (c->experts)
        dev_upload(p->dev, p->balance, stage, (size_t)b * 4);
}

struct batch pass_batch(const struct pass *p, int64_t b, const struct pass_input *in, bool drops)
{
    struct batch s = p->batch;
    s.parallel = (struct parallel *)&p->parallel;
    s.dispatch = p->dispatch;
    s.zero = p->zero;
    s.b = b;
    s.tokens = p->tokens;
    s.n = b * s.tokens;
    s.ids = p->ids;
    s.position = p->position;
    s.types = p->types;
    s.own = p->own;
    s.own_ids = p->own_ids;
    s.own_rows = p->own_rows;
    s.own_slots = p->own_slots;
    s.typed = in->types;
    s.lengths = in->lengths && !s.config->last ? p->lengths : NULL; /* padding lies behind */
    s.drops = drops;
    s.expert_count = p->expert_count;
    s.balance = p->balance;
    s.sees_from = p->batch.config->window || in->first ? p->sees_from : NULL;
    assert(b >= 1 && s.n <= p->batch.n);
    assert(!in->first || (p->model->conf.packed && !s.config->bidirectional));
    assert(!in->types || s.types);
    return s;
}

static int check_types(const struct pass *p, int64_t n, const int32_t *types, struct err *e)
{
    int64_t have = p->batch.config->types;
    for (int64_t i = 0; types && i < n; i++)
        if (types[i] < 0 || types[i] >= have)
            return err_set(e, ERR_DATA,
                "the tokenizer makes a token of type %d, and the model (type_vocab_size) has %lld",
                types[i], (long long)have);
    return 0;
}

static void upload_types(struct pass *p, const struct batch *s, const int32_t *types)
{
    if (types)
        dev_upload(p->dev, p->types, types, (size_t)s->n * 4);
    else if (p->typed)
        dev_zero(p->dev, p->types, (size_t)p->batch.n * 4);
    p->typed = types;
}

static void upload_lengths(struct pass *p, const int32_t *lengths, int64_t b)
{
    int32_t *stage = (int32_t *)p->host;
    for (int64_t i = 0; i < b; i++)
        stage[i] = (int32_t)context_length(&p->context, p->tokens, lengths[i]);
    dev_upload(p->dev, p->lengths, stage, (size_t)b * 4);
}

/* What forward reads goes up. */
int pass_upload_input(struct pass *p, struct batch *s, const struct pass_input *in, struct err *e)
{
    int rc;
    if ((rc = model_check_ids(p->model, in->ids, s->n, 0, e)) ||
        (rc = check_lengths(p, s->b, in->lengths, e)) ||
        (rc = check_first(p, s->n, in->first, e)) || (rc = check_types(p, s->n, in->types, e)))
        return rc;
    upload_types(p, s, in->types);
    context_set(&p->context, p->dev, (int32_t *)p->host, s->b, s->tokens);
    if (in->first || p->documents)
        pass_upload_places(p, in->first, in->first ? s->n : p->batch.n);
    if (in->lengths)
        upload_lengths(p, in->lengths, s->b);
    dev_upload(p->dev, p->ids, in->ids, (size_t)s->n * 4);
    if (p->own_ids)
        embed_find_own(s, in->ids, (int32_t *)p->host); /* a word a row */
    p->own = s->own;
    return 0;
}

int pass_upload(struct pass *p, int64_t b, const struct pass_input *in, bool drops,
    struct batch *out, struct err *e)
{
    struct batch s = pass_batch(p, b, in, drops);
    int rc;
    if ((rc = check_targets(p, in->targets, b, s.n, e)) || (rc = pass_upload_input(p, &s, in, e)))
        return rc;
    if (s.config->masked)
        upload_chosen(p, in->targets, s.n);
    if (s.config->last)
        upload_last(p, in, b);
    s.chosen = p->chosen;
    s.chosen_rows = p->chosen_rows;
    s.slots = p->slots;
    upload_targets(p, in->targets, b);
    *out = s;
    return 0;
}
