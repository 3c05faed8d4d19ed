/*
 * export: the finished model as a Hugging Face folder, LoRA factors merged into the weights; and
 * for LoRA in it <folder>/adapter in peft's format, for those who keep the base model. Of adapters
 * behind sub-layers <folder>/adapter is all there is (adapterhub.h). One rank writes it, when no
 * step runs.
 */
#ifndef RUNTIME_TRAIN_EXPORT_H
#define RUNTIME_TRAIN_EXPORT_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/family/weights.h"
#include "runtime/model/model.h"

struct export
{
    struct model *model;
    const struct model_config *config;
    const char *const *labels;      /* of the configuration, by name, or NULL (hf_writer_create) */
    struct weights *tokenizer_from; /* the model that training began with; or NULL */
    const struct jobspec *spec;
    int64_t steps;    /* of the training */
    enum dtype store; /* F32, BF16 or F16 */
    struct wire_page *page;
    bool embeds; /* it makes embeddings of texts: sentence-transformers' files stand beside it */
    const struct buf *report; /* for report.json; NULL or empty: there is none */
};
int export_model(const struct export *x, struct err *e);

#endif
