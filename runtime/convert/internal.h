/*
 * convert/internal: one conversion, as the files of this folder share it: convert.c is the job,
 * to_gguf.c and to_folder.c write the two formats. Nobody else includes it.
 */
#ifndef RUNTIME_CONVERT_INTERNAL_H
#define RUNTIME_CONVERT_INTERNAL_H

#include "runtime/convert/convert.h"
#include "runtime/convert/importance.h"
#include "runtime/family/pooling.h"
#include "runtime/convert/merge.h"
#include "runtime/family/weights.h"

struct conversion {
    struct door *door;
    const struct jobspec *spec;
    const struct model_config *config;
    struct weights *weights;
    struct tensors tensors;        /* of the model */
    struct pooling pooling;        /* of one that reads texts whole */
    struct merge *merge;           /* or NULL */
    struct importance *importance; /* or NULL */
    const char *name;              /* of the model, for the file */
    int64_t step, steps;           /* tensors of the output that are written, and all */
};

/* Rows [row, row + rows) of a tensor as F32, with what is merged, then without what is pruned. */
int convert_read(struct conversion *c, const struct tensor *t, int64_t row, int64_t rows, float *to,
    struct err *e);
/* Is it pruned; is it other than in the source? */
bool convert_prunes(const struct conversion *c, const struct tensor *t);
bool convert_changes(const struct conversion *c, const struct tensor *t);
/* A tensor more is written; -ERR_DRAINED when it is the last because somebody asked. */
int convert_step(struct conversion *c, struct err *e);

/* How many tensors the output will have. */
int64_t convert_gguf_count(const struct conversion *c);
int64_t convert_folder_count(const struct conversion *c);
/* <folder>/model.gguf */
int convert_to_gguf(struct conversion *c, const char *folder, struct err *e);
/* The files of a Hugging Face folder. */
int convert_to_folder(struct conversion *c, const char *folder, struct err *e);

#endif
