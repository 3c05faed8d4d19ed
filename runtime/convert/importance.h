/*
 * importance: how much each column of a layer's matrices counts: the mean square of what it is
 * multiplied by, over the tokens of a text (as llama.cpp's imatrix). Q4_0 and Q4_K_M weigh errors
 * by it. Measured by the serving engine on the model as it stands, without an adapter.
 */
#ifndef RUNTIME_CONVERT_IMPORTANCE_H
#define RUNTIME_CONVERT_IMPORTANCE_H

#include "runtime/convert/measure.h"
#include "runtime/family/tensors.h"

struct importance;

/* On spec.convert.calibration. -ERR_DRAINED when somebody asked to stop. */
int importance_create(
    const struct measure_conf *c, struct weights *w, struct importance **out, struct err *e);
void importance_destroy(struct importance *m); /* NULL is fine */
/* (columns) of the tensor; NULL: it is not known, as of embeddings and head, or m is NULL. */
const float *importance_of(const struct importance *m, const struct tensor *t);

#endif
