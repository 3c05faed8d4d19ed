/*
 * pooling: how a published model's folder says that embeddings are made of hidden states: what
 * sentence-transformers reads beside config.json (modules.json, and the files that it names). A
 * module that changes the embedding in a way that is not done here is refused by its name, never
 * passed over. Errors are ERR_DATA and name the file.
 */
#ifndef RUNTIME_FAMILY_POOLING_H
#define RUNTIME_FAMILY_POOLING_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum pooling_kind { POOLING_MEAN, POOLING_FIRST, POOLING_LAST }; /* of all tokens, or one */

struct pooling {
    bool said; /* the folder has a modules.json */
    enum pooling_kind kind;
    bool normalized; /* to length 1 */
    int64_t tokens;  /* of a text, at most (max_seq_length); 0: not said */
};

/* Where nothing is said: the mean, of length 1. folder may be a file, which says nothing. */
int pooling_read(const char *folder, struct pooling *out, struct err *e);

#endif
