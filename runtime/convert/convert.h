/*
 * convert: a model to another format, to other types of numbers, with an adapter merged, and what
 * that costs: sizes, and where spec.convert.evaluate names a text, perplexity and speed of both.
 * One rank does it. Memory does not grow with the model but for its largest tensor, unless it is
 * evaluated, which loads it as serving does.
 */
#ifndef RUNTIME_CONVERT_CONVERT_H
#define RUNTIME_CONVERT_CONVERT_H

#include "base/err.h"
#include "kernels/dev.h"
#include "runtime/door/door.h"
#include "runtime/door/orders.h"

struct convert_conf {
    struct door *door;
    const struct orders *orders;
    struct dev *dev;      /* for evaluating */
    int64_t budget_bytes; /* memory this rank may use */
};

/* 0: the output is in place and told; -ERR_DRAINED: stopped on request, told too. */
int convert_run(const struct convert_conf *c, struct err *e);

#endif
