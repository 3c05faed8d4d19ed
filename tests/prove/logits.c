/*
 * logits: what a model of a Hugging Face folder says of given tokens, for logits.py, which compares
 * it with what transformers says: of a decoder as it is served, of a classifier as it is trained.
 * With the folder of an adapter behind sub-layers, and of the classifier beside it, for
 * adapterhub.py, which asks AdapterHub's `adapters`.
 *
 * Usage: logits FOLDER TOKENS [ADAPTER] <ids >logits; ids: (sequences, TOKENS) int32; logits:
 * (sequences, TOKENS, vocabulary or labels) F32, in the machine's byte order.
 */
#include "base/mem.h"
#include "runtime/model/engine.h"
#include "runtime/model/pass.h"
#include "runtime/files/safetensors.h"
#include "runtime/train/adapterhub.h"

#include <stdio.h>
#include <stdlib.h>

#define SEQUENCES 64 /* at most */

static int serve(struct model *m, int64_t vocab, int64_t n, int64_t tokens, const int32_t *ids,
    float *logits, struct err *e)
{
    struct engine *engine = NULL;
    int rc = engine_create(m, &engine, e);
    for (int64_t i = 0; i < n && !rc; i++)
        rc = engine_extend(
            engine, ids + i * tokens, tokens, 0, true, logits + i * tokens * vocab, e);
    engine_destroy(engine);
    return rc;
}

static int classify(
    struct model *m, int64_t n, int64_t tokens, const int32_t *ids, float *logits, struct err *e)
{
    mem_autofree int32_t *targets = mem_zalloc((size_t)(n * tokens) * sizeof *targets);
    const struct pass_input in = {.ids = ids, .targets = targets};
    struct pass *pass = NULL;
    double loss;
    if (!targets)
        return err_set(e, ERR_MEMORY, "no memory for %lld labels", (long long)(n * tokens));
    int rc = pass_create(m, &pass, e);
    rc = rc ? rc : pass_step(pass, n, &in, 1, false, &loss, e);
    rc = rc ? rc : pass_label_logits(pass, n, logits, e);
    pass_destroy(pass);
    return rc;
}

/* What a training would go on with: the adapter, and the classifier of the folder. */
static int take_trained(
    struct dev *d, struct model *m, const struct model_conf *c, const char *folder, struct err *e)
{
    char path[1024];
    struct safetensors *head = NULL;
    snprintf(path, sizeof path, "%s/model_head.safetensors", folder);
    int rc = safetensors_open(path, &head, e);
    for (int i = 0; i < model_trained(m)->count && !rc; i++) {
        const struct tensor *t = &model_trained(m)->at[i];
        const struct safetensors_tensor *x = safetensors_find(head, t->name);
        mem_autofree float *values = mem_array((size_t)t->count, sizeof *values);
        if (x && x->bytes == t->count * 4)
            memcpy(values, x->data, (size_t)x->bytes);
        else
            rc = c->adapter->read_fn(c->adapter->of, t, values, e);
        dev_upload(d, model_master(m) + t->offset, values, (size_t)t->count * 4);
    }
    safetensors_close(head);
    model_master_changed(m);
    return rc;
}

static int run(const char *folder, const char *adapter, int64_t n, int64_t tokens,
    const int32_t *ids, struct err *e)
{
    struct weights *w = NULL;
    struct model *m = NULL;
    struct adapterhub *hub = NULL;
    struct dev *d = NULL;
    int rc;
    if ((rc = weights_open(folder, NULL, &w, e)) ||
        (adapter && (rc = adapterhub_open(adapter, weights_config(w), &hub, e))))
        return rc;
    struct model_conf c = {.config = *weights_config(w), .t = DTYPE_F32, .kv_capacity = tokens};
    int64_t width = c.config.labels ? c.config.labels : c.config.vocab;
    mem_autofree float *logits = mem_array((size_t)(n * tokens * width), sizeof *logits);
    c.train = c.config.labels > 0;
    c.micro_sequences = n;
    c.sequence_length = tokens;
    adapterhub_serve(hub, &c);
    if (!logits)
        rc = err_set(e, ERR_MEMORY, "no memory for the logits");
    else if (!(rc = dev_open("cpu", 0, 0, &d, e)) && !(rc = model_create(d, &c, &m, e)) &&
        !(rc = model_load(m, w, e)) &&
        !(rc = hub && c.train ? take_trained(d, m, &c, adapter, e) : 0))
        rc = c.train ? classify(m, n, tokens, ids, logits, e)
                     : serve(m, width, n, tokens, ids, logits, e);
    if (!rc)
        fwrite(logits, sizeof *logits, (size_t)(n * tokens * width), stdout);
    model_destroy(m);
    dev_close(d);
    adapterhub_close(hub);
    weights_close(w);
    return rc;
}

int main(int argc, char **argv)
{
    int64_t tokens = argc == 3 || argc == 4 ? strtol(argv[2], NULL, 10) : 0;
    struct err e = {0};
    if (tokens < 1 || tokens > 4096) {
        fprintf(stderr, "usage: logits FOLDER TOKENS [ADAPTER] <ids >logits\n");
        return 1;
    }
    mem_autofree int32_t *ids = mem_array((size_t)(SEQUENCES * tokens), sizeof *ids);
    size_t got = ids ? fread(ids, sizeof *ids, (size_t)(SEQUENCES * tokens), stdin) : 0;
    if (!got || got % (size_t)tokens) {
        fprintf(stderr, "logits: no whole sequences of %lld tokens\n", (long long)tokens);
        return 1;
    }
    if (run(argv[1], argc == 4 ? argv[3] : NULL, (int64_t)got / tokens, tokens, ids, &e)) {
        fprintf(stderr, "logits: %s\n", e.text);
        return 1;
    }
    return fflush(stdout) || ferror(stdout);
}
