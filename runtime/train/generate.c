/*
 * train/generate: rank 0, with the ranks that share its model, has the model in training go on with
 * the user's prompts (spec.train.generate), each time with the most likely token: a forward pass of
 * the training over the text so far for each, in memory that a step has anyhow. Nothing that is
 * learnt depends on it; the other ranks wait in the next reduction.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/train/internal.h"

#define TEXT_BYTES (64 << 10) /* of a prompt and what follows; then it ends */

struct generate {
    struct tok_ids prompts[LIMIT_GENERATE_PROMPTS];
    int32_t *ids;  /* (T) */
    float *logits; /* (V) */
    struct buf raw, text;
};

/* -- opening -- */

static int encode_prompt(struct train *t, int i, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    struct tok_ids *ids = &t->generate->prompts[i];
    const char *prompt = s->generate.prompts[i];
    int rc = tok_encode_document(t->tok, prompt, (int64_t)strlen(prompt), ids, e);
    if (rc)
        return err_wrap(e, "spec.train.generate.prompts[%d]", i);
    if (!ids->count)
        return err_set(e, ERR_USER, "spec.train.generate.prompts[%d]: is empty", i);
    if (ids->count >= s->sequence_length)
        return err_set(e, ERR_USER,
            "spec.train.generate.prompts[%d]: %lld tokens leave no room for another in "
            "spec.train.sequenceLength: %d",
            i, (long long)ids->count, s->sequence_length);
    for (int64_t k = 0; k < ids->count; k++)
        if (ids->id[k] < 0 || ids->id[k] >= t->config.vocab)
            return err_set(e, ERR_DATA,
                "spec.train.generate.prompts[%d]: the tokenizer gives token %d, and the model has "
                "%lld",
                i, ids->id[k], (long long)t->config.vocab);
    return 0;
}

int train_open_generate(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    int rc = 0;
    if (!s->generate.prompt_count)
        return 0;
    struct generate *g = t->generate = mem_zalloc(sizeof *g);
    if (!g)
        return err_set(e, ERR_MEMORY, "no memory to generate");
    buf_init(&g->raw, LIMIT_FRAME_BYTES);
    buf_init(&g->text, LIMIT_FRAME_BYTES);
    g->ids = mem_array((size_t)s->sequence_length, sizeof *g->ids);
    g->logits = mem_array((size_t)t->config.vocab, sizeof *g->logits);
    if (!g->ids || !g->logits)
        return err_set(e, ERR_MEMORY, "no memory to generate");
    for (int i = 0; i < s->generate.prompt_count && !rc; i++)
        rc = encode_prompt(t, i, e);
    return rc;
}

void train_close_generate(struct train *t)
{
    struct generate *g = t->generate;
    if (!g)
        return;
    for (int i = 0; i < LIMIT_GENERATE_PROMPTS; i++)
        tok_ids_done(&g->prompts[i]);
    mem_free(g->ids);
    mem_free(g->logits);
    buf_done(&g->raw);
    buf_done(&g->text);
    mem_free(g);
    t->generate = NULL;
}

/* -- generating -- */

static int32_t most_likely(const float *logits, int64_t vocab)
{
    int32_t best = 0;
    for (int64_t i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? (int32_t)i : best;
    return best;
}

static bool ends(const struct train *t, int32_t id)
{
    return id == tok_eos(t->tok) || weights_ends(t->weights, id);
}

/* What may be shown: a character may be cut short at the end, and tokens of bytes need not be
   text. */
static void keep_text(struct generate *g)
{
    buf_reset(&g->text);
    for (size_t i = 0, n; i < g->raw.len; i += n ? n : 1) {
        n = utf8_sequence(g->raw.data + i, g->raw.len - i);
        if (n)
            buf_add(&g->text, g->raw.data + i, n);
        else
            buf_str(&g->text, "\xef\xbf\xbd");
    }
}

/* Prompt i and what follows it become g->text; *from: where that begins. */
static int go_on(struct train *t, int i, size_t *from, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    struct generate *g = t->generate;
    int64_t n = g->prompts[i].count, end = n + s->generate.tokens;
    end = end < s->sequence_length ? end : s->sequence_length;
    memset(g->ids, 0, (size_t)s->sequence_length * sizeof *g->ids);
    memcpy(g->ids, g->prompts[i].id, (size_t)n * sizeof *g->ids);
    buf_reset(&g->raw);
    buf_str(&g->raw, s->generate.prompts[i]);
    *from = g->raw.len;
    for (; n < end && g->raw.len < TEXT_BYTES; n++) {
        train_set_length(t, n);
        int rc = pass_next(t->pass, g->ids, n, g->logits, e);
        if (rc)
            return rc;
        g->ids[n] = most_likely(g->logits, t->config.vocab);
        if (ends(t, g->ids[n]))
            break;
        if (tok_decode(t->tok, g->ids[n], true, &g->raw))
            return err_set(e, ERR_MEMORY, "no memory to generate");
    }
    keep_text(g);
    return buf_ok(&g->text) ? 0 : err_set(e, ERR_MEMORY, "no memory to generate");
}

/* With rank 0: the first of the replicas. */
static bool takes_part(const struct train *t)
{
    return train_same(t).index == 0;
}

static int tell(struct train *t, int i, const char *went_on, struct err *e)
{
    char tag[32];
    snprintf(tag, sizeof tag, "generated/%d", i);
    int rc = t->board
        ? tensorboard_text(t->board, tag, t->state.step, buf_cstr(&t->generate->text), e)
        : 0;
    if (!rc)
        log_info(
            "generated", LOG_I("step", t->state.step), LOG_I("prompt", i), LOG_S("text", went_on));
    return rc;
}

int train_generate(struct train *t, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    struct generate *g = t->generate;
    int64_t step = t->state.step;
    if (!g || !takes_part(t) || (step % s->generate.every_steps && step != t->steps))
        return 0;
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    for (int i = 0; i < s->generate.prompt_count; i++) {
        size_t from;
        int rc = go_on(t, i, &from, e);
        if (!rc && train_leads(t))
            rc = tell(t, i, buf_cstr(&g->text) + from, e);
        if (rc)
            return rc;
    }
    return 0;
}
