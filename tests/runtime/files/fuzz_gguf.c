/*
 * fuzz_gguf: any bytes as a GGUF file: parse, read every kind of key, then its configuration and
 * tokenizer. Must refuse or succeed, never read outside.
 */
#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/text/tok_def.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_tokenizer(const struct gguf *g)
{
    struct tok_def d;
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    struct err e = {0};
    struct arena *a = arena_create(1 << 24);
    if (a && !tok_def_gguf(g, a, &d, &e) && !tok_create(&d, "fuzz", &t, &e))
        tok_encode_document(t, "Hello <s>\n 12", 13, &ids, &e);
    tok_ids_done(&ids);
    tok_close(t);
    arena_destroy(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct err e = {0};
    if (gguf_parse(data, size, "fuzz", &g, &e))
        return 0;
    uint64_t sum = 0;
    for (int i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        sum += t->data[0] + t->data[t->bytes - 1];
    }
    struct model_config c;
    family_config_gguf(g, &c, &e);
    try_tokenizer(g);
    gguf_close(g);
    return sum == UINT64_MAX; /* so that the reads stay */
}
