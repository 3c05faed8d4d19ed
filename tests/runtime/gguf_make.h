/*
 * gguf_make: writes small GGUF files for tests, correct ones and broken ones: what is put is
 * written as it is, and counts can be overridden.
 */
#ifndef TESTS_RUNTIME_GGUF_MAKE_H
#define TESTS_RUNTIME_GGUF_MAKE_H

#include "base/buf.h"

#include <stdint.h>

struct gguf_make {
    struct buf keys, infos, data;
    uint64_t key_count, tensor_count;
    uint32_t version;
    uint64_t alignment; /* 32; must agree with a general.alignment that was put */
};
void gguf_make_init(struct gguf_make *m);
void gguf_make_done(struct gguf_make *m);
void gguf_make_raw(struct gguf_make *m, const char *key, uint32_t type, const void *p, size_t n);
void gguf_make_u32(struct gguf_make *m, const char *key, uint32_t v);
void gguf_make_f32(struct gguf_make *m, const char *key, float v);
void gguf_make_str(struct gguf_make *m, const char *key, const char *v);
void gguf_make_strs(struct gguf_make *m, const char *key, const char *const *v, uint64_t count);
void gguf_make_i32s(struct gguf_make *m, const char *key, const int32_t *v, uint64_t count);
/* ne: the file's order, fastest first. offset -1: after what was put so far, aligned. */
void gguf_make_tensor(struct gguf_make *m, const char *name, uint32_t type, uint32_t dims,
    const int64_t *ne, int64_t offset, const void *data, size_t bytes);
/* The whole file; limit of out must suffice. */
void gguf_make_finish(const struct gguf_make *m, struct buf *out);

/* A Llama of tests/golden/tiny-llama's shape as GGUF: rows of q and k interleaved, all in F32 but
   the last layer's ffn_down, which is Q8_0. A byte-level tokenizer of 256 tokens and no merges. */
void gguf_make_tiny(struct buf *out);
/* tests/golden/tiny-gpt2 as GGUF, q, k and v joined, all in F32 but the last layer's attn_qkv and
   ffn_down, which are Q8_0. No tokenizer. */
void gguf_make_gpt2(struct buf *out);
/* tests/golden/tiny-<name> as GGUF, as llama.cpp's converter does: "qwen3", "mistral" (a llama
   there) and "llama3" (with the factors of its frequencies). All in F32; no tokenizer. */
void gguf_make_family(const char *name, struct buf *out);
/* The same of "qwen3-moe" and "mixtral"; quantised: gates and ups of experts in Q8_0. */
void gguf_make_mixture(const char *name, bool quantised, struct buf *out);

#endif
