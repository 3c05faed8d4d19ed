/*
 * dropout: which shares a training leaves out (runtime/model/dropout.h): those that its job file
 * says, or, with spec.train.modelDropout, those of the model's config.json.
 */
#include "runtime/train/internal.h"

#include "base/log.h"

int train_check_dropout(const struct train *t, struct err *e)
{
    const struct jobspec *s = t->spec;
    const struct model_dropout *d = &t->config.dropout;
    const float shares[] = {d->embed, d->residual, d->attention, d->classifier};
    if (!s->train.model_dropout)
        return 0;
    if (weights_gguf(t->weights) && !(s->model.init == INIT_RANDOM && s->model.config))
        return err_set(e, ERR_USER,
            "spec.train.modelDropout: %s is a GGUF file, which says nothing of dropout",
            s->model.source);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        if (!(shares[i] >= 0 && shares[i] < 1))
            return err_set(e, ERR_DATA,
                "spec.train.modelDropout: the model's config.json leaves out %g, which is not 0 or "
                "more and below 1",
                (double)shares[i]);
    log_info("what is left out is as the model's config.json says", LOG_F("embeddings", d->embed),
        LOG_F("subLayers", d->residual), LOG_F("attention", d->attention),
        LOG_F("classifier", d->classifier));
    return 0;
}

struct model_dropout train_dropout(const struct train *t)
{
    float p = (float)t->spec->train.dropout, attention = (float)t->spec->train.attention_dropout;
    if (t->spec->train.model_dropout)
        return t->config.dropout;
    return (struct model_dropout){
        .embed = p, .residual = p, .attention = attention, .classifier = p};
}
