/*
 * shares: whole tensors of a model that ranks share (model_conf.world), for the one that writes
 * them down. It asks for each by name, and the others answer until it has no more questions; so
 * no order is agreed on, and no rank needs memory for more than one tensor, nor, where ranks
 * divide the model by ZeRO alone, for more than a piece of one.
 */
#ifndef RUNTIME_MODEL_SHARES_H
#define RUNTIME_MODEL_SHARES_H

#include "runtime/model/model.h"

/* Rank 0 of the world: model_read of the whole tensor, count as in model_whole_base or
   model_whole_trained. Of a model that is not shared it is model_read. */
int shares_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e);
/* The others: answers until shares_end. */
int shares_answer(struct model *m, struct err *e);
/* Rank 0; nothing where the model is not shared. */
int shares_end(struct model *m, struct err *e);

#endif
