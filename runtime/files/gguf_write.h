/*
 * gguf_write: one GGUF file (version 3, little-endian) from beginning to end: keys first, then
 * which tensors there are, then their data in that order, piece by piece, so that memory does not
 * grow with the model. Tensors are aligned to 32 bytes. Source: ggml/docs/gguf.md. What is put
 * fails silently without memory and is told by the next function that can fail. Errors name the
 * file; what is left of it after one is the caller's to remove.
 */
#ifndef RUNTIME_FILES_GGUF_WRITE_H
#define RUNTIME_FILES_GGUF_WRITE_H

#include "runtime/files/gguf.h"

#define GGUF_WRITE_ALIGNMENT 32

struct gguf_writer;

int gguf_writer_create(const char *path, struct gguf_writer **out, struct err *e);
void gguf_writer_destroy(struct gguf_writer *w); /* NULL is fine */

/* Keys, each once. */
void gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_write_f32(struct gguf_writer *w, const char *key, float v);
void gguf_write_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_write_str(struct gguf_writer *w, const char *key, const char *text, size_t len);
void gguf_write_strs(
    struct gguf_writer *w, const char *key, const struct gguf_str *list, int64_t count);
void gguf_write_i32s(struct gguf_writer *w, const char *key, const int32_t *list, int64_t count);
void gguf_write_f32s(struct gguf_writer *w, const char *key, const float *list, int64_t count);
void gguf_write_key(struct gguf_writer *w, const struct gguf *from, int64_t i); /* as it stands */

/* shape: row-major; a row is whole blocks of the type. */
int gguf_write_tensor(struct gguf_writer *w, const char *name, enum dtype type, int dims,
    const int64_t *shape, struct err *e);
/* The next bytes of the tensors' data, none of them beyond the end of one. */
int gguf_write_data(struct gguf_writer *w, const void *data, size_t bytes, struct err *e);
/* Nothing is missing; fsync. */
int gguf_write_finish(struct gguf_writer *w, struct err *e);

#endif
