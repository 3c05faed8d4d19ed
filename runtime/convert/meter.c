/*
 * meter: what it needs is planned before it is allocated, as in serving. Losses are summed in
 * double, in the order of the tokens.
 */
#include "runtime/convert/meter.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/data/corpus.h"
#include "runtime/door/beat.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define ROWS 128 /* tokens at a time */

static int go_on(void *user, struct err *e)
{
    struct meter *m = user;
    beat(m->conf->door->page);
    return atomic_load(&m->conf->door->stop) ? err_set(e, ERR_DRAINED, "stopped on request") : 0;
}

static int open_tokens(
    struct meter *m, const char *text, enum data_format format, const char *folder, struct err *e)
{
    static const struct err running = {
        .code = ERR_USER, .text = "a model is measured on running text"};
    char path[LIMIT_PATH_BYTES];
    struct tokens tokens;
    uint64_t key;
    const struct corpus c = {.path = text,
        .format = format,
        .tok = m->tok,
        .no_chat = &running,
        .folder = folder,
        .progress = {go_on, m}};
    int rc;
    if ((rc = corpus_tokenize(&c, &key, e)) || (rc = tokens_path(folder, key, path, e)) ||
        (rc = tokens_open(path, &tokens, e)))
        return rc;
    bool documents = tokens.rows != NULL;
    tokens_close(&tokens);
    rc = documents ? err_set(e, ERR_USER,
                         "%s: prompts and completions; a model is measured on running text", text)
                   : data_open(text, path, (int)m->length, false, &m->data, e);
    io_remove(path, NULL); /* what is mapped stays */
    return rc;
}

/* The tokens are a file for the time that it takes to map them. */
int meter_text(struct meter *m, const char *text, enum data_format format, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    char folder[LIMIT_PATH_BYTES];
    int n = snprintf(folder, sizeof folder, "%s/llmjob-tokens.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (n >= (int)sizeof folder || !mkdtemp(folder))
        return err_sys(e, ERR_RETRY, errno, "%s: no temporary folder", folder);
    int rc = open_tokens(m, text, format, folder, e);
    rmdir(folder);
    return rc;
}

int meter_begin(struct meter *m, struct weights *w, struct err *e)
{
    m->inputs = mem_array((size_t)m->length, sizeof *m->inputs);
    m->targets = mem_array((size_t)m->length, sizeof *m->targets);
    if (!m->inputs || !m->targets)
        return err_set(e, ERR_MEMORY, "no memory to evaluate the model");
    return tok_open(w, &m->tok, e);
}

static bool adapter_changes(const void *merge, const struct tensor *t)
{
    return merge_changes(merge, t);
}

static void adapter_add(
    const void *merge, const struct tensor *t, int64_t row, int64_t rows, float *w)
{
    merge_add(merge, t, row, rows, w);
}

int meter_load(struct meter *m, struct weights *w, struct err *e)
{
    m->addition = (struct model_addition){adapter_changes, adapter_add, m->merge};
    struct model_conf c = {.config = *weights_config(w),
        .t = model_type_of(m->conf->spec->precision),
        .kv_capacity = m->length,
        .addition = m->merge ? &m->addition : NULL,
        .page = m->conf->door->page};
    struct memplan plan;
    int rc;
    adapterhub_serve(m->behind, &c);
    if ((m->group && (rc = group_share(m->group, &c, e))) ||
        (rc = memplan_model(&c, w, &plan, e)) ||
        (rc = memplan_require(&plan, m->conf->budget_bytes, e)) ||
        (rc = model_create(m->conf->dev, &c, &m->model, e)) || (rc = model_load(m->model, w, e)))
        return rc;
    return engine_create(m->model, &m->engine, e);
}

int meter_open(
    struct meter *m, struct weights *w, const char *text, enum data_format format, struct err *e)
{
    int rc;
    if ((rc = meter_begin(m, w, e)) || (rc = meter_text(m, text, format, e)))
        return rc;
    return meter_load(m, w, e);
}

/* -- losses -- */

int meter_loss(struct meter *m, const int32_t *ids, const int32_t *targets, int64_t n, int64_t past,
    double *sum, struct err *e)
{
    double losses[ROWS];
    for (int64_t at = 0, rows; at < n; at += rows) {
        rows = n - at < ROWS ? n - at : ROWS;
        int rc = engine_losses(m->engine, ids + at, targets + at, rows, past + at, losses, e);
        if (rc)
            return rc;
        for (int64_t r = 0; r < rows; r++)
            *sum += losses[r];
        beat(m->conf->door->page);
        if (!m->group && atomic_load(&m->conf->door->stop))
            return err_set(e, ERR_DRAINED, "stopped on request");
    }
    return 0;
}

int meter_window(struct meter *m, int64_t sample, double *sum, struct err *e)
{
    int32_t length;
    data_sample(m->data, sample, m->length, m->inputs, m->targets, &length);
    return meter_loss(m, m->inputs, m->targets, m->length, 0, sum, e);
}

void meter_close(struct meter *m)
{
    engine_destroy(m->engine);
    model_destroy(m->model);
    data_close(m->data);
    tok_close(m->tok);
    mem_free(m->inputs);
    mem_free(m->targets);
}
