/*
 * meter: what it needs is planned before it is allocated, as in serving.
 */
#include "runtime/convert/meter.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/data/corpus.h"
#include "runtime/door/beat.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int go_on(void *user, struct err *e)
{
    struct meter *m = user;
    beat(m->conf->door->page);
    return atomic_load(&m->conf->door->stop) ? err_set(e, ERR_DRAINED, "stopped on request") : 0;
}

static int open_tokens(
    struct meter *m, const char *text, enum data_format format, const char *folder, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    struct tokens tokens;
    uint64_t key;
    const struct corpus c = {.path = text,
        .format = format,
        .tok = m->tok,
        .chat_missing = "spec.convert looks at running text",
        .folder = folder,
        .progress = {go_on, m}};
    int rc;
    if ((rc = corpus_tokenize(&c, &key, e)) || (rc = tokens_path(folder, key, path, e)) ||
        (rc = tokens_open(path, &tokens, e)))
        return rc;
    bool documents = tokens.rows != NULL;
    tokens_close(&tokens);
    rc = documents ? err_set(e, ERR_USER,
                         "%s: prompts and completions; spec.convert looks at running text", text)
                   : data_open(text, path, (int)m->length, false, &m->data, e);
    io_remove(path, NULL); /* what is mapped stays */
    return rc;
}

/* The tokens are a file for the time that it takes to map them. */
static int open_text(struct meter *m, const char *text, enum data_format format, struct err *e)
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

int meter_open(
    struct meter *m, struct weights *w, const char *text, enum data_format format, struct err *e)
{
    const struct model_conf c = {.config = *weights_config(w),
        .t = m->conf->spec->precision == PRECISION_FP32 ? DTYPE_F32 : DTYPE_BF16,
        .kv_capacity = m->length,
        .page = m->conf->door->page};
    struct memplan plan;
    int rc;
    m->inputs = mem_array((size_t)m->length, sizeof *m->inputs);
    m->targets = mem_array((size_t)m->length, sizeof *m->targets);
    if (!m->inputs || !m->targets)
        return err_set(e, ERR_MEMORY, "no memory to evaluate the model");
    if ((rc = tok_open(w, &m->tok, e)) || (rc = open_text(m, text, format, e)) ||
        (rc = memplan_model(&c, w, &plan, e)) ||
        (rc = memplan_require(&plan, m->conf->budget_bytes, e)) ||
        (rc = model_create(m->conf->dev, &c, &m->model, e)) || (rc = model_load(m->model, w, e)))
        return rc;
    return engine_create(m->model, &m->engine, e);
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
