/*
 * export: the finished model as a Hugging Face folder, LoRA factors merged into the weights; and
 * for LoRA in it <folder>/adapter in peft's format, for those who keep the base model. One rank
 * writes it, when no step runs.
 */
#ifndef RUNTIME_TRAIN_EXPORT_H
#define RUNTIME_TRAIN_EXPORT_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/family/weights.h"
#include "runtime/model/model.h"

/* labels: the names of c's labels, or NULL (hf_writer_create). tokenizer_from: the model that
   training began with. store: F32 or BF16. */
int export_model(struct model *m, const struct model_config *c, const char *const *labels,
    struct weights *tokenizer_from, const struct jobspec *spec, enum dtype store,
    struct wire_page *page, struct err *e);

#endif
