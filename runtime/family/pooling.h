/*
 * pooling: how a published model's folder says that embeddings are made of hidden states: what
 * sentence-transformers reads beside config.json (modules.json, and the files that it names). A
 * module that changes the embedding in a way that is not done here is refused by its name, never
 * passed over. A GGUF file says it by a key, and always of length 1, as llama.cpp serves them.
 * Errors are ERR_DATA and name the file.
 */
#ifndef RUNTIME_FAMILY_POOLING_H
#define RUNTIME_FAMILY_POOLING_H

#include "base/err.h"
#include "runtime/files/gguf.h"

#include <stdbool.h>
#include <stdint.h>

enum pooling_kind { POOLING_MEAN, POOLING_FIRST, POOLING_LAST }; /* of all tokens, or one */

struct pooling {
    bool said; /* the folder has a modules.json, the file its key */
    enum pooling_kind kind;
    bool normalized; /* to length 1 */
    int64_t tokens;  /* of a text, at most (max_seq_length); 0: not said */
};

/* Where nothing is said: the mean, of length 1. folder may be a file, which says nothing. */
int pooling_read(const char *folder, struct pooling *out, struct err *e);
/* modules.json and what it names, for sentence-transformers. dim: numbers of an embedding. */
int pooling_write(const char *folder, const struct pooling *p, int64_t dim, struct err *e);

/* As llama.cpp numbers them; there are none of ours beside those three. */
#define POOLING_GGUF_RANK 4 /* the labels of a text, above its first token */
bool pooling_of_gguf(double type, enum pooling_kind *out); /* out: or NULL */
uint32_t pooling_to_gguf(enum pooling_kind kind);
/* Nobody else's key: how many tokens of a text are read. */
#define POOLING_GGUF_TOKENS "sentence_transformers.max_seq_length"
/* architecture: what its keys begin with. */
void pooling_gguf(const struct gguf *g, const char *architecture, struct pooling *out);

#endif
