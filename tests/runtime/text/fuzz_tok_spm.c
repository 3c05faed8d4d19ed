/*
 * fuzz_tok_spm: any bytes as SentencePiece's own file, under each class that reads one: read, made
 * into tables, used to encode. Must refuse or succeed, never read outside.
 */
#include "base/mem.h"
#include "runtime/text/tok_def.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"legacy\":true}",
        "{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":0}"};
    mem_autofree char *copy = mem_alloc(size ? size : 1); /* ends where data does */
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    for (int i = 0; i < 2; i++) {
        struct json *config = NULL;
        struct tok_def d;
        struct tok *t = NULL;
        struct tok_ids ids = {0};
        struct err e = {0};
        struct arena *a = arena_create(1 << 26);
        if (a && !json_parse(configs[i], strlen(configs[i]), &config, &e) &&
            !tok_def_spm((struct tok_text){copy, size}, config, "fuzz", a, &d, &e) &&
            !tok_create(&d, "fuzz", &t, &e))
            tok_encode_document(t, "the ab \xc3\xa9<|sep|>\n 12", 19, &ids, &e);
        tok_ids_done(&ids);
        tok_close(t);
        arena_destroy(a);
        json_destroy(config);
    }
    return 0;
}
