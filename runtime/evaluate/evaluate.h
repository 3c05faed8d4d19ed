/*
 * evaluate: a model as it is, measured on a file (spec.evaluate), and the report of it. All ranks
 * share the work, item by item (rounds.h), and the figures are the same for any number of them. A
 * start after a stop begins anew.
 */
#ifndef RUNTIME_EVALUATE_EVALUATE_H
#define RUNTIME_EVALUATE_EVALUATE_H

#include "base/err.h"
#include "runtime/train/train.h"

/* 0: the report is in place and told; -ERR_DRAINED: stopped on request, told too. */
int evaluate_run(const struct train_conf *c, struct err *e);

#endif
