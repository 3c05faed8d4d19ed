/*
 * peft: adapters as peft writes them, with random factors, of any model of the family's table. A
 * failure ends the test.
 */
#ifndef TESTS_RUNTIME_PEFT_H
#define TESTS_RUNTIME_PEFT_H

#include "runtime/family/config.h"
#include "runtime/model/model.h"

struct peft {
    const char *folder; /* made where it is missing */
    const struct model_config *config;
    const char *targets; /* "q_proj down_proj"; NULL: all matrices of layers */
    int rank;            /* of the first layer's; the next ones have one more each */
    uint64_t seed;
    enum dtype type; /* F32 or BF16 */
    bool stabilized; /* use_rslora */
    bool dora;
};

void peft_write(const struct peft *p);
/* The same, added to a model while that is loaded; the caller closes what *a is of (merge_close),
   and then *all. */
void peft_merge(const char *folder, const struct model_config *c, struct tensors *all,
    struct model_addition *a);

#endif
