/*
 * finished: a model that labels words or texts, looked at over a file, as a training looks at its
 * test when all is trained (spec.evaluate): the same report, by the model's own labels. Ranks share
 * the file; what is found is the same for any number of them.
 */
#ifndef RUNTIME_TRAIN_FINISHED_H
#define RUNTIME_TRAIN_FINISHED_H

#include "base/json.h"
#include "runtime/train/train.h"

/* Reads c->orders->spec->evaluate. On rank 0 adds members to the open object *w: "loss", "texts" or
 * "sentences", "truncated", and "entities" or "classes". *count: texts that were looked at.
 * ERR_DATA: a label that the model has not, by file and line; ERR_USER: a model that finds no such
 * labels. -ERR_DRAINED, on every rank: one of them was asked to stop. */
int finished_run(const struct train_conf *c, struct jsonw *w, int64_t *count, struct err *e);

#endif
