/*
 * packing: which documents share a sample, so that little of it is padding: each is whole, and goes
 * to the first sample with room among the last few begun, in the documents' order (first fit; Ding
 * et al., arXiv:2404.10830, on why documents are not cut for it). Pure but for memory, so all ranks
 * find the same.
 */
#ifndef RUNTIME_DATA_PACKING_H
#define RUNTIME_DATA_PACKING_H

#include "base/err.h"

#include <stdint.h>

struct packing {
    int64_t *rows;  /* documents, sample by sample */
    int64_t *begin; /* (samples + 1) where a sample's begin in rows */
    int64_t samples;
};

/* sizes: of `count` documents, at most `room` each; negative: it is left out. */
int packing_create(
    const int32_t *sizes, int64_t count, int64_t room, struct packing *out, struct err *e);
void packing_done(struct packing *p);

#endif
