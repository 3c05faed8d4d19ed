/*
 * weights: a model on disk, whatever its format. Opens a GGUF file or a Hugging Face folder
 * (config.json, *.safetensors with or without an index), and gives its configuration, its tensors
 * by the names of tensors.h, and what its tokenizer and chat template are read from. A classifier
 * or a pooler that the files lack is none: the configuration says so then.
 *
 * Layouts are canonical, too: a GGUF file's permuted q and k rows, joined and transposed matrices
 * are put right on the way. Sizes from the file are checked in 64 bits before use; errors are
 * ERR_DATA and name the file.
 */
#ifndef RUNTIME_FAMILY_WEIGHTS_H
#define RUNTIME_FAMILY_WEIGHTS_H

#include "base/err.h"
#include "kernels/dev.h"
#include "runtime/family/config.h"

#include <stdbool.h>
#include <stdint.h>

struct weights;
struct weights_tensor {
    char name[128]; /* canonical */
    enum dtype type;
    int dims;
    int64_t shape[4]; /* row-major: shape[0] is the slowest */
    int64_t bytes;
};

/* sha256: expected hex of a GGUF file, or NULL. */
int weights_open(const char *path, const char *sha256, struct weights **out, struct err *e);
void weights_close(struct weights *w);
/* What was read of the files leaves memory, until it is read again; what weights_raw gave ends. */
void weights_release(struct weights *w);
const struct model_config *weights_config(const struct weights *w);
int weights_count(const struct weights *w);
const struct weights_tensor *weights_at(const struct weights *w, int i);
const struct weights_tensor *weights_find(const struct weights *w, const char *name); /* or NULL */

/* Names of the configuration's labels; NULL: the files give none. */
const char *const *weights_labels(const struct weights *w);
/* Does the token end a text? By generation_config.json where that says, else by the
   configuration. */
bool weights_ends(const struct weights *w, int32_t id);

/* Decodes rows [row, row + rows) of a tensor (a vector has one row a element) to F32, BF16 or F16
   in host memory, or gives them in the type that they have. ERR_DATA when absent, or when its shape
   is not (expect_rows, expect_cols); expect_cols 1 for a vector. */
int weights_read(struct weights *w, const char *name, int64_t expect_rows, int64_t expect_cols,
    int64_t row, int64_t rows, enum dtype want, void *dst, struct err *e);
/* The stored blocks of a whole tensor, canonical row order, borrowed until close or release. */
int weights_raw(
    struct weights *w, const char *name, enum dtype *type, const void **data, struct err *e);

/* What the tokenizer and the template are read from: the GGUF file, or NULL and the folder. */
struct gguf;
const struct gguf *weights_gguf(const struct weights *w);
const char *weights_path(const struct weights *w);
/* Tells these weights from others: of each file in order its header and a sample of all of it. */
uint64_t weights_digest(const struct weights *w);

/* A Hugging Face folder under construction: config.json, model.safetensors, and
   generation_config.json where there is none and the model generates; fsynced. The folder is made
   when missing; what is in it after a failure is the caller's to remove. labels: the names of c's
   labels, borrowed until destroy; NULL: "LABEL_0" and so on. */
struct hf_writer;
int hf_writer_create(const char *folder, const struct model_config *c, const char *const *labels,
    struct hf_writer **out, struct err *e);
/* host data of type F32, written as `store` (F32, BF16 or F16) */
int hf_writer_tensor(struct hf_writer *w, const char *name, int dims, const int64_t *shape,
    const float *data, enum dtype store, struct err *e);
int hf_writer_finish(struct hf_writer *w, struct err *e);
void hf_writer_destroy(struct hf_writer *w);

#endif
