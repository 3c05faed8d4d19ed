/*
 * shapes: models by name, for tests and benchmarks that need any model: tiny ones whose sizes are
 * no multiples of a vector and whose heads are grouped 3 to 1, small ones that GPUs multiply by
 * their tensor cores, and published ones. Without Check: benchmarks link it too.
 */
#ifndef TESTS_RUNTIME_SHAPES_H
#define TESTS_RUNTIME_SHAPES_H

#include "runtime/family/weights.h"

/* ERR_USER with the names there are. */
int shape_find(const char *name, struct model_config *out, struct err *e);
/* A name that is known to be there. */
struct model_config shape_of(const char *name);
/* A Hugging Face folder with random weights, of a size that keeps activations near 1, and no
   tokenizer. store: F32 or BF16. */
int shape_write(const char *folder, const struct model_config *c, enum dtype store, struct err *e);

#endif
